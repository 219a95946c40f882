"""The export's proof: reloaded as TF Serving does, it answers as the model did."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2

from mmkeras.errors import ProofError
from mmkeras.inference import Trained, build_serve
from mmkeras.schema import (
    CLASSIFY,
    CLASSIFY_CLASSES,
    CLASSIFY_INPUT,
    CLASSIFY_SCORES,
    EMBED,
    EMBEDDING,
    LABEL,
    MODALITIES,
    PROBABILITIES,
    SCORE,
    SERVING_DEFAULT,
    STATUS,
)

Rows = dict[str, list[bytes]]
# No picture, no sound, no vector and no UTF-8.
_BROKEN = b"\xff\xfebroken"
_MOST_COMPLETE = 4  # complete golden rows


def golden_batches(
    rows: list[dict[str, bytes]], modalities: tuple[str, ...]
) -> dict[str, Rows]:
    """Makes the batches of the proof out of a few rows of the data.

    One of complete rows (or the fullest there are), one with each modality absent
    and broken in turn, one of absent rows only, all of these mixed, and an empty one.
    """
    if not rows:
        raise ValueError("The proof needs at least one row.")
    fullest = sorted(rows, key=lambda r: -sum(bool(r[m]) for m in modalities))
    complete = fullest[:_MOST_COMPLETE]
    one = complete[0]
    batches = {"complete": complete}
    for m in modalities:
        batches[f"{m} absent"] = [{**one, m: b""}]
        batches[f"{m} broken"] = [{**one, m: _BROKEN}]
    batches["all absent"] = [dict.fromkeys(modalities, b"")]
    batches["mixed"] = [row for batch in batches.values() for row in batch]
    batches["empty"] = []
    return {
        name: {m: [row[m] for row in batch] for m in modalities}
        for name, batch in batches.items()
    }


def prove(
    path: Path, trained: Trained, batches: dict[str, Rows], tolerance: float
) -> None:
    """Reloads the export in a TF1 session and compares every answer.

    The model answers row by row, outside any exported graph; the export answers
    whole batches.

    Raises:
        ProofError: A probability, label, score, status or embedding differs, or a
            request of the wrong rank is not refused.
    """
    answer = _reference(trained)
    expected = {name: answer(rows) for name, rows in batches.items()}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        try:
            loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        except (tf.errors.OpError, ValueError, KeyError) as error:
            raise ProofError(f"The export cannot be loaded: {error}") from error
        call = _caller(session, loaded.signature_def)
        for name, rows in batches.items():
            _compare(name, rows, call, expected[name], trained, tolerance)
        _refuses_wrong_ranks(call, batches["complete"])


def _caller(session, signatures) -> Callable:
    """Returns call(signature, feeds), which feeds the graph without Python's checks."""
    runs = {}

    def call(signature, feeds):
        definition = signatures[signature]
        keys = sorted(definition.outputs)
        if signature not in runs:  # each new one is optimised anew, for a second
            options = _options(definition, keys)
            runs[signature] = session._make_callable_from_options(options)
        arrays = [np.array(feeds[k], object) for k in sorted(definition.inputs)]
        return dict(zip(keys, runs[signature](*arrays), strict=True))

    return call


def _options(definition, keys):
    options = config_pb2.CallableOptions()
    options.feed.extend(definition.inputs[k].name for k in sorted(definition.inputs))
    options.fetch.extend(definition.outputs[k].name for k in keys)
    return options


def _reference(trained: Trained) -> Callable[[Rows], dict[str, np.ndarray]]:
    """Returns the training model's answer, one row after the other, by output."""
    modalities = trained.analysis.modalities
    spec = {m: tf.TensorSpec([None], tf.string) for m in modalities}
    serve = tf.function(build_serve(trained), [spec], autograph=False)
    seen = {}

    def one(row: tuple[bytes, ...]):
        if row not in seen:
            data = dict(zip(modalities, row, strict=True))
            tensors = {m: tf.constant([content]) for m, content in data.items()}
            seen[row] = {k: v.numpy() for k, v in serve(tensors).items()}
        return seen[row]

    def answer(rows: Rows):
        columns = [rows[m] for m in modalities]
        answers = [one(row) for row in zip(*columns, strict=True)]
        empty = one((b"",) * len(columns))
        if not answers:
            return {k: v[:0] for k, v in empty.items()}
        return {k: np.concatenate([a[k] for a in answers]) for k in empty}

    return answer


def _compare(name, rows, call, expected, trained, tolerance):
    got = {**call(EMBED, rows), **call(SERVING_DEFAULT, rows)}
    classified = call(CLASSIFY, {CLASSIFY_INPUT: examples_of(rows)})
    for key in (LABEL, STATUS):
        if list(got[key]) != list(expected[key]):
            raise ProofError(
                f"Golden batch '{name}': {key} is {list(got[key])}, and the model "
                f"says {list(expected[key])}."
            )
    got[CLASSIFY_SCORES] = classified[CLASSIFY_SCORES]
    expected = {**expected, CLASSIFY_SCORES: expected[PROBABILITIES]}
    for key in (PROBABILITIES, SCORE, EMBEDDING, CLASSIFY_SCORES):
        _close(name, key, got[key], expected[key], trained, tolerance)
    classes = [c.encode() for c in trained.analysis.classes]
    if any(list(row) != classes for row in classified[CLASSIFY_CLASSES]):
        raise ProofError(f"Golden batch '{name}': classify names other classes.")


def _close(name, key, got, expected, trained, tolerance):
    if got.shape != expected.shape:
        raise ProofError(
            f"Golden batch '{name}': {key} has shape {got.shape}, and the model gives "
            f"{expected.shape}."
        )
    # Probabilities are compared as they are, embeddings by their own size.
    size = np.maximum(np.abs(expected), 1.0)
    difference = np.abs(got - expected) / size
    if not np.all(difference <= tolerance):  # a NaN is no agreement
        row, *column = np.unravel_index(np.argmax(difference), difference.shape)
        where = ""
        if key in (PROBABILITIES, CLASSIFY_SCORES):
            where = f", class '{trained.analysis.classes[column[0]]}'"
        raise ProofError(
            f"Golden batch '{name}', row {row}{where}: {key} differs from the model by "
            f"{difference.max():.3g}, more than export.tolerance={tolerance:g}."
        )


def _refuses_wrong_ranks(call, rows):
    for feeds in (
        {m: content[0] for m, content in rows.items()},
        {m: [content] for m, content in rows.items()},
    ):
        try:
            call(SERVING_DEFAULT, feeds)
        except tf.errors.InvalidArgumentError:
            continue
        raise ProofError("A request of the wrong rank was answered, not refused.")


def examples_of(rows: Rows) -> list[bytes]:
    """Returns the rows as serialized tf.Examples, as `classify` takes them."""
    names = [m for m in MODALITIES if m in rows]
    serialized = []
    for row in zip(*(rows[m] for m in names), strict=True):
        features = {
            m: tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))
            for m, content in zip(names, row, strict=True)
        }
        example = tf.train.Example(features=tf.train.Features(feature=features))
        serialized.append(example.SerializeToString())
    return serialized
