"""Raw bytes -> probabilities, label, score, status, embedding: one function for all.

Evaluation, prediction and the exported signatures call it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras.cli import load_config
from mmkeras.config import Config
from mmkeras.environment.extras import check_extras
from mmkeras.errors import UserError
from mmkeras.export.run_manifest import check_keras
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import (
    BINARY,
    MULTILABEL,
    PreprocessingState,
)
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import with_outputs
from mmkeras.schema import (
    ANALYSIS_FILE,
    CONFIG_FILE,
    EMBEDDING,
    EMBEDDINGS,
    LABEL,
    LABEL_SEPARATOR,
    MODEL_FILE,
    PROBABILITIES,
    SCORE,
    STATUS,
)

Outputs = dict[str, tf.Tensor]


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """A trained model with all that it takes to feed it."""

    preprocessor: Preprocessor
    model: keras.Model

    @property
    def config(self) -> Config:
        return self.preprocessor.config

    @property
    def state(self) -> PreprocessingState:
        return self.preprocessor.state


def load_settings(folder: str | Path) -> tuple[Config, PreprocessingState]:
    """Reads the settings of a run folder, and what its training rows have taught."""
    config = load_config(Path(folder) / CONFIG_FILE)
    return config, preprocessing_state.load(Path(folder) / ANALYSIS_FILE)


def load_trained(folder: Path) -> TrainedModel:
    """Loads the model of a run folder.

    Raises:
        UserError: The folder is none of a run, or its model is not written yet.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, ANALYSIS_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise UserError(
                f"'{folder}' holds no {name}; give the run folder that "
                "`python -m mmkeras.train` printed."
            )
    check_keras(folder)
    config, state = load_settings(folder)
    check_extras(config)
    return TrainedModel(
        preprocessor=Preprocessor(config, state),
        model=keras.models.load_model(folder / MODEL_FILE, compile=False),
    )


def build_serve(
    trained_model: TrainedModel,
) -> Callable[[dict[str, tf.Tensor]], Outputs]:
    """Builds the function from (B,) strings by modality to the outputs.

    Outputs: "probabilities" (B, C) float32, one column a class in binary tasks too;
    "label" (B,) string, in multi-label tasks the classes at 0.5 and above joined by
    "|"; "score" (B,) float32, the highest probability; "status" (B,) string; and those
    of `embedding_names`, the fused vector (B, D) float32 and each aligned one (B, W).
    """
    vectors = embedding_names(trained_model)
    state, model = trained_model.state, with_outputs(trained_model.model)
    classes = list(state.classes)

    def serve(data: dict[str, tf.Tensor]) -> Outputs:
        # On CPUs oneDNN's convolution gives a wrong shape to an empty batch, so an
        # absent row stands in for it and its answer is cut off.
        rows = tf.size(next(iter(data.values())))
        data = {m: _never_empty(strings) for m, strings in data.items()}
        inputs, status = trained_model.preprocessor(data)
        answer = model(inputs, training=False)
        probabilities = answer[PROBABILITIES]
        if state.task == BINARY:
            probabilities = tf.concat([1 - probabilities, probabilities], axis=1)
        outputs = {
            PROBABILITIES: probabilities,
            LABEL: _label(probabilities, classes, state.task),
            SCORE: tf.reduce_max(probabilities, axis=1),
            STATUS: status,
            **{name: answer[name] for name in vectors},
        }
        return {name: output[:rows] for name, output in outputs.items()}

    return serve


def embedding_names(trained_model: TrainedModel) -> list[str]:
    """Names the vectors of a row: "embedding", and one a modality that is aligned."""
    aligned = trained_model.config.loss.aligned(trained_model.state.modalities)
    return [EMBEDDING, *(EMBEDDINGS[m] for m in aligned)]


def _never_empty(strings):
    return tf.cond(tf.size(strings) > 0, lambda: strings, lambda: tf.constant([""]))


def _label(probabilities, classes, task):
    names = tf.constant(classes)
    if task != MULTILABEL:
        return tf.gather(names, tf.argmax(probabilities, axis=1))
    chosen = tf.where(probabilities >= 0.5, LABEL_SEPARATOR + names, "")
    joined = tf.strings.reduce_join(chosen, axis=1)
    return tf.strings.regex_replace(joined, rf"^\{LABEL_SEPARATOR}", "")


class Predictor:
    """Calls the serving function on batches of Python bytes."""

    def __init__(self, trained_model: TrainedModel):
        self.modalities = trained_model.state.modalities
        self._trained = trained_model  # owns what the function's graph refers to
        spec = {m: tf.TensorSpec([None], tf.string) for m in self.modalities}
        self._serve = tf.function(build_serve(trained_model), [spec], autograph=False)

    def __call__(self, data: dict[str, list[bytes]]) -> dict[str, np.ndarray]:
        """Predicts one batch: lists of bytes by modality to arrays by output."""
        tensors = {m: tf.constant(data[m], tf.string) for m in self.modalities}
        return {name: out.numpy() for name, out in self._serve(tensors).items()}
