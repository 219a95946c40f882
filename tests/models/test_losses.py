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


def loss(task, truth, probabilities, smoothing=0.0):
    return float(
        build_loss(task, smoothing)(np.float32(truth), np.float32(probabilities))
    )


def test_over_classes_the_loss_is_the_true_class_logarithm():
    assert loss(MULTICLASS, [[0, 1, 0]], [[0.2, 0.5, 0.3]]) == pytest.approx(
        -np.log(0.5)
    )


@pytest.mark.parametrize("task", [BINARY, MULTILABEL])
def test_single_units_are_each_judged_on_their_own(task):
    expected = -(np.log(0.9) + np.log(1 - 0.2)) / 2
    assert loss(task, [[1, 0]], [[0.9, 0.2]]) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_the_truth_itself_costs_nothing_and_its_contrary_much(task):
    truth = TRUTH[task]
    assert loss(task, truth, truth) < 1e-5
    assert loss(task, truth, 1 - truth) > 5


@pytest.mark.parametrize("task", TASKS)
def test_smoothing_makes_a_sure_answer_cost_something(task):
    truth = TRUTH[task]
    assert loss(task, truth, truth, smoothing=0.1) > 0.5


def measured(task, probabilities):
    metrics = build_metrics(task, len(TRUTH[task][0]))
    for metric in metrics:
        metric.update_state(TRUTH[task], np.float32(probabilities))
    return {metric.name: float(metric.result()) for metric in metrics}


@pytest.mark.parametrize("task", TASKS)
def test_the_truth_has_full_accuracy_and_area(task):
    result = measured(task, TRUTH[task])
    assert result == {"accuracy": 1, "auc": pytest.approx(1, abs=1e-5)}


def test_accuracy_counts_rows_over_classes_and_units_elsewhere():
    one_of_four = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1]]
    assert measured(MULTICLASS, one_of_four)["accuracy"] == 0.25
    assert measured(BINARY, [[0.9], [0.9], [0.9], [0.1]])["accuracy"] == 0.75
    assert measured(MULTILABEL, np.zeros((4, 3)))["accuracy"] == 0.5


def test_the_area_does_not_mix_the_labels():
    # Each label is ranked well, though one has far higher numbers than the others.
    probabilities = 0.1 * TRUTH[MULTILABEL] + [0.8, 0.4, 0.1]
    assert measured(MULTILABEL, probabilities)["auc"] == pytest.approx(1, abs=1e-3)


FOCAL = LossConfig(kind="focal", focal_gamma=2)


@pytest.mark.parametrize("task", TASKS)
def test_focal_without_its_power_is_cross_entropy(task):
    truth = TRUTH[task]
    answers = (truth * 0.6 + 0.2).astype("float32")
    if task == MULTICLASS:
        answers /= answers.sum(axis=1, keepdims=True)
    zero = build_loss(task, 0.1, LossConfig(kind="focal", focal_gamma=0))
    expected = build_loss(task, 0.1)(truth, answers)
    assert float(zero(truth, answers)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("p", [0.9, 0.3])
def test_focal_counts_what_is_surely_right_less(p):
    expected = pytest.approx(-((1 - p) ** 2) * np.log(p), rel=1e-4)
    truth, answer = np.float32([[0, 1]]), np.float32([[1 - p, p]])
    assert float(build_loss(MULTICLASS, 0, FOCAL)(truth, answer)) == expected
    truth, answer = np.float32([[1]]), np.float32([[p]])
    assert float(build_loss(BINARY, 0, FOCAL)(truth, answer)) == expected


def test_smoothing_leaves_a_surely_right_row_little_of_the_loss():
    truth = np.eye(10, dtype="float32")[:1]

    def cost(p):
        answer = np.full((1, 10), (1 - p) / 9, "float32")
        answer[0, 0] = p
        return float(build_loss(MULTICLASS, 0.1, FOCAL)(truth, answer))

    assert cost(0.99) < 0.01 * cost(0.3)
    assert min(np.linspace(0.5, 0.99, 50), key=cost) > 0.9


# Beside the fused classifier ---------------------------------------------------


def unit(rng, rows, width=4):
    vectors = rng.normal(size=(rows, width)).astype("float32")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def contrastive(one, other):
    """The mean of both directions' cross-entropies, of each row, by definition."""
    logits = one.astype("float64") @ other.T.astype("float64")
    rows = np.log(np.exp(logits).sum(1)) - np.diag(logits)
    columns = np.log(np.exp(logits).sum(0)) - np.diag(logits)
    return (rows + columns) / 2


def test_contrastive_is_the_cross_entropy_of_both_directions():
    rng = np.random.default_rng(0)
    one, other = unit(rng, 6), 7 * unit(rng, 6)
    found = np.array(Contrastive(reduction=None)(one, other))
    np.testing.assert_allclose(found, contrastive(one, other), rtol=1e-5)
    assert float(Contrastive()(one, 100 * one)) < float(Contrastive()(one, other))


def test_rows_that_lack_one_count_nothing_and_are_no_candidates():
    rng = np.random.default_rng(1)
    one, other = unit(rng, 5), 3 * unit(rng, 5)
    one[1] = other[4] = 0
    found = np.array(Contrastive(reduction=None)(one, other))
    whole = [0, 2, 3]
    np.testing.assert_allclose(
        found[whole], contrastive(one[whole], other[whole]), 1e-5
    )
    assert found[1] == found[4] == 0
    cosine = np.array(Cosine(reduction=None)(one, other / 3))
    assert cosine[1] == cosine[4] == 0
    np.testing.assert_allclose(
        cosine[whole], 1 - (one * other / 3).sum(1)[whole], atol=1e-6
    )


def test_without_any_whole_row_alignment_is_zero_and_has_a_gradient():
    nothing = keras.ops.zeros((3, 4))
    assert float(Contrastive()(nothing, nothing)) == 0
    assert float(Cosine()(nothing, nothing)) == 0


def joint_model(config):
    """Outputs are inputs of the same names, so that the loss can be told by hand."""
    names = ["probabilities", "text_probabilities", "text_embedding"]
    names += ["image_embedding", "alignment_scale"]
    names += ["present"]
    widths = {"alignment_scale": 1, "present": 2}
    inputs = {n: keras.Input((widths.get(n, 3),), name=n) for n in names}
    outputs = {n: keras.layers.Identity(name=f"out_{n}")(x) for n, x in inputs.items()}
    model = JointModel(inputs, outputs, modalities=("image", "text"), config=config)
    model.compile("sgd", build_loss(MULTICLASS, 0), build_metrics(MULTICLASS, 3))
    return model


@pytest.mark.parametrize("alignment", ["contrastive", "cosine"])
def test_the_joint_loss_is_the_sum_that_its_settings_say(alignment):
    config = LossConfig(text=0.5, text_image=0.25, alignment=alignment)
    rng = np.random.default_rng(0)
    batch = {n: rng.dirichlet(np.ones(3), 4).astype("float32") for n in ("a", "b")}
    x = {
        "probabilities": batch["a"],
        "text_probabilities": batch["b"],
        "text_embedding": unit(rng, 4, 3),
        "image_embedding": unit(rng, 4, 3),
        "alignment_scale": np.full((4, 1), 5, "float32"),
        "present": np.float32([[1, 1], [1, 1], [0, 1], [1, 0]]),  # image, text
    }
    x["image_embedding"][2] = x["text_embedding"][3] = 0
    y, weight = TRUTH[MULTICLASS], np.float32([1, 2, 1, 1])
    model = joint_model(config)
    found = [
        float(model.compute_loss(x, y, dict(x), weight, training=t)) for t in (1, 0)
    ]
    fused = (weight * -np.log((x["probabilities"] * y).sum(1))).mean()
    own = -np.log((x["text_probabilities"] * y).sum(1)) * weight * x["present"][:, 1]
    text, image = x["text_embedding"][:2], x["image_embedding"][:2]
    apart = contrastive(text, 5 * image)
    if alignment == "cosine":
        apart = 1 - (text * image).sum(1)
    beside = 0.5 * own.mean() + 2 * 0.25 * apart.sum() / 4
    assert found[0] == pytest.approx(fused + beside, rel=1e-5)
    assert found[1] == pytest.approx(fused, rel=1e-5)  # of what will be served
    assert float(model.get_metrics_result()["beside"]) == pytest.approx(
        beside, rel=1e-5
    )
