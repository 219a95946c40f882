"""Evaluation of a trained model: files of metrics and predictions, and the report."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mmkeras.data.dataset import Dataset
from mmkeras.data.stored_rows import read_rows
from mmkeras.errors import UserError
from mmkeras.evaluation.baseline_features import read_baseline_features
from mmkeras.evaluation.confusion import confusion_csv
from mmkeras.evaluation.modality_ablation import encode_sample, measure_modalities
from mmkeras.evaluation.predictions import predict_split, write_predictions
from mmkeras.evaluation.retrieval import measure_retrieval
from mmkeras.evaluation.robustness import noise_axes, noise_curves
from mmkeras.evaluation.scores import compare_scores
from mmkeras.evaluation.task_metrics import (
    calibration,
    measure_task,
    predict_constant,
    predict_linear,
)
from mmkeras.evaluation.text_baselines import measure_text_baselines
from mmkeras.evaluation.text_report import choose_examples, describe_texts
from mmkeras.evaluation.top_errors import top_errors
from mmkeras.export.inference import TrainedModel
from mmkeras.export.two_stage_inference import Arrays, TwoStagePredictor
from mmkeras.files import write_text
from mmkeras.modalities.preprocessing_state import GENERATE, MULTILABEL, REGRESSION
from mmkeras.models.model import backbones
from mmkeras.names import split_references
from mmkeras.reports.report import write_report
from mmkeras.reports.verdicts import (
    baseline_verdict,
    fusion_verdict,
    linear_verdict,
)
from mmkeras.schema import (
    ABSENT,
    CONFUSION_FILE,
    LABEL_SEPARATOR,
    METRICS_FILE,
    PREDICTIONS_FILE,
    PRESENT,
    REPORT_FILE,
    STATUS_SEPARATOR,
    TRAIN,
    UNREADABLE,
)

_BATCH_ROWS = 64
_SAMPLE_ROWS = 5000  # limit for modality ablation and for the linear baseline


def check_known_labels(
    trained_model: TrainedModel, dataset: Dataset, split: str
) -> None:
    """Raises UserError if a row has labels that the model was not trained with."""
    state = trained_model.state
    if not state.classes:
        return
    multiple = [label for label in dataset.labels[split] if LABEL_SEPARATOR in label]
    if multiple and state.task != MULTILABEL:
        raise UserError(
            f"The table has rows with several labels, such as '{multiple[0]}', but the "
            "model was trained with one label per row."
        )
    if unknown := set(dataset.class_rows(split)) - set(state.classes):
        raise UserError(
            "The table has labels that the model does not know: "
            f"{', '.join(sorted(unknown)[:10])}. Known: {', '.join(state.classes)}."
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
    unimodal: Mapping[str, np.ndarray] | None = None,
) -> dict:
    """Measures the model on a split; returns the content of metrics.json.

    Args:
        output: Folder for metrics.json, confusion.csv (of classes), predictions.csv and
            report.html.
        history: Logs of the epochs, for the learning curves.
        summary: Facts for the last table of the report.
        train_rows: Rows to fit the linear baseline on; None leaves it out.
        unimodal: Modality -> predictions (N, C) of a model trained on that modality
            alone, for the same rows.
    """
    config, state = trained_model.config, trained_model.state
    predictions = predict_split(trained_model, dataset, split)
    predictor = TwoStagePredictor(trained_model)
    sample = _encode_sample(predictor, dataset, split)
    resamples = config.evaluate.bootstrap_resamples
    texts = _aligned_texts(trained_model, predictions)
    retrieval = measure_retrieval(predictions.vectors, resamples, config.seed, texts)
    metrics = {
        "split": split,
        "task": state.task,
        "classes": list(state.classes),
        **measure_task(trained_model, predictions.targets, predictions.probabilities),
        **calibration(trained_model),
        "status": dict(Counter(predictions.status).most_common()),
        **_modality_metrics(
            trained_model, predictor, sample, predictions, unimodal or {}
        ),
        **_noise(trained_model, predictor, dataset, split, predictions),
        **({"retrieval": retrieval} if retrieval else {}),
        **_texts(trained_model, predictions, train_rows),
        "warnings": list(dataset.warnings),
        "rejected_rows": len(dataset.rejected),
        "unreadable_rows": len(dataset.unreadable),
    }
    rows = dataset, split, predictions, sample, train_rows
    metrics |= _baselines(trained_model, *rows, metrics["metrics"])
    write_predictions(output / PREDICTIONS_FILE, predictions, state.classes)
    matrix = metrics.pop("confusion_matrix", None)
    _write_metrics(output, metrics, matrix, state)
    write_report(
        output / REPORT_FILE,
        title=f"mmkeras: {config.preset} on {split} rows",
        summary=summary,
        metrics={
            **metrics,
            **_best_epoch(history, config.train),
            "confusion_matrix": matrix,
        },
        history=history,
        **_examples(trained_model, predictor, dataset, split, predictions),
        noise_axes=noise_axes(trained_model.preprocessor.branches.values()),
        residuals=_residuals(predictions) if state.task == REGRESSION else (),
    )
    return metrics


def _aligned_texts(trained_model, predictions) -> dict[str, list[str]]:
    """Returns label column -> first reference of each row with vectors, if aligned."""
    if trained_model.state.task != GENERATE:
        return {}  # a label is then no text: that of several classes may be empty
    names = trained_model.config.table.label_names
    first = [split_references(label)[0] for label in predictions.labels]
    vectors = predictions.vectors.items()
    return {name: first[: len(x)] for name, x in vectors if name in names}


def _texts(trained_model, predictions, train_rows) -> dict:
    """Describes generated texts as a whole; returns {} for other tasks."""
    if trained_model.state.task != GENERATE:
        return {}
    return {"texts": describe_texts(trained_model, predictions, train_rows)}


def _examples(trained_model, predictor, dataset, split, predictions) -> dict:
    """Returns the rows that the report shows, as arguments of `write_report`."""
    rows = dataset, split, predictions
    if trained_model.state.task == GENERATE:
        return {"texts": choose_examples(trained_model, predictor, *rows)}
    return {"errors": top_errors(trained_model, *rows)}


def _write_metrics(output: Path, metrics: dict, matrix, state) -> None:
    """Writes metrics.json, and confusion.csv unless the matrix is None."""
    if matrix is not None:
        table = confusion_csv(matrix, state.classes, state.task)
        write_text(output / CONFUSION_FILE, table)
    text = json.dumps(metrics, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(output / METRICS_FILE, text)


def _residuals(predictions) -> list[tuple[float, float]]:
    """Returns (label, prediction) of each row."""
    columns = predictions.targets[:, 0], predictions.probabilities[:, 0]
    return list(zip(*(column.tolist() for column in columns), strict=True))


def _best_epoch(history, train) -> dict[str, int]:
    """Returns the epoch whose weights were restored, counted from 1, if any was."""
    if not history or not train.restore_best:
        return {}
    values = [entry[train.monitor] for entry in history]
    best = np.argmin(values) if train.monitor == "val_loss" else np.argmax(values)
    return {"best_epoch": int(best) + 1}


def _encode_sample(predictor, dataset, split) -> Arrays:
    """Encodes the first rows of a split, at most `_SAMPLE_ROWS`."""
    rows = read_rows(dataset.files(split), predictor.columns.values())
    batches = rows.take(_SAMPLE_ROWS).batch(_BATCH_ROWS).prefetch(1)
    return encode_sample(predictor, batches)


def _modality_metrics(trained_model, predictor, sample, predictions, unimodal) -> dict:
    """Measures what each modality contributes."""
    branches = trained_model.preprocessor.branches
    result = {"modalities": _missing_counts(predictions.status, branches)}
    if len(branches) == 1:
        return result
    ablation = measure_modalities(
        predictor, trained_model, sample, predictions.targets, unimodal
    )
    for m, values in ablation.pop("modalities").items():
        result["modalities"][m] |= values
    task = trained_model.state.task
    verdict = fusion_verdict(ablation["fusion"], task)
    return {**result, **ablation, "fusion_verdict": verdict}


def _noise(trained_model, predictor, dataset, split, predictions) -> dict:
    """Measures the effect of noise on one modality."""
    limit, targets = trained_model.config.evaluate.noise_rows, predictions.targets
    noise_rows = min(limit, len(targets), _SAMPLE_ROWS)
    if not noise_rows:
        return {}
    rows = read_rows(dataset.files(split), predictor.columns.values())
    batches = rows.take(noise_rows).batch(_BATCH_ROWS)
    targets = targets[:noise_rows]
    curves = noise_curves(predictor, trained_model, batches, targets)
    return {"noise": curves, "noise_rows": noise_rows}


def _missing_counts(status, branches) -> dict[str, dict]:
    """Counts the rows with a branch of which all columns are absent or unreadable."""
    counts = {name: dict.fromkeys((ABSENT, UNREADABLE), 0) for name in branches}
    for text, rows in Counter(status).items():
        problems = set(text.split(STATUS_SEPARATOR))
        for name, branch in branches.items():
            if kind := _missing_kind(branch, problems):
                counts[name][kind] += rows
    return counts


def _missing_kind(branch, problems) -> str:
    """Returns how a branch is missing, in a row with these entries of its status."""
    names = [column.name for column in branch.columns]
    is_broken = [f"{name} {UNREADABLE}" in problems for name in names]
    is_absent = [f"{name} {ABSENT}" in problems for name in names]
    if not all(a or b for a, b in zip(is_absent, is_broken, strict=True)):
        return ""
    return UNREADABLE if any(is_broken) else ABSENT


def _baselines(
    trained_model, dataset, split, predictions, sample, train_rows, metrics
) -> dict:
    """Measures a constant and a linear model, or texts of other rows, on these rows."""
    config, state = trained_model.config, trained_model.state
    if state.task == GENERATE:
        rows = dataset, split, predictions, sample, train_rows, metrics
        return measure_text_baselines(trained_model, *rows, _SAMPLE_ROWS)
    constant, values = predict_constant(trained_model, len(predictions.ids))
    values = measure_task(trained_model, predictions.targets, values)["metrics"]
    measured = {constant: values}
    if train_rows is None:
        return {"baselines": measured}
    features, targets = read_baseline_features(
        trained_model, train_rows, TRAIN, _SAMPLE_ROWS
    )
    encoded = {k: sample[k] for k in backbones(trained_model.model)}
    test_features, test_targets = read_baseline_features(
        trained_model, dataset, split, len(sample[PRESENT]), encoded
    )
    linear, linear_predictions = predict_linear(
        trained_model, features, targets, test_features
    )
    values = measure_task(trained_model, test_targets, linear_predictions)["metrics"]
    measured[linear] = values
    difference = compare_scores(
        state.task,
        test_targets,
        predictions.probabilities[: len(test_targets)],
        linear_predictions,
        config.evaluate.bootstrap_resamples,
        config.seed,
    )
    if config.fusion.kind == "linear":
        verdict = linear_verdict(metrics, measured[constant])
    else:
        verdict = baseline_verdict(
            metrics,
            measured[constant],
            values,
            difference,
            config,
            {c.type for c in trained_model.preprocessor.columns.values()},
        )
    return {"baselines": measured, "difference": difference, "verdict": verdict}
