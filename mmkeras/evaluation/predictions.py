"""A trained model's answers to the rows of a split, and their table."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmkeras.data.dataset import Dataset
from mmkeras.data.input_pipeline import read_rows
from mmkeras.export.inference import Predictor, TrainedModel
from mmkeras.modalities.preprocessing_state import target
from mmkeras.schema import (
    ABSENT,
    EMBEDDINGS,
    ID,
    LABEL,
    PREDICTION_COLUMNS,
    PROBABILITIES,
    SCORE,
    STATUS,
    STATUS_SEPARATOR,
    UNREADABLE,
)

_BATCH_ROWS = 64
_VECTOR_ROWS = 5000  # whose vectors are kept


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """The model's answers to N rows, in the order of the shards."""

    ids: list[str]
    labels: list[str]
    targets: np.ndarray  # (N, C)
    probabilities: np.ndarray  # (N, C)
    predicted: list[str]
    scores: np.ndarray  # (N,)
    status: list[str]
    # (n, W) of each modality that is aligned, of the first rows
    vectors: dict[str, np.ndarray]


def predict_split(
    trained_model: TrainedModel, dataset: Dataset, split: str
) -> Predictions:
    """Answers every row of a split through the serving function."""
    predictor, parts, columns, vectors = Predictor(trained_model), [], [], []
    files = dataset.files(split)
    rows = read_rows(files, predictor.modalities).batch(_BATCH_ROWS).prefetch(1)
    progress = tqdm(
        rows.as_numpy_iterator(),
        f"Predicting {split}",
        -(-dataset.rows[split] // _BATCH_ROWS),
        disable=None,
        leave=False,
    )
    for batch in progress:
        answer = predictor({m: list(batch[m]) for m in predictor.modalities})
        parts.append({k: answer[k] for k in (PROBABILITIES, LABEL, SCORE, STATUS)})
        if len(vectors) * _BATCH_ROWS < _VECTOR_ROWS:
            vectors.append({m: answer[n] for m, n in EMBEDDINGS.items() if n in answer})
        columns.append([batch[ID], batch[LABEL], batch[STATUS]])
    outputs = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    ids, labels, ingest_status = (
        [value.decode() for part in column for value in part]
        for column in zip(*columns, strict=True)
    )
    classes = trained_model.state.classes
    return Predictions(
        ids=ids,
        labels=labels,
        targets=np.array([target(label, classes) for label in labels]),
        probabilities=outputs[PROBABILITIES],
        predicted=[label.decode() for label in outputs[LABEL]],
        scores=outputs[SCORE],
        status=[
            merge_status(said.decode(), before)
            for said, before in zip(outputs[STATUS], ingest_status, strict=True)
        ],
        vectors={m: np.concatenate([v[m] for v in vectors]) for m in vectors[0]},
    )


def merge_status(said: str, unreadable: str) -> str:
    """Says "unreadable" of what was already found so when the row was read."""
    for remark in filter(None, unreadable.split(STATUS_SEPARATOR)):
        modality = remark.removesuffix(f" {UNREADABLE}")
        said = said.replace(f"{modality} {ABSENT}", remark)
    return said


def write_predictions(path: Path, found: Predictions, classes: Sequence[str]) -> None:
    """Writes predictions.csv aside and then in one step."""
    aside = path.with_name(f".{path.name}")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*PREDICTION_COLUMNS, *classes])
        for i, row_id in enumerate(found.ids):
            row = [row_id, found.labels[i], found.predicted[i]]
            row += [f"{found.scores[i]:.6f}", found.status[i]]
            writer.writerow(row + [f"{p:.6f}" for p in found.probabilities[i]])
    os.replace(aside, path)
