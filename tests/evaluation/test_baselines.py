import numpy as np
import pytest

from mmkeras.evaluation import baselines
from mmkeras.evaluation.baselines import (
    logistic_regression,
    majority,
    of_frames,
    of_tokens,
    verdict,
)


def accuracy(probabilities, targets):
    return (probabilities.argmax(axis=1) == targets.argmax(axis=1)).mean()


def separable(n, seed, classes=3, width=4):
    """A block of features (n, width) that tells the classes, and targets (n, C)."""
    rng = np.random.default_rng(seed)
    answers = rng.integers(0, classes, n)
    centres = 4 * np.eye(classes, width)
    return centres[answers] + rng.normal(size=(n, width)), np.eye(classes)[answers]


# The most frequent answer -----------------------------------------------------


def test_the_majority_answers_every_row_with_the_training_frequencies():
    found = majority(np.eye(3)[[0, 1, 1, 1]], 5, "multiclass")
    assert found.shape == (5, 3)
    assert (found == [0.25, 0.75, 0]).all()


def test_the_majority_takes_frequencies_as_well_as_rows():
    found = majority(np.array([[0.25, 0.75, 0]]), 2, "multiclass")
    assert (found == [0.25, 0.75, 0]).all()


def test_the_majority_of_many_labels_says_how_often_each_is_true():
    targets = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    assert (majority(targets, 2, "multilabel") == [1, 0.5, 0]).all()


# Logistic regression ----------------------------------------------------------


@pytest.mark.parametrize("task, classes", [("binary", 2), ("multiclass", 3)])
def test_a_separable_block_is_learned(task, classes):
    train, train_targets = separable(200, 0, classes)
    rows, targets = separable(100, 1, classes)
    found = logistic_regression({"text": train}, train_targets, {"text": rows}, task, 0)
    assert found.shape == (100, classes)
    assert found.sum(axis=1) == pytest.approx(np.ones(100))
    assert accuracy(found, targets) > 0.95


def test_a_separable_block_is_learned_beside_a_wide_one_of_noise():
    rng = np.random.default_rng(2)
    train, train_targets = separable(200, 0)
    rows, targets = separable(100, 1)
    wide = baselines.WIDE + 1
    found = logistic_regression(
        {"image": rng.normal(size=(200, wide)), "text": train},
        train_targets,
        {"image": rng.normal(size=(100, wide)), "text": rows},
        "multiclass",
        0,
    )
    assert accuracy(found, targets) > 0.85


def test_a_wide_block_is_learned():
    rng = np.random.default_rng(2)
    spread = rng.normal(size=(4, baselines.WIDE + 1))
    train, train_targets = separable(200, 0)
    rows, targets = separable(100, 1)
    blocks = {"image": train @ spread}, train_targets, {"image": rows @ spread}
    found = logistic_regression(*blocks, "multiclass", 0)
    assert accuracy(found, targets) > 0.9
    assert (found == logistic_regression(*blocks, "multiclass", 0)).all()


def test_the_units_of_a_block_do_not_matter():
    train, train_targets = separable(100, 0)
    rows, _ = separable(50, 1)
    small, large = (
        logistic_regression(
            {"text": k * train}, train_targets, {"text": k * rows}, "multiclass", 0
        )
        for k in (0.001, 1000)
    )
    assert small == pytest.approx(large, abs=1e-6)


def with_absent(n, seed):
    """Rows of two separable blocks of which each lacks one in turn, as zeros."""
    text, targets = separable(n, seed)
    rng = np.random.default_rng(seed + 100)
    audio = 5 + text @ np.eye(4, 6) + rng.normal(size=(n, 6))  # far from zero
    present = np.ones((n, 2))
    present[np.arange(0, n, 4), 0] = 0
    present[np.arange(1, n, 4), 1] = 0
    blocks = {
        "audio": audio * present[:, 1:],
        "present": present,
        "text": text * present[:, :1],
    }
    return blocks, targets


def test_absent_rows_are_answered_from_what_they_have():
    train, train_targets = with_absent(400, 0)
    rows, targets = with_absent(200, 1)
    found = logistic_regression(train, train_targets, rows, "multiclass", 0)
    for absent in (0, 1):
        lacking = rows["present"][:, absent] == 0
        assert accuracy(found[lacking], targets[lacking]) > 0.85
    assert accuracy(found, targets) > 0.9


def test_rows_without_anything_get_about_the_class_frequencies():
    train, train_targets = separable(300, 0)
    empty = np.arange(300) % 3 == 0
    blocks = {
        "present": 1.0 - empty[:, None],
        "text": train * ~empty[:, None],
    }
    nothing = {"present": np.zeros((1, 1)), "text": np.zeros((1, 4))}
    found = logistic_regression(blocks, train_targets, nothing, "multiclass", 0)
    assert found[0] == pytest.approx(train_targets[empty].mean(axis=0), abs=0.02)


@pytest.mark.parametrize("width", [4, baselines.WIDE + 1])
def test_a_block_that_no_training_row_has_changes_nothing(width):
    train, train_targets = separable(100, 0)
    rows, _ = separable(50, 1)
    without, with_zeros = (
        logistic_regression(
            {"text": train, **block(100)},
            train_targets,
            {"text": rows, **block(50)},
            "multiclass",
            0,
        )
        for block in (lambda n: {}, lambda n: {"audio": np.zeros((n, width))})
    )
    assert with_zeros == pytest.approx(without)


def test_classes_that_no_training_row_has_get_0():
    train, seen = separable(100, 0)
    targets = np.zeros((100, 5))
    targets[:, [0, 2, 4]] = seen
    found = logistic_regression({"text": train}, targets, {"text": train}, "any", 0)
    assert (found[:, [1, 3]] == 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(100))
    assert accuracy(found, targets) > 0.95


def test_one_class_only_is_always_the_answer():
    targets = np.eye(3)[[1] * 10]
    block = {"text": np.random.default_rng(0).normal(size=(10, 4))}
    assert (logistic_regression(block, targets, block, "any", 0) == [0, 1, 0]).all()


def test_each_of_many_labels_is_learned_by_itself():
    rng = np.random.default_rng(0)
    train, rows = rng.normal(size=(2, 300, 4))
    never, always = np.zeros((300, 1)), np.ones((300, 1))
    targets, expected = (
        np.hstack([x[:, :2] > 0, never, always]) for x in (train, rows)
    )
    found = logistic_regression(
        {"text": train}, targets, {"text": rows}, "multilabel", 0
    )
    right = ((found >= 0.5) == expected).mean(axis=0)
    assert (right[:2] > 0.93).all()
    assert (found[:, 2] == 0).all() and (found[:, 3] == 1).all()
    assert ((found[:, 0] > 0.5) & (found[:, 1] > 0.5)).any()  # both at once


def test_no_more_training_rows_are_used_than_asked_for(monkeypatch):
    fitted = []
    fit = baselines._fit
    monkeypatch.setattr(
        baselines,
        "_fit",
        lambda train, *rest: fitted.append(len(train)) or fit(train, *rest),
    )
    train, targets = separable(100, 0)
    model = ({"text": train}, targets, {"text": train}, "multiclass")
    first, again, other = (
        logistic_regression(*model, seed=s, max_rows=30) for s in (0, 0, 1)
    )
    assert fitted == [30] * 3
    assert (first == again).all() and (first != other).any()
    assert accuracy(first, targets) > 0.9  # rows and answers still belong together


# The verdict ------------------------------------------------------------------


def said(model, low, most, simple, difference):
    return verdict(
        {"accuracy": {"value": model, "low": low, "high": 1.0}},
        {"accuracy": {"value": most, "low": most, "high": most}},
        {"accuracy": {"value": simple, "low": simple, "high": simple}},
        dict(zip(("low", "value", "high"), difference, strict=True)),
    )


def test_a_better_model_is_called_better():
    assert said(0.9, 0.85, 0.5, 0.8, (0.04, 0.1, 0.16)) == (
        "The model (accuracy 90.0 %) is better than logistic regression on the same "
        "features (80.0 %) by 10.0 points (95 % interval +4.0 to +16.0)."
    )


def test_a_difference_that_may_be_chance_is_not_called_better():
    assert said(0.82, 0.75, 0.5, 0.8, (-0.03, 0.02, 0.07)) == (
        "The model (accuracy 82.0 %) is not clearly better than logistic regression "
        "on the same features (80.0 %): the difference is +2.0 points (95 % interval "
        "-3.0 to +7.0), and the logistic regression costs a second."
    )


def test_an_interval_that_ends_at_0_is_not_clear():
    for difference in ((0.0, 0.02, 0.04), (-0.04, -0.02, 0.0), (0.0, 0.0, 0.0)):
        assert "is not clearly better" in said(0.8, 0.7, 0.5, 0.8, difference)


def test_a_worse_model_is_called_worse_and_the_simple_one_advised():
    assert said(0.7, 0.65, 0.5, 0.8, (-0.16, -0.1, -0.04)) == (
        "The model (accuracy 70.0 %) is worse than logistic regression on the same "
        "features (80.0 %) by 10.0 points (95 % interval -16.0 to -4.0): use the "
        "logistic regression, it costs a second."
    )


@pytest.mark.parametrize("low", [0.5, 0.45])
def test_a_model_no_better_than_the_majority_is_told_so(low):
    sentence = said(0.55, low, 0.5, 0.4, (0.05, 0.15, 0.25))
    assert sentence.startswith(
        "The model (accuracy 55.0 %) is not clearly better than always giving the "
        "most frequent answer (50.0 %), and is better than logistic regression"
    )
    assert "most frequent" not in said(0.55, 0.51, 0.5, 0.4, (0.05, 0.15, 0.25))


def test_tokens_are_counted_without_their_padding():
    features = of_tokens(np.array([[2, 1, 2, 0], [0, 0, 0, 0]]), known=3)
    assert features == pytest.approx(np.log1p([[1, 2, 0], [0, 0, 0]]))


def test_frames_are_summed_up_without_their_padding():
    rng = np.random.default_rng(0)
    frames = np.zeros((2, 9, 4))
    frames[0, :5] = rng.normal(size=(5, 4))
    features = of_frames(frames)
    assert features[0, :4] == pytest.approx(frames[0, :5].mean(axis=0))
    assert features[0, 4:] == pytest.approx(frames[0, :5].std(axis=0))
    assert not features[1].any()
