"""Export of a trained model as a verified SavedModel for TensorFlow Serving."""

import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
import yaml
from tensorflow_serving.apis import (
    classification_pb2,
    input_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from mmkeras import schema
from mmkeras.config import to_dict
from mmkeras.export.inference import (
    TrainedModel,
    build_serve,
    embedding_names,
    prediction_names,
)
from mmkeras.export.verification import (
    Rows,
    example_signature,
    golden_batches,
    rows_to_examples,
    verify_export,
)
from mmkeras.files import atomic_folder, latest_version
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import REGRESSION

_CLASSIFY_METHOD = "tensorflow/serving/classify"
_REGRESS_METHOD = "tensorflow/serving/regress"


def export(
    trained_model: TrainedModel, rows: list[dict[str, bytes]], folder: Path
) -> Path:
    """Writes and verifies the next version under `folder`, and returns its path.

    TF Serving polls `folder`; the version appears atomically. A few `rows`, bytes by
    modality, are for golden batches and warm-up requests.

    Raises:
        ExportMismatchError: Outputs of the reloaded export differ from the model's;
            nothing is written.

    Example:
        export(load_trained(folder), golden_rows, Path("served"))  # served/1
    """
    latest = latest_version(folder)
    path = folder / str(int(latest.name) + 1 if latest else 1)
    for tmp_folder in folder.glob(f".*.{path.name}"):  # left by a killed export
        shutil.rmtree(tmp_folder)
    with atomic_folder(path) as tmp_folder:
        save_signatures(trained_model, tmp_folder)
        _write_extras(trained_model, tmp_folder)
        batches = golden_batches(rows, trained_model.state.modalities)
        signature = example_signature(trained_model.state)
        write_warmup(batches["complete"], tmp_folder, signature)
        tolerance = trained_model.config.export.tolerance
        verify_export(tmp_folder, trained_model, batches, tolerance)
    return path


def save_signatures(trained_model: TrainedModel, path: Path) -> None:
    """Writes the signatures and the variables, without the Keras model itself.

    The C++ loader does not find the variables of a Keras 3 model in a tf.Module, but
    finds the variables themselves.
    """
    serve = build_serve(trained_model)
    module = tf.Module()
    module.weights = [v.value for v in trained_model.model.variables]
    module.resources = trained_model.preprocessor.resources
    outputs = {
        schema.SERVING_DEFAULT: prediction_names(trained_model.state),
        schema.EMBED: (*embedding_names(trained_model), schema.STATUS),
    }
    signatures = {
        name: _signature(serve, trained_model.state.modalities, outputs[name])
        for name in outputs
    }
    build, method = _classify, _CLASSIFY_METHOD
    if trained_model.state.task == REGRESSION:
        build, method = _regress, _REGRESS_METHOD
    name = example_signature(trained_model.state)
    signatures[name] = build(serve, trained_model)
    tf.saved_model.save(module, str(path), signatures)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(path))
    updater.replace_method_name(name, method, tags="serve")
    updater.save()


def _signature(serve: Callable, modalities, outputs):
    """Builds a signature from (B,) strings by modality to some outputs of `serve`."""

    def signature(**data):
        # Checked first: a wrong rank must not reach another op.
        result = serve({m: tf.ensure_shape(x, [None]) for m, x in data.items()})
        return {name: result[name] for name in outputs}

    specs = {m: tf.TensorSpec([None], tf.string, name=m) for m in modalities}
    return tf.function(signature, autograph=False).get_concrete_function(**specs)


def _classify(serve: Callable, trained_model: TrainedModel):
    """Builds the signature of TF Serving's Classify: tf.Examples to class scores."""
    modalities = trained_model.state.modalities
    classes = list(trained_model.state.classes)
    features = {m: tf.io.FixedLenFeature([], tf.string, "") for m in modalities}

    def classify(inputs):
        parsed = tf.io.parse_example(tf.ensure_shape(inputs, [None]), features)
        scores = serve(parsed)[schema.PROBABILITIES]
        names = tf.tile([classes], [tf.shape(scores)[0], 1])
        return {schema.CLASSIFY_CLASSES: names, schema.CLASSIFY_SCORES: scores}

    spec = tf.TensorSpec([None], tf.string, name=schema.CLASSIFY_INPUT)
    return tf.function(classify, autograph=False).get_concrete_function(inputs=spec)


def _regress(serve: Callable, trained_model: TrainedModel):
    """Builds the signature of TF Serving's Regress: tf.Examples to (B, 1) values."""
    features = {
        m: tf.io.FixedLenFeature([], tf.string, "")
        for m in trained_model.state.modalities
    }

    def regress(inputs):
        parsed = tf.io.parse_example(tf.ensure_shape(inputs, [None]), features)
        return {schema.REGRESS_OUTPUT: serve(parsed)[schema.VALUE][:, None]}

    spec = tf.TensorSpec([None], tf.string, name=schema.REGRESS_INPUT)
    return tf.function(regress, autograph=False).get_concrete_function(inputs=spec)


def _write_extras(trained_model: TrainedModel, path: Path) -> None:
    extra = path / Path(schema.WARMUP_FILE).parent
    extra.mkdir()
    if trained_model.state.classes:
        labels = "".join(f"{name}\n" for name in trained_model.state.classes)
        (extra / schema.LABELS_FILE).write_text(labels, encoding="utf-8")
    settings = yaml.safe_dump(to_dict(trained_model.config), sort_keys=False)
    (extra / schema.CONFIG_FILE).write_text(settings, encoding="utf-8")
    preprocessing_state.save(trained_model.state, extra / schema.ANALYSIS_FILE)


def write_warmup(rows: Rows, path: Path, signature: str = schema.CLASSIFY) -> None:
    """Writes one request per signature, which TF Serving runs when it loads `path`.

    `signature` is classify or regress.
    """
    requests = {
        schema.CLASSIFY: classification_pb2.ClassificationRequest,
        schema.REGRESS: regression_pb2.RegressionRequest,
    }
    spec = {"name": "mmkeras"}
    tensors = {m: tf.make_tensor_proto(column, tf.string) for m, column in rows.items()}
    logs = []
    for name in (schema.SERVING_DEFAULT, schema.EMBED):
        request = predict_pb2.PredictRequest(
            model_spec={**spec, "signature_name": name}, inputs=tensors
        )
        log = prediction_log_pb2.PredictLog(request=request)
        logs.append(prediction_log_pb2.PredictionLog(predict_log=log))
    examples = [tf.train.Example.FromString(one) for one in rows_to_examples(rows)]
    request = requests[signature](
        model_spec={**spec, "signature_name": signature},
        input=input_pb2.Input(example_list=input_pb2.ExampleList(examples=examples)),
    )
    log = {f"{signature}_log": {"request": request}}
    logs.append(prediction_log_pb2.PredictionLog(**log))
    (path / schema.WARMUP_FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / schema.WARMUP_FILE)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
