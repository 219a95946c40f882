"""Test rows with each modality hidden in turn, answered by the served models.

What TFMA measures: it meets each row once with nothing hidden and once without each
modality, sliced by HIDDEN, and never the media themselves.
"""

import os
from collections.abc import Iterator, Sequence
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

# Features that rows are sliced by: what was hidden from the models, and of the rows
# that nothing was hidden of, what they have, as in "text+image".
HIDDEN, NOTHING = "hidden", "nothing"
PRESENT_SEPARATOR = "+"

# What is compared of a row: the names of its classes as one text; the (C,)
# probabilities; and (C + 1,) 0 or 1, the last one where none of the classes is named.
ANSWER, SCORES, CHOICE = "answer", "scores", "choice"

# Lowest probability, also of a class that a model does not have: 0 has no logarithm,
# and float32 cannot tell from 1 what is nearer.
LOWEST = 1e-7

SAVED_MODEL_FILE = "saved_model.pb"
_BATCH_ROWS = 32  # decoded and in memory at a time


def exported_analysis(model_path: str) -> PreprocessingState:
    """Reads from a SavedModel its task, classes and modalities."""
    source = os.path.join(model_path, os.path.dirname(WARMUP_FILE), ANALYSIS_FILE)
    with TemporaryDirectory() as folder:
        path = Path(folder, ANALYSIS_FILE)
        tf.io.gfile.copy(source, str(path))  # `source` may be gs:// or s3://
        return preprocessing_state.load(path)


def hideable(state: PreprocessingState) -> tuple[str, ...]:
    """Modalities to hide in turn; without its only one a model has nothing to say."""
    return state.modalities if len(state.modalities) > 1 else ()


def custom_eval_shared_model(
    eval_saved_model_path: str, **given
) -> tfma.types.EvalSharedModel:
    """Finds a model; the stock Evaluator looks for a function of this name.

    A pushed version, which is the baseline on Kubeflow, is the SavedModel's folder
    itself, without the one that TFX puts around it.
    """
    if not tf.io.gfile.exists(os.path.join(eval_saved_model_path, SAVED_MODEL_FILE)):
        eval_saved_model_path = os.path.dirname(eval_saved_model_path)
    return tfma.default_eval_shared_model(eval_saved_model_path, **given)


def custom_extractors(
    eval_shared_model, eval_config, tensor_adapter_config
) -> list[tfma.extractors.Extractor]:
    """Makes the extractors; the stock Evaluator looks for a function of this name."""
    del tensor_adapter_config
    models = eval_shared_model
    if not isinstance(models, list):
        models = [models]
    known = {
        m.model_name: (m.model_path, exported_analysis(m.model_path)) for m in models
    }
    (candidate,) = [m.model_name for m in models if not m.is_baseline]
    answer = beam.ParDo(AnswerRows(known, candidate))
    return [
        tfma.extractors.Extractor(stage_name="AnswerRows", ptransform=answer),
        slice_key_extractor.SliceKeyExtractor(
            eval_config=eval_config, materialize=False
        ),
    ]


class AnswerRows(beam.DoFn):
    """From batches of serialized rows to TFMA's extracts, one a row and hidden thing.

    Args:
        models: Name -> path of the SavedModel, and what it says of itself.
        candidate: The model whose classes and modalities count.
    """

    def __init__(
        self, models: dict[str, tuple[str, PreprocessingState]], candidate: str
    ):
        _, state = models[candidate]
        self._classes = state.classes
        self._hidden = (NOTHING, *hideable(state))
        self._paths = {name: path for name, (path, _) in models.items()}
        self._inputs = {name: own.modalities for name, (_, own) in models.items()}
        self._columns = {
            name: _columns(state.classes, own.classes)
            for name, (_, own) in models.items()
        }

    def setup(self):
        loaded = {name: tf.saved_model.load(p) for name, p in self._paths.items()}
        self._models = loaded  # owns what the signatures refer to
        self._serve = {n: m.signatures[SERVING_DEFAULT] for n, m in loaded.items()}

    def process(self, extracts: tfma.types.Extracts) -> Iterator[tfma.types.Extracts]:
        batch = extracts[tfma.ARROW_RECORD_BATCH_KEY]
        place = batch.schema.get_field_index(tfma.ARROW_INPUT_COLUMN)
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            column = batch.column(place).slice(start, _BATCH_ROWS)
            yield from self._answer_all(column.flatten().to_pylist())

    def _answer_all(self, serialized: list[bytes]) -> Iterator[tfma.types.Extracts]:
        text = tf.io.FixedLenFeature([], tf.string, "")
        features = {name: text for name in (*MODALITIES, LABEL)}
        data = tf.io.parse_example(serialized, features)
        truths = [self._outputs(label) for label in data.pop(LABEL).numpy()]
        present = _present(data)
        for hidden in self._hidden:
            answers = {name: self._answer(name, data, hidden) for name in self._serve}
            for i, truth in enumerate(truths):
                sliced = {HIDDEN: np.array([hidden])}
                if hidden == NOTHING:
                    sliced[PRESENT] = np.array([present[i]])
                predictions = {name: rows[i] for name, rows in answers.items()}
                yield {
                    tfma.FEATURES_KEY: sliced,
                    tfma.LABELS_KEY: truth,
                    # TFMA calls a model without a baseline "" and drops that level.
                    tfma.PREDICTIONS_KEY: predictions.get("", predictions),
                }

    def _answer(self, name: str, data: dict[str, tf.Tensor], hidden: str) -> list[dict]:
        """Asks one model, with "" for what is hidden."""
        inputs = {m: data[m] for m in self._inputs[name]}
        if hidden in inputs:
            inputs[hidden] = tf.fill(tf.shape(inputs[hidden]), "")
        said = self._serve[name](**inputs)
        scores = said[PROBABILITIES].numpy().astype("float64")
        scores = np.pad(scores, [(0, 0), (0, 1)])[:, self._columns[name]]
        scores = np.clip(scores, LOWEST, 1 - LOWEST)
        labels = said[LABEL].numpy()
        return [
            self._outputs(label) | {SCORES: row}
            for label, row in zip(labels, scores, strict=True)
        ]

    def _outputs(self, label: bytes) -> dict[str, np.ndarray]:
        """What is compared of a label, be it the true one or the answer."""
        label = label.decode()
        chosen = target(label, self._classes)
        names = sorted(label.split(LABEL_SEPARATOR))
        return {
            ANSWER: np.array([LABEL_SEPARATOR.join(names)]),
            SCORES: chosen,
            CHOICE: np.append(chosen, not chosen.any()),
        }


def _columns(classes: Sequence[str], own: Sequence[str]) -> list[int]:
    """Where a model has the score of each class; -1, the padding, if it has none."""
    return [own.index(name) if name in own else -1 for name in classes]


def _present(data: dict[str, tf.Tensor]) -> list[str]:
    """Names what each row has, as in "text+image"."""
    there = {m: (data[m] != "").numpy() for m in MODALITIES}  # (B,) each
    rows = zip(*there.values(), strict=True)
    names = [
        [m for m, is_there in zip(there, row, strict=True) if is_there] for row in rows
    ]
    return [PRESENT_SEPARATOR.join(row) or NOTHING for row in names]
