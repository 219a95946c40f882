"""Predictions for the rows of a split, and the writer of predictions.csv."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmkeras.console import progress
from mmkeras.data.dataset import Dataset
from mmkeras.data.predictions_csv import (
    format_value,
    merge_status,
    prediction_row,
    predictions_header,
)
from mmkeras.data.stored_rows import COLUMNS, read_rows
from mmkeras.evaluation.text_embedding import build_embed_texts
from mmkeras.export.inference import (
    Predictor,
    TrainedModel,
    is_label_aligned,
    prediction_names,
)
from mmkeras.export.two_stage_inference import decode_texts
from mmkeras.files import atomic_csv
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION, target
from mmkeras.names import split_references
from mmkeras.schema import (
    GENERATED,
    ID,
    LABEL,
    PROBABILITIES,
    SCORE,
    STATUS,
    VALUE,
    embedding_name,
)

_BATCH_ROWS = 64
_VECTOR_ROWS = 5000  # first rows whose embeddings are collected


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Model outputs for N rows, in the order of the shards.

    In regression targets and probabilities are (N, 1) numbers in the unit of the
    labels, and scores are NaN. Of a generator they are (N,) texts, of the labels and
    predicted.
    """

    ids: list[str]
    labels: list[str]
    targets: np.ndarray  # (N, C)
    probabilities: np.ndarray  # (N, C)
    predicted: list[str]
    scores: np.ndarray  # (N,)
    status: list[str]
    vectors: dict[str, np.ndarray]  # aligned branch or label -> (n, W), first rows only


def predict_split(
    trained_model: TrainedModel, dataset: Dataset, split: str
) -> Predictions:
    """Predicts every row of a split with the serving function."""
    predictor, parts, columns, vectors = Predictor(trained_model), [], [], []
    embed_label = _build_embed_label(trained_model)
    files = dataset.files(split)
    rows = read_rows(files, predictor.columns.values()).batch(_BATCH_ROWS).prefetch(1)
    batches = progress(
        rows.as_numpy_iterator(),
        f"Predicting {split}",
        -(-dataset.rows[split] // _BATCH_ROWS),
        leave=False,
    )
    for batch in batches:
        result = predictor(batch[COLUMNS])
        names = prediction_names(trained_model.config, trained_model.state)
        parts.append({k: result[k] for k in names})
        if len(vectors) * _BATCH_ROWS < _VECTOR_ROWS:
            names = {b: embedding_name(b) for b in predictor.branches}
            of_branches = {b: result[n] for b, n in names.items() if n in result}
            vectors.append(of_branches | embed_label(batch[LABEL]))
        columns.append([batch[ID], batch[LABEL], batch[STATUS]])
    outputs = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    ids, labels, ingest_status = (
        [value.decode() for part in column for value in part]
        for column in zip(*columns, strict=True)
    )
    return Predictions(
        ids=ids,
        labels=labels,
        **_of_task(labels, outputs, trained_model.state),
        status=[
            merge_status(status.decode(), unreadable)
            for status, unreadable in zip(outputs[STATUS], ingest_status, strict=True)
        ],
        vectors={m: np.concatenate([v[m] for v in vectors]) for m in vectors[0]},
    )


def _build_embed_label(trained_model):
    """Returns a function from (B,) labels to {label column: aligned vectors}, or {}."""
    if not is_label_aligned(trained_model):
        return lambda labels: {}
    embed = build_embed_texts(trained_model)
    (name,) = trained_model.config.table.label_names

    def embed_label(labels):
        return {name: embed([split_references(x.decode())[0] for x in labels])}

    return embed_label


def _of_task(labels, outputs, state) -> dict:
    """Returns targets, probabilities, predicted labels and scores."""
    if state.task == REGRESSION:
        values = outputs[VALUE]
        return {
            "targets": np.array([[float(label)] for label in labels]),
            "probabilities": values[:, None],
            "predicted": list(map(format_value, values)),
            "scores": np.full(len(values), np.nan),
        }
    if state.task == GENERATE:
        texts = decode_texts(outputs[GENERATED])
        return {
            "targets": np.array(labels, object),
            "probabilities": texts,
            "predicted": list(texts),
            "scores": outputs[SCORE],
        }
    return {
        "targets": np.array([target(label, state.classes) for label in labels]),
        "probabilities": outputs[PROBABILITIES],
        "predicted": [label.decode() for label in outputs[LABEL]],
        "scores": outputs[SCORE],
    }


def write_predictions(
    path: Path, predictions: Predictions, classes: Sequence[str]
) -> None:
    """Writes predictions.csv atomically."""
    p = predictions
    columns = (p.ids, p.labels, p.predicted, p.scores, p.status)
    # One column per class, and none of numbers and texts.
    columns += (p.probabilities if classes else np.empty((len(p.ids), 0)),)
    with atomic_csv(path) as writer:
        writer.writerow(predictions_header(classes))
        rows = zip(*columns, strict=True)
        writer.writerows(prediction_row(*row) for row in rows)
