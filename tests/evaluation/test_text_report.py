"""Numbers and rows of a report about generated texts."""

import json

import numpy as np
import pytest

from mmkeras.data.dataset import load_dataset
from mmkeras.evaluation.predictions import Predictions
from mmkeras.evaluation.text_report import (
    attend,
    choose_examples,
    count_lengths,
    describe_texts,
)
from mmkeras.export.inference import load_trained
from mmkeras.export.two_stage_inference import TwoStagePredictor
from tests import table_factory
from tests.generator_models import untrained_generator
from tests.reports.html_page import Page

LABEL = "A red image.|red all over"


@pytest.fixture(scope="module")
def generator(generator_run):
    return load_trained(generator_run)


@pytest.fixture(scope="module")
def captions(generator_run):
    """Data set of the run."""
    manifest = json.loads((generator_run / "manifest.json").read_text())
    cache = generator_run.parent / "cache"
    return load_dataset(cache / f"table-{manifest['fingerprint']}")


def predictions(texts, scores=None):
    """Predictions for the eight test rows, all with the same references."""
    n = len(texts)
    return Predictions(
        ids=[f"r{32 + i}" for i in range(n)],
        labels=[LABEL] * n,
        targets=np.array([LABEL] * n, object),
        probabilities=np.array(texts, object),
        predicted=list(texts),
        scores=np.array(scores or [-1.0] * n),
        status=["ok"] * n,
        vectors={},
    )


def test_a_text_of_the_training_rows_is_not_new_in_another_case(generator, captions):
    texts = ["a RED  image.", "green all over", "a cow", ""]
    section = describe_texts(generator, predictions(texts), captions)
    assert section["novelty"] == 1 / 4
    assert section["distinct"] == 4 and section["empty"] == 1
    assert section["mean_score"] == -1
    assert describe_texts(generator, predictions(texts), None)["novelty"] is None


def test_the_tokens_that_predictions_use_are_counted_once(generator):
    texts = ["red red", "a red image.", "unknown"]
    use = describe_texts(generator, predictions(texts), None)["vocabulary"]
    assert set(generator.state.texts.vocabulary) == set(
        "a red green image . all over".split()
    )
    assert use == {"tokens": 7, "used": 4, "share": 4 / 7}


def test_lengths_are_words_of_predictions_and_of_all_references(generator):
    lengths = describe_texts(generator, predictions(["a", "a b c d"]), None)["lengths"]
    counts = {b["low"]: (b["predictions"], b["references"]) for b in lengths}
    assert counts == {1: (1, 0), 2: (0, 0), 3: (0, 2), 4: (1, 2)}


def test_long_texts_are_counted_in_at_most_thirty_bins_of_equal_width():
    bins = count_lengths(["a", "a " * 100], ["b " * 47])
    assert len(bins) == 25 and {b["high"] - b["low"] for b in bins} == {3}
    assert sum(b["predictions"] for b in bins) == 2
    (reference,) = (b for b in bins if b["references"])
    assert reference["low"] <= 47 <= reference["high"]


def test_the_worst_texts_are_the_least_similar_and_the_best_the_surest(
    generator, captions
):
    texts = ["xyz", "red all over", "red all", "a red image.", "xyz", "red all over"]
    scores = [-0.5, -0.3, -0.2, -0.4, -0.1, -0.1]
    texts, scores = [*texts, "red all over", "green"], [*scores, -0.6, -0.9]
    predictor = TwoStagePredictor(generator)
    rows = choose_examples(
        generator, predictor, captions, "test", predictions(texts, scores)
    )
    limit = generator.config.evaluate.worst_errors
    assert [row.id for row in rows.worst] == ["r36", "r39", "r34"][:limit]
    assert [row.id for row in rows.best] == ["r37", "r35", "r34"][:limit]
    worst, best = rows.worst[0], rows.best[0]
    assert worst.chrf == 0 and best.chrf == 1
    assert worst.references == LABEL.split("|") and worst.text == "xyz"
    assert worst.previews["image"]["content"].startswith(b"\x89PNG")
    assert rows.attentive and all(row.words for row in rows.attentive)


def test_the_attention_of_a_word_sums_to_one_and_is_drawn_over_images():
    generator = untrained_generator()
    row = table_factory.make_rows()[0]
    row = {"text": b"the cow", "image": row["image"], "audio": b""}
    words = attend(generator, TwoStagePredictor(generator), row)
    assert words
    for word in words:
        assert sum(word.shares.values()) == pytest.approx(1, abs=1e-5)
        assert min(word.shares.values()) > 0  # an absent branch has one token
        assert list(word.heatmaps) == ["image"]
        assert word.heatmaps["image"].startswith(b"\x89PNG")


def test_a_row_without_columns_has_no_heatmaps():
    generator = untrained_generator()
    empty = dict.fromkeys(("text", "image", "audio"), b"")
    words = attend(generator, TwoStagePredictor(generator), empty)
    for word in words:
        assert sum(word.shares.values()) == pytest.approx(1, abs=1e-5)
        assert not word.heatmaps


def test_a_run_has_the_section_and_a_report_of_its_texts(generator_run):
    metrics = json.loads((generator_run / "metrics.json").read_text(encoding="utf-8"))
    section = metrics["texts"]
    assert 0 <= section["novelty"] <= 1 and 1 <= section["distinct"] <= 8
    totals = [
        sum(b[kind] for b in section["lengths"])
        for kind in ("predictions", "references")
    ]
    assert totals == [8, 16]
    page = Page((generator_run / "report.html").read_text(encoding="utf-8"))
    assert metrics["verdict"] in page.text
    for text in (
        "Exact match",
        "BLEU-4",
        "CIDEr-D",
        "chrF",
        "Word error rate",
        "Most frequent text",
        "Text of the nearest row",
        "red all over",
        "A red image.",
        "Best texts",
        "What does each word attend to?",
        "No training row has",
    ):
        assert text in page.text
    assert "Calibration" not in page.text and "Classes" not in page.text
    alts = [image["alt"] for image in page.all("img")]
    assert any("attention of the word" in alt for alt in alts)
