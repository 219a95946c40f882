"""Inference in two stages, for many predictions per row: encoding, then the head."""

from collections.abc import Collection, Iterator, Sequence
from functools import partial

import numpy as np
import tensorflow as tf

from mmkeras.export.inference import TrainedModel, generate_texts
from mmkeras.export.text_search import token_log_probabilities
from mmkeras.modalities.preprocessing_state import GENERATE
from mmkeras.models.generator import get_decoder
from mmkeras.models.model import backbones, run_head
from mmkeras.models.tasks import predicted_values
from mmkeras.schema import GENERATED, PRESENT, PROBABILITIES, TOKENS

_ENCODE_ROWS, _PREDICT_ROWS = 64, 256  # per batch

Arrays = dict[str, np.ndarray]


class TwoStagePredictor:
    """The serving function, split before the head.

    The first stage has the preprocessing and the backbones, and runs once per row.
    The second runs for each subset of branches and each variant of a branch.

    Example:
        predictor = TwoStagePredictor(trained_model)
        inputs = predictor.encode({"text": texts, "image": images})
        predictor.predict(inputs) - predictor.predict(inputs, without=["image"])
    """

    def __init__(self, trained_model: TrainedModel):
        preprocessor = trained_model.preprocessor
        self.branches, self.columns = preprocessor.branches, preprocessor.columns
        self.keys = preprocessor.keys
        self._trained_model = trained_model  # keeps the graphs' variables alive
        self._preprocess = tf.function(
            preprocessor.__call__, [preprocessor.specs], autograph=False
        )
        self._encoders = {
            key: tf.function(
                partial(backbone, training=False),
                autograph=False,
                reduce_retracing=True,
            )
            for key, backbone in backbones(trained_model.model).items()
        }
        self._head = tf.function(
            self._predictions, autograph=False, reduce_retracing=True
        )
        self._scorer = tf.function(
            self._token_scores, autograph=False, reduce_retracing=True
        )
        # Values of a branch that a row does not have.
        self.absent = self.encode({n: [c.absent] for n, c in self.columns.items()})

    def _predictions(self, inputs):
        model, state = self._trained_model.model, self._trained_model.state
        outputs = run_head(model, inputs)
        if state.task == GENERATE:
            return generate_texts(self._trained_model, outputs)[GENERATED]
        return predicted_values(outputs[PROBABILITIES], state)

    def _token_scores(self, inputs, tokens):
        model, settings = self._trained_model.model, self._trained_model.config.generate
        memory = run_head(model, inputs)
        return token_log_probabilities(get_decoder(model), memory, tokens, settings)

    def encode(self, data: dict[str, Sequence[bytes | float]]) -> Arrays:
        """Runs the first stage: values of N rows by column to the head's inputs.

        These are (N, ...) by key of `keys`, and under "present" (N, M) float32.
        """
        keys = [key for keys in self.keys.values() for key in keys]
        parts = [self._inputs(b, keys) for b in _batches(data, _ENCODE_ROWS)]
        return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

    def status(self, data: dict[str, Sequence[bytes | float]]) -> list[str]:
        """Returns the status of each row, as the served graph gives it."""
        _, status = self._preprocess(self._trained_model.preprocessor.tensors(data))
        return [text.decode() for text in status.numpy()]

    def replace_branch(
        self, inputs: Arrays, branch: str, data: dict[str, Sequence[bytes | float]]
    ) -> Arrays:
        """Returns inputs of N rows with other values of the columns of one branch."""
        rows = len(inputs[PRESENT])
        absent = {n: [c.absent] * rows for n, c in self.columns.items()}
        keys, i = self.keys[branch], self._index(branch)
        batches = _batches(absent | data, _ENCODE_ROWS)
        parts = [self._inputs(batch, keys) for batch in batches]
        present = inputs[PRESENT].copy()
        present[:, i] = np.concatenate([part[PRESENT][:, i] for part in parts])
        values = {k: np.concatenate([part[k] for part in parts]) for k in keys}
        return {**inputs, **values, PRESENT: present}

    def _index(self, branch: str) -> int:
        """Returns the column of a branch in "present"."""
        return list(self.branches).index(branch)

    def _inputs(self, data, keys):
        tensors = self._trained_model.preprocessor.tensors(data)
        inputs, _ = self._preprocess(tensors)
        inputs = {key: inputs[key] for key in (*keys, PRESENT)}
        for key in inputs.keys() & self._encoders:
            inputs[key] = self._encoders[key](inputs[key])
        return {name: x.numpy() for name, x in inputs.items()}

    def predict(self, inputs: Arrays, without: Collection[str] = ()) -> np.ndarray:
        """Runs the second stage on a result of `encode`: (N, C) probabilities.

        In regression they are the (N, 1) values, and of a generator the (N,) texts, as
        strings. The branches of `without` count as absent in every row.
        """
        parts = []
        for batch in _batches(inputs, _PREDICT_ROWS):
            batch = self._remove_branches(batch, without)
            parts.append(self._head({k: tf.constant(x) for k, x in batch.items()}))
        result = np.concatenate([part.numpy() for part in parts])
        return decode_texts(result) if result.dtype == object else result

    def score_tokens(
        self, inputs: Arrays, tokens: np.ndarray, without: Collection[str] = ()
    ) -> np.ndarray:
        """Returns the log probability (N, L) of each token of given texts (N, L).

        `tokens` is as for `token_log_probabilities`, and the rest as in `predict`.
        """
        parts = []
        for batch in _batches({**inputs, TOKENS: tokens}, _PREDICT_ROWS):
            ids = tf.constant(batch.pop(TOKENS), tf.int32)
            batch = self._remove_branches(batch, without)
            batch = {k: tf.constant(x) for k, x in batch.items()}
            parts.append(self._scorer(batch, ids).numpy())
        return np.concatenate(parts)

    def _remove_branches(self, inputs, names):
        result, present = dict(inputs), inputs[PRESENT].copy()
        for name in names:  # values too: a model can ignore `present`
            present[:, self._index(name)] = 0
            for key in self.keys[name]:
                result[key] = np.broadcast_to(self.absent[key], inputs[key].shape)
        return {**result, PRESENT: present}


def decode_texts(texts: np.ndarray) -> np.ndarray:
    """Returns (N,) texts of TensorFlow, UTF-8 bytes, as strings."""
    return np.array([text.decode() for text in texts], object)


def _batches(columns: dict, size: int) -> Iterator[dict]:
    rows = len(next(iter(columns.values())))
    for start in range(0, rows, size):
        yield {name: x[start : start + size] for name, x in columns.items()}
