"""The steps of a run: fit, calibrate, export, evaluate. TFX calls them too."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras.config import Config, to_dict
from mmkeras.data.feature_cache import image_vectors
from mmkeras.data.input_pipeline import Batches, class_weights, read_rows
from mmkeras.errors import UserError
from mmkeras.evaluation.evaluate import evaluate
from mmkeras.evaluation.predictions import predict_split
from mmkeras.export import run_manifest
from mmkeras.export.inference import TrainedModel
from mmkeras.export.saved_model import export
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import BINARY
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import IMAGE_ENCODER, build_model, set_temperature
from mmkeras.schema import (
    ALONE_DIR,
    ANALYSIS_FILE,
    CHECKPOINTS_DIR,
    EXPORT_DIR,
    IMAGE,
    LOGS_DIR,
    MANIFEST_FILE,
    MODEL_FILE,
    TEST,
    TRAIN,
    VAL,
)
from mmkeras.training import run_folder
from mmkeras.training.calibration import fit_temperature
from mmkeras.training.cluster import read_cluster
from mmkeras.training.distributed import (
    AGAIN,
    assert_same_on_all_workers,
    check_divisible_batch,
    enable_replica_sync,
    strategy,
    translate_worker_errors,
)
from mmkeras.training.fit import fit, read_state
from mmkeras.training.prepare_run import RunData, prepare_run

_GOLDEN_SEARCHED = 256  # rows among which complete ones are looked for
_SEEN_S = 90  # a shared disk may show a new file as late as this


def train(folder: Path, config: Config, table: Path | None) -> None:
    """Does whatever the run in `folder` still lacks, from ingest to report.

    Args:
        folder: The run folder; exists.
        config: All settings.
        table: The CSV file; None is the embedded data set.
    """
    strategy()  # of several workers, before TensorFlow does anything else
    with translate_worker_errors():
        run_data = prepare_run(folder, config, table)
    train_on(folder, run_data)


def train_on(folder: Path, run_data: RunData) -> None:
    """Does whatever the run still lacks once its rows are ready: fit to report."""
    tf.get_logger().setLevel("ERROR")
    config = run_data.config
    with translate_worker_errors():
        trained_model, history = fit_model(folder, run_data)
    base_path = folder / EXPORT_DIR
    if not any(base_path.glob("[0-9]*")):
        export(trained_model, golden_rows(run_data), base_path)
        print(f"Export: proved, {base_path}.")
    alone = _train_alone(folder, run_data) if config.evaluate.trained_alone else {}
    evaluate(
        trained_model,
        run_data.dataset,
        TEST,
        folder,
        history=history,
        summary=_summary(run_data, trained_model, history),
        train_rows=run_data.dataset,
        alone=alone,
    )
    run_manifest.write_manifest(folder, finished=True)


def _train_alone(folder: Path, run_data: RunData) -> dict[str, np.ndarray]:
    """Trains a model on each modality alone, of the same rows and settings.

    Each has a run folder of its own below, and goes on there where it had come.

    Returns:
        Modality -> its probabilities (N, C) of the test rows; {} where there is one.
    """
    names, answers = run_data.state.modalities, {}
    if len(names) == 1:
        return answers
    for m in names:
        only, own = _restricted(run_data, m), folder / ALONE_DIR / m
        own.mkdir(parents=True, exist_ok=True)
        run_folder.write_config(own, only.config)
        preprocessing_state.save(only.state, own / ANALYSIS_FILE)
        print(f"A model on {m} alone: {own}.")
        trained_model, _ = fit_model(own, only)
        answers[m] = predict_split(trained_model, only.dataset, TEST).probabilities
    return answers


def _restricted(run_data: RunData, modality: str) -> RunData:
    """The same rows with one modality, absent in those that do not have it."""
    table = replace(run_data.config.table, modalities=modality)
    state = replace(run_data.state, modalities=(modality,))
    return RunData(
        dataset=replace(run_data.dataset, modalities=(modality,)),
        preprocessor=Preprocessor(replace(run_data.config, table=table), state),
    )


def train_as_worker(
    folder: Path, own: Path, config: Config, table: Path | None
) -> None:
    """Takes part, as another worker than the chief, in the training of a run.

    Args:
        folder: The run folder, which the chief writes; only read here.
        own: Folder for this worker's own checkpoints and logs; goes on from those of
            `folder`.
        config, table: As the chief has them.

    Raises:
        UserError: Another worker is gone, or has other settings or rows.
    """
    tf.get_logger().setLevel("ERROR")
    run_folder.copy_started_run(folder, own)  # before the chief can go on
    strategy()
    with translate_worker_errors():
        run_data = prepare_run(own, config, table)
        model = _new_model(own, run_data)
        _await_manifest(folder)
        _fit(own, run_data, model)
    # One that left now would be a lost worker to the chief, who exports and evaluates.
    while not run_folder.is_finished(folder):
        if not read_cluster().chief_answers() and not run_folder.is_finished(folder):
            raise UserError(f"The chief is gone before its work was done. {AGAIN}")
        time.sleep(0.5)


def _await_manifest(folder):
    """Makes sure that this worker sees what the chief's `prepare` has written."""
    end = time.monotonic() + _SEEN_S
    while not (folder / MANIFEST_FILE).exists():
        if time.monotonic() > end:
            raise UserError(
                f"The chief's files are not in '{folder}'. Give all workers one "
                "--output, on a disk that all can read."
            )
        time.sleep(0.5)


def fit_model(folder: Path, run_data: RunData) -> tuple[TrainedModel, list[dict]]:
    """Trains, or goes on training; writes model.keras, its temperature fitted.

    Returns:
        The trained model in float32, whatever the precision of training was, and
        one entry an epoch.
    """
    config, state = run_data.config, run_data.state
    model = _new_model(folder, run_data)
    try:
        history = _fit(folder, run_data, model)
    except KeyboardInterrupt:
        _save(model, folder)
        raise
    # Variables of several workers ask for all of them, and only this one goes on.
    if config.train.precision != "float32" or read_cluster().workers > 1:
        trained_model = _built(config, state, "float32", tf.distribute.get_strategy())
        trained_model.set_weights(model.get_weights())
        model = trained_model
    _calibrate(model, run_data)
    _save(model, folder)
    return TrainedModel(preprocessor=run_data.preprocessor, model=model), history


def _new_model(folder, run_data) -> keras.Model:
    config, state = run_data.config, run_data.state
    rows = run_data.dataset.rows[TRAIN]
    check_divisible_batch(min(config.train.batch_size, rows))
    progress = read_state(folder / CHECKPOINTS_DIR)
    same = to_dict(config), run_data.dataset.content, vars(progress)
    assert_same_on_all_workers(json.dumps(same, default=str))
    # Not 0: tf.data's shuffle then compares its own seed, a tensor, in Python.
    keras.utils.set_random_seed(config.seed + 1)
    if not tf.config.list_physical_devices("GPU"):  # where it costs nothing
        tf.config.experimental.enable_op_determinism()
    model = _built(config, state, config.train.precision, strategy())
    enable_replica_sync(model)
    return model


def _fit(folder, run_data, model) -> list[dict]:
    train, val = _batches(model, run_data)
    folders = folder / CHECKPOINTS_DIR, folder / LOGS_DIR
    return fit(model, train, val, *folders).history


def _built(config, state, precision, within) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        with within.scope():
            return build_model(config, state)
    finally:
        keras.config.set_dtype_policy(before)


def _batches(model, run_data) -> list[Batches]:
    """Batches of train and val; with a frozen image encoder, of its output."""
    config, dataset = run_data.config, run_data.dataset
    weights = class_weights(run_data.state.class_rows, config.train)
    result = []
    for split in (TRAIN, VAL):
        batches = Batches(
            dataset=dataset,
            preprocessor=run_data.preprocessor,
            split=split,
            class_weights=weights if split == TRAIN else (),
        )
        if IMAGE in run_data.state.modalities and config.image.is_frozen:
            encoder = model.get_layer(IMAGE_ENCODER)
            path = image_vectors(encoder, dataset, run_data.preprocessor, split)
            shape = encoder.output_shape[1:]
            batches = replace(batches, image_vectors=path, image_shape=shape)
        result.append(batches)
    return result


def _calibrate(model, run_data):
    """Fits the temperature on the validation rows."""
    set_temperature(model, 1.0)
    batches = Batches(
        dataset=run_data.dataset, preprocessor=run_data.preprocessor, split=VAL
    )
    # Not predict_on_batch: of several replicas each would answer for all rows.
    answer = tf.function(lambda x: model(x, training=False), autograph=False)
    probabilities, targets = [], []
    for inputs, target, _ in batches.plain():
        probabilities.append(answer(inputs).numpy())
        targets.append(target.numpy())
    probabilities, targets = np.concatenate(probabilities), np.concatenate(targets)
    if run_data.state.task == BINARY:
        probabilities, targets = (
            np.concatenate([1 - x, x], axis=1) for x in (probabilities, targets)
        )
    temperature = fit_temperature(targets, probabilities, run_data.state.task)
    set_temperature(model, temperature)


def _save(model, folder):
    aside = folder / f".{MODEL_FILE}"
    model.save(aside)
    os.replace(aside, folder / MODEL_FILE)


def golden_rows(run_data: RunData) -> list[dict[str, bytes]]:
    """Returns the first test rows, bytes by modality, for the proof of the export."""
    modalities = run_data.state.modalities
    rows = read_rows(run_data.dataset.files(TEST), modalities).take(_GOLDEN_SEARCHED)
    return [{m: row[m] for m in modalities} for row in rows.as_numpy_iterator()]


def _summary(run_data, trained_model, history) -> dict[str, str]:
    config, dataset = run_data.config, run_data.dataset
    return {
        "Preset": config.preset,
        "Seed": str(config.seed),
        "Rows": ", ".join(f"{n:,} {split}" for split, n in dataset.rows.items()),
        "Rejected rows": str(len(dataset.rejected)),
        "Rows with an unreadable modality": str(len(dataset.unreadable)),
        "Modalities": ", ".join(dataset.modalities),
        "Parameters": f"{trained_model.model.count_params():,}",
        "Epochs": str(len(history)),
        "Image branch": f"{config.image.encoder}, {config.image.size_px} px, weights "
        f"{config.image.weights}",
        "Text branch": config.text.encoder,
        "Audio branch": config.audio.encoder,
        "Optimizer": f"{config.train.optimizer}, learning rate "
        f"{config.train.learning_rate:g}, batch {config.train.batch_size}",
        "Split fingerprint": dataset.split_fingerprint,
    }
