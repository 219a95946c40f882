"""Small pretrained encoders of audio, written by tests."""

from pathlib import Path

import keras
import tensorflow as tf

_WAVE = [tf.TensorSpec([None], tf.float32, name="waveform")]
_BATCH = [tf.TensorSpec([None, None], tf.float32, name="waves")]
WINDOW = 100  # samples of a frame of these modules


class Loudness(tf.Module):
    """Like YAMNet: scores, embeddings and windows of one wave; and of a batch.

    The embeddings of a window are its mean absolute value times 1, 2 and 3.
    """

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable([1.0, 2.0, 3.0])

    @tf.function(input_signature=_WAVE, autograph=False)
    def __call__(self, waveform):
        windows = tf.signal.frame(waveform, WINDOW, WINDOW, pad_end=True)
        loud = tf.reduce_mean(tf.abs(windows), axis=-1, keepdims=True)
        return loud, loud * self.weights, windows

    @tf.function(input_signature=_WAVE, autograph=False)
    def vector(self, waveform):
        loud, embeddings, windows = self(waveform)
        return {"vector": embeddings[0], "windows": windows, "loud": loud[0, 0]}

    @tf.function(input_signature=_BATCH, autograph=False)
    def batch(self, waves):
        windows = tf.signal.frame(waves, WINDOW, WINDOW, pad_end=True)
        loud = tf.reduce_mean(tf.abs(windows), axis=-1, keepdims=True)
        frames = loud * self.weights  # (B, N, 3)
        means = tf.reduce_mean(frames, axis=1)
        return {"frames": frames, "means": means, "loud": means[:, 0]}


def save_loudness(folder: Path) -> str:
    """Writes a SavedModel with the call, and the signatures vector and batch."""
    module = Loudness()
    signatures = {"vector": module.vector, "batch": module.batch}
    tf.saved_model.save(module, str(folder), signatures)
    return str(folder)


def save_whisper(folder: Path, **settings) -> keras.Model:
    """Writes a preset of Whisper with random weights, and returns its backbone."""
    import keras_hub

    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.WhisperBackbone(
        vocabulary_size=9,
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_decoder_sequence_length=8,
        **settings,
    )
    backbone.save_to_preset(str(folder))
    keras_hub.layers.WhisperAudioConverter().save_to_preset(str(folder))
    return backbone


def save_moonshine(folder: Path) -> keras.Model:
    """Writes a preset of Moonshine with random weights, and returns its backbone."""
    import keras_hub

    keras.utils.set_random_seed(1)
    backbone = keras_hub.models.MoonshineBackbone(
        vocabulary_size=9,
        filter_dim=8,
        encoder_num_layers=2,
        decoder_num_layers=1,
        hidden_dim=8,
        intermediate_dim=16,
        encoder_num_heads=2,
        decoder_num_heads=2,
    )
    backbone.save_to_preset(str(folder))
    keras_hub.layers.MoonshineAudioConverter().save_to_preset(str(folder))
    return backbone
