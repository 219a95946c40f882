"""A trained model in two steps, so that many questions about a row cost little."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import tensorflow as tf

from mmkeras.export.inference import TrainedModel
from mmkeras.modalities.preprocessing_state import BINARY
from mmkeras.models.model import classify, encode
from mmkeras.schema import IMAGE, PRESENT

_ENCODED_ROWS, _CLASSIFIED_ROWS = 64, 256

Arrays = dict[str, np.ndarray]


class TwoStagePredictor:
    """Raw bytes -> what the head takes -> probabilities, by the functions of serving.

    The first step has the preprocessing and the image encoder, and is taken once a row;
    the second is taken for each subset of modalities, and each variant of one of them.
    """

    def __init__(self, trained_model: TrainedModel):
        self.modalities = trained_model.state.modalities
        self._trained = trained_model  # owns what the graphs refer to
        spec = {m: tf.TensorSpec([None], tf.string) for m in self.modalities}
        self._prepare = tf.function(
            lambda data: trained_model.preprocessor(data)[0], [spec], autograph=False
        )
        self._pictures, self._head = (
            tf.function(step, autograph=False, reduce_retracing=True)
            for step in (self._encoded, self._classified)
        )
        # What stands in the place of a modality that a row does not have.
        self.absent = self.encode({m: [b""] for m in self.modalities})

    def _encoded(self, images):
        return encode(self._trained.model, {IMAGE: images})[IMAGE]

    def _classified(self, inputs):
        probabilities = classify(self._trained.model, inputs)
        if self._trained.state.task == BINARY:
            probabilities = tf.concat([1 - probabilities, probabilities], axis=1)
        return probabilities

    def encode(self, data: dict[str, Sequence[bytes]]) -> Arrays:
        """Takes the first step: bytes of N rows by modality to the head's inputs.

        Returns:
            (N, ...) by modality, and under "present" (N, M) float32.
        """
        parts = [self._inputs(b, self.modalities) for b in _cut(data, _ENCODED_ROWS)]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def encode_one(
        self, modality: str, contents: Sequence[bytes]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes the first step for one modality: (N, ...), and (N,) if it is there."""
        data = {m: [b""] * len(contents) for m in self.modalities}
        data[modality] = contents
        parts = [
            self._inputs(batch, (modality,)) for batch in _cut(data, _ENCODED_ROWS)
        ]
        column = self.modalities.index(modality)
        there = np.concatenate([p[PRESENT][:, column] for p in parts])
        return np.concatenate([p[modality] for p in parts]), there > 0

    def _inputs(self, data, names):
        tensors = {m: tf.constant(list(data[m]), tf.string) for m in self.modalities}
        inputs = self._prepare(tensors)
        inputs = {name: inputs[name] for name in (*names, PRESENT)}
        if IMAGE in inputs:
            inputs[IMAGE] = self._pictures(inputs[IMAGE])
        return {name: x.numpy() for name, x in inputs.items()}

    def classify(self, inputs: Arrays, without: Collection[str] = ()) -> np.ndarray:
        """Takes the second step: to (N, C) probabilities, one column a class.

        Args:
            inputs: As of `encode`.
            without: Modalities that count as absent in every row.
        """
        parts = []
        for part in _cut(inputs, _CLASSIFIED_ROWS):
            part = self._hidden(part, without)
            parts.append(self._head({k: tf.constant(x) for k, x in part.items()}))
        return np.concatenate([part.numpy() for part in parts])

    def _hidden(self, inputs, without):
        hidden, present = dict(inputs), inputs[PRESENT].copy()
        for m in without:  # its data too: a model may not look at `present`
            present[:, self.modalities.index(m)] = 0
            hidden[m] = np.broadcast_to(self.absent[m], inputs[m].shape)
        return {**hidden, PRESENT: present}


def _cut(columns: dict, size: int) -> Iterator[dict]:
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, size):
        yield {name: x[start : start + size] for name, x in columns.items()}
