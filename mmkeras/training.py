"""The steps of a run: ingest, fit, calibrate, export, evaluate. TFX calls them too."""

import csv
import io
import os
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras import embedded, run
from mmkeras.config import Config, to_dict
from mmkeras.data import Batches, analyze, raw_rows
from mmkeras.errors import UserError
from mmkeras.evaluation import evaluate
from mmkeras.export import export
from mmkeras.features import image_vectors
from mmkeras.fit import fit, strategy
from mmkeras.inference import Trained
from mmkeras.metrics import fit_temperature
from mmkeras.model import IMAGE_ENCODER, build_model, set_temperature
from mmkeras.preprocess import analysis as analyses
from mmkeras.preprocess.analysis import BINARY, Analysis
from mmkeras.preprocess.graph import Preprocessor
from mmkeras.records import Ingested, ingest, resolved
from mmkeras.schema import (
    ANALYSIS_FILE,
    CHECKPOINTS_DIR,
    EXPORT_DIR,
    IMAGE,
    LOGS_DIR,
    MODEL_FILE,
    REJECTED_FILE,
    TEST,
    TRAIN,
    VAL,
)

_GOLDEN_SEARCHED = 256  # rows among which complete ones are looked for
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Checked rows, and what was learned from the training ones."""

    ingested: Ingested
    preprocessor: Preprocessor

    @property
    def config(self) -> Config:
        return self.preprocessor.config

    @property
    def analysis(self) -> Analysis:
        return self.preprocessor.analysis


def train(folder: Path, config: Config, table: Path | None) -> None:
    """Does whatever the run in `folder` still lacks, from ingest to report.

    Args:
        folder: The run folder; exists.
        config: All settings.
        table: The CSV file; None is the embedded data set.
    """
    tf.get_logger().setLevel("ERROR")  # deprecations of the TF1 loader that proves
    prepared = prepare(folder, config, table)
    trained, history = fit_model(folder, prepared)
    base_path = folder / EXPORT_DIR
    if not any(base_path.glob("[0-9]*")):
        export(trained, golden_rows(prepared), base_path)
        print(f"Export: proved, {base_path}.")
    evaluate(
        trained,
        prepared.ingested,
        TEST,
        folder,
        history=history,
        summary=_summary(prepared, trained, history),
        train_rows=prepared.ingested,
    )
    run.write_manifest(folder, finished=True)


def prepare(folder: Path, config: Config, table: Path | None) -> Prepared:
    """Checks the rows, analyses the training ones, and notes both in the folder."""
    source = table or embedded.make(embedded.default_folder()) / "data.csv"
    ingested = ingest(source, config)
    before = run.read_manifest(folder).get("content")
    if run.has_begun(folder) and before != ingested.content:
        raise UserError(
            f"The table or its files have changed since the run in '{folder}' began. "
            "Give another --output."
        )
    requested, config = config, resolved(config, ingested)
    analysis = analyze(ingested, config)
    run.write_config(folder, config)
    analyses.save(analysis, folder / ANALYSIS_FILE)
    _write_rejected(folder, ingested)
    run.write_manifest(
        folder,
        data=run.data_name(table),
        settings=to_dict(requested),
        seed=config.seed,
        fingerprint=ingested.fingerprint,
        content=ingested.content,
        split_fingerprint=ingested.split_fingerprint,
        rows=ingested.rows,
    )
    _say_data(ingested, analysis)
    return Prepared(ingested=ingested, preprocessor=Preprocessor(config, analysis))


def _write_rejected(folder, ingested):
    if ingested.rejected:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["line", "id", "problem"])
        writer.writerows([bad.line, bad.id, bad.problem] for bad in ingested.rejected)
        run.write_text(folder / REJECTED_FILE, text.getvalue())


def _say_data(ingested, analysis):
    rows = ", ".join(f"{n:,} {split}" for split, n in ingested.rows.items())
    print(
        f"Data: {rows} rows; {', '.join(ingested.modalities)}; "
        f"{len(analysis.classes)} classes ({analysis.task})."
    )
    if ingested.rejected:
        print(f"Rejected: {len(ingested.rejected)} rows, listed in {REJECTED_FILE}.")
    for bad in ingested.unreadable[:_SHOWN]:
        print(f"Counts as absent: line {bad.line} (id {bad.id}): {bad.problem}")
    if len(ingested.unreadable) > _SHOWN:
        print(f"Counts as absent: {len(ingested.unreadable) - _SHOWN} more rows.")
    for warning in ingested.warnings:
        print(f"Warning: {warning}")


def fit_model(folder: Path, prepared: Prepared) -> tuple[Trained, list[dict]]:
    """Trains, or goes on training; writes model.keras, its temperature fitted.

    Returns:
        The trained model in float32, whatever the precision of training was, and
        one entry an epoch.
    """
    config, analysis = prepared.config, prepared.analysis
    # Not 0: tf.data's shuffle then compares its own seed, a tensor, in Python.
    keras.utils.set_random_seed(config.seed + 1)
    if not tf.config.list_physical_devices("GPU"):  # where it costs nothing
        tf.config.experimental.enable_op_determinism()
    model = _built(config, analysis, config.train.precision)
    train_batches, val_batches = _batches(model, prepared)
    try:
        state = fit(
            model,
            train_batches,
            val_batches,
            folder / CHECKPOINTS_DIR,
            folder / LOGS_DIR,
        )
    except KeyboardInterrupt:
        _save(model, folder)
        raise
    if config.train.precision != "float32":
        trained = _built(config, analysis, "float32")
        trained.set_weights(model.get_weights())
        model = trained
    _calibrate(model, prepared)
    _save(model, folder)
    return Trained(preprocessor=prepared.preprocessor, model=model), state.history


def _built(config, analysis, precision) -> keras.Model:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        with strategy().scope():
            return build_model(config, analysis)
    finally:
        keras.config.set_dtype_policy(before)


def _batches(model, prepared) -> list[Batches]:
    """Batches of train and val; with a frozen image encoder, of its output."""
    config, ingested = prepared.config, prepared.ingested
    weights = ()
    if config.train.class_weights == "balanced":
        rows = np.maximum(prepared.analysis.class_rows, 1)
        weights = tuple((rows.sum() / (len(rows) * rows)).tolist())
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
            width = encoder.output_shape[-1]
            batches = replace(batches, image_vectors=path, image_width=width)
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
