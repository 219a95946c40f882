"""TFMA extractors that predict test rows with each branch masked in turn.

TFMA evaluates each row once with nothing masked and once without each branch, sliced
by HIDDEN. The columns themselves are not passed on.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.extractors import slice_key_extractor

from mmkeras.config import Config
from mmkeras.data.stored_rows import is_present
from mmkeras.data.targets import LABEL_KINDS
from mmkeras.errors import UserError
from mmkeras.export.inference import load_settings
from mmkeras.export.saved_model import argument_name
from mmkeras.modalities.columns import build_columns
from mmkeras.modalities.preprocessing_state import (
    GENERATE,
    REGRESSION,
    PreprocessingState,
    target,
)
from mmkeras.modalities.preprocessor import column_feature
from mmkeras.schema import (
    ANALYSIS_FILE,
    CONFIG_FILE,
    GENERATED,
    LABEL,
    LABEL_SEPARATOR,
    PRESENT,
    PROBABILITIES,
    SERVING_DEFAULT,
    VALUE,
    WARMUP_FILE,
    feature_name,
)

# Features for slicing: the masked branch, and for rows with nothing masked their
# branches, such as "text+image".
HIDDEN, NOTHING = "hidden", "nothing"
PRESENT_SEPARATOR = "+"

# Compared values per row: names of its classes as one text; (C,) probabilities; and
# (C + 1,) zeros or ones, the last one if none of the classes is named. In regression
# there is only the number, as VALUE, and of a generator only the text, as GENERATED; a
# label may join several.
PREDICTED, SCORES, CHOICE = "answer", "scores", "choice"

# Lowest probability, also of a class that a model lacks: 0 has no logarithm, and 1
# minus a smaller number is 1 in float32.
LOWEST = 1e-7

SAVED_MODEL_FILE = "saved_model.pb"
_BATCH_ROWS = 32  # decoded and in memory at a time


def exported_settings(model_path: str) -> tuple[Config, PreprocessingState]:
    """Reads the settings and the preprocessing state of a SavedModel."""
    source = os.path.join(model_path, os.path.dirname(WARMUP_FILE))
    with TemporaryDirectory() as folder:
        for name in (CONFIG_FILE, ANALYSIS_FILE):  # `source` may be gs:// or s3://
            tf.io.gfile.copy(os.path.join(source, name), str(Path(folder, name)))
        return load_settings(folder)


def hideable(state: PreprocessingState) -> tuple[str, ...]:
    """Returns the branches to mask; none for a model of a single branch."""
    return tuple(state.branches) if len(state.branches) > 1 else ()


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
    """Builds the extractors; the stock Evaluator calls a function of this name.

    Raises:
        UserError: Two models predict different kinds: a class, a number or a text.
    """
    del tensor_adapter_config
    models = eval_shared_model
    models = models if isinstance(models, list) else [models]
    paths = {m.model_name: m.model_path for m in models}
    exports = {name: (path, *exported_settings(path)) for name, path in paths.items()}
    kinds = {n: LABEL_KINDS.get(s.task, "class") for n, (_, _, s) in exports.items()}
    (candidate,) = [m.model_name for m in models if not m.is_baseline]
    if other := sorted(set(kinds.values()) - {kinds[candidate]}):
        raise UserError(
            f"The last blessed model predicts a {other[0]} and this one a "
            f"{kinds[candidate]}, so that they cannot be compared. Give the pipeline "
            "another --root."
        )
    predict = beam.ParDo(PredictRows(exports, candidate))
    return [
        tfma.extractors.Extractor(stage_name="PredictRows", ptransform=predict),
        slice_key_extractor.SliceKeyExtractor(
            eval_config=eval_config, materialize=False
        ),
    ]


class PredictRows(beam.DoFn):
    """Converts serialized rows to TFMA's extracts, one per row and masked branch.

    `models` maps a name to the path, the settings and the state of a SavedModel; the
    classes and branches of the `candidate` are compared.
    """

    def __init__(
        self, models: dict[str, tuple[str, Config, PreprocessingState]], candidate: str
    ):
        _, _, state = models[candidate]
        self._branches = state.branches
        self._hidden = {NOTHING: ()} | {b: state.branches[b] for b in hideable(state)}
        self._paths = {name: path for name, (path, _, _) in models.items()}
        self._inputs = {
            n: build_columns(config) for n, (_, config, _) in models.items()
        }
        columns = (*self._inputs[candidate], *sum(self._inputs.values(), ()))
        # The candidate's come first, as the rows are its own.
        self._columns = {c.name: c for c in reversed(columns)}
        states = {name: state for name, (_, _, state) in models.items()}
        outputs = {REGRESSION: _Numbers, GENERATE: _Texts}.get(state.task)
        self._outputs = outputs() if outputs else _Classes(state, states)

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
        names = {name: feature_name(name) for name in self._columns}
        features = {names[n]: column_feature(c) for n, c in self._columns.items()}
        features[LABEL] = tf.io.FixedLenFeature([], tf.string, "")
        parsed = tf.io.parse_example(serialized, features)
        data = {name: parsed[feature] for name, feature in names.items()}
        truths = [self._outputs.truth(label) for label in parsed[LABEL].numpy()]
        present = _present(data, self._branches)
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
        """Runs one model, without the columns of the masked branch."""
        inputs = {}
        for column in self._inputs[name]:
            values, absent = data[column.name], tf.constant(column.absent)
            # A column of the baseline may have another type now.
            if column.name in self._hidden[hidden] or values.dtype != absent.dtype:
                values = tf.fill(tf.shape(values), absent)
            inputs[argument_name(column)] = values
        return self._outputs.predictions(name, self._serve[name](**inputs))


class _Numbers:
    """Compared values of a regression; methods are those of `_Classes`."""

    def truth(self, label: bytes) -> dict[str, np.ndarray]:
        return {VALUE: np.array([float(label)])}

    def predictions(self, name: str, prediction: Mapping) -> list[dict]:
        values = prediction[VALUE].numpy().astype("float64")
        return [{VALUE: value} for value in values[:, None]]


class _Texts:
    """Compared values of generated text; methods are those of `_Classes`."""

    def truth(self, label: bytes) -> dict[str, np.ndarray]:
        return {GENERATED: np.array([label.decode()])}

    def predictions(self, name: str, prediction: Mapping) -> list[dict]:
        return [self.truth(text) for text in prediction[GENERATED].numpy()]


class _Classes:
    """Compared values of classes, those of `state`, for models by name."""

    def __init__(
        self, state: PreprocessingState, models: Mapping[str, PreprocessingState]
    ):
        self._classes = state.classes
        self._indices = {
            n: _indices(state.classes, m.classes) for n, m in models.items()
        }

    def predictions(self, name: str, prediction: Mapping) -> list[dict]:
        """Returns the compared values of each row that a model has predicted."""
        scores = prediction[PROBABILITIES].numpy().astype("float64")
        scores = np.pad(scores, [(0, 0), (0, 1)])[:, self._indices[name]]
        scores = np.clip(scores, LOWEST, 1 - LOWEST)
        labels = prediction[LABEL].numpy()
        return [
            self.truth(label) | {SCORES: row}
            for label, row in zip(labels, scores, strict=True)
        ]

    def truth(self, label: bytes) -> dict[str, np.ndarray]:
        """Returns the compared values of a true or predicted label."""
        label = label.decode()
        chosen = target(label, self._classes)
        names = sorted(label.split(LABEL_SEPARATOR))
        return {
            PREDICTED: np.array([LABEL_SEPARATOR.join(names)]),
            SCORES: chosen,
            CHOICE: np.append(chosen, not chosen.any()),
        }


def _indices(classes: Sequence[str], model: Sequence[str]) -> list[int]:
    """Returns the index of each class in a model's output, -1 (padding) if absent."""
    return [model.index(name) if name in model else -1 for name in classes]


def _present(
    data: dict[str, tf.Tensor], branches: Mapping[str, Sequence[str]]
) -> list[str]:
    """Returns the branches of each row, such as "text+image"."""
    columns = {name: is_present(values).numpy() for name, values in data.items()}
    present = [np.any([columns[n] for n in names], 0) for names in branches.values()]
    names = [compress(branches, row) for row in zip(*present, strict=True)]
    return [PRESENT_SEPARATOR.join(row) or NOTHING for row in names]
