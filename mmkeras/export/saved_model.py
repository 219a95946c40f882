"""Export of a trained model as a verified SavedModel for TensorFlow Serving."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
import yaml
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow_serving.apis import (
    classification_pb2,
    input_pb2,
    predict_pb2,
    prediction_log_pb2,
)

from mmkeras import schema
from mmkeras.config import to_dict
from mmkeras.export.inference import TrainedModel, build_serve, embedding_names
from mmkeras.export.verification import (
    Rows,
    golden_batches,
    rows_to_examples,
    verify_export,
)
from mmkeras.files import atomic_folder, latest_version
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessor import column_feature

_PROTO_FILE = "saved_model.pb"
_CLASSIFY_METHOD = "tensorflow/serving/classify"


def export(
    trained_model: TrainedModel, rows: list[dict[str, bytes | float]], folder: Path
) -> Path:
    """Writes and verifies the next version under `folder`, and returns its path.

    TF Serving polls `folder`; the version appears atomically. A few `rows`, values by
    column, are for golden batches and warm-up requests.

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
        columns = trained_model.preprocessor.columns
        batches = golden_batches(rows, columns)
        write_warmup(batches["complete"], columns, tmp_folder)
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
        schema.SERVING_DEFAULT: (
            schema.PROBABILITIES,
            schema.LABEL,
            schema.SCORE,
            schema.STATUS,
        ),
        schema.EMBED: (*embedding_names(trained_model), schema.STATUS),
    }
    signatures = {
        name: _signature(serve, trained_model, outputs[name]) for name in outputs
    }
    signatures[schema.CLASSIFY] = _classify(serve, trained_model)
    signatures[schema.COLUMNS] = _columns(trained_model)
    tf.saved_model.save(module, str(path), signatures)
    _edit_signatures(trained_model, path / _PROTO_FILE)


def _signature(serve: Callable, trained_model: TrainedModel, outputs: Sequence[str]):
    """Builds a signature from (B,) values by column to some outputs of `serve`.

    Its names are keys; `_edit_signatures` replaces them.
    """
    columns = trained_model.preprocessor.columns
    keys = {c.key: name for name, c in columns.items()}
    output_keys = _output_keys(trained_model)

    def signature(**data):
        # Checked first: a wrong rank must not reach another op.
        data = {keys[key]: tf.ensure_shape(x, [None]) for key, x in data.items()}
        result = serve({name: data[name] for name in columns})
        return {output_keys.get(name, name): result[name] for name in outputs}

    specs = {
        columns[name].key: tf.TensorSpec([None], spec.dtype, name=columns[name].key)
        for name, spec in trained_model.preprocessor.specs.items()
    }
    return tf.function(signature, autograph=False).get_concrete_function(**specs)


def _output_keys(trained_model: TrainedModel) -> dict[str, str]:
    """Returns the name of each aligned branch's output -> its name in TensorFlow."""
    branches = trained_model.preprocessor.branches.values()
    name = schema.embedding_name
    return {name(b.name): name(b.key) for b in branches}


def _columns(trained_model: TrainedModel):
    """Builds the signature that describes the inputs: their names and types.

    All rows are equal. A server with batching needs one per row of the input.
    """
    columns = trained_model.preprocessor.columns.values()
    names, types = [c.name for c in columns], [c.type for c in columns]

    def describe(inputs):
        rows = tf.shape(tf.ensure_shape(inputs, [None]))[0]
        return {
            schema.COLUMN_NAMES: tf.tile([names], [rows, 1]),
            schema.COLUMN_TYPES: tf.tile([types], [rows, 1]),
        }

    spec = tf.TensorSpec([None], tf.string, name=schema.CLASSIFY_INPUT)
    return tf.function(describe, autograph=False).get_concrete_function(inputs=spec)


def _edit_signatures(trained_model: TrainedModel, path: Path) -> None:
    """Gives inputs and outputs the names of columns, and `classify` its method.

    TensorFlow's functions take no names with spaces or letters beyond ASCII.
    """
    columns = trained_model.preprocessor.columns.values()
    inputs = {c.key: c.name for c in columns}
    outputs = {key: name for name, key in _output_keys(trained_model).items()}
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (meta_graph,) = saved_model.meta_graphs
    meta_graph.signature_def[schema.CLASSIFY].method_name = _CLASSIFY_METHOD
    for signature in (schema.SERVING_DEFAULT, schema.EMBED):
        definition = meta_graph.signature_def[signature]
        _rename(definition.inputs, inputs)
        _rename(definition.outputs, outputs)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))


def _rename(infos, names: dict[str, str]) -> None:
    renamed = {
        names.get(key, key): TensorInfo.FromString(i.SerializeToString())
        for key, i in infos.items()
    }
    infos.clear()
    for name, info in renamed.items():
        infos[name].CopyFrom(info)


def _classify(serve: Callable, trained_model: TrainedModel):
    """Builds the signature of TF Serving's Classify: tf.Examples to class scores."""
    classes = list(trained_model.state.classes)
    columns = trained_model.preprocessor.columns
    features = {name: column_feature(c) for name, c in columns.items()}

    def classify(inputs):
        parsed = tf.io.parse_example(tf.ensure_shape(inputs, [None]), features)
        scores = serve(parsed)[schema.PROBABILITIES]
        names = tf.tile([classes], [tf.shape(scores)[0], 1])
        return {schema.CLASSIFY_CLASSES: names, schema.CLASSIFY_SCORES: scores}

    spec = tf.TensorSpec([None], tf.string, name=schema.CLASSIFY_INPUT)
    return tf.function(classify, autograph=False).get_concrete_function(inputs=spec)


def _write_extras(trained_model: TrainedModel, path: Path) -> None:
    extra = path / Path(schema.WARMUP_FILE).parent
    extra.mkdir()
    labels = "".join(f"{name}\n" for name in trained_model.state.classes)
    (extra / schema.LABELS_FILE).write_text(labels, encoding="utf-8")
    settings = yaml.safe_dump(to_dict(trained_model.config), sort_keys=False)
    (extra / schema.CONFIG_FILE).write_text(settings, encoding="utf-8")
    preprocessing_state.save(trained_model.state, extra / schema.ANALYSIS_FILE)


def write_warmup(rows: Rows, columns: Mapping[str, Column], path: Path) -> None:
    """Writes one request per signature, which TF Serving runs when it loads `path`."""
    spec = {"name": "mmkeras"}
    tensors = {
        n: tf.make_tensor_proto(
            x, tf.string if columns[n].takes_strings else tf.float32
        )
        for n, x in rows.items()
    }
    logs = []
    for signature in (schema.SERVING_DEFAULT, schema.EMBED):
        request = predict_pb2.PredictRequest(
            model_spec={**spec, "signature_name": signature}, inputs=tensors
        )
        log = prediction_log_pb2.PredictLog(request=request)
        logs.append(prediction_log_pb2.PredictionLog(predict_log=log))
    examples = [
        tf.train.Example.FromString(one) for one in rows_to_examples(rows, columns)
    ]
    request = classification_pb2.ClassificationRequest(
        model_spec={**spec, "signature_name": schema.CLASSIFY},
        input=input_pb2.Input(example_list=input_pb2.ExampleList(examples=examples)),
    )
    log = prediction_log_pb2.ClassifyLog(request=request)
    logs.append(prediction_log_pb2.PredictionLog(classify_log=log))
    (path / schema.WARMUP_FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / schema.WARMUP_FILE)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
