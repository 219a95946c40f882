"""TFMA extractors that predict test rows with each modality masked in turn.

TFMA evaluates each row once with nothing masked and once without each modality, sliced
by HIDDEN. The media themselves are not passed on.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors import slice_key_extractor

from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.preprocessing_state import PreprocessingState, target
from mmkeras.schema import (
    ANALYSIS_FILE,
    LABEL,
    LABEL_SEPARATOR,
    MODALITIES,
    PRESENT,
    PROBABILITIES,
    SERVING_DEFAULT,
    WARMUP_FILE,
)

# Features for slicing: the masked modality, and for rows with nothing masked their
# modalities, such as "text+image".
HIDDEN, NOTHING = "hidden", "nothing"
PRESENT_SEPARATOR = "+"

# Compared values per row: names of its classes as one text; (C,) probabilities; and
# (C + 1,) zeros or ones, the last one if none of the classes is named.
PREDICTED, SCORES, CHOICE = "answer", "scores", "choice"

# Lowest probability, also of a class that a model lacks: 0 has no logarithm, and 1
# minus a smaller number is 1 in float32.
LOWEST = 1e-7

SAVED_MODEL_FILE = "saved_model.pb"
_BATCH_ROWS = 32  # decoded and in memory at a time


def exported_analysis(model_path: str) -> PreprocessingState:
    """Reads task, classes and modalities of a SavedModel."""
    source = os.path.join(model_path, os.path.dirname(WARMUP_FILE), ANALYSIS_FILE)
    with TemporaryDirectory() as folder:
        path = Path(folder, ANALYSIS_FILE)
        tf.io.gfile.copy(source, str(path))  # `source` may be gs:// or s3://
        return preprocessing_state.load(path)


def hideable(state: PreprocessingState) -> tuple[str, ...]:
    """Returns the modalities to mask; none for a model of a single modality."""
    return state.modalities if len(state.modalities) > 1 else ()


def custom_eval_shared_model(
    eval_saved_model_path: str, **options
) -> tfma.types.EvalSharedModel:
    """Loads a model; the stock Evaluator calls a function of this name.

    A pushed version, the baseline on Kubeflow, is the SavedModel folder itself, without
    the subfolder of TFX's artifacts.
    """
    if not tf.io.gfile.exists(os.path.join(eval_saved_model_path, SAVED_MODEL_FILE)):
        eval_saved_model_path = os.path.dirname(eval_saved_model_path)
    return tfma.default_eval_shared_model(eval_saved_model_path, **options)


def custom_extractors(
    eval_shared_model, eval_config, tensor_adapter_config
) -> list[tfma.extractors.Extractor]:
    """Builds the extractors; the stock Evaluator calls a function of this name."""
    del tensor_adapter_config
    models = eval_shared_model
    models = models if isinstance(models, list) else [models]
    paths = {m.model_name: m.model_path for m in models}
    exports = {name: (path, exported_analysis(path)) for name, path in paths.items()}
    (candidate,) = [m.model_name for m in models if not m.is_baseline]
    predict = beam.ParDo(PredictRows(exports, candidate))
    return [
        tfma.extractors.Extractor(stage_name="PredictRows", ptransform=predict),
        slice_key_extractor.SliceKeyExtractor(
            eval_config=eval_config, materialize=False
        ),
    ]


class PredictRows(beam.DoFn):
    """Converts serialized rows to TFMA's extracts, one per row and masked modality.

    `models` maps a name to the path and the state of a SavedModel; the classes and
    modalities of the `candidate` are compared.
    """

    def __init__(
        self, models: dict[str, tuple[str, PreprocessingState]], candidate: str
    ):
        _, state = models[candidate]
        self._classes = state.classes
        self._hidden = (NOTHING, *hideable(state))
        self._paths = {name: path for name, (path, _) in models.items()}
        self._inputs = {name: model.modalities for name, (_, model) in models.items()}
        self._columns = {
            name: _columns(state.classes, model.classes)
            for name, (_, model) in models.items()
        }

    def setup(self):
        loaded = {name: tf.saved_model.load(p) for name, p in self._paths.items()}
        self._models = loaded  # keeps the variables of the signatures alive
        self._serve = {n: m.signatures[SERVING_DEFAULT] for n, m in loaded.items()}

    def process(self, extracts: tfma.types.Extracts) -> Iterator[tfma.types.Extracts]:
        batch = extracts[tfma.ARROW_RECORD_BATCH_KEY]
        index = batch.schema.get_field_index(tfma.ARROW_INPUT_COLUMN)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            column = batch.column(index).slice(start, _BATCH_ROWS)
            yield from self._predict_all(column.flatten().to_pylist())

    def _predict_all(self, serialized: list[bytes]) -> Iterator[tfma.types.Extracts]:
        text = tf.io.FixedLenFeature([], tf.string, "")
        features = {name: text for name in (*MODALITIES, LABEL)}
        data = tf.io.parse_example(serialized, features)
        truths = [self._outputs(label) for label in data.pop(LABEL).numpy()]
        present = _present(data)
        for hidden in self._hidden:
            results = {name: self._predict(name, data, hidden) for name in self._serve}
            for i, truth in enumerate(truths):
                sliced = {HIDDEN: np.array([hidden])}
                if hidden == NOTHING:
                    sliced[PRESENT] = np.array([present[i]])
                predictions = {name: rows[i] for name, rows in results.items()}
                yield {
                    tfma.FEATURES_KEY: sliced,
                    tfma.LABELS_KEY: truth,
                    # TFMA calls a model without a baseline "" and drops that level.
                    tfma.PREDICTIONS_KEY: predictions.get("", predictions),
                }

    def _predict(
        self, name: str, data: dict[str, tf.Tensor], hidden: str
    ) -> list[dict]:
        """Runs one model, with "" for the masked modality."""
        inputs = {m: data[m] for m in self._inputs[name]}
        if hidden in inputs:
            inputs[hidden] = tf.fill(tf.shape(inputs[hidden]), "")
        prediction = self._serve[name](**inputs)
        scores = prediction[PROBABILITIES].numpy().astype("float64")
        scores = np.pad(scores, [(0, 0), (0, 1)])[:, self._columns[name]]
        scores = np.clip(scores, LOWEST, 1 - LOWEST)
        labels = prediction[LABEL].numpy()
        return [
            self._outputs(label) | {SCORES: row}
            for label, row in zip(labels, scores, strict=True)
        ]

    def _outputs(self, label: bytes) -> dict[str, np.ndarray]:
        """Returns the compared values of a true or predicted label."""
        label = label.decode()
        chosen = target(label, self._classes)
        names = sorted(label.split(LABEL_SEPARATOR))
        return {
            PREDICTED: np.array([LABEL_SEPARATOR.join(names)]),
            SCORES: chosen,
            CHOICE: np.append(chosen, not chosen.any()),
        }


def _columns(classes: Sequence[str], model: Sequence[str]) -> list[int]:
    """Returns the index of each class in a model's output, -1 (padding) if absent."""
    return [model.index(name) if name in model else -1 for name in classes]


def _present(data: dict[str, tf.Tensor]) -> list[str]:
    """Returns the modalities of each row, such as "text+image"."""
    rows = zip(*((data[m] != "").numpy() for m in MODALITIES), strict=True)
    names = [compress(MODALITIES, row) for row in rows]
    return [PRESENT_SEPARATOR.join(row) or NOTHING for row in names]
