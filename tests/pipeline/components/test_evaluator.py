import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow_model_analysis as tfma
from scipy.special import logit
from sklearn import metrics as sk
from tfx.types import standard_artifacts
from tfx.utils import json_utils

from mmkeras.errors import UserError
from mmkeras.evaluation.text_metrics import measure_texts
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model import export
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.generator import get_decoder
from pipeline.components.evaluator import (
    Executor,
    evaluation_summary,
    rejection_reasons,
)
from pipeline.components.masked_modality_eval import (
    LOWEST,
    PREDICTED,
    PredictRows,
    exported_settings,
)
from pipeline.settings import GateConfig
from tests import table_factory
from tests.pipeline import executor_harness
from tests.pipeline.executor_harness import serialized_example, write_examples

RED_GREEN = ("green", "red")
TEXTS = ("hi", "ho", "hi ho", "neither")


def serialized(row):
    """Returns a row as tf.Example, without its empty cells."""
    return serialized_example(**{k: v for k, v in encoded(row).items() if v})


def encoded(row):
    return {k: v.encode() if isinstance(v, str) else v for k, v in row.items()}


def as_artifact(version, folder):
    """Returns an export as an artifact."""
    model = executor_harness.artifact(standard_artifacts.Model, folder)
    (folder / "Format-Serving").symlink_to(version)
    return model


def evaluate(folder, model, rows, baseline=None, **gate):
    """Runs the executor on test rows and reads its results."""
    records = [serialized(row) for row in rows]
    examples = write_examples(folder / "examples", train=[], test=records)
    inputs = {"examples": [examples], "model": [model]}
    if baseline:
        inputs["baseline_model"] = [baseline]
    outputs = executor_harness.artifacts(
        folder,
        evaluation=standard_artifacts.ModelEvaluation,
        blessing=standard_artifacts.ModelBlessing,
    )
    properties = {
        "gate": json.dumps(asdict(GateConfig(**gate))),
        "code": "",
        "example_splits": json_utils.dumps(["test"]),
    }
    Executor(executor_harness.context(folder)).Do(inputs, outputs, properties)
    (blessing,) = (path.name for path in (folder / "blessing").iterdir())
    summary = evaluation_summary(str(folder / "evaluation"))
    return SimpleNamespace(
        is_blessed={"BLESSED": True, "NOT_BLESSED": False}[blessing],
        summary=json.loads(json.dumps(summary, allow_nan=False)),
        reasons=rejection_reasons(str(folder / "evaluation")),
    )


def text_model(folder, task="multiclass", logits=None, classes=("a", "b", "c")):
    """Returns a predictor of text alone, and its export as an artifact.

    With `logits` it predicts those for each row, else a different class per text of
    TEXTS.
    """
    keras.utils.set_random_seed(5)
    trained_model = table_factory.text_model(folder, task, logits or (0.3, 0.2, 0.1))
    kernel, _ = trained_model.model.get_layer("head").get_layer("logits").weights
    deviation = 0.0 if logits else 4.0
    kernel.assign(np.random.default_rng(5).normal(0, deviation, kernel.shape))
    state = replace(trained_model.state, classes=classes)
    trained_model = replace(
        trained_model, preprocessor=Preprocessor(trained_model.config, state)
    )
    rows = [{"text": b"hi"}, {"text": b"ho"}]
    version = export(trained_model, rows, folder / "export")
    return Predictor(trained_model), as_artifact(version, folder / "model")


def predict(predictor, rows, hidden=""):
    """Returns (N,) labels and (N, C) probabilities of the Keras model."""
    data = {m: [encoded(row)[m] for row in rows] for m in predictor.columns}
    if hidden:
        data[hidden] = [b""] * len(rows)
    result = predictor(data)
    labels = np.array([label.decode() for label in result["label"]])
    return labels, result["probabilities"]


def multi_hot(labels, classes):
    return np.array([[c in label.split("|") for c in classes] for label in labels])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder, _ = table_factory.trained_run(tmp_path_factory)
    return folder


@pytest.fixture(scope="module")
def model(run_folder, tmp_path_factory):
    """The export of a model of the classes green and red."""
    version = run_folder / "export" / "1"
    return as_artifact(version, tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="module")
def rows():
    rows = table_factory.make_rows(["test"] * 12, seed=1)
    rows[3]["audio"] = rows[5]["image"] = ""
    rows[7]["label"] = "zebra"  # unknown to the model
    return rows


@pytest.fixture(scope="module")
def first(model, rows, tmp_path_factory):
    """An evaluation without a baseline."""
    return evaluate(tmp_path_factory.mktemp("first"), model, rows, min_accuracy=0.5)


@pytest.fixture(scope="module")
def predictions(run_folder, rows):
    """Masked modality -> labels and probabilities of the Keras model."""
    predictor = Predictor(load_trained(run_folder))
    return {m: predict(predictor, rows, m) for m in ("", "text", "image", "audio")}


# Metrics ----------------------------------------------------------------------


def test_a_good_first_model_is_blessed(first):
    assert first.is_blessed
    assert first.reasons == []
    assert first.summary["rows"] == 12
    assert first.summary["baseline"] is None


def test_metrics_with_a_masked_modality_are_those_of_rows_without_it(
    first, predictions, rows
):
    labels, losses = [row["label"] for row in rows], set()
    truth = multi_hot(labels, RED_GREEN)
    for hidden, (predicted, probabilities) in predictions.items():
        values = first.summary["hidden"][hidden] if hidden else first.summary
        assert values["accuracy"] == np.mean(predicted == labels)
        # An unknown label adds no loss.
        loss = -np.log(probabilities[truth]).sum() / len(rows)
        assert values["log_loss"] == pytest.approx(loss, abs=1e-6)
        losses.add(round(loss, 3))
    assert len(losses) == 4  # all differ
    assert set(first.summary["hidden"]) == {"text", "image", "audio"}


def test_rows_are_sliced_by_their_modalities(first, predictions, rows):
    right = predictions[""][0] == [row["label"] for row in rows]
    assert first.summary["present"] == {
        "text+audio": {"rows": 1, "accuracy": right[5]},
        "text+image": {"rows": 1, "accuracy": right[3]},
        "text+image+audio": {
            "rows": 10,
            "accuracy": pytest.approx(np.delete(right, [3, 5]).mean()),
        },
    }


def test_an_unknown_label_counts_as_wrong(first, predictions):
    assert first.summary["confusion"][""] == {predictions[""][0][7]: 1}
    counts = {name: v["rows"] for name, v in first.summary["per_class"].items()}
    assert counts == {"green": 5, "red": 6}


def check_by_class(summary, labels, predicted, probabilities, classes):
    """Compares the summary with scikit-learn's metrics."""
    truth, chosen = multi_hot(labels, classes), multi_hot(predicted, classes)
    # Log odds in the bins that the metric documents; scores of one bin are equal.
    odds = logit(np.clip(probabilities, LOWEST, 1 - LOWEST)) / logit(1 - LOWEST)
    scores = np.minimum(np.floor(250 * odds), 249)
    aucs = []
    for i, name in enumerate(classes):
        values, pair = summary["per_class"][name], (truth[:, i], chosen[:, i])
        assert values["rows"] == truth[:, i].sum()
        assert values["precision"] == pytest.approx(sk.precision_score(*pair))
        assert values["recall"] == pytest.approx(sk.recall_score(*pair))
        aucs.append(sk.roc_auc_score(truth[:, i], scores[:, i]))
        assert values["auc"] == pytest.approx(aucs[-1])
    assert summary["auc"] == pytest.approx(np.mean(aucs))
    assert summary["accuracy"] == pytest.approx(np.mean(predicted == labels))


def test_binary_metrics_equal_those_of_scikit_learn(first, predictions, rows):
    labels = np.array([row["label"] for row in rows])
    check_by_class(first.summary, labels, *predictions[""], RED_GREEN)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Predictor and export of three classes."""
    return text_model(tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def multiclass(three, tmp_path_factory):
    """Rows, predictions and an evaluation below gate.min_accuracy."""
    rows = [{"text": TEXTS[i % 4], "label": "abcab"[i % 5]} for i in range(20)]
    folder = tmp_path_factory.mktemp("multiclass")
    result = evaluate(folder, three[1], rows, min_accuracy=0.95)
    return rows, predict(three[0], rows), result


def test_multi_class_metrics_equal_those_of_scikit_learn(multiclass):
    rows, (predicted, probabilities), result = multiclass
    labels = np.array([row["label"] for row in rows])
    assert list(predicted[:4]) == ["b", "c", "b", "a"]
    check_by_class(result.summary, labels, predicted, probabilities, tuple("abc"))
    bounded = np.clip(probabilities, LOWEST, 1 - LOWEST)
    loss = sk.log_loss(labels, bounded / bounded.sum(axis=1, keepdims=True))
    assert result.summary["log_loss"] == pytest.approx(loss, rel=1e-5)
    matrix = sk.confusion_matrix(labels, predicted, labels=list("abc"))
    assert result.summary["confusion"] == {
        true: {name: n for name, n in zip("abc", row, strict=True) if n}
        for true, row in zip("abc", matrix.tolist(), strict=True)
    }
    assert result.summary["hidden"] == {}  # the model has text alone


def test_multi_label_metrics_equal_those_of_scikit_learn(tmp_path):
    predictor, model = text_model(tmp_path, "multilabel")
    kinds = ("b|a", "a", "c", "c|a|b", "b")
    rows = [{"text": TEXTS[i % 4], "label": kinds[i % 5]} for i in range(20)]
    predicted, probabilities = predict(predictor, rows)
    assert list(predicted[:4]) == ["a|b", "c", "", "a|b|c"]
    result = evaluate(tmp_path / "run", model, rows)
    # The order of the labels is irrelevant.
    labels = np.array(["|".join(sorted(row["label"].split("|"))) for row in rows])
    assert labels[0] == predicted[0]
    check_by_class(result.summary, labels, predicted, probabilities, tuple("abc"))
    truth = multi_hot(labels, "abc")
    losses = map(sk.log_loss, truth.T, probabilities.T)
    assert result.summary["log_loss"] == pytest.approx(np.mean(list(losses)), rel=1e-4)
    assert result.summary["confusion"] is None
    assert result.is_blessed


def test_large_batches_are_predicted_in_small_ones(three):
    predictor, model = three
    path = f"{model.uri}/Format-Serving"
    rows = [{"text": TEXTS[i % 4], "label": "a"} for i in range(70)]
    raw = pa.array([[serialized(row)] for row in rows])
    batch = pa.RecordBatch.from_arrays([raw], [tfma.ARROW_INPUT_COLUMN])
    worker = PredictRows({"": (path, *exported_settings(path))}, "")
    worker.setup()
    serve, sizes = worker._serve[""], []
    worker._serve[""] = lambda text: sizes.append(len(text)) or serve(text=text)
    extracts = list(worker.process({tfma.ARROW_RECORD_BATCH_KEY: batch}))
    assert sizes == [32, 32, 6]
    predicted = [x[tfma.PREDICTIONS_KEY][PREDICTED].item() for x in extracts]
    assert predicted == list(predict(predictor, rows)[0])
    # Nothing else is passed on, in particular no media.
    keys = {tfma.FEATURES_KEY, tfma.LABELS_KEY, tfma.PREDICTIONS_KEY}
    assert all(set(extract) == keys for extract in extracts)


# Thresholds -------------------------------------------------------------------


def test_a_model_below_min_accuracy_is_rejected(multiclass):
    _, _, result = multiclass
    assert not result.is_blessed
    share = result.summary["accuracy"]
    assert result.reasons == [f"accuracy {share:.4g} is below gate.min_accuracy=0.95"]


def test_a_model_that_depends_on_one_modality_is_rejected(model, rows, tmp_path):
    result = evaluate(tmp_path, model, rows, min_accuracy_hidden=1.0)
    assert not result.is_blessed
    assert result.reasons == [
        f"accuracy without {modality} {values['accuracy']:.4g} is below "
        "gate.min_accuracy_hidden=1"
        for modality, values in result.summary["hidden"].items()
    ]


def test_a_model_worse_than_the_last_blessed_one_is_rejected(
    first, model, rows, tmp_path
):
    # Its classes differ from the blessed model's, and it has text alone.
    options = {"logits": (9.0, 0.0, 0.0), "classes": ("red", "größer", "green")}
    _, worse = text_model(tmp_path, **options)
    result = evaluate(tmp_path / "run", worse, rows, baseline=model)
    before = first.summary["accuracy"]
    assert result.summary["accuracy"] == 6 / 12
    assert result.summary["baseline"]["accuracy"] == before
    loss = first.summary["log_loss"]
    assert result.summary["baseline"]["log_loss"] == pytest.approx(loss, abs=1e-5)
    assert result.summary["per_class"]["größer"]["rows"] == 0
    assert not result.is_blessed
    assert result.reasons == [
        f"accuracy 0.5 is {before - 0.5:.4g} below the last blessed model's "
        f"{before:.4g}, more than gate.max_drop=0.02"
    ]


def test_a_model_without_test_rows_is_rejected(three, tmp_path):
    result = evaluate(tmp_path, three[1], rows=[])
    assert not result.is_blessed and result.summary["rows"] == 0
    assert result.reasons == ["there are no test rows to measure the model on"]


# Regression -------------------------------------------------------------------


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """Run folder of a regression, its export as an artifact, and test rows."""
    folder, _ = table_factory.regression_run(tmp_path_factory)
    path = tmp_path_factory.mktemp("regression") / "model"
    rows = table_factory.make_rows(["test"] * 12, seed=1)
    for i, row in enumerate(rows):
        del row["audio"]
        row["label"] = f"{100 + 50 * (row['label'] == 'green') + i / 8:g}"
    rows[5]["image"] = ""
    return folder, as_artifact(folder / "export" / "1", path), rows


def test_regression_metrics_equal_those_of_scikit_learn(regression, tmp_path):
    folder, model, rows = regression
    predictor = Predictor(load_trained(folder))
    result = evaluate(tmp_path, model, rows, min_r2=0.5)
    labels, seen = [float(row["label"]) for row in rows], set()
    for hidden in ("", "text", "image"):
        data = {m: [encoded(row)[m] for row in rows] for m in predictor.columns}
        if hidden:
            data[hidden] = [b""] * len(rows)
        pair = labels, predictor(data)["value"]
        values = result.summary["hidden"][hidden] if hidden else result.summary
        assert values["r2"] == pytest.approx(sk.r2_score(*pair), abs=1e-5)
        rmse = np.sqrt(sk.mean_squared_error(*pair))
        assert values["rmse"] == pytest.approx(rmse, rel=1e-5)
        assert values["mae"] == pytest.approx(sk.mean_absolute_error(*pair), rel=1e-5)
        seen.add(round(values["r2"], 3))
    assert len(seen) == 3 and result.summary["rows"] == 12  # all differ
    present = result.summary["present"]
    assert {name: values["rows"] for name, values in present.items()} == {
        "text": 1,
        "text+image": 11,
    }
    assert present["text"]["r2"] is None  # of a single row
    assert (result.summary["per_class"], result.summary["confusion"]) == ({}, None)
    assert result.is_blessed and result.reasons == []


def test_a_regression_below_its_limits_is_rejected(regression, tmp_path):
    _, model, rows = regression
    result = evaluate(tmp_path, model, rows, min_r2=1.0, min_r2_hidden=1.0)
    assert not result.is_blessed
    r2 = result.summary["r2"]
    assert result.reasons == [
        f"R² {r2:.4g} is below gate.min_r2=1",
        *(
            f"R² without {branch} {values['r2']:.4g} is below gate.min_r2_hidden=1"
            for branch, values in sorted(result.summary["hidden"].items())
        ),
    ]


def test_a_regression_without_a_defined_score_is_rejected(regression, tmp_path):
    _, model, rows = regression
    result = evaluate(tmp_path, model, [row | {"label": "120"} for row in rows])
    assert not result.is_blessed
    assert result.reasons == ["R² is undefined, as all test labels are equal"]


def test_a_regression_worse_than_the_last_blessed_one_is_rejected(regression, tmp_path):
    folder, model, rows = regression
    trained_model = load_trained(folder)
    kernel = trained_model.model.get_layer("head").get_layer("logits").weights[0]
    kernel.assign(kernel * 0.6)
    golden = [{m: encoded(row)[m] for m in ("text", "image")} for row in rows]
    worse = as_artifact(export(trained_model, golden, tmp_path / "e"), tmp_path / "m")
    result = evaluate(tmp_path / "run", worse, rows, baseline=model)
    r2, before = result.summary["r2"], result.summary["baseline"]["r2"]
    assert 0 < r2 < before
    assert not result.is_blessed
    assert result.reasons == [
        f"R² {r2:.4g} is {before - r2:.4g} below the last blessed model's "
        f"{before:.4g}, more than gate.max_drop=0.02"
    ]


def test_a_regression_is_not_compared_with_classes(regression, model, tmp_path):
    _, candidate, rows = regression
    with pytest.raises(UserError, match="cannot be compared.*another --root"):
        evaluate(tmp_path, candidate, rows, baseline=model)


# Generated text ---------------------------------------------------------------


@pytest.fixture(scope="module")
def captioner(generator_run, tmp_path_factory):
    """A generator, its export, and test rows with one wrong label."""
    folder = tmp_path_factory.mktemp("captioner") / "model"
    rows = table_factory.make_rows(["test"] * 12, seed=1)
    for row in rows:
        for name in ("text", "audio"):
            del row[name]
        row["label"] = f"A {row['label']} image.|{row['label']} all over"
    rows[0]["label"] = "A cow.|no image"
    model = as_artifact(generator_run / "export" / "1", folder)
    return load_trained(generator_run), model, rows


def test_metrics_of_text_are_those_of_the_train_program(captioner, tmp_path):
    trained_model, model, rows = captioner
    predictor, config = Predictor(trained_model), trained_model.config
    texts = predictor({"image": [row["image"] for row in rows]})["text"]
    pairs = zip((row["label"] for row in rows), texts, strict=True)
    labels, texts = zip(*sorted((a, b.decode()) for a, b in pairs), strict=True)
    expected = measure_texts(
        [label.split("|") for label in labels],
        texts,
        config.evaluate.bootstrap_resamples,
        config.seed,
    )
    result = evaluate(tmp_path, model, rows, max_word_error_rate=0.9)
    for name, metric in expected.items():
        assert result.summary[name] == pytest.approx(metric["value"])
        end = "high" if name == "word_error_rate" else "low"
        assert result.summary[f"{name}_{end}"] == pytest.approx(metric[end])
    assert result.summary["rows"] == 12
    assert 0 < result.summary["exact_match"] < 1
    assert result.summary["present"]["image"]["rows"] == 12
    assert (result.summary["per_class"], result.summary["confusion"]) == ({}, None)
    assert result.is_blessed and result.reasons == []


def test_the_worse_ends_of_intervals_have_the_limits_of_text(captioner, tmp_path):
    _, model, rows = captioner
    limits = {"min_exact_match": 1.0, "min_bleu_4": 0.99, "min_cider_d": 10.0}
    limits |= {"min_chrf": 0.01, "max_word_error_rate": 0.01}
    result = evaluate(tmp_path, model, rows, **limits)
    assert not result.is_blessed
    summary = result.summary
    lower = {"exact_match": "exact match", "bleu_4": "BLEU-4", "cider_d": "CIDEr-D"}
    reasons = [
        f"the lower end {summary[f'{key}_low']:.4g} of the 95 % interval of {name} is "
        f"below gate.min_{key}={limits[f'min_{key}']:g}"
        for key, name in lower.items()
    ]
    reasons.append(
        f"the upper end {summary['word_error_rate_high']:.4g} of the 95 % interval of "
        "word error rate is above gate.max_word_error_rate=0.01"
    )
    assert result.reasons == sorted(reasons)


def test_texts_worse_than_the_last_blessed_ones_are_rejected(
    captioner, generator_run, tmp_path
):
    _, model, rows = captioner
    trained_model = load_trained(generator_run)
    for weights in get_decoder(trained_model.model).weights:
        weights.assign(keras.ops.zeros_like(weights))
    golden = [{"image": row["image"]} for row in rows]
    worse = as_artifact(export(trained_model, golden, tmp_path / "e"), tmp_path / "m")
    result = evaluate(tmp_path / "run", worse, rows, baseline=model)
    before = result.summary["baseline"]["exact_match"]
    share = result.summary["exact_match"]
    assert share < before and not result.is_blessed
    assert result.reasons == [
        f"exact match {share:.4g} is {before - share:.4g} below the last blessed "
        f"model's {before:.4g}, more than gate.max_drop=0.02"
    ]


def test_generated_text_is_not_compared_with_classes(captioner, model, tmp_path):
    _, candidate, rows = captioner
    message = "predicts a class and this one a text.*cannot be compared"
    with pytest.raises(UserError, match=message):
        evaluate(tmp_path, candidate, rows, baseline=model)
