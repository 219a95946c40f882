"""A trained model on a split: metrics.json, predictions.csv and report.html."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from mmkeras import baselines
from mmkeras.data import Batches, raw_rows
from mmkeras.errors import UserError
from mmkeras.inference import Predictor, Trained
from mmkeras.ingested import Ingested
from mmkeras.media import upright, wave_bytes
from mmkeras.metrics import compare, measure
from mmkeras.preprocess.analysis import MULTILABEL, target
from mmkeras.preprocess.audio import decode_wave
from mmkeras.report import WorstError, write_report
from mmkeras.run import write_text
from mmkeras.schema import (
    ABSENT,
    AUDIO,
    ID,
    IMAGE,
    LABEL,
    LABEL_SEPARATOR,
    METRICS_FILE,
    PREDICTION_COLUMNS,
    PREDICTIONS_FILE,
    PRESENT,
    PROBABILITIES,
    REPORT_FILE,
    SCORE,
    STATUS,
    STATUS_SEPARATOR,
    TEXT,
    TRAIN,
    UNREADABLE,
)

_BATCH_ROWS = 64
# Rows for the answers with modalities hidden, and for the simple features.
_SAMPLE_ROWS = 5000
_THUMBNAIL_PX = 192  # the report's pictures
_PLAYED_S = 5  # and sounds


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


def predict_split(trained: Trained, ingested: Ingested, split: str) -> Predictions:
    """Answers every row of a split through the serving function."""
    predictor, parts, columns = Predictor(trained), [], []
    files = ingested.files(split)
    rows = raw_rows(files, predictor.modalities).batch(_BATCH_ROWS).prefetch(1)
    progress = tqdm(
        rows.as_numpy_iterator(),
        f"Predicting {split}",
        -(-ingested.rows[split] // _BATCH_ROWS),
        disable=None,
        leave=False,
    )
    for batch in progress:
        parts.append(predictor({m: list(batch[m]) for m in predictor.modalities}))
        columns.append([batch[ID], batch[LABEL], batch[STATUS]])
    outputs = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    ids, labels, ingest_status = (
        [value.decode() for part in column for value in part]
        for column in zip(*columns, strict=True)
    )
    classes = trained.analysis.classes
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
    )


def merge_status(said: str, unreadable: str) -> str:
    """Says "unreadable" of what was already found so when the row was read."""
    for remark in filter(None, unreadable.split(STATUS_SEPARATOR)):
        modality = remark.removesuffix(f" {UNREADABLE}")
        said = said.replace(f"{modality} {ABSENT}", remark)
    return said


def check_known_labels(trained: Trained, ingested: Ingested, split: str) -> None:
    """Refuses labels that the model was not trained with."""
    several = [label for label in ingested.labels[split] if LABEL_SEPARATOR in label]
    if several and trained.analysis.task != MULTILABEL:
        raise UserError(
            f"The table has rows with several labels, as '{several[0]}', and the model "
            "was trained with one a row."
        )
    unknown = set(ingested.class_rows(split)) - set(trained.analysis.classes)
    if unknown:
        raise UserError(
            f"The table has labels that the model does not know: "
            f"{', '.join(sorted(unknown)[:10])}. Known: "
            f"{', '.join(trained.analysis.classes)}."
        )


def evaluate(
    trained: Trained,
    ingested: Ingested,
    split: str,
    output: Path,
    *,
    history: list[dict],
    summary: dict[str, str],
    train_rows: Ingested | None,
) -> dict:
    """Measures the model on a split and writes the three files to `output`.

    Args:
        trained: The model.
        ingested: Where the rows lie.
        split: Which to evaluate.
        output: Folder for metrics.json, predictions.csv and report.html.
        history: Entries of the epochs, for the learning curves.
        summary: Facts for the report's last table.
        train_rows: Where the training rows lie, for the baselines; None leaves the
            logistic regression out.

    Returns:
        What metrics.json holds.
    """
    config, analysis = trained.config, trained.analysis
    found = predict_split(trained, ingested, split)
    measured = (found.targets, analysis.task, analysis.classes, config)
    metrics = {
        "split": split,
        "task": analysis.task,
        "classes": list(analysis.classes),
        **_measure(found.probabilities, *measured),
        "temperature": _temperature(trained),
        "status": dict(Counter(found.status).most_common()),
        "modalities": _modalities(trained, ingested, split, found),
        "warnings": list(ingested.warnings),
        "rejected_rows": len(ingested.rejected),
        "unreadable_rows": len(ingested.unreadable),
    }
    metrics |= _against_baselines(trained, ingested, split, found, train_rows, metrics)
    _write_predictions(output / PREDICTIONS_FILE, found, analysis.classes)
    text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(output / METRICS_FILE, text)
    write_report(
        output / REPORT_FILE,
        title=f"mmkeras: {config.preset} on {split} rows",
        summary=summary,
        metrics={**metrics, **_kept_epoch(history, config.train)},
        history=history,
        errors=_worst_errors(trained, ingested, split, found),
    )
    return metrics


def _measure(probabilities, targets, task, classes, config):
    return measure(targets, probabilities, classes, task, config.evaluate, config.seed)


def _temperature(trained):
    head = trained.model.get_layer("head")
    return float(head.get_layer("temperature").temperature.numpy())


def _kept_epoch(history, train) -> dict[str, int]:
    """The epoch that the report marks, where the best one's weights were kept."""
    if not history or not train.restore_best:
        return {}
    values = [entry[train.monitor] for entry in history]
    best = np.argmin(values) if train.monitor == "val_loss" else np.argmax(values)
    return {"best_epoch": int(best) + 1}


def _write_predictions(path: Path, found: Predictions, classes) -> None:
    aside = path.with_name(f".{path.name}")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*PREDICTION_COLUMNS, *classes])
        for i, row_id in enumerate(found.ids):
            row = [row_id, found.labels[i], found.predicted[i]]
            row += [f"{found.scores[i]:.6f}", found.status[i]]
            writer.writerow(row + [f"{p:.6f}" for p in found.probabilities[i]])
    os.replace(aside, path)


# Each modality alone and left out ---------------------------------------------


def _modalities(trained, ingested, split, found) -> dict[str, dict]:
    """Accuracy with every other modality hidden, and with this one hidden."""
    names = trained.analysis.modalities
    unreadable = Counter(
        remark.split(" ")[0]
        for status in found.status
        for remark in status.split(STATUS_SEPARATOR)
        if remark.endswith(UNREADABLE)
    )
    absent = Counter(
        remark.split(" ")[0]
        for status in found.status
        for remark in status.split(STATUS_SEPARATOR)
        if remark.endswith(ABSENT)
    )
    result = {m: {"absent": absent[m], "unreadable": unreadable[m]} for m in names}
    if len(names) == 1:
        return result
    hidden = {}
    for m in names:
        hidden[m, "alone"] = [other for other in names if other != m]
        hidden[m, "without"] = [m]
    answers = _with_hidden(trained, ingested.files(split), hidden)
    for (m, which), probabilities in answers.items():
        measured = _measure(
            probabilities,
            found.targets[: len(probabilities)],
            trained.analysis.task,
            trained.analysis.classes,
            trained.config,
        )
        result[m][which] = {"accuracy": measured["metrics"]["accuracy"]}
    return result


def _with_hidden(trained, files, hidden) -> dict[tuple[str, str], np.ndarray]:
    """Answers the first rows once for each set of hidden modalities.

    The rows are preprocessed once; hiding is the presence mask's work.
    """
    names = trained.analysis.modalities

    @tf.function(autograph=False, reduce_retracing=True)
    def answer(data):
        inputs, _ = trained.preprocessor(data)
        answers = []
        for away in hidden.values():
            mask = tf.constant([0.0 if m in away else 1.0 for m in names])
            masked = {**inputs, PRESENT: inputs[PRESENT] * mask}
            answers.append(trained.model(masked, training=False))
        return answers

    rows = raw_rows(files, names).take(_SAMPLE_ROWS).batch(_BATCH_ROWS).prefetch(1)
    parts = [answer({m: batch[m] for m in names}) for batch in rows]
    result = {}
    for key, part in zip(hidden, zip(*parts, strict=True), strict=True):
        probabilities = np.concatenate([p.numpy() for p in part])
        if probabilities.shape[1] == 1:
            probabilities = np.concatenate([1 - probabilities, probabilities], axis=1)
        result[key] = probabilities
    return result


# Baselines --------------------------------------------------------------------


def _against_baselines(trained, ingested, split, found, train_rows, metrics) -> dict:
    """The majority class and a logistic regression on the same rows."""
    task, config = trained.analysis.task, trained.config
    measured = (found.targets, task, trained.analysis.classes, config)
    frequencies = np.array([trained.analysis.class_rows]) / trained.analysis.rows
    most = baselines.majority(frequencies, len(found.ids), task)
    result = {"baselines": {"majority": _measure(most, *measured)["metrics"]}}
    if train_rows is None:
        return result
    features, targets = _simple_features(trained, train_rows, TRAIN)
    test_features, test_targets = _simple_features(trained, ingested, split)
    simple = baselines.logistic_regression(
        features, targets, test_features, task, config.seed
    )
    rows = len(simple)
    measured = (test_targets, *measured[1:])
    result["baselines"]["logistic_regression"] = _measure(simple, *measured)["metrics"]
    result["difference"] = compare(
        test_targets,
        found.probabilities[:rows],
        simple,
        task,
        config.seed,
        config.evaluate.bootstrap_resamples,
    )
    result["verdict"] = baselines.verdict(
        metrics["metrics"],
        result["baselines"]["majority"],
        result["baselines"]["logistic_regression"],
        result["difference"],
    )
    return result


def _simple_features(trained, ingested, split):
    """Blocks of features of the first rows: small pictures, vectors, presence.

    Token sequences are counted and frames summed up.
    """
    preprocessor = trained.preprocessor
    batches = Batches(ingested=ingested, preprocessor=preprocessor, split=split)
    parts, targets, rows = [], [], 0
    for inputs, target_, _ in batches.plain():
        part = {k: v.numpy() for k, v in inputs.items()}
        if IMAGE in part:
            small = tf.image.resize(inputs[IMAGE], [16, 16], method="area")
            part[IMAGE] = small.numpy().reshape(len(small), -1)
        if TEXT in part and trained.config.text.is_sequence:
            known = len(trained.analysis.vocabulary) + 1  # and one for all others
            part[TEXT] = baselines.of_tokens(part[TEXT], known)
        if AUDIO in part and trained.config.audio.is_sequence:
            part[AUDIO] = baselines.of_frames(part[AUDIO])
        for i, m in enumerate(preprocessor.modalities):
            part[m] = part[m] * part[PRESENT][:, i : i + 1]
        parts.append(part)
        targets.append(target_.numpy())
        rows += len(targets[-1])
        if rows >= _SAMPLE_ROWS:
            break
    targets = np.concatenate(targets)
    if targets.shape[1] == 1:
        targets = np.concatenate([1 - targets, targets], axis=1)
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, targets


# The worst errors -------------------------------------------------------------


def _worst_errors(trained, ingested, split, found) -> list[WorstError]:
    """The wrong rows whose answer was surest, with what a person needs to judge."""
    if trained.analysis.task == MULTILABEL:
        wrong = [
            set(a.split(LABEL_SEPARATOR)) != set(b.split(LABEL_SEPARATOR))
            for a, b in zip(found.labels, found.predicted, strict=True)
        ]
    else:
        wrong = [a != b for a, b in zip(found.labels, found.predicted, strict=True)]
    order = np.argsort(-found.scores, kind="stable")
    chosen = [int(i) for i in order if wrong[i]]
    chosen = chosen[: trained.config.evaluate.worst_errors]
    contents = dict(_rows_at(ingested.files(split), trained, set(chosen)))
    return [_worst_error(found, i, contents[i], trained) for i in chosen]


def _rows_at(files, trained, places: set[int]) -> Iterator[tuple[int, dict]]:
    rows = raw_rows(files, trained.analysis.modalities)
    for i, row in enumerate(rows.as_numpy_iterator()):
        if i in places:
            yield i, row


def _worst_error(found, i, row, trained) -> WorstError:
    config, text = trained.config, row.get(TEXT, b"")
    if config.text.encoder == "vector" and text:
        text = b"(a vector)"
    image, audio = row.get(IMAGE, b""), row.get(AUDIO, b"")
    if config.audio.encoder == "vector":
        audio = b""
    return WorstError(
        id=found.ids[i],
        label=found.labels[i],
        predicted=found.predicted[i],
        score=float(found.scores[i]),
        status=found.status[i],
        text=text.decode("utf-8", "replace"),
        image=_thumbnail(image) if image else b"",
        audio=_sample(audio, config) if audio else b"",
    )


def _thumbnail(data: bytes) -> bytes:
    picture = upright(data)
    picture.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _sample(data: bytes, config) -> bytes:
    """The first seconds, as the model hears them, as a small WAV."""
    wave = decode_wave(tf.constant(data), config.audio).numpy()
    wave = np.clip(wave[: _PLAYED_S * config.audio.rate_hz], -1, 1)
    samples = np.round(wave * 32767).astype(np.int16)
    return wave_bytes(samples[:, None], 16, config.audio.rate_hz)
