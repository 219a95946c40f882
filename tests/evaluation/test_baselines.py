import numpy as np
import pytest
from sklearn import linear_model

from mmkeras.evaluation import baselines
from mmkeras.evaluation.baselines import fit_logistic_regression, predict_majority


def accuracy(probabilities, targets):
    return (probabilities.argmax(axis=1) == targets.argmax(axis=1)).mean()


def separable(n, seed, classes=3, width=4):
    """A block of features (n, width) that separates the classes, and targets (n, C)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = 4 * np.eye(classes, width)
    return centres[labels] + rng.normal(size=(n, width)), np.eye(classes)[labels]


TRAIN, TRAIN_TARGETS = separable(200, 0)
ROWS, TARGETS = separable(100, 1)


def fit_and_predict(train, targets, rows, task="multiclass", **settings):
    """Predicts with a block "text"; other blocks as dictionaries."""
    train, rows = (x if isinstance(x, dict) else {"text": x} for x in (train, rows))
    settings = {"seed": 0} | settings
    return fit_logistic_regression(train, targets, task, **settings).predict(rows, task)


# Majority ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "targets, task, expected",
    [
        (np.eye(3)[[0, 1, 1, 1]], "multiclass", [0.25, 0.75, 0]),
        ([[0.25, 0.75, 0]], "multiclass", [0.25, 0.75, 0]),
        ([[1, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]], "multilabel", [1, 0.5, 0]),
    ],
)
def test_the_majority_predicts_the_training_frequencies(targets, task, expected):
    probabilities = predict_majority(np.array(targets), 5, task)
    assert probabilities.shape == (5, 3) and (probabilities == expected).all()


# Logistic regression ----------------------------------------------------------


@pytest.mark.parametrize("task, classes", [("binary", 2), ("multiclass", 3)])
def test_a_separable_block_is_learned(task, classes):
    train, train_targets = separable(200, 0, classes)
    rows, targets = separable(100, 1, classes)
    probabilities = fit_and_predict(train, train_targets, rows, task)
    assert probabilities.shape == (100, classes)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(100))
    assert accuracy(probabilities, targets) > 0.95


def test_a_wide_block_of_noise_does_not_hide_a_separable_one():
    rng, width = np.random.default_rng(2), baselines.MAX_WIDTH + 1
    train, rows = (
        {"image": rng.normal(size=(len(x), width)), "text": x} for x in (TRAIN, ROWS)
    )
    assert accuracy(fit_and_predict(train, TRAIN_TARGETS, rows), TARGETS) > 0.85


def test_a_wide_block_is_learned_and_reproducible():
    mixing = np.random.default_rng(2).normal(size=(4, baselines.MAX_WIDTH + 1))
    model = (TRAIN @ mixing, TRAIN_TARGETS, ROWS @ mixing)
    probabilities = fit_and_predict(*model)
    assert accuracy(probabilities, TARGETS) > 0.9
    assert (probabilities == fit_and_predict(*model)).all()


def test_the_units_of_a_block_do_not_matter():
    small, large = (
        fit_and_predict(k * TRAIN, TRAIN_TARGETS, k * ROWS) for k in (0.001, 1000)
    )
    assert small == pytest.approx(large, abs=1e-6)


def with_absent(n, seed):
    """Two separable blocks; every fourth row lacks one of them, as zeros."""
    text, targets = separable(n, seed)
    rng = np.random.default_rng(seed + 100)
    audio = 5 + text @ np.eye(4, 6) + rng.normal(size=(n, 6))  # far from zero
    present = np.ones((n, 2))
    present[np.arange(0, n, 4), 0] = 0
    present[np.arange(1, n, 4), 1] = 0
    text, audio = text * present[:, :1], audio * present[:, 1:]
    return {"audio": audio, "present": present, "text": text}, targets


def test_rows_without_a_modality_are_predicted_from_the_others():
    train, train_targets = with_absent(400, 0)
    rows, targets = with_absent(200, 1)
    probabilities = fit_and_predict(train, train_targets, rows)
    for column in (0, 1):
        is_absent = rows["present"][:, column] == 0
        assert accuracy(probabilities[is_absent], targets[is_absent]) > 0.85
    assert accuracy(probabilities, targets) > 0.9


def test_rows_without_any_modality_get_about_the_class_frequencies():
    train, train_targets = separable(300, 0)
    is_empty = np.arange(300) % 3 == 0
    blocks = {"present": 1.0 - is_empty[:, None], "text": train * ~is_empty[:, None]}
    empty = {"present": np.zeros((1, 1)), "text": np.zeros((1, 4))}
    probabilities = fit_and_predict(blocks, train_targets, empty)
    frequencies = train_targets[is_empty].mean(axis=0)
    assert probabilities[0] == pytest.approx(frequencies, abs=0.02)


@pytest.mark.parametrize("width", [4, baselines.MAX_WIDTH + 1])
def test_a_block_without_training_rows_changes_nothing(width):
    train, rows = (
        {"text": x, "audio": np.zeros((len(x), width))} for x in (TRAIN, ROWS)
    )
    expected = pytest.approx(fit_and_predict(TRAIN, TRAIN_TARGETS, ROWS))
    assert fit_and_predict(train, TRAIN_TARGETS, rows) == expected


def test_classes_without_training_rows_get_0():
    targets = np.zeros((200, 5))
    targets[:, [0, 2, 4]] = TRAIN_TARGETS
    probabilities = fit_and_predict(TRAIN, targets, TRAIN)
    assert (probabilities[:, [1, 3]] == 0).all()
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(200))
    assert accuracy(probabilities, targets) > 0.95


def test_a_single_class_is_always_predicted():
    targets = np.eye(3)[[1] * 10]
    features = np.random.default_rng(0).normal(size=(10, 4))
    assert (fit_and_predict(features, targets, features) == [0, 1, 0]).all()


def test_each_of_several_labels_is_learned_separately():
    train, rows = np.random.default_rng(0).normal(size=(2, 300, 4))
    never, always = np.zeros((300, 1)), np.ones((300, 1))
    targets, expected = (
        np.hstack([x[:, :2] > 0, never, always]) for x in (train, rows)
    )
    probabilities = fit_and_predict(train, targets, rows, "multilabel")
    accuracies = ((probabilities >= 0.5) == expected).mean(axis=0)
    assert (accuracies[:2] > 0.93).all()
    assert (probabilities[:, 2] == 0).all() and (probabilities[:, 3] == 1).all()
    assert (probabilities[:, :2] > 0.5).all(axis=1).any()  # both at once


def test_max_rows_limits_the_training_rows_by_the_seed(monkeypatch):
    sizes = []

    class Recorder(linear_model.LogisticRegression):
        def fit(self, features, targets):
            sizes.append(len(features))
            return super().fit(features, targets)

    monkeypatch.setattr(baselines.linear_model, "LogisticRegression", Recorder)
    model = (TRAIN, TRAIN_TARGETS, TRAIN)
    first, again, other = (
        fit_and_predict(*model, seed=s, max_rows=30) for s in (0, 0, 1)
    )
    assert sizes == [30] * 3
    assert (first == again).all() and (first != other).any()
    assert accuracy(first, TRAIN_TARGETS) > 0.9  # rows and targets still match
