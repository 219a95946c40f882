import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import keras
import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from sklearn import metrics as sk
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as kubeflow
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import json_utils
from tfx.v1.dsl import Importer

from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model import export
from mmkeras.modalities.preprocessor import Preprocessor
from pipeline.components.evaluator import (
    Executor,
    build_eval_config,
    build_evaluator,
    evaluation_summary,
    rejection_reasons,
)
from pipeline.components.masked_modality_eval import (
    ANSWER,
    CHOICE,
    LOWEST,
    SCORES,
    AnswerRows,
    exported_analysis,
)
from pipeline.components.per_class_metrics import ByClass
from pipeline.settings import GateConfig, PipelineConfig
from tests import table_factory
from tests.pipeline import executor_harness

RED_GREEN = ("green", "red")
TEXTS = ("hi", "ho", "hi ho", "neither")


def as_examples(rows, folder):
    """The artifact of rows."""
    examples = executor_harness.artifact(standard_artifacts.Examples, folder)
    examples.split_names = artifact_utils.encode_split_names(["train", "test"])
    examples.set_string_custom_property("payload_format", "FORMAT_TF_EXAMPLE")
    (folder / "Split-test").mkdir()
    path = folder / "Split-test" / "data-00000-of-00001.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            writer.write(as_example(row).SerializeToString())
    return examples


def as_example(row):
    """What is empty is left out."""
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in encoded(row).items()
        if value
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


def encoded(row):
    return {k: v.encode() if isinstance(v, str) else v for k, v in row.items()}


def as_model(version, folder):
    """The artifact of an export."""
    model = executor_harness.artifact(standard_artifacts.Model, folder)
    (folder / "Format-Serving").symlink_to(version)
    return model


def evaluate(folder, model, rows, baseline=None, **gate):
    """Runs the executor, and reads back what it wrote."""
    evaluation = executor_harness.artifact(
        standard_artifacts.ModelEvaluation, folder / "metrics"
    )
    blessing = executor_harness.artifact(
        standard_artifacts.ModelBlessing, folder / "blessing"
    )
    inputs = {"examples": [as_examples(rows, folder / "examples")], "model": [model]}
    if baseline:
        inputs["baseline_model"] = [baseline]
    properties = {
        "gate": json.dumps(asdict(GateConfig(**gate))),
        "code": "",
        "example_splits": json_utils.dumps(["test"]),
    }
    outputs = {"evaluation": [evaluation], "blessing": [blessing]}
    Executor(executor_harness.context(folder)).Do(inputs, outputs, properties)
    summary = evaluation_summary(evaluation.uri)
    return SimpleNamespace(
        is_blessed=(folder / "blessing" / "BLESSED").is_file(),
        is_rejected=(folder / "blessing" / "NOT_BLESSED").is_file(),
        summary=json.loads(json.dumps(summary, allow_nan=False)),
        reasons=rejection_reasons(evaluation.uri),
        uri=evaluation.uri,
    )


def text_model(folder, task="multiclass", logits=None, classes=("a", "b", "c")):
    """(what answers by a model of text alone, and its artifact).

    Its answer is that of the logits; without them, one of its own to each of TEXTS.
    """
    keras.utils.set_random_seed(5)
    trained_model = table_factory.text_model(folder, task, logits or (0.3, 0.2, 0.1))
    kernel, _ = trained_model.model.get_layer("head").get_layer("logits").weights
    spread = 0.0 if logits else 4.0
    kernel.assign(np.random.default_rng(5).normal(0, spread, kernel.shape))
    state = replace(trained_model.state, classes=classes)
    trained_model = replace(
        trained_model, preprocessor=Preprocessor(trained_model.config, state)
    )
    version = export(
        trained_model, [{"text": b"hi"}, {"text": b"ho"}], folder / "export"
    )
    return Predictor(trained_model), as_model(version, folder / "model")


def answers_of(predictor, rows, hidden=""):
    """(N,) labels and (N, C) probabilities that the model itself gives."""
    data = {m: [encoded(row)[m] for row in rows] for m in predictor.modalities}
    if hidden:
        data[hidden] = [b""] * len(rows)
    said = predictor(data)
    return np.array([label.decode() for label in said["label"]]), said["probabilities"]


def multi_hot(labels, classes):
    return np.array([[c in label.split("|") for c in classes] for label in labels])


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder, _ = table_factory.trained_run(tmp_path_factory)
    return folder


@pytest.fixture(scope="module")
def model(run_folder, tmp_path_factory):
    """The trained model of red and green, as an artifact."""
    version = run_folder / "export" / "1"
    return as_model(version, tmp_path_factory.mktemp("trained") / "model")


@pytest.fixture(scope="module")
def rows():
    rows = table_factory.make_rows(["test"] * 12, seed=1)
    rows[3]["audio"] = rows[5]["image"] = ""
    rows[7]["label"] = "zebra"  # the model does not know it
    return rows


@pytest.fixture(scope="module")
def first(model, rows, tmp_path_factory):
    """The very first evaluation, without a baseline."""
    return evaluate(tmp_path_factory.mktemp("first"), model, rows, min_accuracy=0.5)


@pytest.fixture(scope="module")
def answers(run_folder, rows):
    """What is hidden -> the trained model's own answers and probabilities."""
    predictor = Predictor(load_trained(run_folder))
    return {m: answers_of(predictor, rows, m) for m in ("", "text", "image", "audio")}


# What is measured -------------------------------------------------------------


def test_a_good_first_model_is_blessed(first):
    assert first.is_blessed and not first.is_rejected
    assert first.reasons == []
    assert first.summary["rows"] == 12
    assert first.summary["baseline"] is None


def test_numbers_with_a_modality_hidden_are_those_of_rows_without_it(
    first, answers, rows
):
    labels, losses = [row["label"] for row in rows], set()
    truth = multi_hot(labels, RED_GREEN)
    for hidden, (said, probabilities) in answers.items():
        found = first.summary["hidden"][hidden] if hidden else first.summary
        assert found["accuracy"] == np.mean(said == labels)
        # The label that is not known adds no loss.
        loss = -np.log(probabilities[truth]).sum() / len(rows)
        assert found["log_loss"] == pytest.approx(loss, abs=1e-6)
        losses.add(round(loss, 3))
    assert len(losses) == 4  # none stands for another
    assert set(first.summary["hidden"]) == {"text", "image", "audio"}


def test_rows_are_told_apart_by_what_they_have(first, answers, rows):
    right = answers[""][0] == [row["label"] for row in rows]
    assert first.summary["present"] == {
        "text+audio": {"rows": 1, "accuracy": right[5]},
        "text+image": {"rows": 1, "accuracy": right[3]},
        "text+image+audio": {
            "rows": 10,
            "accuracy": pytest.approx(np.delete(right, [3, 5]).mean()),
        },
    }


def test_a_label_that_the_model_does_not_know_counts_as_wrong(first, answers):
    assert first.summary["confusion"][""] == {answers[""][0][7]: 1}
    known = {name: found["rows"] for name, found in first.summary["per_class"].items()}
    assert known == {"green": 5, "red": 6}


def check_by_class(summary, labels, said, probabilities, classes):
    """Holds the summary against scikit-learn's numbers."""
    truth, chosen = multi_hot(labels, classes), multi_hot(said, classes)
    scores = probabilities.round(5)  # equal rows differ by a float32 rounding error
    aucs = []
    for i, name in enumerate(classes):
        found, pair = summary["per_class"][name], (truth[:, i], chosen[:, i])
        assert found["rows"] == truth[:, i].sum()
        assert found["precision"] == pytest.approx(sk.precision_score(*pair))
        assert found["recall"] == pytest.approx(sk.recall_score(*pair))
        aucs.append(sk.roc_auc_score(truth[:, i], scores[:, i]))
        assert found["auc"] == pytest.approx(aucs[-1])
    assert summary["auc"] == pytest.approx(np.mean(aucs))
    assert summary["accuracy"] == pytest.approx(np.mean(said == labels))


def test_numbers_by_class_are_scikit_learns_in_binary_tasks(first, answers, rows):
    labels = np.array([row["label"] for row in rows])
    check_by_class(first.summary, labels, *answers[""], RED_GREEN)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A model of three classes: what answers by it, and its artifact."""
    return text_model(tmp_path_factory.mktemp("three"))


@pytest.fixture(scope="module")
def multiclass(three, tmp_path_factory):
    """Rows, what the model answers, and what came of it: it is not good enough."""
    rows = [{"text": TEXTS[i % 4], "label": "abcab"[i % 5]} for i in range(20)]
    folder = tmp_path_factory.mktemp("multiclass")
    found = evaluate(folder, three[1], rows, min_accuracy=0.95)
    return rows, answers_of(three[0], rows), found


def test_numbers_by_class_are_scikit_learns_in_multi_class_tasks(multiclass):
    rows, (said, probabilities), found = multiclass
    labels = np.array([row["label"] for row in rows])
    assert list(said[:4]) == ["b", "c", "b", "a"]
    check_by_class(found.summary, labels, said, probabilities, tuple("abc"))
    bounded = np.clip(probabilities, LOWEST, 1 - LOWEST)
    loss = sk.log_loss(labels, bounded / bounded.sum(axis=1, keepdims=True))
    assert found.summary["log_loss"] == pytest.approx(loss, rel=1e-5)
    matrix = sk.confusion_matrix(labels, said, labels=list("abc"))
    assert found.summary["confusion"] == {
        true: {name: n for name, n in zip("abc", row, strict=True) if n}
        for true, row in zip("abc", matrix.tolist(), strict=True)
    }
    assert found.summary["hidden"] == {}  # text is all there is


def test_numbers_by_class_are_scikit_learns_in_multi_label_tasks(tmp_path):
    predictor, model = text_model(tmp_path, "multilabel")
    kinds = ("b|a", "a", "c", "c|a|b", "b")
    rows = [{"text": TEXTS[i % 4], "label": kinds[i % 5]} for i in range(20)]
    said, probabilities = answers_of(predictor, rows)
    assert list(said[:4]) == ["a|b", "c", "", "a|b|c"]
    found = evaluate(tmp_path / "run", model, rows)
    # The order in which labels are named does not count.
    labels = np.array(["|".join(sorted(row["label"].split("|"))) for row in rows])
    assert labels[0] == said[0]
    check_by_class(found.summary, labels, said, probabilities, tuple("abc"))
    truth = multi_hot(labels, "abc")
    losses = map(sk.log_loss, truth.T, probabilities.T)
    assert found.summary["log_loss"] == pytest.approx(np.mean(list(losses)), rel=1e-4)
    assert found.summary["confusion"] is None
    assert found.is_blessed


def test_many_classes_are_measured_at_once_as_scikit_learn_does_it_one_by_one():
    rng = np.random.default_rng(0)
    (computation,) = ByClass(classes=6).computations(model_names=[""])
    combiner = computation.combiner
    truth = np.eye(7)[rng.integers(0, 5, 300)]  # never of class 5
    scores = rng.dirichlet(np.ones(6), 300) * 0.7 + 0.3 * truth[:, :6]
    parts = [combiner.create_accumulator() for _ in range(3)]
    for i, score in enumerate(scores):
        said = {SCORES: score, CHOICE: np.eye(7)[score.argmax()]}
        row = SimpleNamespace(labels={CHOICE: truth[i]}, predictions=said)
        parts[i % 3] = combiner.add_input(parts[i % 3], row)
    result = combiner.extract_output(combiner.merge_accumulators(parts))
    assert set(result) == set(computation.keys)
    found = {
        (key.name, key.sub_key and key.sub_key.class_id): value
        for key, value in result.items()
    }
    for i in range(5):
        auc = sk.roc_auc_score(truth[:, i], scores[:, i])
        assert found["auc", i] == pytest.approx(auc, abs=2e-3)
        assert found["rows", i] == truth[:, i].sum()
    assert np.isnan([found["auc", 5], found["recall", 5]]).all()
    assert found["auc", None] == np.mean([found["auc", i] for i in range(5)])


def test_large_batches_are_answered_a_few_rows_at_a_time(three):
    predictor, model = three
    path = f"{model.uri}/Format-Serving"
    rows = [{"text": TEXTS[i % 4], "label": "a"} for i in range(70)]
    raw = pa.array([[as_example(row).SerializeToString()] for row in rows])
    batch = pa.RecordBatch.from_arrays([raw], [tfma.ARROW_INPUT_COLUMN])
    worker = AnswerRows({"": (path, exported_analysis(path))}, "")
    worker.setup()
    serve, sizes = worker._serve[""], []
    worker._serve[""] = lambda text: sizes.append(len(text)) or serve(text=text)
    extracts = list(worker.process({tfma.ARROW_RECORD_BATCH_KEY: batch}))
    assert sizes == [32, 32, 6]
    said = [extract[tfma.PREDICTIONS_KEY][ANSWER].item() for extract in extracts]
    assert said == list(answers_of(predictor, rows)[0])
    # Nothing else travels on; least of all the media.
    known = {tfma.FEATURES_KEY, tfma.LABELS_KEY, tfma.PREDICTIONS_KEY}
    assert all(set(extract) == known for extract in extracts)


# What passes ------------------------------------------------------------------


def test_a_model_below_the_least_accuracy_is_rejected(multiclass):
    _, _, found = multiclass
    assert found.is_rejected and not found.is_blessed
    share = found.summary["accuracy"]
    assert found.reasons == [f"accuracy {share:.4g} is below gate.min_accuracy=0.95"]


def test_a_model_that_leans_on_one_modality_is_rejected(model, rows, tmp_path):
    found = evaluate(tmp_path, model, rows, min_accuracy_hidden=1.0)
    assert found.is_rejected and not found.is_blessed
    assert found.reasons == [
        f"accuracy without {modality} {values['accuracy']:.4g} is below "
        "gate.min_accuracy_hidden=1"
        for modality, values in found.summary["hidden"].items()
    ]


def test_a_model_that_falls_behind_the_last_blessed_one_is_rejected(
    first, model, rows, tmp_path
):
    # Its columns are others than the blessed model's, and it sees the text alone.
    how = {"logits": (9.0, 0.0, 0.0), "classes": ("red", "größer", "green")}
    _, worse = text_model(tmp_path, **how)
    found = evaluate(tmp_path / "run", worse, rows, baseline=model)
    before = first.summary["accuracy"]
    assert found.summary["accuracy"] == 6 / 12
    assert found.summary["baseline"]["accuracy"] == before
    loss = first.summary["log_loss"]
    assert found.summary["baseline"]["log_loss"] == pytest.approx(loss, abs=1e-5)
    assert found.summary["per_class"]["größer"]["rows"] == 0
    assert found.is_rejected and not found.is_blessed
    assert found.reasons == [
        f"accuracy 0.5 is {before - 0.5:.4g} below the last blessed model's "
        f"{before:.4g}, more than gate.max_drop=0.02"
    ]


def test_a_gate_that_asks_for_nothing_lets_the_worst_model_pass(model, rows, tmp_path):
    how = {"logits": (9.0, 0.0, 0.0), "classes": ("x", "red", "green")}
    _, worst = text_model(tmp_path, **how)
    found = evaluate(tmp_path / "run", worst, rows, baseline=model, max_drop=1.0)
    assert found.summary["accuracy"] == 0
    assert found.is_blessed and found.reasons == []


def test_a_model_without_test_rows_is_rejected(three, tmp_path):
    found = evaluate(tmp_path, three[1], rows=[])
    assert found.is_rejected and found.summary["rows"] == 0
    assert found.reasons == ["there are no test rows to measure the model on"]


def test_a_drop_of_max_drop_itself_passes(state):
    config = build_eval_config(GateConfig(max_drop=0.02), state)
    thresholds = config.metrics_specs[0].metrics[0].per_slice_thresholds
    (least,) = [
        one.threshold.change_threshold.absolute.value
        for one in thresholds
        if one.threshold.HasField("change_threshold")
    ]
    assert 0.9 - 0.92 < -0.02  # as floating point has it
    assert -0.0201 < least < 0.9 - 0.92


def test_only_accuracy_has_thresholds(state):
    config = build_eval_config(GateConfig(min_accuracy=0.5), state)
    found = tfma.metrics.metric_thresholds_from_metrics_specs(
        config.metrics_specs, eval_config=config
    )
    assert {key.name for key in found} == {"accuracy"}
    assert {key.sub_key for key in found} == {None}


# The component ----------------------------------------------------------------


def component(code="c0de", baseline=True, **gate):
    def artifacts(kind, name):
        return Importer(source_uri=f"/{name}", artifact_type=kind).with_id(name)

    kinds = {"rows": standard_artifacts.Examples, "new": standard_artifacts.Model}
    if baseline:
        kinds["old"] = standard_artifacts.Model
    nodes = {name: artifacts(kind, name) for name, kind in kinds.items()}
    channels = {name: node.outputs["result"] for name, node in nodes.items()}
    config = PipelineConfig(gate=GateConfig(**gate))
    evaluator = build_evaluator(
        channels["rows"], channels["new"], channels.get("old"), config, code
    )
    return [*nodes.values(), evaluator]


def test_it_has_the_outputs_of_the_stock_component():
    outputs = {name: channel.type for name, channel in component()[-1].outputs.items()}
    assert outputs == {
        "evaluation": standard_artifacts.ModelEvaluation,
        "blessing": standard_artifacts.ModelBlessing,
    }


@pytest.mark.parametrize("baseline", [True, False])
def test_kubeflow_takes_it_with_gate_and_code_as_parameters(tmp_path, baseline):
    """Which are what its cache keys are made of, as are TFX's."""
    settings = kubeflow.KubeflowV2DagRunnerConfig(
        default_image="image", use_pipeline_spec_2_1=True
    )
    runner = kubeflow.KubeflowV2DagRunner(settings, str(tmp_path), "spec.json")
    nodes = component(baseline=baseline, max_drop=0.25)
    runner.run(tfx_pipeline.Pipeline("toy", "/root", components=nodes))
    spec = json.loads((tmp_path / "spec.json").read_text())
    task = spec["pipelineSpec"]["root"]["dag"]["tasks"]["Evaluator"]
    given = {
        name: value["runtimeValue"]["constant"]
        for name, value in task["inputs"]["parameters"].items()
    }
    assert given["code"] == "c0de"
    assert json.loads(given["gate"])["max_drop"] == 0.25
    assert json.loads(given["example_splits"]) == ["test"]
    has_baseline = "baseline_model" in task["inputs"]["artifacts"]
    assert has_baseline == baseline
