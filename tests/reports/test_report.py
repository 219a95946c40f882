import base64
import copy
import functools
import html
import os
import re
from types import SimpleNamespace

import jinja2
import numpy as np
import pytest

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation.metrics import measure
from mmkeras.reports import charts, report
from mmkeras.reports.metric_names import CLASS_METRICS
from mmkeras.reports.report import WorstError, write_report
from tests.reports.html_page import Page
from tests.simulated_predictions import simulate

HISTORY = [
    {"phase": 1 + (i > 2), "loss": 1 / (i + 1), "val_loss": v}
    | {"accuracy": 0.5 + i / 10, "val_accuracy": 0.5 + i / 20}
    for i, v in enumerate([1.0, 0.8, 0.7, 0.6, 0.65])
]
THIRTY = tuple(f"class {i}" for i in range(30))
UNKNOWN = {"value": None, "low": None, "high": None}


@functools.cache
def _simulated(task, classes, n, noise):
    targets, probabilities, _ = simulate(task, n, classes=classes, noise=noise)
    config = EvaluateConfig(bootstrap_resamples=100)
    metrics = measure(targets, probabilities, classes, task, config, 0)
    return {"split": "test", "task": task, "classes": list(classes), **metrics}


def simulated(task, classes, n=120, noise=1.0):
    """Metrics of a simulated model, which a test may change."""
    return copy.deepcopy(_simulated(task, classes, n, noise))


def full(task="binary", classes=("cat", "dog"), **changes):
    """Content of a metrics.json with all parts."""
    metrics = simulated(task, classes)
    accuracy = {"accuracy": metrics["metrics"]["accuracy"]}
    majority = simulated(task, classes, noise=50)["metrics"]
    worse = {"accuracy": majority["accuracy"]}
    return {
        **metrics,
        "baselines": {
            "majority": majority,
            "logistic_regression": simulated(task, classes, noise=3)["metrics"],
        },
        "verdict": "The model is better.",
        "temperature": 1.7,
        "status": {"ok": 118, "image absent": 2},
        "modalities": {
            "image": {"absent": 2, "unreadable": 0}
            | {"alone": accuracy, "without": accuracy},
            "text": {"absent": 0, "unreadable": 1, "shuffled": accuracy},
            "audio": {"absent": 0, "unreadable": 0, "trained_alone": accuracy},
        },
        "subsets": {"": worse, "text": worse, "text+image+audio": accuracy},
        "shapley": {
            "text": {"value": -0.02, "low": -0.05, "high": 0.01},
            "image": {"value": 0.12, "low": 0.07, "high": 0.18},
        },
        "noise": {
            "image": [{"level": v, **accuracy} for v in (0, 0.02, 0.1)],
            "audio": [{"level": v, **accuracy} for v in (None, 20, -10)],
        },
        "noise_rows": 50,
        "sampled_rows": 100,
        "fusion_verdict": "Fusion helps a lot.",
        "warnings": ["2 rows have the same text."],
        **changes,
    }


AXES = {
    "image": ("Blurred images", "blur, % of the side", 100),
    "audio": ("Audio with noise", "signal to noise, dB", 1),
}


def error(row, text="a moo", **changes):
    settings = {"id": "r1", "label": "cat", "predicted": "dog", "score": 0.987}
    contents = {"text": text, "image": row["image"], "audio": row["audio"]}
    previews = {n: {"kind": n, "content": content} for n, content in contents.items()}
    return WorstError(**{**settings, "previews": previews, **changes})


@pytest.fixture
def written(tmp_path):
    """Writes a report and returns its source; keywords replace its parts."""

    def write(**changes):
        settings = {"title": "A run", "summary": {"preset": "small"}, "metrics": full()}
        settings |= {"history": HISTORY, "errors": [], "noise_axes": AXES}
        write_report(tmp_path / "report.html", **settings | changes)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


def test_estimated_shares_are_named_so(written):
    assert "Exact Shapley values" in written()
    text = written(metrics=full(shapley_orders=38))
    assert "Estimated Shapley values" in text and "over 38 random orders" in text


# All parts --------------------------------------------------------------------


def test_a_full_report_has_all_sections_and_loads_nothing_else(written, row):
    source = written(errors=[error(row)])
    page = Page(source)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    for tag in ("link", "script", "iframe", "object", "base", "a"):
        assert page.all(tag) == []
    assert not re.search(r"url\(|@import|https?://", source)
    assert set(page.texts) > {
        *("Does fusion help?", "Metrics", "Classes", "Confusion", "Calibration"),
        *("Learning", "Worst errors", "Data", "Settings"),
        *report.PARTS.values(),
        *("Most frequent class", "Logistic regression"),
        *CLASS_METRICS.values(),
    }
    # Two noise charts, reliability and its histogram, loss and accuracy over epochs.
    assert len(page.all("svg")) == 2 + 2 + 2


def test_the_values_in_the_page_are_those_measured(written):
    metrics = full()
    accuracy, f1 = metrics["metrics"]["accuracy"], metrics["per_class"]["dog"]["f1"]
    text = Page(written(metrics=metrics)).text
    for value in (
        "120 test rows · 2 classes · binary",
        "100 bootstrap",
        metrics["verdict"],
        metrics["fusion_verdict"],
        metrics["warnings"][0],
        f"{100 * accuracy['value']:.1f} %",
        f"{100 * accuracy['low']:.1f} – {100 * accuracy['high']:.1f} %",
        f"{accuracy['low']:.3f} – {accuracy['high']:.3f}",
        f"{f1['value']:.3f}",
        "text -2.0 -5.0 to +1.0",
        "image +12.0 +7.0 to +18.0",
        "first 50 rows",
        "first 100 rows",
        "Temperature 1.70",
        "image absent 2",
        "preset small",
    ):
        assert value in text


@pytest.mark.parametrize("task, classes", [("binary", "ab"), ("multilabel", "abc")])
def test_charts_stay_inside_their_frames(written, task, classes):
    page = Page(written(metrics=full(task, tuple(classes))))
    for tag in ("rect", "line"):
        for shape in page.all(tag):
            numbers = [float(v) for v in shape.values() if re.match(r"-?[\d.]+$", v)]
            assert all(0 <= v <= charts.WIDTH for v in numbers)
    for shape in page.all("polyline") + page.all("polygon"):
        for point in shape["points"].split():
            x, y = map(float, point.split(","))
            assert charts.LEFT <= x <= charts.WIDTH - charts.RIGHT
            assert charts.TOP <= y <= charts.HEIGHT - charts.BOTTOM


# Values of users --------------------------------------------------------------


def test_values_of_users_are_escaped(written, row):
    evil = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;"""
    bad = error(row, id=evil, label=evil, predicted=evil, text=evil, status=evil)
    metrics = full(classes=("cat", evil), verdict=evil, warnings=[evil], split=evil)
    metrics["status"] = {evil: 3}
    part = {"alone": metrics["subsets"]["text"]}
    metrics["modalities"] = {evil: {"absent": 1, "unreadable": 1, **part}}
    metrics["shapley"] = {evil: metrics["shapley"]["text"]}
    metrics["fusion_verdict"] = evil
    source = written(title=evil, summary={evil: evil}, metrics=metrics, errors=[bad])
    page = Page(source)
    assert page.all("script") == []
    assert len(page.all("img")) == 1
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.text.count("alert(1)") >= 16
    assert html.escape("<script>") in source


def test_text_that_is_not_unicode_is_replaced(written, row):
    source = written(errors=[error(row, text="a\ud800b", id="Gänse 鵝")])
    assert "a?b" in source and "Gänse 鵝" in source


# Worst errors -----------------------------------------------------------------


def test_worst_errors_appear_in_order_with_image_and_audio(written, row):
    page = Page(written(errors=[error(row), error(row, id="r2")]))
    images, sounds = ([a["src"] for a in page.all(tag)] for tag in ("img", "audio"))
    assert [src.split(",")[0] for src in images + sounds] == [
        f"data:{kind};base64"
        for kind in ("image/png", "image/png", "audio/wav", "audio/wav")
    ]
    contents = [base64.b64decode(src.split(",")[1]) for src in images + sounds]
    assert contents == [row["image"]] * 2 + [row["audio"]] * 2
    assert re.search("dog 98.7 % .*cat a moo row r1 .*row r2", page.text)


def test_an_error_without_image_audio_text_and_labels_is_shown(written, row):
    empty = {"label": "", "predicted": "", "status": "x absent", "previews": {}}
    page = Page(written(errors=[error(row, **empty)]))
    assert page.all("img") == page.all("audio") == page.all("blockquote") == []
    assert "row r1 · x absent" in page.text


# Tasks ------------------------------------------------------------------------


def test_few_classes_are_a_heat_map_of_all_pairs(written):
    metrics = full("multiclass", tuple("abc"))
    page = Page(written(metrics=metrics))
    cells = [a for a in page.all("td") if "--share" in a.get("style", "")]
    counts = [int(a["title"].split(": ")[1].split(" ")[0]) for a in cells]
    assert counts == sum(metrics["confusion_matrix"], [])
    assert sum("hit" in a.get("class", "") for a in cells) == 3


def test_thirty_classes_are_a_table_of_the_most_confused_pairs(written):
    metrics = simulated("multiclass", THIRTY, n=60, noise=0)
    matrix = np.array(metrics["confusion_matrix"])
    matrix[3, 7], matrix[7, 3] = 5, 2
    metrics["confusion_matrix"] = matrix.tolist()
    page = Page(written(metrics=metrics))
    assert not any("--share" in a.get("style", "") for a in page.all("td"))
    share = f"{100 * 5 / matrix[3].sum():.1f} %"
    assert f"class 3 class 7 5 {share} class 7 class 3 2" in page.text


def test_a_perfect_model_has_no_confused_pairs_and_a_bad_one_a_limited_number(written):
    page = Page(written(metrics=simulated("multiclass", THIRTY, noise=0)))
    assert "No row was confused." in page.text and "100.0 %" in page.text
    assert "Worst errors" not in page.texts
    text = Page(written(metrics=simulated("multiclass", THIRTY, 600, noise=50))).text
    table = text.split("Share of the class")[1].split("Calibration")[0]
    assert table.count("class") == 2 * report.PAIRS


def test_values_per_class_without_interval_are_shown_alone(written):
    names = tuple(f"class {i}" for i in range(101))
    metrics = simulated("multiclass", names, n=400)
    text = Page(written(metrics=metrics)).text
    entry = metrics["per_class"]["class 100"]
    assert f"class 100 {entry['support']} {entry['precision']['value']:.3f} " in text
    assert "None" not in text and "confusion.csv" in text


def test_multilabel_shows_counts_per_class(written):
    metrics = full("multilabel", tuple("abc"))
    (_, false_positives), (false_negatives, hits) = metrics["confusion_matrix"][1]
    text = Page(written(metrics=metrics)).text
    assert f" b {hits} {false_negatives} {false_positives} " in text
    assert "all classes correct" in text


# Missing parts ----------------------------------------------------------------


@pytest.mark.parametrize("part", full())
def test_a_missing_part_does_not_break_the_others(written, part):
    metrics = full() | {part: None}
    for _ in range(2):  # None, then not there at all
        page = Page(written(metrics=metrics))
        assert "Settings" in page.texts and "None" not in page.text
        metrics.pop(part, None)


def test_two_modalities_have_no_bars_without_one(written):
    metrics = full()
    del metrics["modalities"]["audio"]
    texts = Page(written(metrics=metrics)).texts
    assert report.PARTS["alone"] in texts and report.PARTS["without"] not in texts


def test_an_empty_report_has_its_title_only(written):
    page = Page(written(summary={}, metrics={}, history=[]))
    assert page.text == "A run A run"
    assert page.all("section") == []


def test_undefined_values_are_dashes(written):
    metrics = full(classes=("cat", "dog", "eel"), task="multiclass")
    metrics["metrics"]["roc_auc"] = UNKNOWN
    metrics["baselines"]["majority"]["roc_auc"] = UNKNOWN
    metrics["per_class"]["eel"] = dict.fromkeys(CLASS_METRICS, UNKNOWN) | {"support": 0}
    text = Page(written(metrics=metrics)).text
    assert "eel 0 – – – – –" in text
    assert "None" not in text and "nan" not in text


@pytest.mark.parametrize(
    "history",
    [
        HISTORY[:1],
        [{"loss": float("nan"), "val_loss": float("inf")}] * 3,
        [{"loss": 1.0}, {"loss": 0.5, "val_loss": None}],
        [{"loss": 0.5, "val_loss": 0.5}] * 40,
        [{"loss": 0.0, "val_loss": 0.0}] * 2,
    ],
)
def test_short_and_broken_histories_are_drawn(written, history):
    source = written(history=history)
    Page(source)
    assert "nan" not in source.split("</style>")[1].replace("nance", "")


def test_the_best_epoch_is_the_restored_one_or_that_of_the_lowest_loss(written):
    assert "best epoch, 2" in written(metrics=full(best_epoch=2))
    assert "best epoch, 4" in written()


# Writing ----------------------------------------------------------------------


def test_a_failure_keeps_the_old_report(written, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError("no space left")

    before = written()
    with pytest.raises(jinja2.UndefinedError):
        written(errors=[SimpleNamespace(previews={})])
    monkeypatch.setattr("mmkeras.files.os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        written(title="Another run")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert os.listdir(tmp_path) == ["report.html"]
