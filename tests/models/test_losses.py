import keras
import numpy as np
import pytest

from mmkeras.config import LossConfig
from mmkeras.modalities.preprocessing_state import BINARY, MULTICLASS, MULTILABEL
from mmkeras.models.losses import (
    Contrastive,
    Cosine,
    JointModel,
    build_loss,
    build_metrics,
)

TASKS = (BINARY, MULTICLASS, MULTILABEL)
TRUTH = {
    BINARY: np.float32([[1], [0], [1], [0]]),
    MULTICLASS: np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]]),
    MULTILABEL: np.float32([[1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1]]),
}


def loss(task, truth, probabilities, smoothing=0.0, config=None):
    function = build_loss(task, smoothing, config)
    return float(function(np.float32(truth), np.float32(probabilities)))


@pytest.mark.parametrize(
    ("task", "truth", "probabilities", "expected"),
    [
        (MULTICLASS, [[0, 1, 0]], [[0.2, 0.5, 0.3]], -np.log(0.5)),
        (BINARY, [[1, 0]], [[0.9, 0.2]], -(np.log(0.9) + np.log(0.8)) / 2),
        (MULTILABEL, [[1, 0]], [[0.9, 0.2]], -(np.log(0.9) + np.log(0.8)) / 2),
    ],
)
def test_the_loss_is_cross_entropy(task, truth, probabilities, expected):
    assert loss(task, truth, probabilities) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_truth_itself_costs_nothing_unless_smoothed(task):
    truth = TRUTH[task]
    assert loss(task, truth, truth) < 1e-5
    assert loss(task, truth, 1 - truth) > 5
    assert loss(task, truth, truth, smoothing=0.1) > 0.5


def measure(task, probabilities):
    metrics = build_metrics(task, len(TRUTH[task][0]))
    for metric in metrics:
        metric.update_state(TRUTH[task], np.float32(probabilities))
    return {metric.name: float(metric.result()) for metric in metrics}


@pytest.mark.parametrize("task", TASKS)
def test_the_truth_has_full_accuracy_and_area(task):
    result = measure(task, TRUTH[task])
    none = pytest.approx(0, abs=1e-5)
    assert result == {
        "accuracy": 1,
        "auc": pytest.approx(1, abs=1e-5),
        "log_loss": none,
    }


@pytest.mark.parametrize("task", TASKS)
def test_the_log_loss_is_the_loss_without_smoothing(task):
    probabilities = 0.8 * TRUTH[task] + 0.05
    if task == MULTICLASS:
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = loss(task, TRUTH[task], probabilities)
    assert measure(task, probabilities)["log_loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("task", "probabilities", "accuracy"),
    [
        (MULTICLASS, [[0.6, 0.3, 0.1]] * 4, 0.25),
        (BINARY, [[0.9], [0.9], [0.9], [0.1]], 0.75),
        (MULTILABEL, np.zeros((4, 3)), 0.5),
    ],
)
def test_accuracy_counts_rows_or_units(task, probabilities, accuracy):
    assert measure(task, probabilities)["accuracy"] == accuracy


def test_the_area_does_not_mix_the_labels():
    # Each label is ranked well, though one has far higher numbers than the others.
    probabilities = 0.1 * TRUTH[MULTILABEL] + [0.8, 0.4, 0.1]
    assert measure(MULTILABEL, probabilities)["auc"] == pytest.approx(1, abs=1e-3)


FOCAL = LossConfig(kind="focal", focal_gamma=2)


@pytest.mark.parametrize("task", TASKS)
def test_focal_without_its_power_is_cross_entropy(task):
    truth = TRUTH[task]
    probabilities = truth * 0.6 + 0.2
    if task == MULTICLASS:
        probabilities /= probabilities.sum(axis=1, keepdims=True)
    config = LossConfig(kind="focal", focal_gamma=0)
    expected = pytest.approx(loss(task, truth, probabilities, 0.1), rel=1e-5)
    assert loss(task, truth, probabilities, 0.1, config) == expected


@pytest.mark.parametrize("p", [0.9, 0.3])
def test_focal_reduces_the_loss_of_confident_rows(p):
    expected = pytest.approx(-((1 - p) ** 2) * np.log(p), rel=1e-4)
    assert loss(MULTICLASS, [[0, 1]], [[1 - p, p]], 0, FOCAL) == expected
    assert loss(BINARY, [[1]], [[p]], 0, FOCAL) == expected


def test_a_confident_row_has_little_focal_loss_in_spite_of_smoothing():
    def cost(p):
        probabilities = np.full((1, 10), (1 - p) / 9)
        probabilities[0, 0] = p
        return loss(MULTICLASS, np.eye(10)[:1], probabilities, 0.1, FOCAL)

    assert cost(0.99) < 0.01 * cost(0.3)
    assert min(np.linspace(0.5, 0.99, 50), key=cost) > 0.9


def unit(rng, rows, width=4):
    vectors = rng.normal(size=(rows, width)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def contrastive(one, other):
    """The mean of both cross-entropies per row, by definition."""
    logits = one.astype("float64") @ other.T.astype("float64")
    rows = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    columns = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    return (rows + columns) / 2


def test_contrastive_is_the_cross_entropy_of_both_directions():
    rng = np.random.default_rng(0)
    one, other = unit(rng, 6), 7 * unit(rng, 6)
    result = np.array(Contrastive(reduction=None)(one, other))
    np.testing.assert_allclose(result, contrastive(one, other), rtol=1e-5)
    assert float(Contrastive()(one, 100 * one)) < float(Contrastive()(one, other))


def test_rows_that_lack_one_have_no_loss_and_are_no_candidates():
    rng = np.random.default_rng(1)
    one, other = unit(rng, 5), 3 * unit(rng, 5)
    one[1] = other[4] = 0
    rows = [0, 2, 3]
    result = np.array(Contrastive(reduction=None)(one, other))
    np.testing.assert_allclose(result[rows], contrastive(one[rows], other[rows]), 1e-5)
    cosine = np.array(Cosine(reduction=None)(one, other / 3))
    expected = 1 - (one * other / 3).sum(1)
    np.testing.assert_allclose(cosine[rows], expected[rows], atol=1e-6)
    assert result[1] == result[4] == cosine[1] == cosine[4] == 0


def test_without_any_complete_row_alignment_is_zero():
    nothing = keras.ops.zeros((3, 4))
    assert float(Contrastive()(nothing, nothing)) == 0
    assert float(Cosine()(nothing, nothing)) == 0


def joint_model(config):
    """A model whose outputs are its inputs, to compute the loss by hand."""
    names = ["probabilities", "text_probabilities", "text_embedding"]
    names += ["image_embedding", "alignment_scale", "present"]
    widths = {"alignment_scale": 1, "present": 2}
    inputs = {n: keras.Input((widths.get(n, 3),), name=n) for n in names}
    outputs = {n: keras.layers.Identity(name=f"out_{n}")(x) for n, x in inputs.items()}
    model = JointModel(
        inputs, outputs, types={"image": "image", "text": "text"}, config=config
    )
    model.compile("sgd", build_loss(MULTICLASS, 0), build_metrics(MULTICLASS, 3))
    return model


@pytest.mark.parametrize("alignment", ["contrastive", "cosine"])
def test_the_joint_loss_is_the_weighted_sum(alignment):
    config = LossConfig(text=0.5, text_image=0.25, alignment=alignment)
    rng = np.random.default_rng(0)
    x = {
        "probabilities": rng.dirichlet(np.ones(3), 4).astype("float32"),
        "text_probabilities": rng.dirichlet(np.ones(3), 4).astype("float32"),
        "text_embedding": unit(rng, 4, 3),
        "image_embedding": unit(rng, 4, 3),
        "alignment_scale": np.full((4, 1), 5, "float32"),
        "present": np.float32([[1, 1], [1, 1], [0, 1], [1, 0]]),  # image, text
    }
    x["image_embedding"][2] = x["text_embedding"][3] = 0
    y, weight = TRUTH[MULTICLASS], np.float32([1, 2, 1, 1])
    model = joint_model(config)
    training, validation = (
        float(model.compute_loss(x, y, dict(x), weight, training=t)) for t in (1, 0)
    )
    fused = (weight * -np.log((x["probabilities"] * y).sum(1))).mean()
    of_text = -np.log((x["text_probabilities"] * y).sum(1)) * x["present"][:, 1]
    text, image = x["text_embedding"][:2], x["image_embedding"][:2]
    distance = contrastive(text, 5 * image)
    if alignment == "cosine":
        distance = 1 - (text * image).sum(1)
    auxiliary = 0.5 * (weight * of_text).mean() + 2 * 0.25 * distance.sum() / 4
    assert training == pytest.approx(fused + auxiliary, rel=1e-5)
    assert validation == pytest.approx(fused, rel=1e-5)  # of the served output
    metric = float(model.get_metrics_result()["auxiliary_loss"])
    assert metric == pytest.approx(auxiliary, rel=1e-5)

    # A row of weight 0 fills up the batch.
    weight[1], other = 0, {name: x.copy() for name, x in x.items()}
    for name in ("probabilities", "text_probabilities"):
        other[name][1] = [0.6, 0.3, 0.1]
    other["text_embedding"][1], other["image_embedding"][1] = unit(rng, 2, 3)
    filled, same = (float(model.compute_loss(z, y, z, weight)) for z in (x, other))
    assert filled == pytest.approx(same, rel=1e-6) != pytest.approx(training, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "expected"), [("auto", 5), ("mse", 5), ("mae", 2), ("huber", 1.5)]
)
def test_the_loss_of_a_regression_is_of_numbers(kind, expected):
    config = LossConfig(kind=kind)
    value = loss("regression", [[0], [1]], [[3], [2]], smoothing=0.1, config=config)
    assert value == pytest.approx(expected)
    (metric,) = build_metrics("regression", 0)
    metric.update_state([[0.0], [1.0]], [[3.0], [2.0]])
    assert metric.name == "mae" and float(metric.result()) == 2


def test_the_loss_of_a_generator_is_of_tokens_and_not_of_padding():
    tokens = np.array([[5, 3, 0, 0], [4, 5, 3, 0]])
    logits = np.random.default_rng(0).normal(size=(2, 4, 6)).astype("float32")
    each = np.log(np.exp(logits).sum(axis=2))
    each -= np.take_along_axis(logits, tokens[..., None], axis=2)[..., 0]
    expected = (each[0, :2].mean() + each[1, :3].mean()) / 2
    assert loss("generate", tokens, logits) == pytest.approx(expected, rel=1e-5)
    assert loss("generate", tokens, logits, smoothing=0.1) != pytest.approx(expected)
    accuracy, log_loss = build_metrics("generate", 0)
    assert (accuracy.name, log_loss.name) == ("accuracy", "log_loss")
    log_loss.update_state(tokens, logits)
    mean = (each[0, :2].sum() + each[1, :3].sum()) / 5
    assert float(log_loss.result()) == pytest.approx(mean, rel=1e-5)
    accuracy.update_state(tokens, 9 * np.eye(6, dtype="float32")[tokens])
    assert float(accuracy.result()) == 1
