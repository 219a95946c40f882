"""A trained model on a split: metrics.json, predictions.csv and report.html."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from mmkeras.data.dataset import Dataset
from mmkeras.data.input_pipeline import Batches, read_rows
from mmkeras.errors import UserError
from mmkeras.evaluation import baselines
from mmkeras.evaluation.metrics import compare, measure
from mmkeras.evaluation.modality_ablation import (
    encode_sample,
    fusion_verdict,
    measure_modalities,
)
from mmkeras.evaluation.predictions import Predictions, predict_split, write_predictions
from mmkeras.evaluation.retrieval import recalls
from mmkeras.evaluation.robustness import noise_curves
from mmkeras.evaluation.top_errors import top_errors
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.files import write_text
from mmkeras.modalities.preprocessing_state import MULTILABEL, RESERVED
from mmkeras.reports.report import write_report
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

_BATCH_ROWS = 64
# Rows for the answers with modalities hidden, and for the simple features.
_SAMPLE_ROWS = 5000


def check_known_labels(
    trained_model: TrainedModel, dataset: Dataset, split: str
) -> None:
    """Refuses labels that the model was not trained with."""
    several = [label for label in dataset.labels[split] if LABEL_SEPARATOR in label]
    if several and trained_model.state.task != MULTILABEL:
        raise UserError(
            f"The table has rows with several labels, as '{several[0]}', and the model "
            "was trained with one a row."
        )
    unknown = set(dataset.class_rows(split)) - set(trained_model.state.classes)
    if unknown:
        raise UserError(
            f"The table has labels that the model does not know: "
            f"{', '.join(sorted(unknown)[:10])}. Known: "
            f"{', '.join(trained_model.state.classes)}."
        )


def evaluate(
    trained_model: TrainedModel,
    dataset: Dataset,
    split: str,
    output: Path,
    *,
    history: list[dict],
    summary: dict[str, str],
    train_rows: Dataset | None,
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
    config, state = trained_model.config, trained_model.state
    found = predict_split(trained_model, dataset, split)
    measured = (found.targets, state.task, state.classes, config)
    metrics = {
        "split": split,
        "task": state.task,
        "classes": list(state.classes),
        **_measure(found.probabilities, *measured),
        "temperature": _temperature(trained_model),
        "status": dict(Counter(found.status).most_common()),
        **_fusion(trained_model, dataset, split, found, alone or {}),
        **_retrieval(found, config),
        "warnings": list(dataset.warnings),
        "rejected_rows": len(dataset.rejected),
        "unreadable_rows": len(dataset.unreadable),
    }
    metrics |= _against_baselines(
        trained_model, dataset, split, found, train_rows, metrics
    )
    write_predictions(output / PREDICTIONS_FILE, found, state.classes)
    text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(output / METRICS_FILE, text)
    write_report(
        output / REPORT_FILE,
        title=f"mmkeras: {config.preset} on {split} rows",
        summary=summary,
        metrics={**metrics, **_kept_epoch(history, config.train)},
        history=history,
        errors=top_errors(trained_model, dataset, split, found),
    )
    return metrics


def _measure(probabilities, targets, task, classes, config):
    return measure(targets, probabilities, classes, task, config.evaluate, config.seed)


def _temperature(trained_model):
    head = trained_model.model.get_layer("head")
    return float(head.get_layer("temperature").temperature.numpy())


def _kept_epoch(history, train) -> dict[str, int]:
    """The epoch that the report marks, where the best one's weights were kept."""
    if not history or not train.restore_best:
        return {}
    values = [entry[train.monitor] for entry in history]
    best = np.argmin(values) if train.monitor == "val_loss" else np.argmax(values)
    return {"best_epoch": int(best) + 1}


# Does fusion help? ------------------------------------------------------------


def _fusion(trained_model, dataset, split, found: Predictions, alone) -> dict:
    """What each modality and each subset brings, and how noise on one hurts."""
    names, config = trained_model.state.modalities, trained_model.config
    rows = read_rows(dataset.files(split), names).take(_SAMPLE_ROWS)
    staged, result = (
        TwoStagePredictor(trained_model),
        {"modalities": _missing(found, names)},
    )
    if len(names) > 1:
        inputs = encode_sample(staged, rows.batch(_BATCH_ROWS).prefetch(1))
        measured = measure_modalities(
            staged, trained_model, inputs, found.targets, alone
        )
        for m, values in measured.pop("modalities").items():
            result["modalities"][m] |= values
        result |= measured
        result["fusion_verdict"] = fusion_verdict(measured["fusion"])
    if noisy := min(config.evaluate.noise_rows, len(found.ids), _SAMPLE_ROWS):
        batches = rows.take(noisy).batch(_BATCH_ROWS)
        result["noise"] = noise_curves(
            staged, trained_model, batches, found.targets[:noisy]
        )
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


def _against_baselines(
    trained_model, dataset, split, found, train_rows, metrics
) -> dict:
    """The majority class and a logistic regression on the same rows."""
    task, config = trained_model.state.task, trained_model.config
    measured = (found.targets, task, trained_model.state.classes, config)
    frequencies = np.array([trained_model.state.class_rows]) / trained_model.state.rows
    most = baselines.majority(frequencies, len(found.ids), task)
    result = {"baselines": {"majority": _measure(most, *measured)["metrics"]}}
    if train_rows is None:
        return result
    features, targets = _simple_features(trained_model, train_rows, TRAIN)
    test_features, test_targets = _simple_features(trained_model, dataset, split)
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


def _simple_features(trained_model, dataset, split):
    """Blocks of features of the first rows: small pictures, vectors, presence.

    Token sequences are counted and frames summed up.
    """
    preprocessor = trained_model.preprocessor
    batches = Batches(dataset=dataset, preprocessor=preprocessor, split=split)
    parts, targets, rows = [], [], 0
    for inputs, target_, _ in batches.plain():
        part = {k: v.numpy() for k, v in inputs.items()}
        if IMAGE in part:
            small = tf.image.resize(inputs[IMAGE], [16, 16], method="area")
            part[IMAGE] = small.numpy().reshape(len(small), -1)
        if TEXT in part and trained_model.config.text.is_sequence:
            known = (
                RESERVED - 1 + len(trained_model.state.vocabulary)
            )  # all but padding
            part[TEXT] = baselines.of_tokens(part[TEXT], known)
        if AUDIO in part and trained_model.config.audio.is_sequence:
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
