"""Export of a trained model as a verified SavedModel for TensorFlow Serving."""

import shutil
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from copy import deepcopy
from keyword import iskeyword
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    input_pb2,
    predict_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from mmkeras import schema
from mmkeras.config import to_yaml
from mmkeras.export.example_signatures import (
    build_embed_text_signature,
    build_example_signature,
    example_signature,
)
from mmkeras.export.inference import (
    TrainedModel,
    build_serve,
    embedding_names,
    is_label_aligned,
    prediction_names,
)
from mmkeras.export.verification import (
    Rows,
    golden_batches,
    rows_to_examples,
    verify_export,
)
from mmkeras.files import atomic_folder, latest_version
from mmkeras.layers.saved_model import saved_models
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.column import Column

_PROTO_FILE = "saved_model.pb"
_METHODS = {
    schema.CLASSIFY: "tensorflow/serving/classify",
    schema.REGRESS: "tensorflow/serving/regress",
}


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
        signature = example_signature(trained_model.state.task)
        write_warmup(batches["complete"], columns, tmp_folder, signature)
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
    module.saved_models = list(saved_models(trained_model.model))
    outputs = {
        schema.SERVING_DEFAULT: prediction_names(
            trained_model.config, trained_model.state
        ),
        schema.EMBED: (*embedding_names(trained_model), schema.STATUS),
    }
    functions = {
        schema.SERVING_DEFAULT: serve,
        schema.EMBED: build_serve(trained_model, predicts=False),
    }
    signatures = {
        name: _signature(functions[name], trained_model, outputs[name])
        for name in outputs
    }
    name = example_signature(trained_model.state.task)
    signatures[name] = build_example_signature(serve, trained_model)
    if is_label_aligned(trained_model):
        signatures[schema.EMBED_TEXT] = build_embed_text_signature(trained_model)
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
    """Gives inputs and outputs the names of columns, and TF Serving's API its method.

    TensorFlow's functions take no names with spaces or letters beyond ASCII.
    """
    columns = trained_model.preprocessor.columns.values()
    names = {c.key: c.name for c in columns}
    names |= {key: name for name, key in _output_keys(trained_model).items()}
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (meta_graph,) = saved_model.meta_graphs
    name = example_signature(trained_model.state.task)
    meta_graph.signature_def[name].method_name = _METHODS[name]
    for signature in (schema.SERVING_DEFAULT, schema.EMBED):
        _rename(meta_graph.signature_def[signature], names)
    # What Python's tf.saved_model.load makes the functions of the signatures from.
    names |= {c.key: argument_name(c) for c in columns}
    objects = meta_graph.object_graph_def
    for node in objects.nodes:
        if function := node.bare_concrete_function.concrete_function_name:
            _rename(node.bare_concrete_function, names)
            _rename(objects.concrete_functions[function], names)
    path.write_bytes(saved_model.SerializeToString(deterministic=True))


def argument_name(column: Column) -> str:
    """Returns the keyword of a column where Python calls a loaded signature.

    It is the column's name, but "class_column" for a column named "class".
    """
    return column.key if iskeyword(column.name) else column.name


def _rename(message: Message, names: Mapping[str, str]) -> None:
    """Replaces names in all strings of a message, and in keys of its maps."""
    for field, value in message.ListFields():
        if isinstance(value, MutableMapping):
            parts = {names.get(key, key): deepcopy(x) for key, x in value.items()}
            value.clear()
            for name, part in parts.items():
                _rename(part, names)
                value[name].CopyFrom(part)
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if isinstance(value, Message) else value:
                _rename(part, names)
        elif isinstance(value, str):
            setattr(message, field.name, names.get(value, value))
        elif field.type == field.TYPE_STRING:
            value[:] = [names.get(text, text) for text in value]


def _write_extras(trained_model: TrainedModel, path: Path) -> None:
    extra = path / Path(schema.WARMUP_FILE).parent
    extra.mkdir()
    if trained_model.state.classes:
        labels = "".join(f"{name}\n" for name in trained_model.state.classes)
        (extra / schema.LABELS_FILE).write_text(labels, encoding="utf-8")
    settings = to_yaml(trained_model.config)
    (extra / schema.CONFIG_FILE).write_text(settings, encoding="utf-8")
    preprocessing_state.save(trained_model.state, extra / schema.ANALYSIS_FILE)


def write_warmup(
    rows: Rows,
    columns: Mapping[str, Column],
    path: Path,
    signature: str = schema.CLASSIFY,
) -> None:
    """Writes one request per signature, which TF Serving runs when it loads `path`.

    `signature` is classify or regress.
    """
    requests = {
        schema.CLASSIFY: classification_pb2.ClassificationRequest,
        schema.REGRESS: regression_pb2.RegressionRequest,
    }
    spec = {"name": "mmkeras"}
    tensors = {
        n: tf.make_tensor_proto(
            x, tf.string if columns[n].takes_strings else tf.float32
        )
        for n, x in rows.items()
    }
    logs = []
    for name in (schema.SERVING_DEFAULT, schema.EMBED):
        request = predict_pb2.PredictRequest(
            model_spec={**spec, "signature_name": name}, inputs=tensors
        )
        log = prediction_log_pb2.PredictLog(request=request)
        logs.append(prediction_log_pb2.PredictionLog(predict_log=log))
    examples = [
        tf.train.Example.FromString(one) for one in rows_to_examples(rows, columns)
    ]
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
