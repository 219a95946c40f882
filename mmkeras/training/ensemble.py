"""Training of an ensemble: its members one by one, their weights, and one model."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mmkeras.config import Config
from mmkeras.config.members import member_configs
from mmkeras.config.schedule import describe_schedule, with_schedule
from mmkeras.console import output, say
from mmkeras.data.dataset import Dataset, with_columns
from mmkeras.data.demo_tables import table_or_demo
from mmkeras.data.feature_cache import frozen_features
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.folds import fold_datasets
from mmkeras.data.input_pipeline import Batches
from mmkeras.errors import UserError
from mmkeras.evaluation.ensemble_weights import greedy_weights, mean_loss
from mmkeras.evaluation.metrics import correct_rows
from mmkeras.export import run_manifest
from mmkeras.export.ensemble import combine_models, save_ensemble
from mmkeras.export.inference import TrainedModel
from mmkeras.files import atomic_path
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import backbones, set_temperature
from mmkeras.reports.summary import member_line
from mmkeras.schema import ANALYSIS_FILE, MEMBERS_DIR, TRAIN, VAL
from mmkeras.training import run_folder
from mmkeras.training.calibration import (
    apply_temperature,
    fit_temperature,
    predict_batches,
)
from mmkeras.training.distributed import strategy
from mmkeras.training.prepare_run import RunData, prepare_run
from mmkeras.training.process_state import restored_state
from mmkeras.training.steps import finish_run, fit_model, save_model, train

_VALIDATION_FILE = "validation.npz"  # predictions of a member for its val rows


def train_run(
    folder: Path,
    config: Config,
    table: Any,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    encoders: Mapping[str, Any] | None = None,
) -> None:
    """Runs the remaining steps of a run of one model, or of an ensemble.

    Arguments are those of `steps.train`.

    Raises:
        UserError: As `steps.train`; or an ensemble has callbacks or encoders.

    Example:
        with run_folder.locked_folder(folder):
            train_run(folder, PRESETS["best"](), Path("rows.csv"))
    """
    if not config.ensemble.is_active:
        return train(folder, config, table, callbacks, encoders)
    for name, value in (("callbacks", callbacks), ("encoders", encoders)):
        if value:
            raise UserError(
                f"{name} are for one model, and ensemble.presets or ensemble.folds "
                "train several. Leave one of the two out."
            )
    _train_ensemble(folder, config, table)


@dataclass(frozen=True, kw_only=True)
class _Fold:
    """A member before its training: settings of a preset, and rows.

    Attributes:
        rows: Which of all rows of the validation it predicts: (N,) bool, or a slice.
    """

    name: str
    preset: str
    config: Config
    dataset: Dataset
    rows: np.ndarray | slice


@restored_state()
def _train_ensemble(folder: Path, config: Config, table: Any) -> None:
    configs = member_configs(config)
    run_data = prepare_run(folder, config, table, list(configs.values()))
    members = list(_list_members(configs, run_data, config, table))
    parts = []
    for i, member in enumerate(members, 1):
        subfolder = folder / MEMBERS_DIR / member.name
        parts.append(_train_member(subfolder, member, f"{i} of {len(members)}"))
    predictions, targets = _pool(members, parts)
    task, names = run_data.state.task, list(predictions)
    weights = greedy_weights(list(predictions.values()), targets, task)
    mean = np.tensordot(weights, list(predictions.values()), axes=1)
    share = dict(zip(names, weights / (config.ensemble.folds or 1), strict=True))
    trained_model = combine_models(
        (_restore(folder / MEMBERS_DIR / m.name, m, share[m.preset]) for m in members),
        [share[member.preset] for member in members],
        run_data.config,
        [member.name for member in members],
    )
    mean = calibrate_mean(trained_model, mean, targets)
    scores = {n: _scores(p, targets, task) for n, p in predictions.items()}
    presets = [
        {"preset": name, "weight": weight, **scores[name]}
        for name, weight in zip(names, weights.tolist(), strict=True)
    ]
    result = {"rows": len(targets), **_scores(mean, targets, task)}
    save_model(trained_model.model, folder)
    save_ensemble(folder, trained_model, presets=presets, validation=result)
    run_data = replace(run_data, preprocessor=trained_model.preprocessor)
    kept = ", ".join(f"{p['preset']} {p['weight']:.2f}" for p in presets if p["weight"])
    finish_run(folder, run_data, trained_model, [], summary={"Members": kept})


def calibrate_mean(
    ensemble: TrainedModel, mean: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Sets the temperature of an ensemble by its validation rows.

    `mean` is the weighted mean of the members' predictions, (N, C), and `targets` are
    the labels; returns the predictions of the calibrated ensemble. In regression there
    is no temperature.
    """
    task = ensemble.state.task
    if task == REGRESSION:
        return mean
    temperature = fit_temperature(targets, mean, task)
    set_temperature(ensemble.model, temperature)
    return apply_temperature(mean, temperature, task)


def _list_members(configs, run_data, config, table) -> Iterator[_Fold]:
    """Yields the members: each preset once, or once per fold."""
    datasets = [run_data.dataset]
    if config.ensemble.folds:
        rows = table_or_demo(table, config.task)
        datasets = fold_datasets(run_data.dataset, rows, run_data.config)
    for preset, settings in configs.items():
        for i, dataset in enumerate(datasets, 1):
            yield _Fold(
                name=f"{preset}-{i}" if config.ensemble.folds else preset,
                preset=preset,
                config=settings,
                dataset=dataset,
                rows=dataset.masks.get(VAL, slice(None)),
            )


def _train_member(folder: Path, member: _Fold, place: str) -> dict[str, np.ndarray]:
    """Trains a member, unless it is done; returns values and targets of its val rows.

    Its model is not kept: `_restore` gives it again.
    """
    path = folder / _VALIDATION_FILE
    if not path.exists():
        say(f"Member {place}: {member.name}.")
        run_data = _member_data(folder, member)
        if run_data.config.fusion.has_epochs:
            rows, devices = member.dataset.rows[TRAIN], strategy().num_replicas_in_sync
            say(describe_schedule(run_data.config, rows, devices))
        trained_model, _ = fit_model(folder, run_data, save=False)
        run_manifest.write_manifest(folder, fitted=True)
        values, targets = predict_validation(trained_model, run_data.dataset)
        with atomic_path(path) as tmp_path, tmp_path.open("wb") as file:
            np.savez(file, values=values, targets=targets)
        scores = _scores(values, targets, trained_model.state.task)
        say(member_line(member.name, scores, len(targets)))
        del trained_model, run_data
        keras.utils.clear_session()
        gc.collect()
    with np.load(path) as file:
        return dict(file)


def _restore(folder: Path, member: _Fold, weight: float) -> TrainedModel | None:
    """Returns the model of a trained member, from its checkpoint; None without weight.

    A linear model is fitted again, with the same result.
    """
    if not weight:
        return None
    with output(verbose=False):
        return fit_model(folder, _member_data(folder, member), save=False)[0]


def _member_data(folder: Path, member: _Fold) -> RunData:
    """Returns the rows and the preprocessing of a member, and writes its settings."""
    dataset = member.dataset
    # Fitted to the train rows of the table, so that all folds have one preprocessing.
    state = fit_preprocessing(dataset.parent or dataset, member.config)
    devices = strategy().num_replicas_in_sync
    config = with_columns(member.config, dataset)
    config = with_schedule(config, dataset.rows[TRAIN], devices)
    folder.mkdir(parents=True, exist_ok=True)
    run_folder.write_config(folder, config)
    preprocessing_state.save(state, folder / ANALYSIS_FILE)
    return RunData(dataset=dataset, preprocessor=Preprocessor(config, state))


def predict_validation(
    trained_model: TrainedModel, dataset: Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """Returns predictions and targets (N, C) of the val rows, as `predict_batches`.

    Outputs of frozen encoders come from the cache.
    """
    model, preprocessor = trained_model.model, trained_model.preprocessor
    features = frozen_features(
        backbones(model), dataset, preprocessor, VAL, compute=False
    )
    batches = Batches(
        dataset=dataset, preprocessor=preprocessor, split=VAL, features=features
    )
    return predict_batches(model, batches, trained_model.state.task)


def _pool(members, parts) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns preset -> predictions (N, C) of all validation rows, and targets (N, C).

    With folds a row is predicted by the member that was not trained on it.
    """
    first = members[0].rows
    values = parts[0]["values"]
    rows = len(values) if isinstance(first, slice) else len(first)
    shape = (rows, values.shape[1])
    predictions = {member.preset: np.zeros(shape) for member in members}
    targets = np.zeros(shape)
    for member, part in zip(members, parts, strict=True):
        predictions[member.preset][member.rows] = part["values"]
        targets[member.rows] = part["targets"]
    return predictions, targets


def _scores(predictions, targets, task) -> dict[str, float]:
    """Returns the metrics of `member_line`."""
    loss = mean_loss(predictions, targets, task)
    if task == REGRESSION:
        return {"r2": float(1 - loss / (targets.var() or 1.0))}
    accuracy = correct_rows(targets, predictions, task).mean()
    return {"accuracy": float(accuracy), "log_loss": loss}
