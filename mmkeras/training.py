"""The steps of a run: fit, calibrate, export, evaluate. TFX calls them too."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras import run
from mmkeras.calibration import fit_temperature
from mmkeras.cluster import read_cluster
from mmkeras.config import Config, to_dict
from mmkeras.data import Batches, class_weights, raw_rows
from mmkeras.errors import UserError
from mmkeras.evaluation import evaluate
from mmkeras.export import export
from mmkeras.features import image_vectors
from mmkeras.fit import fit, read_state
from mmkeras.inference import Trained
from mmkeras.model import IMAGE_ENCODER, build_model, set_temperature
from mmkeras.predictions import predict_split
from mmkeras.prepare import Prepared, prepare
from mmkeras.preprocess import analysis as analyses
from mmkeras.preprocess.analysis import BINARY
from mmkeras.preprocess.graph import Preprocessor
from mmkeras.replicas import (
    AGAIN,
    agree,
    check_share,
    lost_worker_is_said,
    share_batches,
    strategy,
)
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
    with lost_worker_is_said():
        prepared = prepare(folder, config, table)
    train_prepared(folder, prepared)


def train_prepared(folder: Path, prepared: Prepared) -> None:
    """Does whatever the run still lacks once its rows are ready: fit to report."""
    tf.get_logger().setLevel("ERROR")
    config = prepared.config
    with lost_worker_is_said():
        trained, history = fit_model(folder, prepared)
    base_path = folder / EXPORT_DIR
    if not any(base_path.glob("[0-9]*")):
        export(trained, golden_rows(prepared), base_path)
        print(f"Export: proved, {base_path}.")
    alone = _train_alone(folder, prepared) if config.evaluate.trained_alone else {}
    evaluate(
        trained,
        prepared.ingested,
        TEST,
        folder,
        history=history,
        summary=_summary(prepared, trained, history),
        train_rows=prepared.ingested,
        alone=alone,
    )
    run.write_manifest(folder, finished=True)


def _train_alone(folder: Path, prepared: Prepared) -> dict[str, np.ndarray]:
    """Trains a model on each modality alone, of the same rows and settings.

    Each has a run folder of its own below, and goes on there where it had come.

    Returns:
        Modality -> its probabilities (N, C) of the test rows; {} where there is one.
    """
    names, answers = prepared.analysis.modalities, {}
    if len(names) == 1:
        return answers
    for m in names:
        only, own = _restricted(prepared, m), folder / ALONE_DIR / m
        own.mkdir(parents=True, exist_ok=True)
        run.write_config(own, only.config)
        analyses.save(only.analysis, own / ANALYSIS_FILE)
        print(f"A model on {m} alone: {own}.")
        trained, _ = fit_model(own, only)
        answers[m] = predict_split(trained, only.ingested, TEST).probabilities
    return answers


def _restricted(prepared: Prepared, modality: str) -> Prepared:
    """The same rows with one modality, absent in those that do not have it."""
    table = replace(prepared.config.table, modalities=modality)
    analysis = replace(prepared.analysis, modalities=(modality,))
    return Prepared(
        ingested=replace(prepared.ingested, modalities=(modality,)),
        preprocessor=Preprocessor(replace(prepared.config, table=table), analysis),
    )


def join(folder: Path, own: Path, config: Config, table: Path | None) -> None:
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
    run.copy_begun(folder, own)  # before the chief can go on
    strategy()
    with lost_worker_is_said():
        prepared = prepare(own, config, table)
        model = _new_model(own, prepared)
        _await_manifest(folder)
        _fit(own, prepared, model)
    # One that left now would be a lost worker to the chief, who exports and evaluates.
    while not run.is_finished(folder):
        if not read_cluster().chief_answers() and not run.is_finished(folder):
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


def fit_model(folder: Path, prepared: Prepared) -> tuple[Trained, list[dict]]:
    """Trains, or goes on training; writes model.keras, its temperature fitted.

    Returns:
        The trained model in float32, whatever the precision of training was, and
        one entry an epoch.
    """
    config, analysis = prepared.config, prepared.analysis
    model = _new_model(folder, prepared)
    try:
        history = _fit(folder, prepared, model)
    except KeyboardInterrupt:
        _save(model, folder)
        raise
    # Variables of several workers ask for all of them, and only this one goes on.
    if config.train.precision != "float32" or read_cluster().workers > 1:
        trained = _built(config, analysis, "float32", tf.distribute.get_strategy())
        trained.set_weights(model.get_weights())
        model = trained
    _calibrate(model, prepared)
    _save(model, folder)
    return Trained(preprocessor=prepared.preprocessor, model=model), history


def _new_model(folder, prepared) -> keras.Model:
    config, analysis = prepared.config, prepared.analysis
    rows = prepared.ingested.rows[TRAIN]
    check_share(min(config.train.batch_size, rows))
    state = read_state(folder / CHECKPOINTS_DIR)
    same = to_dict(config), prepared.ingested.content, vars(state)
    agree(json.dumps(same, default=str))
    # Not 0: tf.data's shuffle then compares its own seed, a tensor, in Python.
    keras.utils.set_random_seed(config.seed + 1)
    if not tf.config.list_physical_devices("GPU"):  # where it costs nothing
        tf.config.experimental.enable_op_determinism()
    model = _built(config, analysis, config.train.precision, strategy())
    share_batches(model)
    return model


def _fit(folder, prepared, model) -> list[dict]:
    train, val = _batches(model, prepared)
    folders = folder / CHECKPOINTS_DIR, folder / LOGS_DIR
    return fit(model, train, val, *folders).history


def _built(config, analysis, precision, within) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        with within.scope():
            return build_model(config, analysis)
    finally:
        keras.config.set_dtype_policy(before)


def _batches(model, prepared) -> list[Batches]:
    """Batches of train and val; with a frozen image encoder, of its output."""
    config, ingested = prepared.config, prepared.ingested
    weights = class_weights(prepared.analysis.class_rows, config.train)
    result = []
    for split in (TRAIN, VAL):
        batches = Batches(
            ingested=ingested,
            preprocessor=prepared.preprocessor,
            split=split,
            class_weights=weights if split == TRAIN else (),
        )
        if IMAGE in prepared.analysis.modalities and config.image.is_frozen:
            encoder = model.get_layer(IMAGE_ENCODER)
            path = image_vectors(encoder, ingested, prepared.preprocessor, split)
            shape = encoder.output_shape[1:]
            batches = replace(batches, image_vectors=path, image_shape=shape)
        result.append(batches)
    return result


def _calibrate(model, prepared):
    """Fits the temperature on the validation rows."""
    set_temperature(model, 1.0)
    batches = Batches(
        ingested=prepared.ingested, preprocessor=prepared.preprocessor, split=VAL
    )
    # Not predict_on_batch: of several replicas each would answer for all rows.
    answer = tf.function(lambda x: model(x, training=False), autograph=False)
    probabilities, targets = [], []
    for inputs, target, _ in batches.plain():
        probabilities.append(answer(inputs).numpy())
        targets.append(target.numpy())
    probabilities, targets = np.concatenate(probabilities), np.concatenate(targets)
    if prepared.analysis.task == BINARY:
        probabilities, targets = (
            np.concatenate([1 - x, x], axis=1) for x in (probabilities, targets)
        )
    temperature = fit_temperature(targets, probabilities, prepared.analysis.task)
    set_temperature(model, temperature)


def _save(model, folder):
    aside = folder / f".{MODEL_FILE}"
    model.save(aside)
    os.replace(aside, folder / MODEL_FILE)


def golden_rows(prepared: Prepared) -> list[dict[str, bytes]]:
    """Returns the first test rows, bytes by modality, for the proof of the export."""
    modalities = prepared.analysis.modalities
    rows = raw_rows(prepared.ingested.files(TEST), modalities).take(_GOLDEN_SEARCHED)
    return [{m: row[m] for m in modalities} for row in rows.as_numpy_iterator()]


def _summary(prepared, trained, history) -> dict[str, str]:
    config, ingested = prepared.config, prepared.ingested
    return {
        "Preset": config.preset,
        "Seed": str(config.seed),
        "Rows": ", ".join(f"{n:,} {split}" for split, n in ingested.rows.items()),
        "Rejected rows": str(len(ingested.rejected)),
        "Rows with an unreadable modality": str(len(ingested.unreadable)),
        "Modalities": ", ".join(ingested.modalities),
        "Parameters": f"{trained.model.count_params():,}",
        "Epochs": str(len(history)),
        "Image branch": f"{config.image.encoder}, {config.image.size_px} px, weights "
        f"{config.image.weights}",
        "Text branch": config.text.encoder,
        "Audio branch": config.audio.encoder,
        "Optimizer": f"{config.train.optimizer}, learning rate "
        f"{config.train.learning_rate:g}, batch {config.train.batch_size}",
        "Split fingerprint": ingested.split_fingerprint,
    }
