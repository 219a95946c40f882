"""Verification of an export: TF Serving's loader must reproduce the model's outputs."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmkeras.data.example_reader import build_example
from mmkeras.errors import ExportMismatchError, UserError, one_line
from mmkeras.export.example_signatures import best_texts, example_signature
from mmkeras.export.inference import (
    TrainedModel,
    build_embed_text,
    build_serve,
    embedding_names,
    is_label_aligned,
)
from mmkeras.export.saved_model_session import load_saved_model
from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessing_state import GENERATE
from mmkeras.modalities.preprocessor import column_feature
from mmkeras.schema import (
    CLASSIFY_CLASSES,
    CLASSIFY_INPUT,
    CLASSIFY_SCORES,
    EMBED,
    EMBED_TEXT,
    EMBED_TEXT_INPUT,
    EMBEDDING,
    GENERATED,
    LABEL,
    PROBABILITIES,
    REGRESS,
    REGRESS_OUTPUT,
    SCORE,
    SERVING_DEFAULT,
    STATUS,
    VALUE,
    feature_name,
)

Rows = dict[str, list[bytes | float]]
_BROKEN = b"\xff\xfebroken"  # neither an image, audio, a vector nor UTF-8
_COMPLETE_ROWS = 4  # upper limit


def golden_batches(
    rows: list[dict[str, bytes | float]], columns: Mapping[str, Column]
) -> dict[str, Rows]:
    """Builds the batches of a verification from a few rows of the data.

    One has the most complete rows, one each column absent and broken in turn, one only
    absent columns, one all of these rows, and one no rows.
    """
    if not rows:
        raise ValueError("Golden batches need at least one row.")
    by_fullness = sorted(
        rows, key=lambda r: sum(c.is_absent(r[name]) for name, c in columns.items())
    )
    complete = by_fullness[:_COMPLETE_ROWS]
    row = complete[0]
    batches = {"complete": complete}
    for name, column in columns.items():
        broken = _BROKEN if column.takes_strings else float("inf")
        batches[f"{name} absent"] = [{**row, name: column.absent}]
        batches[f"{name} broken"] = [{**row, name: broken}]
    batches["all absent"] = [_absent_row(columns)]
    batches["mixed"] = [row for batch in batches.values() for row in batch]
    batches["empty"] = []
    return {
        name: {c: [row[c] for row in batch] for c in columns}
        for name, batch in batches.items()
    }


def _absent_row(columns: Mapping[str, Column]) -> dict[str, bytes | float]:
    return {name: column.absent for name, column in columns.items()}


def verify_export(
    path: Path, trained_model: TrainedModel, batches: dict[str, Rows], tolerance: float
) -> float:
    """Returns the largest difference of an export to the model, in TF Serving's loader.

    The model predicts row by row, the export batch by batch.

    Raises:
        ExportMismatchError: The export cannot be loaded or run; a probability, label,
            score, value, status or embedding differs; or a wrong rank is accepted.

    Example:
        batches = golden_batches(rows, trained_model.preprocessor.columns)
        verify_export(Path("served/1"), trained_model, batches, tolerance=1e-4)
    """
    predict = _build_reference(trained_model)
    expected = {name: predict(rows) for name, rows in batches.items()}
    largest, failure = 0.0, "cannot be loaded"
    try:
        with load_saved_model(path) as call:
            for name, rows in batches.items():
                failure = f"fails on golden batch '{name}'"
                outputs = expected[name]
                difference = _compare(
                    name, rows, call, outputs, trained_model, tolerance
                )
                largest = max(largest, difference)
            if is_label_aligned(trained_model):
                failure = f"fails on texts of {EMBED_TEXT}"
                largest = max(largest, _compare_texts(call, trained_model, tolerance))
            failure = "fails on a request of the wrong rank"
            check_ranks(call, batches["complete"])
    except tf.errors.OpError as error:
        reason = one_line(error.message)
        raise ExportMismatchError(f"The export {failure}: {reason}") from error
    return largest


def _build_reference(trained_model) -> Callable[[Rows], dict[str, np.ndarray]]:
    """Builds the model's prediction function: rows to outputs, one row at a time."""
    preprocessor = trained_model.preprocessor
    columns, spec = preprocessor.columns, preprocessor.specs
    serve = tf.function(build_serve(trained_model), [spec], autograph=False)
    results = {}

    def predict_row(row: tuple[bytes | float, ...]):
        key = tuple(map(repr, row))  # NaN is not equal to itself
        if key not in results:
            data = {n: [value] for n, value in zip(columns, row, strict=True)}
            outputs = serve(preprocessor.tensors(data))
            results[key] = {k: v.numpy() for k, v in outputs.items()}
        return results[key]

    def predict(rows: Rows):
        values = [rows[name] for name in columns]
        outputs = [predict_row(row) for row in zip(*values, strict=True)]
        absent = predict_row(tuple(_absent_row(columns).values()))
        if not outputs:
            return {k: v[:0] for k, v in absent.items()}
        return {k: np.concatenate([o[k] for o in outputs]) for k in absent}

    return predict


def _compare(name, rows, call, expected, trained_model, tolerance) -> float:
    """Returns the largest difference."""
    outputs = {**call(EMBED, rows), **call(SERVING_DEFAULT, rows)}
    columns = trained_model.preprocessor.columns
    signature = example_signature(trained_model.state.task)
    examples = {CLASSIFY_INPUT: rows_to_examples(rows, columns)}
    of_examples = call(signature, examples)
    for key in (key for key in (LABEL, GENERATED, STATUS) if key in expected):
        if list(outputs[key]) != list(expected[key]):
            raise ExportMismatchError(
                f"Golden batch '{name}': {key} of the export is {list(outputs[key])}, "
                f"of the model {list(expected[key])}."
            )
    classes = trained_model.state.classes
    if trained_model.state.task == GENERATE:
        texts, scores = best_texts(expected)
        if of_examples[CLASSIFY_CLASSES].tolist() != texts.tolist():
            raise ExportMismatchError(
                f"Golden batch '{name}': the texts of classify are not the model's."
            )
        outputs[CLASSIFY_SCORES] = of_examples[CLASSIFY_SCORES]
        expected = {**expected, CLASSIFY_SCORES: scores}
        keys = (SCORE, CLASSIFY_SCORES)
    elif signature == REGRESS:
        outputs[REGRESS_OUTPUT] = of_examples[REGRESS_OUTPUT]
        expected = {**expected, REGRESS_OUTPUT: expected[VALUE][:, None]}
        keys = (VALUE, REGRESS_OUTPUT)
    else:
        encoded = [c.encode() for c in classes]
        if any(list(row) != encoded for row in of_examples[CLASSIFY_CLASSES]):
            raise ExportMismatchError(
                f"Golden batch '{name}': the classes of classify are not the model's."
            )
        outputs[CLASSIFY_SCORES] = of_examples[CLASSIFY_SCORES]
        expected = {**expected, CLASSIFY_SCORES: expected[PROBABILITIES]}
        keys = (PROBABILITIES, SCORE, CLASSIFY_SCORES)
    keys += tuple(embedding_names(trained_model))
    return max(
        compare_output(name, key, outputs[key], expected[key], classes, tolerance)
        for key in keys
    )


def _compare_texts(call, trained_model, tolerance) -> float:
    """Returns the largest difference of the vectors of texts."""
    texts = [trained_model.state.texts.most_frequent.encode(), b"", _BROKEN]
    expected = build_embed_text(trained_model)(tf.constant(texts))[EMBEDDING].numpy()
    vectors = call(EMBED_TEXT, {EMBED_TEXT_INPUT: texts})[EMBEDDING]
    return compare_output(EMBED_TEXT, EMBEDDING, vectors, expected, (), tolerance)


def compare_output(batch, key, output, expected, classes, tolerance) -> float:
    """Returns the largest difference, relative to values above 1.

    Raises:
        ExportMismatchError: A difference is above the tolerance, or NaN.
    """
    if output.shape != expected.shape:
        raise ExportMismatchError(
            f"Golden batch '{batch}': {key} of the export has shape {output.shape}, of "
            f"the model {expected.shape}."
        )
    difference = np.abs(output - expected) / np.maximum(np.abs(expected), 1.0)
    if not np.all(difference <= tolerance):  # also for NaN
        row, *column = np.unravel_index(np.argmax(difference), difference.shape)
        of_class = ""
        if classes and key in (PROBABILITIES, CLASSIFY_SCORES):
            of_class = f", class '{classes[column[0]]}'"
        raise ExportMismatchError(
            f"Golden batch '{batch}', row {row}{of_class}: {key} differs from the "
            f"model's by {difference.max():.3g}, which is above "
            f"export.tolerance={tolerance:g}."
        )
    return float(difference.max(initial=0.0))


def check_ranks(call: Callable, rows: Rows) -> None:
    """Raises an ExportMismatchError if serving_default accepts scalars or matrices."""
    for feeds in (
        {m: column[0] for m, column in rows.items()},
        {m: [column] for m, column in rows.items()},
    ):
        try:
            call(SERVING_DEFAULT, feeds)
        except tf.errors.InvalidArgumentError:
            continue
        raise ExportMismatchError("The export accepts a request of the wrong rank.")


def rows_to_examples(rows: Rows, columns: Mapping[str, Column]) -> list[bytes]:
    """Returns the rows as serialized tf.Examples, the input of `classify`."""
    examples = []
    for values in zip(*(rows[name] for name in columns), strict=True):
        row = dict(zip(columns, values, strict=True))
        present = {n: x for n, x in row.items() if not columns[n].is_absent(x)}
        examples.append(build_example(present).SerializeToString())
    return examples


def read_rows(
    path: Path, columns: Mapping[str, Column], limit: int
) -> list[dict[str, bytes | float]]:
    """Reads the first `limit` tf.Examples of a data set; a missing column is absent.

    Raises:
        UserError: There are none, or they are damaged.
    """
    features = {feature_name(n): column_feature(c) for n, c in columns.items()}
    records = tf.data.TFRecordDataset(str(path)).take(limit)

    @tf.autograph.experimental.do_not_convert
    def parse(record):
        row = tf.io.parse_single_example(record, features)
        return {name: row[feature_name(name)] for name in columns}

    try:
        rows = list(records.map(parse).as_numpy_iterator())
    except tf.errors.OpError as error:
        reason = error.message.split("\n")[0]
        raise UserError(f"The rows in '{path}' cannot be read: {reason}") from None
    if not rows:
        raise UserError(f"There are no rows in '{path}'; give some of the data.")
    return rows
