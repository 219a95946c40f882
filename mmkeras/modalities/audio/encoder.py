"""The audio branch: a dense layer for vectors, CNN, GRU, or a pretrained encoder."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from mmkeras.config import AudioConfig
from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.saving import saved_as
from mmkeras.layers.sequence import TokenPooling, hide_padding
from mmkeras.modalities.audio import pretrained

# Frames averaged before the GRU: at a hop of 10 ms neighbors hardly differ, and ten
# seconds would be a thousand sequential steps.
_FRAMES_PER_STEP = 8
_CNN_FILTERS = (16, 32)  # of all blocks but the last, which has `units`


def build_audio_encoder(
    config: AudioConfig,
    shape: Sequence[int],
    tokens: bool = False,
    name: str = "audio_encoder",
) -> keras.Model:
    """Builds the audio branch.

    The input has rows of `shape`, float32: (D,); (T, F) with `config.is_sequence`,
    where frames of zeros are padding; or (1 + S,) as in waves.py with
    `config.is_pretrained`. With `tokens` encoders of sequences return their tokens,
    (B, L, D), and the mask (B, L) bool, instead of one vector (B, D).

    Raises:
        UserError: A pretrained encoder cannot be found or fetched, or does not fit.
    """
    if config.is_pretrained:
        return _pretrained(config, shape, tokens, name)
    if not config.is_sequence:
        return _dense(config, shape, name)
    frames = keras.Input(shape, name="audio_frames")
    build = {"cnn": _cnn, "gru": _gru}[config.encoder]
    x, mask = build(frames, config)
    x = Dropout(config.dropout, name="audio_dropout")(x)
    if not tokens:
        x = TokenPooling(config.pooling, name="audio_pool")(x, mask)
    return keras.Model(frames, [x, mask] if tokens else x, name=name)


def _dense(config, shape, name):
    vector = keras.Input(shape, name="audio_vector")
    x = Dropout(config.dropout, name="audio_dropout")(vector)
    if config.units:
        x = layers.Dense(config.units, activation="relu", name="audio_dense")(x)
    return keras.Model(vector, x, name=name)


def _pretrained(config, shape, tokens, name):
    waves = keras.Input(shape, name="audio_waves")
    build = _PRETRAINED[config.encoder]
    x = build(waves, config)
    if isinstance(x, tuple) and not tokens:
        x = TokenPooling(config.pooling, name="audio_pool")(*x)
    return keras.Model(waves, x, name=name)


def with_one_output(encoder: keras.Model) -> keras.Model:
    """Returns an encoder whose output can be cached: tokens with zeros in padding."""
    if len(encoder.outputs) == 1:
        return encoder
    x = hide_padding(*encoder.outputs)
    return keras.Model(encoder.input, x, name=encoder.name)


def _gru(frames, config):
    """Returns (B, T / 8, units), and (B, T / 8) bool: whether a step has a frame."""
    steps, mask = ChunkedMean(_FRAMES_PER_STEP, name="audio_steps")(frames)
    gru = layers.GRU(config.units, return_sequences=True, name="audio_gru")
    return gru(steps, mask=mask), mask


def _cnn(frames, config):
    """Returns the same shapes as `_gru`: three blocks, then the mean of the bands."""
    x = layers.Reshape((*frames.shape[1:], 1), name="audio_plane")(frames)
    blocks = (*_CNN_FILTERS, config.units)
    for i, filters in enumerate(blocks, start=1):
        x = layers.Conv2D(
            filters,
            3,
            strides=2,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"audio_conv{i}",
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"audio_norm{i}")(x)
        x = layers.ReLU(name=f"audio_relu{i}")(x)
    x = ops.mean(x, axis=2)  # (B, L, units)
    _, mask = ChunkedMean(2 ** len(blocks), name="audio_steps")(frames)
    return x, mask


_PRETRAINED = {
    "hub": pretrained.saved_model,
    "saved_model": pretrained.saved_model,
    "kerashub": pretrained.kerashub,
}


@saved_as("StretchMean")
class ChunkedMean(layers.Layer):
    """Mean of each chunk of frames, and whether a chunk has any frame.

    Shapes: (B, T, F) with frames of zeros as padding, T static, to (B, L, F) and
    (B, L) bool; L = ceil(T / frames).
    """

    def __init__(self, frames: int, **kwargs):
        super().__init__(**kwargs)
        self.frames = frames

    def call(self, x):
        steps = -(-x.shape[1] // self.frames)
        missing = steps * self.frames - x.shape[1]
        x = ops.pad(x, ((0, 0), (0, missing), (0, 0)))
        x = ops.reshape(x, (-1, steps, self.frames, x.shape[2]))
        is_frame = ops.any(ops.not_equal(x, 0), axis=3)  # (B, L, frames)
        count = ops.sum(ops.cast(is_frame, x.dtype), axis=2)[..., None]  # (B, L, 1)
        mean = ops.sum(x, axis=2) / ops.maximum(count, 1)
        return mean, ops.any(is_frame, axis=2)

    def compute_output_spec(self, x):
        steps = -(-x.shape[1] // self.frames)
        mean = keras.KerasTensor((x.shape[0], steps, x.shape[2]), self.compute_dtype)
        return mean, keras.KerasTensor((x.shape[0], steps), "bool")

    def get_config(self):
        return {**super().get_config(), "frames": self.frames}
