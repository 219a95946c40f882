"""The export's proof: loaded as TF Serving does, it answers as the model did."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmkeras.errors import ExportMismatchError, UserError
from mmkeras.export.inference import TrainedModel, build_serve, embedding_names
from mmkeras.export.saved_model_session import loaded
from mmkeras.schema import (
    CLASSIFY,
    CLASSIFY_CLASSES,
    CLASSIFY_INPUT,
    CLASSIFY_SCORES,
    EMBED,
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


def verify_export(
    path: Path, trained_model: TrainedModel, batches: dict[str, Rows], tolerance: float
) -> float:
    """Loads the export with the loader of TF Serving and compares every answer.

    The model answers row by row, outside any exported graph; the export answers
    whole batches.

    Returns:
        The largest difference of any number.

    Raises:
        ProofError: The export cannot be loaded or run; a probability, label, score,
            status or embedding differs; or a request of the wrong rank is not refused.
    """
    answer = _reference(trained_model)
    expected = {name: answer(rows) for name, rows in batches.items()}
    largest, doing = 0.0, "cannot be loaded"
    try:
        with loaded(path) as call:
            for name, rows in batches.items():
                doing = f"fails on golden batch '{name}'"
                found = _compare(
                    name, rows, call, expected[name], trained_model, tolerance
                )
                largest = max(largest, found)
            doing = "fails on a request of the wrong rank"
            _refuses_wrong_ranks(call, batches["complete"])
    except tf.errors.OpError as error:
        words = " ".join(error.message.split())
        raise ExportMismatchError(f"The export {doing}: {words}") from error
    return largest


def _reference(trained_model: TrainedModel) -> Callable[[Rows], dict[str, np.ndarray]]:
    """Returns the training model's answer, one row after the other, by output."""
    modalities = trained_model.state.modalities
    spec = {m: tf.TensorSpec([None], tf.string) for m in modalities}
    serve = tf.function(build_serve(trained_model), [spec], autograph=False)
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


def _compare(name, rows, call, expected, trained_model, tolerance) -> float:
    """Returns the largest difference."""
    got = {**call(EMBED, rows), **call(SERVING_DEFAULT, rows)}
    classified = call(CLASSIFY, {CLASSIFY_INPUT: rows_to_examples(rows)})
    for key in (LABEL, STATUS):
        if list(got[key]) != list(expected[key]):
            raise ExportMismatchError(
                f"Golden batch '{name}': {key} is {list(got[key])}, and the model "
                f"says {list(expected[key])}."
            )
    got[CLASSIFY_SCORES] = classified[CLASSIFY_SCORES]
    expected = {**expected, CLASSIFY_SCORES: expected[PROBABILITIES]}
    differences = [
        _close(name, key, got[key], expected[key], trained_model, tolerance)
        for key in (
            PROBABILITIES,
            SCORE,
            CLASSIFY_SCORES,
            *embedding_names(trained_model),
        )
    ]
    classes = [c.encode() for c in trained_model.state.classes]
    if any(list(row) != classes for row in classified[CLASSIFY_CLASSES]):
        raise ExportMismatchError(
            f"Golden batch '{name}': classify names other classes."
        )
    return max(differences)


def _close(name, key, got, expected, trained_model, tolerance) -> float:
    if got.shape != expected.shape:
        raise ExportMismatchError(
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
            where = f", class '{trained_model.state.classes[column[0]]}'"
        raise ExportMismatchError(
            f"Golden batch '{name}', row {row}{where}: {key} differs from the model by "
            f"{difference.max():.3g}, more than export.tolerance={tolerance:g}."
        )
    return float(difference.max(initial=0.0))


def _refuses_wrong_ranks(call, rows):
    for feeds in (
        {m: content[0] for m, content in rows.items()},
        {m: [content] for m, content in rows.items()},
    ):
        try:
            call(SERVING_DEFAULT, feeds)
        except tf.errors.InvalidArgumentError:
            continue
        raise ExportMismatchError(
            "A request of the wrong rank was answered, not refused."
        )


def rows_to_examples(rows: Rows) -> list[bytes]:
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


def read_rows(
    path: Path, modalities: tuple[str, ...], most: int
) -> list[dict[str, bytes]]:
    """Reads the first tf.Examples of a TFRecord, b"" where a modality is left out.

    Raises:
        UserError: There are none, or they are damaged.
    """
    features = {m: tf.io.FixedLenFeature([], tf.string, "") for m in modalities}
    records = tf.data.TFRecordDataset(str(path)).take(most)

    @tf.autograph.experimental.do_not_convert
    def parse(record):
        return tf.io.parse_single_example(record, features)

    try:
        rows = list(records.map(parse).as_numpy_iterator())
    except tf.errors.OpError as error:
        words = error.message.split("\n")[0]
        raise UserError(f"The rows in '{path}' cannot be read: {words}") from None
    if not rows:
        raise UserError(f"There are no rows in '{path}'; give some of the data.")
    return rows
