"""A trained model on a split: metrics.json, predictions.csv and report.html."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmkeras import baselines
from mmkeras.data import Batches, raw_rows
from mmkeras.errors import UserError
from mmkeras.inference import Trained
from mmkeras.ingested import Ingested
from mmkeras.metrics import compare, measure
from mmkeras.modalities import encode_sample, fusion_verdict, measure_modalities
from mmkeras.noise import noise_curves
from mmkeras.predictions import Predictions, predict_split, write_predictions
from mmkeras.preprocess.analysis import MULTILABEL, RESERVED
from mmkeras.report import write_report
from mmkeras.retrieval import recalls
from mmkeras.run import write_text
from mmkeras.schema import (
    ABSENT,
    AUDIO,
    IMAGE,
    LABEL_SEPARATOR,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PRESENT,
    REPORT_FILE,
    STATUS_SEPARATOR,
    TEXT,
    TRAIN,
    UNREADABLE,
)
from mmkeras.staged import Staged
from mmkeras.worst_errors import worst_errors

_BATCH_ROWS = 64
# Rows for the answers with modalities hidden, and for the simple features.
_SAMPLE_ROWS = 5000


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
    alone: Mapping[str, np.ndarray] | None = None,
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
        alone: Modality -> probabilities (N, C) that a model trained on it alone gives
            the same rows.

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
        **_fusion(trained, ingested, split, found, alone or {}),
        **_retrieval(found, config),
        "warnings": list(ingested.warnings),
        "rejected_rows": len(ingested.rejected),
        "unreadable_rows": len(ingested.unreadable),
    }
    metrics |= _against_baselines(trained, ingested, split, found, train_rows, metrics)
    write_predictions(output / PREDICTIONS_FILE, found, analysis.classes)
    text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(output / METRICS_FILE, text)
    write_report(
        output / REPORT_FILE,
        title=f"mmkeras: {config.preset} on {split} rows",
        summary=summary,
        metrics={**metrics, **_kept_epoch(history, config.train)},
        history=history,
        errors=worst_errors(trained, ingested, split, found),
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


# Does fusion help? ------------------------------------------------------------


def _fusion(trained, ingested, split, found: Predictions, alone) -> dict:
    """What each modality and each subset brings, and how noise on one hurts."""
    names, config = trained.analysis.modalities, trained.config
    rows = raw_rows(ingested.files(split), names).take(_SAMPLE_ROWS)
    staged, result = Staged(trained), {"modalities": _missing(found, names)}
    if len(names) > 1:
        inputs = encode_sample(staged, rows.batch(_BATCH_ROWS).prefetch(1))
        measured = measure_modalities(staged, trained, inputs, found.targets, alone)
        for m, values in measured.pop("modalities").items():
            result["modalities"][m] |= values
        result |= measured
        result["fusion_verdict"] = fusion_verdict(measured["fusion"])
    if noisy := min(config.evaluate.noise_rows, len(found.ids), _SAMPLE_ROWS):
        batches = rows.take(noisy).batch(_BATCH_ROWS)
        result["noise"] = noise_curves(staged, trained, batches, found.targets[:noisy])
        result["noise_rows"] = noisy
    return result


def _retrieval(found: Predictions, config) -> dict:
    """How well one modality finds the other, where training has aligned them."""
    resamples = config.evaluate.bootstrap_resamples
    recall = recalls(found.vectors, resamples, config.seed)
    return {"retrieval": recall} if recall else {}


def _missing(found: Predictions, names) -> dict[str, dict]:
    """Counts the rows without each modality: absent, and unreadable."""
    counts = Counter(
        r for status in found.status for r in status.split(STATUS_SEPARATOR)
    )
    kinds = {"absent": ABSENT, "unreadable": UNREADABLE}
    return {m: {k: counts[f"{m} {said}"] for k, said in kinds.items()} for m in names}


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
            known = RESERVED - 1 + len(trained.analysis.vocabulary)  # all but padding
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
