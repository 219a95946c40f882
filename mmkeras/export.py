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
from mmkeras.inference import Trained, build_serve, embedding_names
from mmkeras.preprocess import analysis as analyses
from mmkeras.proof import Rows, examples_of, golden_batches, prove
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


def export(trained: Trained, rows: list[dict[str, bytes]], folder: Path) -> Path:
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
        _save(trained, aside)
        _write_extras(trained, aside)
        batches = golden_batches(rows, trained.analysis.modalities)
        write_warmup(batches["complete"], aside)
        prove(aside, trained, batches, trained.config.export.tolerance)
        os.rename(aside, folder / str(version))
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder / str(version)


def _save(trained: Trained, path: Path) -> None:
    """Saves the signatures; the Keras model stays out of the saved object.

    The C++ loader does not find the variables of a Keras 3 model that hangs on a
    tf.Module; the bare variables it finds.
    """
    serve = build_serve(trained)
    module = tf.Module()
    module.weights = [v.value for v in trained.model.variables]
    module.resources = trained.preprocessor.resources
    strings = {
        m: tf.TensorSpec([None], tf.string, name=m) for m in trained.analysis.modalities
    }
    signatures = {
        SERVING_DEFAULT: _signature(
            serve, strings, (PROBABILITIES, LABEL, SCORE, STATUS)
        ),
        EMBED: _signature(serve, strings, (*embedding_names(trained), STATUS)),
        CLASSIFY: _classify(serve, trained),
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


def _classify(serve: Callable, trained: Trained):
    """tf.Examples in, class names and scores out, as TF Serving's Classify wants."""
    modalities, classes = trained.analysis.modalities, list(trained.analysis.classes)
    features = {m: tf.io.FixedLenFeature([], tf.string, "") for m in modalities}

    def classify(inputs):
        parsed = tf.io.parse_example(tf.ensure_shape(inputs, [None]), features)
        scores = serve(parsed)[PROBABILITIES]
        names = tf.tile([classes], [tf.shape(scores)[0], 1])
        return {CLASSIFY_CLASSES: names, CLASSIFY_SCORES: scores}

    spec = tf.TensorSpec([None], tf.string, name=CLASSIFY_INPUT)
    return tf.function(classify, autograph=False).get_concrete_function(inputs=spec)


def _write_extras(trained: Trained, path: Path) -> None:
    """Puts labels, settings and analysis beside the graph."""
    extra = path / Path(WARMUP_FILE).parent
    extra.mkdir()
    labels = "".join(f"{name}\n" for name in trained.analysis.classes)
    (extra / LABELS_FILE).write_text(labels, encoding="utf-8")
    settings = yaml.safe_dump(to_dict(trained.config), sort_keys=False)
    (extra / CONFIG_FILE).write_text(settings, encoding="utf-8")
    analyses.save(trained.analysis, extra / ANALYSIS_FILE)


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
    examples = [tf.train.Example.FromString(one) for one in examples_of(rows)]
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
