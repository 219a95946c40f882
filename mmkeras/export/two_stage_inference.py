"""Inference in two stages, for many predictions per row: encoding, then the head."""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import tensorflow as tf

from mmkeras.export.inference import TrainedModel
from mmkeras.models.model import classify, encode
from mmkeras.models.tasks import predicted_values
from mmkeras.schema import IMAGE, PRESENT

_ENCODE_ROWS, _CLASSIFY_ROWS = 64, 256  # per batch

Arrays = dict[str, np.ndarray]


class TwoStagePredictor:
    """The serving function, split before the head.

    The first stage has the preprocessing and the image encoder, and runs once per row.
    The second runs for each subset of modalities and each variant of a modality.

    Example:
        predictor = TwoStagePredictor(trained_model)
        inputs = predictor.encode({"text": texts, "image": images})
        predictor.classify(inputs) - predictor.classify(inputs, without=["image"])
    """

    def __init__(self, trained_model: TrainedModel):
        self.modalities = trained_model.state.modalities
        self._trained_model = trained_model  # keeps the graphs' variables alive
        spec = {m: tf.TensorSpec([None], tf.string) for m in self.modalities}
        self._preprocess = tf.function(
            lambda data: trained_model.preprocessor(data)[0], [spec], autograph=False
        )
        self._encode_images, self._head = (
            tf.function(stage, autograph=False, reduce_retracing=True)
            for stage in (self._image_encoder, self._probabilities)
        )
        # Values of a modality that a row does not have.
        self.absent = self.encode({m: [b""] for m in self.modalities})

    def _image_encoder(self, images):
        return encode(self._trained_model.model, {IMAGE: images})[IMAGE]

    def _probabilities(self, inputs):
        output = classify(self._trained_model.model, inputs)
        return predicted_values(output, self._trained_model.state)

    def encode(self, data: dict[str, Sequence[bytes]]) -> Arrays:
        """Runs the first stage: bytes of N rows by modality to the head's inputs.

        These are (N, ...) by modality, and under "present" (N, M) float32.
        """
        parts = [self._inputs(b, self.modalities) for b in _batches(data, _ENCODE_ROWS)]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def encode_one(
        self, modality: str, contents: Sequence[bytes]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Runs the first stage on one modality: (N, ...) values, and (N,) presence."""
        data = {m: [b""] * len(contents) for m in self.modalities}
        data[modality] = contents
        parts = [self._inputs(b, (modality,)) for b in _batches(data, _ENCODE_ROWS)]
        column = self.modalities.index(modality)
        present = np.concatenate([p[PRESENT][:, column] for p in parts])
        return np.concatenate([p[modality] for p in parts]), present > 0

    def _inputs(self, data, names):
        tensors = {m: tf.constant(list(data[m]), tf.string) for m in self.modalities}
        inputs = self._preprocess(tensors)
        inputs = {name: inputs[name] for name in (*names, PRESENT)}
        if IMAGE in inputs:
            inputs[IMAGE] = self._encode_images(inputs[IMAGE])
        return {name: x.numpy() for name, x in inputs.items()}

    def classify(self, inputs: Arrays, without: Collection[str] = ()) -> np.ndarray:
        """Runs the second stage on a result of `encode`: (N, C) probabilities.

        In regression they are the (N, 1) values.
        The modalities of `without` count as absent in every row.
        """
        parts = []
        for batch in _batches(inputs, _CLASSIFY_ROWS):
            batch = self._remove_modalities(batch, without)
            parts.append(self._head({k: tf.constant(x) for k, x in batch.items()}))
        return np.concatenate([part.numpy() for part in parts])

    def _remove_modalities(self, inputs, names):
        result, present = dict(inputs), inputs[PRESENT].copy()
        for m in names:  # values too: a model can ignore `present`
            present[:, self.modalities.index(m)] = 0
            result[m] = np.broadcast_to(self.absent[m], inputs[m].shape)
        return {**result, PRESENT: present}


def _batches(columns: dict, size: int) -> Iterator[dict]:
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, size):
        yield {name: x[start : start + size] for name, x in columns.items()}
