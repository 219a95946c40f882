"""Random replacement of input tokens by a decoder's own predictions."""

import keras
from keras import layers, ops

from mmkeras.layers.replica_dropout import ReplicaAwareRandom


@keras.saving.register_keras_serializable(package="mmkeras")
class ScheduledSampling(ReplicaAwareRandom, layers.Layer):
    """Tokens of which training replaces some by predictions; else the identity.

    Shapes: (B, L) int tokens and (B, L, V) logits of a first pass, whose position t
    predicts the token at t + 1, to (B, L) int. Each token but the first is replaced
    with `probability` by the most probable one, independently. Padding (0) stays, and
    is never predicted.

    Source: Bengio et al., 2015, https://arxiv.org/abs/1506.03099, with a constant
    probability, and on the predictions of a first pass over the true tokens as in
    Mihaylova and Martins, 2019, https://arxiv.org/abs/1906.07651.
    """

    def __init__(self, probability: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.probability, self.seed = probability, seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, tokens, logits, training=False):
        if not training or self.probability == 0:
            return tokens
        predicted = ops.argmax(logits[:, :-1, 1:], axis=-1) + 1  # (B, L - 1)
        predicted = ops.cast(predicted, tokens.dtype)
        predicted = ops.concatenate([tokens[:, :1], predicted], axis=1)
        uniform = self.draw_rows(self._draw, tuple(ops.shape(tokens)))
        is_replaced = (uniform < self.probability) & ops.not_equal(tokens, 0)
        return ops.where(is_replaced, predicted, tokens)

    def _draw(self, shape):
        return keras.random.uniform(shape, seed=self.seed_generator)

    def compute_output_spec(self, tokens, logits, training=False):
        return keras.KerasTensor(tokens.shape, tokens.dtype)

    def get_config(self):
        config = {"probability": self.probability, "seed": self.seed}
        return {**super().get_config(), **config}
