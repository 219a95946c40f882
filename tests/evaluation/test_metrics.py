import json

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics as sk

from mmkeras.config import EvaluateConfig
from mmkeras.evaluation import metrics
from mmkeras.evaluation.bootstrap import interval
from mmkeras.evaluation.metrics import (
    correct_rows,
    measure,
    score_rows,
    weighted_metrics,
)
from mmkeras.evaluation.text_metrics import TEXT_METRICS
from mmkeras.reports.metric_names import CLASS_METRICS, METRICS, REGRESSION_METRICS
from tests.simulated_predictions import TASKS, simulate

QUICK = EvaluateConfig(bootstrap_resamples=100)


def values(result):
    return {name: entry["value"] for name, entry in result["metrics"].items()}


def reference(targets, probabilities, task):
    """Metrics over all classes and per class (C,), computed by scikit-learn."""
    every = np.arange(targets.shape[1])
    guess = metrics.predict_labels(probabilities, task).astype(int)
    labels = np.flatnonzero((targets | guess).any(axis=0))
    if task == "multilabel":
        truth, pairs = targets, list(zip(targets.T, guess.T, strict=True))
        loss = sk.log_loss(targets.ravel(), probabilities.ravel(), labels=[0, 1])
    else:
        truth, guess = targets.argmax(axis=1), guess.argmax(axis=1)
        pairs, loss = [(truth, guess)], sk.log_loss(truth, probabilities, labels=every)
    recalls = [
        sk.recall_score(t, g, labels=np.unique(t), average="macro", zero_division=0)
        for t, g in pairs
    ]
    overall = {
        "accuracy": sk.accuracy_score(truth, guess),
        "balanced_accuracy": np.mean(recalls),
        "log_loss": loss,
    }
    names = ("precision", "recall", "f1")
    for average in ("macro", "weighted"):
        scores = sk.precision_recall_fscore_support(
            truth, guess, labels=labels, average=average, zero_division=0
        )
        overall |= {f"{n}_{average}": s for n, s in zip(names, scores, strict=False)}
    scores = sk.precision_recall_fscore_support(
        truth, guess, labels=every, zero_division=np.nan
    )
    per_class = dict(zip(names, scores, strict=False))
    for name, area in (
        ("roc_auc", sk.roc_auc_score),
        ("pr_auc", sk.average_precision_score),
    ):
        per_class[name] = np.array(
            [
                area(t, p) if 0 < t.sum() < len(t) else np.nan
                for t, p in zip(targets.T, probabilities.T, strict=True)
            ]
        )
        known = per_class[name][~np.isnan(per_class[name])]
        overall[name] = known.mean() if len(known) else np.nan
    return overall, per_class


def wilson(rows):
    """Interval of a proportion of `rows` that is 1, solved for its lower end."""
    low = brentq(
        lambda p: (1 - p) - norm.ppf(0.975) * np.sqrt(p * (1 - p) / rows),
        0.01,
        1 - 1e-9,
    )
    return low, 1.0


# Values -----------------------------------------------------------------------


def test_the_names_of_all_metrics_are_those_of_the_reports():
    result = measure(*simulate("multiclass"), "multiclass", QUICK, seed=0)
    others = (*REGRESSION_METRICS, *TEXT_METRICS)
    assert [*result["metrics"], *others] == list(METRICS)
    for entry in result["per_class"].values():
        assert list(entry) == [*CLASS_METRICS, "support"]


@pytest.mark.parametrize("task", TASKS)
def test_a_perfect_model_scores_1_and_has_no_loss(task):
    targets, _, names = simulate(task)
    result = measure(targets, targets.astype(float), names, task, QUICK, seed=0)
    scores = values(result)
    assert scores.pop("log_loss") == pytest.approx(0, abs=1e-9)
    assert scores.pop("ece") == 0
    assert scores == dict.fromkeys(scores, 1)
    for name, entry in result["per_class"].items():
        support = entry.pop("support")
        assert support == targets[:, names.index(name)].sum()
        assert all(v["value"] == v["high"] == 1 for v in entry.values())
        assert entry["recall"]["low"] == pytest.approx(wilson(support)[0])


@pytest.mark.parametrize("task", TASKS)
def test_values_are_those_of_scikit_learn(task):
    targets, probabilities, names = simulate(task)
    result = measure(targets, probabilities, names, task, QUICK, seed=0)
    overall, per_class = reference(targets, probabilities, task)
    scores = values(result)
    del scores["ece"]
    assert scores == pytest.approx(overall, abs=1e-12)
    assert all(e["low"] <= e["value"] <= e["high"] for e in result["metrics"].values())
    for name, expected in per_class.items():
        scores = [entry[name]["value"] for entry in result["per_class"].values()]
        assert scores == pytest.approx(expected), name
    guess = metrics.predict_labels(probabilities, task)
    if task == "multilabel":
        confusion = sk.multilabel_confusion_matrix(targets, guess)
    else:
        confusion = sk.confusion_matrix(targets.argmax(axis=1), guess.argmax(axis=1))
    assert result["confusion_matrix"] == confusion.tolist()


@pytest.mark.parametrize("task", TASKS)
def test_each_resample_is_measured_as_scikit_learn_would(task):
    targets, probabilities, names = simulate(task, n=12, seed=3)
    probabilities = probabilities.round(1)  # many ties
    if task != "multilabel":
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    rows = score_rows(targets, probabilities, names, task, 10)
    samples = np.random.default_rng(0).integers(0, 12, (30, 12))  # some lack a class
    weights = np.stack([np.bincount(i, minlength=12) for i in samples]).astype(float)
    overall, per_class = weighted_metrics(rows, weights)
    for r, indices in enumerate(samples):
        expected = reference(targets[indices], probabilities[indices], task)
        for result, scores in zip((overall, per_class), expected, strict=True):
            for name, score in scores.items():
                assert result[name][r] == pytest.approx(score, nan_ok=True), name


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    confidence = [0.95, 0.95, 0.95, 0.95, 0.65, 0.65, 0.65, 0.65]
    correct = [1, 1, 1, 0, 1, 1, 0, 0]  # 75 % of the first four, 50 % of the others
    probabilities = np.array([[p, 1 - p] for p in confidence])
    targets = np.array([[r, 1 - r] for r in correct])
    result = measure(targets, probabilities, ["a", "b"], "binary", QUICK, seed=0)
    assert values(result)["ece"] == pytest.approx((0.20 + 0.15) / 2)
    bins = [b for b in result["reliability"] if b["rows"]]
    assert [(b["rows"], b["accuracy"]) for b in bins] == [(4, 0.5), (4, 0.75)]
    assert [b["confidence"] for b in bins] == pytest.approx([0.65, 0.95])
    assert [b["low"] for b in bins] == pytest.approx([0.6, 0.9])


def test_multilabel_calibration_measures_each_probability_separately():
    targets = np.array([[1, 0], [0, 0], [0, 0], [0, 0]])
    probabilities = np.full((4, 2), [0.25, 0.1])  # the first column is calibrated
    result = measure(targets, probabilities, ["a", "b"], "multilabel", QUICK, seed=0)
    assert values(result)["ece"] == pytest.approx(0.1 / 2)
    assert sum(b["rows"] for b in result["reliability"]) == 8


def test_a_row_is_correct_when_all_of_its_labels_are():
    targets, p = np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.1], [0.9, 0.1]])
    assert correct_rows(targets, p, "multilabel").tolist() == [True, False]


# Intervals --------------------------------------------------------------------


def test_95_percent_intervals_contain_the_truth_about_95_times_in_100():
    rng, hits = np.random.default_rng(0), {"accuracy": 0, "roc_auc": 0}
    truth = {"accuracy": norm.cdf(0.5), "roc_auc": norm.cdf(1 / np.sqrt(2))}
    for i in range(100):
        labels = rng.integers(0, 2, 100)
        yes = expit(rng.normal(size=100) + labels - 0.5)  # one deviation apart
        probabilities = np.stack([1 - yes, yes], axis=1)
        result = measure(np.eye(2)[labels], probabilities, "ab", "binary", QUICK, i)
        for name, value in truth.items():
            entry = result["metrics"][name]
            hits[name] += entry["low"] <= value <= entry["high"]
    assert all(85 <= n <= 100 for n in hits.values()), hits


@pytest.mark.parametrize("rows", [1, 3, 12, 500])
@pytest.mark.parametrize("is_right", [True, False])
def test_rows_that_are_all_right_or_all_wrong_have_the_interval_of_wilson(
    rows, is_right
):
    targets = np.eye(2)[np.arange(rows) % 2]
    probabilities = 0.2 + 0.6 * (targets if is_right else 1 - targets)
    entry = measure(targets, probabilities, "ab", "binary", QUICK, seed=0)["metrics"]
    low, high = wilson(rows) if is_right else [1 - x for x in wilson(rows)[::-1]]
    expected = {"value": float(is_right), "low": low, "high": high}
    assert entry["accuracy"] == pytest.approx(expected, abs=1e-6)
    if rows > 1:
        low, high = wilson(rows // 2) if is_right else (0, 1 - wilson(rows // 2)[0])
        expected = {"value": float(is_right), "low": low, "high": high}
        assert entry["roc_auc"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_a_mean_over_classes_is_as_certain_as_its_smallest_class(task):
    targets = np.eye(2)[np.arange(100) // 98]  # 98 rows and 2
    entry = measure(targets, targets, "ab", task, QUICK, seed=0)["metrics"]
    few = {name for name in entry if name.endswith("_macro")}
    few |= {"balanced_accuracy", "roc_auc", "pr_auc"}
    for name in set(entry) - {"log_loss", "ece"}:
        low = wilson(2 if name in few else 100)[0]
        expected = {"value": 1.0, "low": low, "high": 1.0}
        assert entry[name] == pytest.approx(expected, abs=1e-6), name


def test_an_edge_of_the_interval_contains_the_truth_as_often_as_promised():
    rng, hits = np.random.default_rng(0), []
    for _ in range(4000):
        chance = rng.uniform(0.7, 1)
        correct = rng.random(12) < chance
        if correct.all():
            hits.append(interval(1.0, np.ones(9), rows=12)["low"] <= chance)
    assert np.mean(hits) > 0.95


def test_the_seed_decides_the_intervals_and_not_the_values():
    model = (*simulate("multiclass", 60), "multiclass", QUICK)
    first, again, other = (measure(*model, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first["metrics"]["accuracy"] != other["metrics"]["accuracy"]
    assert values(first) == values(other)


@pytest.mark.parametrize("work, resamples", [(1, 100), (80_000, 200), (10**9, 300)])
def test_many_rows_or_classes_reduce_the_resamples(monkeypatch, work, resamples):
    monkeypatch.setattr(metrics, "WORK", work)
    config = EvaluateConfig(bootstrap_resamples=300)
    model = simulate("multiclass", n=100)  # 400 cells
    result = measure(*model, "multiclass", config, seed=0)
    assert result["bootstrap_resamples"] == resamples
    assert metrics.MIN_RESAMPLES == 100


# Undefined values -------------------------------------------------------------


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_metrics_of_an_absent_class_are_none_and_left_out_of_means(task):
    targets, probabilities, names = simulate(task)
    if task == "multilabel":
        targets[:, 0] = 0
    else:
        rows = targets[:, 0] == 0
        targets, probabilities = targets[rows], probabilities[rows]
    probabilities[:, 0] = 0  # never predicted either
    result = measure(targets, probabilities, names, task, QUICK, seed=0)
    unknown = {"value": None, "low": None, "high": None}
    absent = result["per_class"].pop("ape")
    assert absent == dict.fromkeys(CLASS_METRICS, unknown) | {"support": 0}
    assert None not in values(result).values()
    json.dumps(result, allow_nan=False)
    mean = np.mean([e["roc_auc"]["value"] for e in result["per_class"].values()])
    assert values(result)["roc_auc"] == pytest.approx(mean)


@pytest.mark.parametrize("classes, has_interval", [(100, True), (101, False)])
def test_intervals_per_class_stop_at_100_classes(classes, has_interval):
    names = [f"c{i}" for i in range(classes)]
    targets, probabilities, _ = simulate("multiclass", n=400, classes=names)
    result = measure(targets, probabilities, names, "multiclass", QUICK, seed=0)
    entry = result["per_class"][names[-1]]
    _, per_class = reference(targets, probabilities, "multiclass")
    for name, scores in per_class.items():
        assert entry[name]["value"] == pytest.approx(scores[-1])
        assert (entry[name]["low"] is not None) == has_interval
    assert result["metrics"]["accuracy"]["low"] is not None


@pytest.mark.parametrize("task", TASKS)
def test_one_row_has_an_accuracy_and_no_auc(task):
    targets, probabilities, names = simulate(task)
    result = measure(targets[:1], probabilities[:1], names, task, QUICK, seed=0)
    assert result["rows"] == 1
    assert values(result)["accuracy"] in (0, 1)
    assert values(result)["roc_auc"] is None
    json.dumps(result, allow_nan=False)  # also refuses NumPy integers


def test_rows_without_any_label_are_measured():
    targets = np.zeros((5, 3))
    result = measure(targets, targets + 0.2, "abc", "multilabel", QUICK, seed=0)
    assert values(result)["accuracy"] == 1
    assert values(result)["f1_macro"] is None
    json.dumps(result, allow_nan=False)


@pytest.mark.parametrize(
    "targets, probabilities, message",
    [
        (np.eye(2), np.full((3, 2), 0.5), r"must be \(N, 2\).*received"),
        (np.eye(3), np.full((3, 3), 0.5), r"must be \(N, 2\).*received"),
        (np.zeros((0, 2)), np.zeros((0, 2)), r"must be \(N, 2\).*received"),
        (np.eye(2), [[0.5, 0.5], [np.nan, 0.5]], "must be finite, received NaN"),
    ],
)
def test_bad_shapes_and_values_are_refused(targets, probabilities, message):
    with pytest.raises(ValueError, match=message):
        measure(targets, probabilities, ["a", "b"], "binary", QUICK, seed=0)
