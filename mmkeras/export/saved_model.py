"""The served model: signatures on raw bytes, warm-up requests, and the proof."""

import os
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
)

from mmkeras.config import to_dict
from mmkeras.export.inference import TrainedModel, build_serve, embedding_names
from mmkeras.export.verification import (
    Rows,
    golden_batches,
    rows_to_examples,
    verify_export,
)
from mmkeras.modalities import preprocessing_state
from mmkeras.schema import (
    ANALYSIS_FILE,
    CLASSIFY,
    CLASSIFY_CLASSES,
    CLASSIFY_INPUT,
    CLASSIFY_SCORES,
    CONFIG_FILE,
    EMBED,
    LABEL,
    LABELS_FILE,
    PROBABILITIES,
    SCORE,
    SERVING_DEFAULT,
    STATUS,
    WARMUP_FILE,
)

_CLASSIFY_METHOD = "tensorflow/serving/classify"


def export(
    trained_model: TrainedModel, rows: list[dict[str, bytes]], folder: Path
) -> Path:
    """Writes the next version under `folder`, proves it, and only then names it.

    Args:
        trained: Model, settings and analysis.
        rows: A few complete rows, bytes by modality: golden rows of the proof, and
            the warm-up requests.
        folder: Base path, as TF Serving polls it.

    Returns:
        The version's folder.

    Raises:
        ProofError: The reloaded export does not answer as the model does; nothing
            is left behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    versions = [int(p.name) for p in folder.iterdir() if p.name.isdigit()]
    version = max(versions, default=0) + 1
    aside = folder / f".{version}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        _save(trained_model, aside)
        _write_extras(trained_model, aside)
        batches = golden_batches(rows, trained_model.state.modalities)
        write_warmup(batches["complete"], aside)
        verify_export(
            aside, trained_model, batches, trained_model.config.export.tolerance
        )
        os.rename(aside, folder / str(version))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder / str(version)


def _save(trained_model: TrainedModel, path: Path) -> None:
    """Saves the signatures; the Keras model stays out of the saved object.

    The C++ loader does not find the variables of a Keras 3 model that hangs on a
    tf.Module; the bare variables it finds.
    """
    serve = build_serve(trained_model)
    module = tf.Module()
    module.weights = [v.value for v in trained_model.model.variables]
    module.resources = trained_model.preprocessor.resources
    strings = {
        m: tf.TensorSpec([None], tf.string, name=m)
        for m in trained_model.state.modalities
    }
    signatures = {
        SERVING_DEFAULT: _signature(
            serve, strings, (PROBABILITIES, LABEL, SCORE, STATUS)
        ),
        EMBED: _signature(serve, strings, (*embedding_names(trained_model), STATUS)),
        CLASSIFY: _classify(serve, trained_model),
    }
    tf.saved_model.save(module, str(path), signatures)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(path))
    updater.replace_method_name(CLASSIFY, _CLASSIFY_METHOD, tags="serve")
    updater.save()


def _ranked(data: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Refuses anything but a vector of strings before another op sees it."""
    return {m: tf.ensure_shape(strings, [None]) for m, strings in data.items()}


def _signature(serve: Callable, strings, outputs):
    def signature(**data):
        answer = serve(_ranked(data))
        return {name: answer[name] for name in outputs}

    return tf.function(signature, autograph=False).get_concrete_function(**strings)


def _classify(serve: Callable, trained_model: TrainedModel):
    """tf.Examples in, class names and scores out, as TF Serving's Classify wants."""
    modalities, classes = (
        trained_model.state.modalities,
        list(trained_model.state.classes),
    )
    features = {m: tf.io.FixedLenFeature([], tf.string, "") for m in modalities}

    def classify(inputs):
        parsed = tf.io.parse_example(tf.ensure_shape(inputs, [None]), features)
        scores = serve(parsed)[PROBABILITIES]
        names = tf.tile([classes], [tf.shape(scores)[0], 1])
        return {CLASSIFY_CLASSES: names, CLASSIFY_SCORES: scores}

    spec = tf.TensorSpec([None], tf.string, name=CLASSIFY_INPUT)
    return tf.function(classify, autograph=False).get_concrete_function(inputs=spec)


def _write_extras(trained_model: TrainedModel, path: Path) -> None:
    """Puts labels, settings and analysis beside the graph."""
    extra = path / Path(WARMUP_FILE).parent
    extra.mkdir()
    labels = "".join(f"{name}\n" for name in trained_model.state.classes)
    (extra / LABELS_FILE).write_text(labels, encoding="utf-8")
    settings = yaml.safe_dump(to_dict(trained_model.config), sort_keys=False)
    (extra / CONFIG_FILE).write_text(settings, encoding="utf-8")
    preprocessing_state.save(trained_model.state, extra / ANALYSIS_FILE)


def write_warmup(rows: Rows, path: Path) -> None:
    """Writes the requests that TF Serving answers before it takes any other.

    Args:
        rows: One batch, bytes by modality, of which each signature gets a request.
        path: Folder of the SavedModel.
    """
    spec = {"name": "mmkeras"}
    tensors = {m: tf.make_tensor_proto(column, tf.string) for m, column in rows.items()}
    logs = []
    for signature in (SERVING_DEFAULT, EMBED):
        request = predict_pb2.PredictRequest(
            model_spec={**spec, "signature_name": signature}, inputs=tensors
        )
        log = prediction_log_pb2.PredictLog(request=request)
        logs.append(prediction_log_pb2.PredictionLog(predict_log=log))
    examples = [tf.train.Example.FromString(one) for one in rows_to_examples(rows)]
    request = classification_pb2.ClassificationRequest(
        model_spec={**spec, "signature_name": CLASSIFY},
        input=input_pb2.Input(example_list=input_pb2.ExampleList(examples=examples)),
    )
    log = prediction_log_pb2.ClassifyLog(request=request)
    logs.append(prediction_log_pb2.PredictionLog(classify_log=log))
    (path / WARMUP_FILE).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / WARMUP_FILE)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
