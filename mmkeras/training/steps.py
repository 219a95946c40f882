"""The steps of a training run: fit, calibrate, export and evaluate."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mmkeras import schema
from mmkeras.config import Config, to_dict
from mmkeras.config.schedule import batch_rows
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.console import say
from mmkeras.data.feature_cache import frozen_features
from mmkeras.data.input_pipeline import Batches
from mmkeras.data.row_targets import class_weights
from mmkeras.data.stored_rows import COLUMNS, read_rows
from mmkeras.errors import LostWorkerError, UserError
from mmkeras.evaluation.evaluate import evaluate
from mmkeras.evaluation.predictions import predict_split
from mmkeras.export import run_manifest
from mmkeras.export.inference import TrainedModel
from mmkeras.export.saved_model import export
from mmkeras.files import atomic_path, latest_version
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import backbones, build_model
from mmkeras.training import run_folder
from mmkeras.training.calibration import calibrate
from mmkeras.training.checkpoints import read_state
from mmkeras.training.cluster import read_cluster
from mmkeras.training.distributed import (
    RESTART_HINT,
    assert_same_on_all_workers,
    check_divisible_batch,
    enable_replica_sync,
    strategy,
    translate_worker_errors,
)
from mmkeras.training.feature_scales import fit_feature_scales
from mmkeras.training.fit import fit
from mmkeras.training.linear import fit_linear
from mmkeras.training.prepare_run import RunData, prepare_run
from mmkeras.training.process_state import restored_state, set_seeds
from mmkeras.training.zero_shot import build_without_rows, set_class_vectors

_GOLDEN_ROWS = 256  # upper limit; `golden_batches` picks the most complete ones
_FILE_DELAY_S = 90  # a network disk can show a new file as late as this


@restored_state()
def train(
    folder: Path,
    config: Config,
    table: Any,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    encoders: Mapping[str, Any] | None = None,
) -> None:
    """Runs the remaining steps of a run, from ingest to report.

    The table is anything that `open_table` takes; None is the demo data set. The
    process is left as it was: see `restored_state`. `encoders` are those of
    `build_model`; a started run needs the same again.

    Example:
        with run_folder.locked_folder(folder):
            train(folder, small_concat(), Path("rows.csv"))
    """
    strategy()  # with several workers, before TensorFlow does anything else
    encoders = dict(encoders or {})
    run_folder.check_encoders(folder, config, list(encoders))
    if callbacks and not config.fusion.has_epochs:
        raise UserError(
            f"fusion.kind={config.fusion.kind} is fitted without epochs, so it takes "
            "no callbacks."
        )
    if run_folder.needs_no_rows(config, table):
        build_without_rows(folder, config)
        return
    with translate_worker_errors():
        run_data = prepare_run(folder, config, table)
    run_manifest.write_manifest(folder, own_encoders=sorted(encoders))
    additions = {"callbacks": tuple(callbacks), "encoders": encoders}
    train_on(folder, replace(run_data, **additions))


def train_on(folder: Path, run_data: RunData) -> None:
    """Runs the remaining steps of a run on prepared rows, from fit to report."""
    tf.get_logger().setLevel("ERROR")
    config = run_data.config
    with translate_worker_errors():
        trained_model, history = fit_model(folder, run_data)
    if not config.fusion.has_epochs:  # it has no checkpoints
        run_manifest.write_manifest(folder, fitted=True)
    finish_run(folder, run_data, trained_model, history)


def finish_run(
    folder: Path,
    run_data: RunData,
    trained_model: TrainedModel,
    history: list[dict],
    summary: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Exports and evaluates a trained model; `summary` are more facts of the report."""
    config = run_data.config
    base_path = folder / schema.EXPORT_DIR
    if latest_version(base_path) is None:
        export(trained_model, golden_rows(run_data), base_path)
        say(f"Export: verified, {base_path}.")
    unimodal = {}
    if config.evaluate.trained_alone:
        unimodal = _train_unimodal(folder, run_data)
    evaluate(
        trained_model,
        run_data.dataset,
        schema.TEST,
        folder,
        history=history,
        summary={**_summary(run_data, trained_model, history), **summary},
        train_rows=run_data.dataset,
        unimodal=unimodal,
    )
    run_manifest.write_manifest(folder, finished=True)


def _train_unimodal(folder: Path, run_data: RunData) -> dict[str, np.ndarray]:
    """Trains a model on each of several branches; returns the test predictions."""
    branches, probabilities = run_data.preprocessor.branches, {}
    for m, branch in branches.items() if len(branches) > 1 else ():
        unimodal = _with_branch(run_data, m)
        subfolder = folder / schema.ALONE_DIR / branch.key
        subfolder.mkdir(parents=True, exist_ok=True)
        run_folder.write_config(subfolder, unimodal.config)
        preprocessing_state.save(unimodal.state, subfolder / schema.ANALYSIS_FILE)
        say(f"A model on {m} alone: {subfolder}.")
        trained_model, _ = fit_model(subfolder, unimodal)
        predictions = predict_split(trained_model, unimodal.dataset, schema.TEST)
        probabilities[m] = predictions.probabilities
    return probabilities


def _with_branch(run_data: RunData, branch: str) -> RunData:
    """Returns all rows, with the columns of a single branch."""
    config, state = run_data.config, run_data.state
    names = state.branches[branch]
    columns = {n: e for n, e in config.columns.items() if n in names}
    table = replace(config.table, modalities=branch)
    state = replace(state, branches={branch: names})
    return RunData(
        dataset=replace(run_data.dataset, columns=columns),
        preprocessor=Preprocessor(replace(config, table=table, columns=columns), state),
    )


@restored_state()
def train_as_worker(
    folder: Path, local_folder: Path, config: Config, table: Path | None
) -> None:
    """Runs training as a worker that is not the chief, without writing to `folder`.

    Raises:
        LostWorkerError: Another worker is gone.
        UserError: Another worker has different settings or rows.
    """
    run_folder.copy_started_run(folder, local_folder)  # before the chief continues
    strategy()
    with translate_worker_errors():
        run_data = prepare_run(local_folder, config, table)
        model = _new_model(local_folder, run_data)
        _wait_for_manifest(folder)
        _fit(local_folder, run_data, model)
    # A worker that ends is a lost worker for the chief, which exports and evaluates.
    while not run_folder.is_finished(folder):
        is_gone = not read_cluster().is_chief_reachable()
        if is_gone and not run_folder.is_finished(folder):
            text = f"The chief ended before the run was done. {RESTART_HINT}"
            raise LostWorkerError(text)
        time.sleep(0.5)


def _wait_for_manifest(folder):
    """Waits until the files that the chief's `prepare_run` wrote are visible here."""
    end = time.monotonic() + _FILE_DELAY_S
    while not (folder / schema.MANIFEST_FILE).exists():
        if time.monotonic() > end:
            raise UserError(
                f"The chief's files are not in '{folder}'. Give all workers one "
                "--output, on a disk that all can read."
            )
        time.sleep(0.5)


def fit_model(
    folder: Path, run_data: RunData, save: bool = True
) -> tuple[TrainedModel, list[dict]]:
    """Trains from the latest checkpoint on, calibrates classes, and writes model.keras.

    Without `save` that file is not written. Returns the model in float32, and one
    history entry per epoch.
    """
    config, state = run_data.config, run_data.state
    model = _new_model(folder, run_data)
    try:
        history = _fit(folder, run_data, model)
    except KeyboardInterrupt:
        if save:
            save_model(model, folder)
        raise
    # Variables of a multi-worker strategy need all workers, and only the chief goes on.
    if config.train.precision != "float32" or read_cluster().workers > 1:
        weights = model.get_weights()
        model = _build(run_data, "float32", tf.distribute.get_strategy())
        model.set_weights(weights)
    dataset, preprocessor = run_data.dataset, run_data.preprocessor
    features = frozen_features(
        backbones(model), dataset, preprocessor, schema.VAL, compute=False
    )
    val = Batches(
        dataset=dataset, preprocessor=preprocessor, split=schema.VAL, features=features
    )
    if state.classes and config.fusion.kind != ZERO_SHOT:
        calibrate(model, val, state.task)
    if save:
        save_model(model, folder)
    return TrainedModel(preprocessor=preprocessor, model=model), history


def _new_model(folder, run_data) -> keras.Model:
    config, rows = run_data.config, run_data.dataset.rows[schema.TRAIN]
    devices = strategy().num_replicas_in_sync
    check_divisible_batch(batch_rows(rows, config.train.batch_size, devices))
    progress = vars(read_state(folder / schema.CHECKPOINTS_DIR))
    content = to_dict(config), run_data.dataset.content, progress
    assert_same_on_all_workers(json.dumps(content, default=str))
    # Not 0: tf.data's shuffle then compares its own seed, a tensor, in Python.
    set_seeds(config.seed + 1)
    model = _build(run_data, config.train.precision, strategy())
    enable_replica_sync(model)
    return model


def _fit(folder, run_data, model) -> list[dict]:
    if run_data.config.fusion.kind == ZERO_SHOT:
        set_class_vectors(model, run_data.config, run_data.state)
        return []
    train, val = _batches(model, run_data)
    fit_feature_scales(model, train)
    if run_data.config.fusion.kind == "linear":
        fit_linear(model, train)
        return []
    folders = folder / schema.CHECKPOINTS_DIR, folder / schema.LOGS_DIR
    return fit(model, train, val, *folders, run_data.callbacks).history


def _build(run_data, precision, distribution) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        with distribution.scope():
            return build_model(run_data.config, run_data.state, run_data.encoders)
    finally:
        keras.config.set_dtype_policy(before)


def _batches(model, run_data) -> list[Batches]:
    """Returns training and validation batches, with outputs of frozen encoders."""
    config, dataset = run_data.config, run_data.dataset
    weights = class_weights(run_data.state.class_rows, config.train)
    result, encoders = [], backbones(model)
    for split in (schema.TRAIN, schema.VAL):
        batches = Batches(
            dataset=dataset,
            preprocessor=run_data.preprocessor,
            split=split,
            class_weights=weights if split == schema.TRAIN else (),
            devices=strategy().num_replicas_in_sync,
        )
        features = frozen_features(encoders, dataset, run_data.preprocessor, split)
        result.append(replace(batches, features=features))
    return result


def save_model(model: keras.Model, folder: Path) -> None:
    """Writes model.keras of a run folder."""
    with atomic_path(folder / schema.MODEL_FILE) as tmp_path:
        model.save(tmp_path)


def golden_rows(run_data: RunData) -> list[dict[str, bytes | float]]:
    """Returns the first test rows, values by column, to verify the export with."""
    columns = run_data.preprocessor.columns.values()
    rows = read_rows(run_data.dataset.files(schema.TEST), columns).take(_GOLDEN_ROWS)
    return [row[COLUMNS] for row in rows.as_numpy_iterator()]


def _summary(run_data, trained_model, history) -> dict[str, str]:
    config, dataset = run_data.config, run_data.dataset
    settings = config.train
    rate = f"learning rate {settings.learning_rate:g}"
    optimizer = f"{settings.optimizer}, {rate}, batch {settings.batch_size}"
    if config.fusion.kind == "linear":
        kind = "ridge" if trained_model.state.task == REGRESSION else "logistic"
        optimizer = f"{kind} regression of scikit-learn"
    if config.ensemble.is_active:
        optimizer = "that of each member"
    if config.fusion.kind == ZERO_SHOT:
        optimizer = f"none; prompt '{config.prompt}'"
    return {
        "Preset": config.preset,
        "Seed": str(config.seed),
        "Rows": ", ".join(f"{n:,} {split}" for split, n in dataset.rows.items()),
        "Rejected rows": str(len(dataset.rejected)),
        "Rows with an unreadable column": str(len(dataset.unreadable)),
        "Columns": ", ".join(dataset.columns),
        "Parameters": f"{trained_model.model.count_params():,}",
        "Epochs": str(len(history)),
        **{
            f"Branch {name}": "own encoder"
            if name in run_data.encoders
            else branch.describe()
            for name, branch in run_data.preprocessor.branches.items()
        },
        "Optimizer": optimizer,
        "Split fingerprint": dataset.split_fingerprint,
    }
