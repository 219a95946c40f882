"""BERT and its relatives in Keras layers."""

import keras
from keras import layers, ops

from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import hide_padding
from mmkeras.modalities.text.pretrained import BertSizes


@keras.saving.register_keras_serializable(package="mmkeras")
class TrimPadding(layers.Layer):
    """Cuts columns that are padding in all rows: (B, L) token ids to (B, L'), L' <= L.

    Only TensorFlow can do it, whose shapes may differ from batch to batch, and not if
    it compiles the model by XLA.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = False

    def call(self, ids):
        if keras.backend.backend() != "tensorflow":
            return ids
        longest = ops.max(ops.sum(ops.cast(ids != 0, "int32"), axis=1))
        return ids[:, : ops.maximum(longest, 1)]

    def compute_output_spec(self, ids):
        dynamic = keras.backend.backend() == "tensorflow"
        shape = (ids.shape[0], None if dynamic else ids.shape[1])
        return keras.KerasTensor(shape, ids.dtype)


@keras.saving.register_keras_serializable(package="mmkeras")
class PadTokens(layers.Layer):
    """Zeros in padding up to a length: (B, L', D), (B, L') ids to (B, length, D)."""

    def __init__(self, length: int, **kwargs):
        super().__init__(**kwargs)
        self.length = length

    def call(self, tokens, ids):
        tokens = hide_padding(tokens, ids != 0)
        missing = self.length - ops.shape(tokens)[1]
        return ops.pad(tokens, ((0, 0), (0, missing), (0, 0)))

    def compute_output_spec(self, tokens, ids):
        shape = (tokens.shape[0], self.length, tokens.shape[2])
        return keras.KerasTensor(shape, tokens.dtype)

    def get_config(self):
        return {**super().get_config(), "length": self.length}


@keras.saving.register_keras_serializable(package="mmkeras")
class BertEmbedding(layers.Layer):
    """Sum of the embeddings of word pieces, positions and the first segment.

    (B, L) int32 to (B, L, D), L at most `positions`.
    """

    def __init__(self, pieces, positions, width, has_segments, **kwargs):
        super().__init__(**kwargs)
        self.pieces, self.positions, self.width = pieces, positions, width
        self.has_segments = has_segments

    def build(self, shape):
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        for name, rows in (
            ("piece", self.pieces),
            ("position", self.positions),
            ("segment", int(self.has_segments)),
        ):
            if rows:
                shape = (rows, self.width)
                setattr(self, name, self.add_weight(shape, start, name=name))

    def call(self, ids):
        x = ops.take(self.piece, ids, axis=0)
        x += self.position[: ops.shape(ids)[1]]
        return x + self.segment[0] if self.has_segments else x

    def compute_output_shape(self, shape):
        return (*shape, self.width)

    def get_config(self):
        names = ("pieces", "positions", "width", "has_segments")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def bert(ids: keras.KerasTensor, sizes: BertSizes, dropout: float = 0.1):
    """Applies BERT to token ids, 0 in padding: (B, L) int32 to (B, L, width).

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805, which normalises
    after each part.
    """
    mask = ops.not_equal(ids, 0)[:, None, :]  # (B, 1, L)
    x = BertEmbedding(
        sizes.pieces,
        sizes.positions,
        sizes.embedding_width,
        sizes.has_segments,
        name="embedding",
    )(ids)
    x = _norm(sizes, "embedding_norm")(x)
    x = Dropout(dropout, name="embedding_dropout")(x)
    if sizes.embedding_width != sizes.width:
        x = layers.Dense(sizes.width, name="embedding_projection")(x)
    for i in range(sizes.layers):
        x = _block(x, mask, sizes, dropout, f"block{i + 1}")
    return x


def _block(x, mask, sizes, dropout, name):
    mix = layers.MultiHeadAttention(
        sizes.heads, sizes.width // sizes.heads, dropout=dropout, name=f"{name}_mix"
    )(x, x, attention_mask=mask)
    mix = Dropout(dropout, name=f"{name}_mix_dropout")(mix)
    x = _norm(sizes, f"{name}_mix_norm")(x + mix)
    y = layers.Dense(sizes.hidden, name=f"{name}_wide")(x)
    y = _ACTIVATIONS[sizes.activation](y)
    y = layers.Dense(sizes.width, name=f"{name}_narrow")(y)
    y = Dropout(dropout, name=f"{name}_dropout")(y)
    return _norm(sizes, f"{name}_norm")(x + y)


def _norm(sizes, name):
    return layers.LayerNormalization(epsilon=sizes.epsilon, name=name)


_ACTIVATIONS = {
    "gelu": lambda x: ops.gelu(x, approximate=False),
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "relu": ops.relu,
}
