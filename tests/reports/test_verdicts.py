import re

import numpy as np
import pytest

from mmkeras.config import AudioConfig, Config, ImageConfig, TextConfig
from mmkeras.evaluation.bootstrap import compare_accuracies
from mmkeras.reports.verdicts import (
    baseline_verdict,
    fusion_verdict,
    linear_verdict,
    text_verdict,
)

ENDS = ("low", "value", "high")


def verdict(accuracy, low, majority, logistic, difference, config=None, names=()):
    return baseline_verdict(
        {"accuracy": {"value": accuracy, "low": low}},
        {"accuracy": {"value": majority}},
        {"accuracy": {"value": logistic}},
        dict(zip(ENDS, difference, strict=True)),
        config or Config(),
        names,
    )


@pytest.mark.parametrize(
    "accuracy, difference, words, numbers",
    [
        (0.9, (0.04, 0.1, 0.16), "is better than", "90.0 80.0 10.0 +4.0 +16.0"),
        (0.7, (-0.16, -0.1, -0.04), "is worse than", "70.0 80.0 10.0 -16.0 -4.0"),
        (0.82, (-0.03, 0.02, 0.07), "not clearly better", "82.0 80.0 +2.0 -3.0 +7.0"),
        (0.8, (0.0, 0.02, 0.04), "not clearly better", "80.0 80.0 +2.0 +0.0 +4.0"),
        (0.8, (-0.04, -0.02, 0.0), "not clearly better", "80.0 80.0 -2.0 -4.0 +0.0"),
    ],
)
def test_the_interval_of_the_difference_decides(accuracy, difference, words, numbers):
    sentence = verdict(accuracy, 0.65, 0.5, 0.8, difference)
    assert words in sentence and "most frequent" not in sentence
    assert re.findall(r"[+-]?\d+\.\d", sentence) == numbers.split()


SAME_ENCODERS = "a similar model (`--fusion.kind linear` with the same encoders)"


@pytest.mark.parametrize("points", [-0.1, 0.0])
@pytest.mark.parametrize(
    ("names", "changes", "flags"),
    [
        ("image", {}, SAME_ENCODERS),
        ("image", {"image": ImageConfig(weights="none")}, "`--preset linear`"),
        ("text", {"text": TextConfig(tokens="word")}, "linear --text.tokens word`"),
        ("audio", {"text": TextConfig(encoder="lstm")}, "`--preset linear`"),
        ("image text", {"text": TextConfig(units=9)}, SAME_ENCODERS),
        (
            "text",
            {"text": TextConfig(max_ngram=4, vocab_size=99)},
            "`--preset linear --text.max_ngram 4 --text.vocab_size 99`",
        ),
        ("text", {"text": TextConfig(encoder="vector")}, "`--preset linear`"),
        (
            "text audio",
            {"audio": AudioConfig(encoder="hub", hub_handle="my net", units=0)},
            SAME_ENCODERS,
        ),
        (
            "audio",
            {"audio": AudioConfig(bands=48)},
            "`--preset linear --audio.bands 48`",
        ),
        (
            "text audio",
            {"audio": AudioConfig(encoder="gru")},
            "a similar model (`--preset linear`)",
        ),
        (
            "text",
            {"columns": {"title": {"type": "text", "min_rows": 9}}},
            "a similar model (`--preset linear`)",
        ),
    ],
)
def test_the_linear_model_has_the_features_of_the_comparison(
    names, changes, flags, points
):
    difference = (points - 0.05, points, points + 0.05)
    sentence = verdict(
        0.8, 0.65, 0.5, 0.8, difference, Config(**changes), names.split()
    )
    assert f" {flags}" in sentence and "trains in a second" in sentence


def test_two_models_without_error_on_a_dozen_rows_are_not_compared_with_certainty():
    difference = compare_accuracies(np.ones(12), np.ones(12), 200, 0)
    sentence = verdict(1.0, 0.757, 0.5, 1.0, [difference[k] for k in ENDS])
    assert "+0.0 points (95 % interval -24.2 to +24.2)" in sentence
    fusion = {"best_alone": "text", "trained_alone": False, "difference": difference}
    assert "(95 % interval -24.2 to +24.2" in fusion_verdict(fusion)


@pytest.mark.parametrize("low, is_clear", [(0.51, True), (0.5, False), (0.45, False)])
def test_a_model_no_better_than_the_majority_is_reported(low, is_clear):
    sentence = verdict(0.55, low, 0.5, 0.4, (0.05, 0.15, 0.25))
    assert ("most frequent class (50.0 %)" not in sentence) == is_clear
    assert "is better than logistic regression" in sentence


@pytest.mark.parametrize("low, words", [(0.51, "is better"), (0.5, "not clearly")])
def test_a_logistic_regression_is_compared_with_the_majority(low, words):
    model = {"accuracy": {"value": 0.6, "low": low}}
    sentence = linear_verdict(model, {"accuracy": {"value": 0.5}})
    assert words in sentence and "(accuracy 60.0 %)" in sentence
    assert sentence.endswith("most frequent class (50.0 %).")


@pytest.mark.parametrize(
    "difference, words",
    [
        ((0.01, 0.05, 0.09), "Fusion helps: .* 5.0 points .* above text alone"),
        ((-0.09, -0.05, -0.01), "Fusion hurts: .* 5.0 points .* below text alone"),
        ((0.0, 0.0, 0.0), "not clearly better than text alone"),
    ],
)
def test_fusion_is_compared_with_the_best_modality(difference, words):
    difference = dict(zip(ENDS, difference, strict=True))
    fusion = {"best_alone": "text", "trained_alone": False, "difference": difference}
    assert re.search(words, fusion_verdict(fusion))
    trained = fusion_verdict({**fusion, "trained_alone": True})
    assert "a model trained on text alone" in trained


def test_sentences_on_a_regression_have_r2_as_a_number():
    sentence = baseline_verdict(
        {"r2": {"value": 0.7, "low": -0.1}},
        {"r2": {"value": -0.01}},
        {"r2": {"value": 0.4}},
        dict(zip(ENDS, (0.1, 0.3, 0.5), strict=True)),
        Config(),
        ("text",),
    )
    weak = "(R² 0.700) is not clearly better than always predicting the mean (-0.010)"
    assert weak in sentence
    assert "ridge regression on the same features (0.400) by 0.300" in sentence
    assert "points" not in sentence and "95 % interval +0.100 to +0.500" in sentence

    difference = {"value": -0.2, "low": -0.3, "high": -0.1}
    fusion = {"best_alone": "text", "trained_alone": False, "difference": difference}
    sentence = fusion_verdict(fusion, "regression")
    assert "hurts" in sentence and "0.200 of R² below text alone" in sentence


def test_labels_that_are_all_equal_give_no_verdict():
    nothing = {"r2": {"value": None, "low": None, "high": None}}
    difference = dict.fromkeys(ENDS)
    fusion = {"best_alone": "text", "trained_alone": False, "difference": difference}
    models = [nothing] * 3
    assert baseline_verdict(*models, difference, Config(), ()) == ""
    assert (
        linear_verdict(nothing, nothing) == fusion_verdict(fusion, "regression") == ""
    )


def verdict_of_texts(model, gain, best="nearest_row", **baselines):
    metrics = {
        name: {"exact_match": {"value": x}, "chrf": {"value": x + 0.1}}
        for name, x in {"model": model, **baselines}.items()
    }
    gain = dict(zip(ENDS, gain, strict=True))
    return text_verdict(metrics.pop("model"), metrics, best, gain)


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((0.1, 0.2, 0.3), "is better than the text .*: the difference is .0.200 of ch"),
        ((-0.3, -0.2, -0.1), "is worse than the text of the nearest.*: .*-0.200 of ch"),
        ((-0.1, 0.0, 0.1), "is not clearly better than the text of the nearest"),
        ((0.0, 0.1, 0.2), "is not clearly better than the text of the nearest"),
    ],
)
def test_texts_are_compared_with_the_better_baseline(gain, words):
    sentence = verdict_of_texts(0.6, gain, most_frequent=0.1, nearest_row=0.4)
    assert re.search(words, sentence)
    assert sentence.startswith("The model (exact match 60.0 %, chrF 0.700) is ")
    baseline = "training row (exact match 40.0 %, chrF 0.500), the better baseline:"
    assert baseline in sentence and "95 % interval" in sentence


def test_texts_can_be_compared_with_one_baseline():
    settings = {"best": "most_frequent", "most_frequent": 0.1}
    sentence = verdict_of_texts(0.6, (0.4, 0.5, 0.6), **settings)
    assert "than the most frequent text (exact match 10.0 %, chrF 0.200):" in sentence
    assert "nearest" not in sentence and "baseline" not in sentence
