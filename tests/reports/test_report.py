import base64
import copy
import functools
import html
import os
import re
from html.parser import HTMLParser

import jinja2
import numpy as np
import pytest

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation import metrics
from mmkeras.reports import charts, report
from mmkeras.reports.report import WorstError, write_report

HISTORY = [
    {
        "epoch": i + 1,
        "phase": 1 if i < 3 else 2,
        "loss": 1 / (i + 1),
        "val_loss": value,
        "accuracy": 0.5 + i / 10,
        "val_accuracy": 0.5 + i / 20,
    }
    for i, value in enumerate([1.0, 0.8, 0.7, 0.6, 0.65])
]
PARTS = (
    "split",
    "task",
    "classes",
    "rows",
    "metrics",
    "per_class",
    "confusion_matrix",
    "reliability",
    "bootstrap_resamples",
    "baselines",
    "verdict",
    "temperature",
    "status",
    "modalities",
    "subsets",
    "shapley",
    "noise",
    "noise_rows",
    "sampled_rows",
    "fusion_verdict",
    "warnings",
)
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser finds: the elements, the texts, and whether tags close."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def measured(*model, **settings):
    """What evaluation writes for a model, to be changed at will."""
    return copy.deepcopy(_measured(*model, **settings))


@functools.cache
def _measured(task, classes, n=120, right=0.8, seed=0):
    rng, c = np.random.default_rng(seed), len(classes)
    if task == "multilabel":
        targets = rng.integers(0, 2, (n, c))
        flipped = rng.random((n, c)) > right
        probabilities = np.where(flipped, 1 - targets, targets) * 0.8 + 0.1
    else:
        targets = np.eye(c)[rng.integers(0, c, n)]
        said = np.eye(c)[rng.integers(0, c, n)]
        probabilities = np.where(rng.random((n, 1)) > right, said, targets) + 0.2
        probabilities = probabilities / probabilities.sum(axis=1, keepdims=True)
    config = EvaluateConfig(bootstrap_resamples=100)
    found = metrics.measure(targets, probabilities, classes, task, config, seed)
    return {"split": "test", "task": task, "classes": list(classes), **found}


def full(task="binary", classes=("cat", "dog"), **changes):
    found = measured(task, classes)
    accuracy = {"accuracy": found["metrics"]["accuracy"]}
    worse = {"accuracy": measured(task, classes, right=0)["metrics"]["accuracy"]}
    return {
        **found,
        "baselines": {
            "majority": measured(task, classes, right=0)["metrics"],
            "logistic_regression": measured(task, classes, right=0.5)["metrics"],
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


def error(row, **changes):
    settings = {"id": "r1", "label": "cat", "predicted": "dog", "score": 0.987}
    settings |= {"text": "a moo", "image": row["image"], "audio": row["audio"]}
    return WorstError(**settings | changes)


@pytest.fixture
def written(tmp_path):
    """Writes a report and returns its source; keywords replace its parts."""

    def write(**changes):
        settings = {"title": "A run", "summary": {"preset": "small"}, "metrics": full()}
        settings |= {"history": HISTORY, "errors": []}
        write_report(tmp_path / "report.html", **settings | changes)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return write


# The whole --------------------------------------------------------------------


def test_the_report_needs_nothing_beside_it(written, row):
    source = written(errors=[error(row)])
    page = Page(source)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    for tag in ("link", "script", "iframe", "object", "base", "a"):
        assert page.all(tag) == []
    assert not re.search(r"url\(|@import|https?://", source)


def test_the_parts_of_a_full_report_are_all_there(written, row):
    page = Page(written(errors=[error(row)]))
    for heading in (
        "Does the model earn its keep?",
        "Does fusion help?",
        "Metrics",
        "Classes",
        "Confusion",
        "Can its confidence be believed?",
        "Learning",
        "Worst errors",
        "Data",
        "Settings",
    ):
        assert heading in page.texts
    for text in (
        "120 test rows · 2 classes · binary · 95 % intervals from 100 bootstrap",
        "The model is better.",
        "Fusion helps a lot.",
        "One modality alone",
        "A model trained on one modality alone",
        "One modality left out",
        "One modality shuffled between rows",
        "No modality at all",
        "What each modality brings",
        "text -2.0 -5.0 to +1.0",
        "image +12.0 +7.0 to +18.0",
        "When one modality gets worse",
        "on the first 50 rows while the other modalities",
        "Pictures blurred",
        "blur, % of the side",
        "signal to noise, dB",
        "Temperature 1.70, fitted on the validation rows: it was too sure by itself.",
        "2 rows have the same text.",
        "best epoch, 4",
        "fine-tuning starts",
    ):
        assert text in page.text


def test_the_values_shown_are_those_measured(written):
    found = full()
    accuracy = found["metrics"]["accuracy"]
    text = Page(written(metrics=found)).text
    assert f"{100 * accuracy['value']:.1f} %" in text
    assert f"{100 * accuracy['low']:.1f} – {100 * accuracy['high']:.1f} %" in text
    assert f"{accuracy['low']:.3f} – {accuracy['high']:.3f}" in text
    f1 = found["per_class"]["dog"]["f1"]["value"]
    assert f"{f1:.3f}" in text


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


def test_a_share_below_zero_lies_left_of_the_line_and_one_above_right_of_it():
    below, above = charts.shares(full()["shapley"])
    assert below["left"] + below["width"] == pytest.approx(below["zero"], abs=0.02)
    assert above["left"] == pytest.approx(below["zero"], abs=0.02)
    for bar in (below, above):
        assert 0 <= bar["from"] <= bar["from"] + bar["spread"] <= 100.01


def test_all_noise_is_drawn_on_one_scale_with_its_interval():
    noise = full()["noise"]
    noise["audio"] = [
        {"level": None, "accuracy": {"value": 0.1, "low": 0, "high": 0.2}}
    ]
    image, audio = charts.noise_curves(noise)
    assert image["levels"] == audio["levels"]
    for point in image["points"] + audio["points"]:
        assert point["high"] < point["y"] < point["low"]  # y grows downwards
    assert audio["points"][0]["y"] > image["points"][0]["y"]


def test_two_modalities_have_no_bars_of_one_left_out_that_repeat_those_alone(written):
    found = full()
    del found["modalities"]["audio"]
    text = Page(written(metrics=found)).text
    assert "One modality alone" in text and "left out" not in text


# What users write -------------------------------------------------------------


def test_what_users_write_is_shown_and_never_run(written, row):
    evil = """<script>alert(1)</script>"'><img src=x onerror=alert(2)>&amp;"""
    bad = error(row, id=evil, label=evil, predicted=evil, text=evil, status=evil)
    found = full(classes=("cat", evil), verdict=evil, warnings=[evil], split=evil)
    found["status"] = {evil: 3}
    part = {"alone": found["subsets"]["text"]}
    found["modalities"] = {evil: {"absent": 1, "unreadable": 1, **part}}
    found["shapley"] = {evil: found["shapley"]["text"]}
    found["fusion_verdict"] = evil
    source = written(title=evil, summary={evil: evil}, metrics=found, errors=[bad])
    page = Page(source)
    assert page.all("script") == []
    assert len(page.all("img")) == 1
    assert not any("onerror" in attributes for _, attributes in page.elements)
    assert page.text.count("alert(1)") >= 16
    assert html.escape("<script>") in source


def test_text_that_is_not_unicode_is_written_all_the_same(written, row):
    source = written(errors=[error(row, text="a\ud800b", id="Gänse 鵝")])
    assert "a?b" in source
    assert "Gänse 鵝" in source


# The worst errors -------------------------------------------------------------


def test_worst_errors_appear_with_their_picture_and_sound(written, row):
    page = Page(written(errors=[error(row), error(row, id="r2", score=0.5)]))
    for tag, kind, content in (
        ("img", "image/png", row["image"]),
        ("audio", "audio/wav", row["audio"]),
    ):
        found = page.all(tag)
        assert len(found) == 2
        head, data = found[0]["src"].split(",")
        assert head == f"data:{kind};base64"
        assert base64.b64decode(data) == content
    assert "dog 98.7 % is cat a moo row r1" in page.text
    assert page.text.index("row r1") < page.text.index("row r2")


def test_an_error_without_picture_sound_text_or_labels_is_shown(written, row):
    bad = error(
        row, label="", predicted="", text="", image=b"", audio=b"", status="text absent"
    )
    page = Page(written(errors=[bad]))
    assert page.all("img") == page.all("audio") == page.all("blockquote") == []
    assert "no picture nothing 98.7 % is nothing row r1 · text absent" in page.text


def test_a_picture_may_be_of_another_kind(written, row):
    page = Page(written(errors=[error(row, image=b"jpeg", image_kind="image/jpeg")]))
    assert page.all("img")[0]["src"].startswith("data:image/jpeg;base64,")


def test_a_model_without_errors_has_no_section_of_them(written):
    page = Page(written(metrics=measured("binary", ("cat", "dog"), right=1)))
    assert "Worst errors" not in page.texts
    assert "100.0 %" in page.text


# Tasks ------------------------------------------------------------------------


def test_few_classes_show_every_pair_in_a_heat_map(written):
    found = full("multiclass", tuple("abc"))
    page = Page(written(metrics=found))
    cells = [a for a in page.all("td") if "--share" in a.get("style", "")]
    assert [int(a["title"].split(": ")[1].split(" ")[0]) for a in cells] == (
        sum(found["confusion_matrix"], [])
    )
    assert sum("hit" in a.get("class", "") for a in cells) == 3


def test_thirty_classes_show_the_most_confused_pairs(written):
    classes = tuple(f"class {i}" for i in range(30))
    found = measured("multiclass", classes, n=60, right=1)
    matrix = np.array(found["confusion_matrix"])
    matrix[3, 7], matrix[7, 3] = 5, 2
    found["confusion_matrix"] = matrix.tolist()
    page = Page(written(metrics=found))
    assert not any("--share" in a.get("style", "") for a in page.all("td"))
    assert "The most confused pairs of 30 classes" in page.text
    share = f"{100 * 5 / matrix[3].sum():.1f} %"
    assert f"class 3 class 7 5 {share} class 7 class 3 2" in page.text


def test_thirty_classes_without_a_confusion_say_so(written):
    classes = tuple(f"class {i}" for i in range(30))
    page = Page(written(metrics=measured("multiclass", classes, right=1)))
    assert "No row was confused." in page.text


def test_a_long_list_of_pairs_is_cut(written):
    classes = tuple(f"class {i}" for i in range(30))
    page = Page(written(metrics=measured("multiclass", classes, n=600, right=0)))
    table = page.text.split("Of its class")[1].split("Can its confidence")[0]
    assert table.count("class") == 2 * report.PAIRS


def test_many_labels_show_counts_for_each(written):
    found = full("multilabel", tuple("abc"))
    (_, alarms), (missed, hits) = found["confusion_matrix"][1]
    text = Page(written(metrics=found)).text
    assert f"Found Missed False alarms a {found['confusion_matrix'][0][1][1]}" in text
    assert f" b {hits} {missed} {alarms} " in text
    assert "rows with all classes right" in text
    assert "How often a class is true" in text


# What is missing --------------------------------------------------------------


def test_the_majority_alone_and_no_verdict_are_enough(written):
    found = full()
    del found["verdict"], found["fusion_verdict"]
    del found["baselines"]["logistic_regression"]
    page = Page(written(metrics=found))
    assert "Most frequent answer" in page.texts
    assert "Logistic regression" not in page.texts
    assert not any(a.get("class") == "verdict" for a in page.all("section"))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("remove", [True, False])
def test_a_missing_part_does_not_break_the_rest(written, part, remove):
    found = full()
    found[part] = None
    if remove:
        del found[part]
    page = Page(written(metrics=found))
    assert "Settings" in page.texts
    assert "None" not in page.text


def test_a_report_of_nothing_has_its_title(written):
    page = Page(written(summary={}, metrics={}, history=[]))
    assert page.text == "A run A run"


def test_values_that_cannot_be_computed_show_a_dash(written):
    found = full(classes=("cat", "dog", "eel"), task="multiclass")
    unknown = {"value": None, "low": None, "high": None}
    found["metrics"]["roc_auc"] = unknown
    found["baselines"]["majority"]["roc_auc"] = unknown
    found["per_class"]["eel"] = dict.fromkeys(report.BY_CLASS, unknown) | {"support": 0}
    page = Page(written(metrics=found))
    assert "eel 0 – – – – –" in page.text
    assert "None" not in page.text and "nan" not in page.text


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
def test_short_and_broken_histories_are_drawn_as_far_as_they_go(written, history):
    source = written(history=history)
    Page(source)
    assert "nan" not in source.split("</style>")[1].replace("nance", "")


def test_the_best_epoch_is_the_one_that_was_kept(written):
    assert "best epoch, 2" in written(metrics=full(best_epoch=2))
    assert "best epoch, 4" in written()  # the least val_loss


# Writing ----------------------------------------------------------------------


def test_a_failure_while_rendering_leaves_the_old_report(written, tmp_path):
    before = written()
    with pytest.raises(jinja2.UndefinedError):
        written(errors=[object()])
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_failure_while_writing_leaves_no_half_report(written, tmp_path, monkeypatch):
    def full_disk(path, *_):
        assert path.stat().st_size > 1000  # all was written aside
        raise OSError("no space left")

    before = written()
    monkeypatch.setattr("mmkeras.reports.html.os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        written(title="Another run")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert os.listdir(tmp_path) == ["report.html"]


@pytest.mark.parametrize(
    "low, high", [(0, 1), (0, 0.003), (-2, 7), (0.51, 0.52), (3, 3), (0, 1e6)]
)
def test_ticks_are_a_few_round_numbers_around_the_values(low, high):
    found = charts.ticks(low, high)
    assert 2 <= len(found) <= 7
    assert found[0] <= low and high <= found[-1]
    assert np.diff(found) == pytest.approx(found[1] - found[0])
