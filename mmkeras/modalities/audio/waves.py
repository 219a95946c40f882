"""Layers of encoders whose input is waves, each with its number of samples.

A wave is (1 + S,) float32: the number of samples, then S samples, zeros in padding; a
row without a wave is zeros only.
"""

import keras
import numpy as np
from keras import layers, ops

from mmkeras.errors import UserError
from mmkeras.layers.saved_model import SavedModelLayer


@keras.saving.register_keras_serializable(package="mmkeras")
class WaveMask(layers.Layer):
    """Whether a frame begins before the end of the wave: (B, 1 + S) to (B, frames).

    The frames divide the S samples evenly. The first `min_frames` are always true.
    """

    def __init__(self, frames: int, min_frames: int = 1, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        self.frames, self.min_frames = frames, min_frames

    def call(self, waves):
        samples = waves.shape[1] - 1
        start = np.ceil(np.arange(self.frames) * samples / self.frames)
        start[: self.min_frames] = -1  # before any end
        return ops.less(start.astype("float32"), waves[:, :1])

    def compute_output_spec(self, waves):
        return keras.KerasTensor((waves.shape[0], self.frames), "bool")

    def get_config(self):
        config = {"frames": self.frames, "min_frames": self.min_frames}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable(package="mmkeras")
class WaveSavedModel(SavedModelLayer):
    """Frozen encoder of waves: (B, 1 + S) to (B, D), or to frames (B, N, D).

    A SavedModel of one wave (S,) gets each without its padding (silence for a row
    without a wave), and its result is averaged over time. One of a batch (B, S) gets
    padded waves; its frames are all returned.

    Source: YAMNet's module, https://tfhub.dev/google/yamnet/1 (scores, embeddings,
    log-mel spectrogram of one wave), whose output "1" is a default here.
    """

    default_outputs = (*SavedModelLayer.default_outputs, "1")

    def encode(self, waves):
        if self.input_rank == 1:
            import tensorflow as tf

            encode = tf.autograph.experimental.do_not_convert(self._encode_one)
            return tf.map_fn(encode, tf.convert_to_tensor(waves))
        result = self.run(waves[:, 1:])
        if result.shape.rank not in (2, 3):
            raise self._refuse_shape(result, "(B, D) or (B, N, D) for a batch")
        return result

    def _encode_one(self, wave):
        import tensorflow as tf

        samples = tf.cast(wave[0], tf.int32)
        samples = tf.where(samples > 0, samples, tf.size(wave) - 1)
        result = tf.cast(self.run(wave[1 : samples + 1]), tf.float32)
        if result.shape.rank not in (1, 2) or result.shape[-1] is None:
            raise self._refuse_shape(
                result, "(D,) or (N, D) for a wave, with a fixed D"
            )
        if result.shape.rank == 1:
            return result
        frames = tf.cast(tf.shape(result)[0], tf.float32)  # none in a short wave
        return tf.math.divide_no_nan(tf.reduce_sum(result, axis=0), frames)

    def _refuse_shape(self, result, expected):
        return UserError(
            f"The SavedModel of audio has an output of shape {result.shape}; it must "
            f"be {expected}. Choose another by audio.output_name."
        )


@keras.saving.register_keras_serializable(package="mmkeras")
class WaveFeatures(layers.Layer):
    """Input of a KerasHub backbone by its audio converter: (B, 1 + S) to (B, T, F).

    Args:
        converter: AudioConverter of KerasHub, of the length S.
        row_shape: (T, F); None is found by running a row.
    """

    def __init__(self, converter, row_shape: tuple[int, ...] | None = None, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})
        self.supports_jit = False  # it uses ragged tensors
        self.converter = converter
        self.row_shape = None if row_shape is None else tuple(row_shape)

    def build(self, shape):
        if hasattr(self.converter, "num_samples"):
            self.converter.num_samples = shape[1] - 1  # not max_audio_length, 30 s
        if self.row_shape is None:
            self.row_shape = tuple(self._convert(np.zeros((1, *shape[1:]))).shape[1:])

    def _convert(self, waves):
        import warnings

        import tensorflow as tf

        with warnings.catch_warnings():
            # Moonshine's converter warns of lengths when its graph is made.
            warnings.simplefilter("ignore")
            return tf.function(self.converter, autograph=False)(
                tf.cast(waves[:, 1:], tf.float32)
            )

    def call(self, waves):
        return ops.reshape(self._convert(waves), (-1, *self.row_shape))

    def compute_output_spec(self, waves):
        return keras.KerasTensor((waves.shape[0], *self.row_shape), "float32")

    def get_config(self):
        converter = keras.saving.serialize_keras_object(self.converter)
        config = {"converter": converter, "row_shape": self.row_shape}
        return {**super().get_config(), **config}

    @classmethod
    def from_config(cls, config):
        converter = keras.saving.deserialize_keras_object(config.pop("converter"))
        return cls(converter, **config)
