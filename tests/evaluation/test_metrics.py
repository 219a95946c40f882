import json

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics as sk

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation import metrics
from mmkeras.evaluation.metrics import accuracies, compare, correct, interval, measure
from tests.simulated_predictions import TASKS, simulate

QUICK = EvaluateConfig(bootstrap_resamples=100)


def values(result):
    return {name: entry["value"] for name, entry in result["metrics"].items()}


def plain(content):
    """Every leaf of what JSON would hold."""
    if isinstance(content, dict):
        return [leaf for value in content.values() for leaf in plain(value)]
    if isinstance(content, list):
        return [leaf for value in content for leaf in plain(value)]
    return [content]


# Values -----------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_perfect_model_scores_1_everywhere_and_loses_nothing(task):
    targets, _, names = simulate(task)
    result = measure(targets, targets.astype(float), names, task, QUICK, seed=0)
    found = values(result)
    assert found.pop("log_loss") == pytest.approx(0, abs=1e-9)
    assert found.pop("ece") == 0
    assert found == dict.fromkeys(found, 1)
    for name, entry in result["per_class"].items():
        assert entry.pop("support") == targets[:, names.index(name)].sum()
        assert all(v == {"value": 1, "low": 1, "high": 1} for v in entry.values())


def test_the_interval_of_a_coins_roc_auc_holds_a_half():
    rng = np.random.default_rng(0)
    targets = np.eye(2)[rng.integers(0, 2, 300)]
    yes = rng.random(300)
    coin = np.stack([1 - yes, yes], axis=1)
    auc = measure(targets, coin, ["no", "yes"], "binary", QUICK, 0)["metrics"][
        "roc_auc"
    ]
    assert auc["low"] < 0.5 < auc["high"]
    assert auc["high"] - auc["low"] < 0.2


@pytest.mark.parametrize("task", TASKS)
def test_values_are_those_of_scikit_learn(task):
    targets, probabilities, names = simulate(task)
    found = measure(targets, probabilities, names, task, QUICK, seed=0)
    if task == "multilabel":
        truth, guess = targets, (probabilities >= 0.5).astype(int)
        pairs = list(zip(truth.T, guess.T, strict=True))
        balanced = np.mean([sk.balanced_accuracy_score(t, g) for t, g in pairs])
        cells = zip(targets.T, probabilities.T, strict=True)
        loss = np.mean([sk.log_loss(t, p) for t, p in cells])
        confusion = sk.multilabel_confusion_matrix(truth, guess)
    else:
        truth, guess = targets.argmax(axis=1), probabilities.argmax(axis=1)
        balanced = sk.balanced_accuracy_score(truth, guess)
        loss = sk.log_loss(truth, probabilities)
        confusion = sk.confusion_matrix(truth, guess)
    scores = probabilities[:, 1] if task == "binary" else probabilities
    expected = {
        "accuracy": sk.accuracy_score(truth, guess),
        "balanced_accuracy": balanced,
        "log_loss": loss,
        "roc_auc": sk.roc_auc_score(truth, scores, multi_class="ovr", average="macro"),
        "pr_auc": sk.average_precision_score(targets, probabilities, average="macro"),
    }
    for average in ("macro", "weighted"):
        for name, score in (
            ("precision", sk.precision_score),
            ("recall", sk.recall_score),
            ("f1", sk.f1_score),
        ):
            expected[f"{name}_{average}"] = score(truth, guess, average=average)
    assert {k: v for k, v in values(found).items() if k != "ece"} == (
        pytest.approx(expected, abs=1e-12)
    )
    assert found["confusion_matrix"] == confusion.tolist()


def test_values_by_class_are_those_of_scikit_learn():
    targets, probabilities, names = simulate("multiclass")
    found = measure(targets, probabilities, names, "multiclass", QUICK, seed=0)
    guess = np.eye(4, dtype=int)[probabilities.argmax(axis=1)]
    for c, name in enumerate(names):
        truth, scores = targets[:, c], probabilities[:, c]
        entry = found["per_class"][name]
        assert entry["support"] == truth.sum()
        assert {k: v["value"] for k, v in entry.items() if k != "support"} == (
            pytest.approx(
                {
                    "precision": sk.precision_score(truth, guess[:, c]),
                    "recall": sk.recall_score(truth, guess[:, c]),
                    "f1": sk.f1_score(truth, guess[:, c]),
                    "roc_auc": sk.roc_auc_score(truth, scores),
                    "pr_auc": sk.average_precision_score(truth, scores),
                }
            )
        )


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    sure = [0.95, 0.95, 0.95, 0.95, 0.65, 0.65, 0.65, 0.65]
    right = [1, 1, 1, 0, 1, 1, 0, 0]  # 75 % of the first four, 50 % of the others
    probabilities = np.array([[p, 1 - p] for p in sure])
    targets = np.array([[r, 1 - r] for r in right])
    found = measure(targets, probabilities, ["a", "b"], "binary", QUICK, seed=0)
    assert values(found)["ece"] == pytest.approx((0.20 + 0.15) / 2)
    filled = [b for b in found["reliability"] if b["rows"]]
    assert [(b["rows"], b["accuracy"]) for b in filled] == [(4, 0.5), (4, 0.75)]
    assert [b["confidence"] for b in filled] == pytest.approx([0.65, 0.95])
    assert [b["low"] for b in filled] == pytest.approx([0.6, 0.9])


def test_multilabel_calibration_judges_each_probability_by_itself():
    targets = np.array([[1, 0], [0, 0], [0, 0], [0, 0]])
    probabilities = np.full((4, 2), [0.25, 0.1])  # the first column is calibrated
    found = measure(targets, probabilities, ["a", "b"], "multilabel", QUICK, seed=0)
    assert values(found)["ece"] == pytest.approx(0.1 / 2)
    assert sum(b["rows"] for b in found["reliability"]) == 8


# Intervals --------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_resample_is_measured_as_scikit_learn_would(task):
    targets, probabilities, names = simulate(task, n=12, seed=3)
    probabilities = probabilities.round(1)  # many ties
    if task != "multilabel":
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    rows = metrics._rows(targets, probabilities, names, task, 10)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 12, (30, 12))  # so few rows that some classes are absent
    weights = np.stack([np.bincount(d, minlength=12) for d in drawn]).astype(float)
    overall, by_class = metrics._weighed(rows, weights)
    for i, d in enumerate(drawn):
        one = metrics._rows(targets[d], probabilities[d], names, task, 10)
        expected, expected_by_class = metrics._points(one, task)
        for name, value in expected.items():
            assert overall[name][i] == pytest.approx(value, nan_ok=True), name
        for name, value in by_class.items():
            wanted = expected_by_class[name]
            assert value[i] == pytest.approx(wanted, nan_ok=True), name


def test_95_percent_intervals_hold_the_truth_about_95_times_in_100():
    rng, held = np.random.default_rng(0), {"accuracy": 0, "roc_auc": 0}
    truth = {"accuracy": norm.cdf(0.5), "roc_auc": norm.cdf(1 / np.sqrt(2))}
    for i in range(100):
        answers = rng.integers(0, 2, 100)
        yes = expit(rng.normal(size=100) + answers - 0.5)  # one deviation apart
        probabilities = np.stack([1 - yes, yes], axis=1)
        found = measure(np.eye(2)[answers], probabilities, "ab", "binary", QUICK, i)
        for name, value in truth.items():
            entry = found["metrics"][name]
            held[name] += entry["low"] <= value <= entry["high"]
    assert all(85 <= times <= 100 for times in held.values()), held


def test_more_rows_make_an_interval_narrower():
    widths = []
    for n in (50, 2000):
        found = measure(*simulate("binary", n), "binary", QUICK, seed=0)["metrics"]
        widths.append(found["accuracy"]["high"] - found["accuracy"]["low"])
    assert widths[1] < widths[0] / 4


@pytest.mark.parametrize("task", TASKS)
def test_every_interval_holds_its_value(task):
    found = measure(*simulate(task, 40), task, QUICK, seed=0)
    entries = list(found["metrics"].values())
    for by_class in found["per_class"].values():
        entries += [v for k, v in by_class.items() if k != "support"]
    assert all(e["low"] <= e["value"] <= e["high"] for e in entries)


def test_the_same_seed_gives_the_same_numbers_and_another_other_intervals():
    model = (*simulate("multiclass", 60), "multiclass", QUICK)
    first, again, other = (measure(*model, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["metrics"]["accuracy"] != other["metrics"]["accuracy"]
    assert values(first) == values(other)


def test_a_thousand_rows_of_ten_classes_get_all_the_resamples_asked_for():
    rng = np.random.default_rng(0)
    targets = np.eye(10)[rng.integers(0, 10, 1000)]
    probabilities = rng.dirichlet(np.ones(10), 1000)
    config = EvaluateConfig(bootstrap_resamples=500)
    found = measure(targets, probabilities, "abcdefghij", "multiclass", config, seed=0)
    assert found["bootstrap_resamples"] == 500


@pytest.mark.parametrize("work, resamples", [(1, 100), (80_000, 200), (10**9, 300)])
def test_many_rows_and_classes_get_fewer_resamples_but_a_hundred(
    monkeypatch, work, resamples
):
    monkeypatch.setattr(metrics, "WORK", work)
    model = simulate("multiclass", n=100)  # 400 cells
    config = EvaluateConfig(bootstrap_resamples=300)
    found = measure(*model, "multiclass", config, seed=0)
    assert found["bootstrap_resamples"] == resamples


def test_the_work_for_a_million_cells_is_bounded():
    assert metrics.WORK // 1_000_000 == metrics.LEAST_RESAMPLES == 100


# What cannot be computed ------------------------------------------------------


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_class_that_is_absent_gives_none_and_never_nan(task):
    targets, probabilities, names = simulate(task)
    if task == "multilabel":
        targets[:, 0] = 0
    else:
        kept = targets[:, 0] == 0
        targets, probabilities = targets[kept], probabilities[kept]
    probabilities[:, 0] = 0  # nor is it ever the answer
    found = measure(targets, probabilities, names, task, QUICK, seed=0)
    absent = found["per_class"]["ape"]
    unknown = {"value": None, "low": None, "high": None}
    assert absent == {
        **dict.fromkeys(["precision", "recall", "f1", "roc_auc", "pr_auc"], unknown),
        "support": 0,
    }
    assert all(entry["value"] is not None for entry in found["metrics"].values())
    assert "NaN" not in json.dumps(found, allow_nan=False)
    entries = [e for n, e in found["per_class"].items() if n != "ape"]
    mean = np.mean([e["roc_auc"]["value"] for e in entries])
    assert values(found)["roc_auc"] == pytest.approx(mean)


@pytest.mark.parametrize("task", TASKS)
def test_one_row_is_measured_and_says_what_it_cannot_tell(task):
    targets, probabilities, names = simulate(task)
    found = measure(targets[:1], probabilities[:1], names, task, QUICK, seed=0)
    assert found["rows"] == 1
    assert values(found)["accuracy"] in (0, 1)
    assert values(found)["roc_auc"] is None
    json.dumps(found, allow_nan=False)


def test_rows_without_any_label_are_measured():
    targets = np.zeros((5, 3))
    found = measure(targets, targets + 0.2, "abc", "multilabel", QUICK, seed=0)
    assert values(found)["accuracy"] == 1
    assert values(found)["f1_macro"] is None
    json.dumps(found, allow_nan=False)


def test_the_result_holds_plain_values_only():
    found = measure(*simulate("multiclass"), "multiclass", QUICK, seed=0)
    assert {type(leaf) for leaf in plain(found)} <= {int, float, str, type(None)}


@pytest.mark.parametrize(
    "targets, probabilities",
    [
        (np.eye(2), np.full((3, 2), 0.5)),
        (np.eye(3), np.full((3, 3), 0.5)),
        (np.zeros((0, 2)), np.zeros((0, 2))),
    ],
)
def test_disagreeing_shapes_and_no_rows_are_refused(targets, probabilities):
    with pytest.raises(ValueError, match=r"must be \(N, 2\).*received"):
        measure(targets, probabilities, ["a", "b"], "binary", QUICK, seed=0)


def test_probabilities_that_are_not_numbers_are_refused():
    probabilities = np.array([[0.5, 0.5], [np.nan, 0.5]])
    with pytest.raises(ValueError, match="must be finite, received NaN"):
        measure(np.eye(2), probabilities, ["a", "b"], "binary", QUICK, seed=0)


# Two models -------------------------------------------------------------------


def right_in(share, n=200):
    """Probabilities of which this share of rows is right, and the targets."""
    targets = np.eye(2)[np.arange(n) % 2]
    right = np.arange(n) < share * n
    return targets, np.where(right[:, None], targets, 1 - targets) * 0.8 + 0.1


def test_a_clearly_better_model_is_told_from_a_worse_one():
    targets, good = right_in(0.9)
    _, bad = right_in(0.6)
    ahead = compare(targets, good, bad, "binary", seed=0, resamples=500)
    behind = compare(targets, bad, good, "binary", seed=0, resamples=500)
    assert ahead["value"] == pytest.approx(0.3)
    assert 0.2 < ahead["low"] < 0.3 < ahead["high"] < 0.4
    assert behind["high"] < 0
    assert behind["value"] == -ahead["value"]


@pytest.mark.parametrize("task", TASKS)
def test_a_model_does_not_differ_from_itself(task):
    targets, probabilities, _ = simulate(task)
    difference = compare(targets, probabilities, probabilities, task, 0, 200)
    assert difference == {"value": 0, "low": 0, "high": 0}


def test_a_difference_of_a_few_rows_is_not_clear():
    rng = np.random.default_rng(0)
    targets, good = right_in(0.8)
    shuffled = rng.permutation(200)
    other = np.where((shuffled < 158)[:, None], targets, 1 - targets)
    difference = compare(targets, good, other, "binary", seed=0, resamples=500)
    assert difference["value"] == pytest.approx(0.01)
    assert difference["low"] < 0 < difference["high"]


# Calibration ------------------------------------------------------------------


def test_several_answers_are_judged_on_the_rows_that_one_is_measured_on():
    rng = np.random.default_rng(0)
    targets = np.eye(3)[rng.integers(0, 3, 90)]
    probabilities = rng.dirichlet([1, 1, 1], 90)
    probabilities[60:] = targets[60:]  # the last third is right
    config = EvaluateConfig(bootstrap_resamples=150)
    found = measure(targets, probabilities, "abc", "multiclass", config, 5)
    right = correct(targets, probabilities, "multiclass")
    values, drawn = accuracies([right, ~right], 150, 5)
    accuracy = interval(values[0], drawn[0])
    assert accuracy == pytest.approx(found["metrics"]["accuracy"])
    np.testing.assert_allclose(drawn[0] + drawn[1], 1)  # the same resamples


def test_a_row_is_right_when_all_of_its_labels_are():
    targets, p = np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.1], [0.9, 0.1]])
    assert correct(targets, p, "multilabel").tolist() == [True, False]
