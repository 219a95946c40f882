"""Preprocessing of an audio column in the graph."""

from collections.abc import Mapping

import tensorflow as tf

from mmkeras.errors import UserError
from mmkeras.modalities.audio import features
from mmkeras.modalities.audio.augmentation import mask_frames
from mmkeras.modalities.branch import BranchColumn
from mmkeras.modalities.row_graph import RowGraph, standardize


class AudioGraph(RowGraph):
    """Graph from WAV files to statistics of frames, frames, or waves as in waves.py."""

    def __init__(self, branch: BranchColumn, state: Mapping):
        super().__init__(branch)
        self._settings, self._state = branch.settings, state
        decoded = [None, self._settings.bands]
        if self._settings.is_pretrained:
            _check_version(branch, state)
            decoded, shape = [None], [1 + self._settings.max_samples]
        elif self._settings.is_sequence:
            shape = [self._settings.max_frames, state["width"]]
        else:
            shape = [state["width"]]
        self.decoded_spec = tf.TensorSpec(decoded, tf.float32)
        self.input_spec = tf.TensorSpec(shape, tf.float32)

    def _decode(self, data, formats):
        wave = features.decode_wave(data, self._settings)
        return (
            wave
            if self._settings.is_pretrained
            else features.log_mel(wave, self._settings)
        )

    def augments_rows(self, augment) -> bool:
        masks = augment.spec_bands or augment.spec_frames
        return bool(masks) and not self._settings.is_pretrained

    def finish_row(self, decoded, seed=None, augment=None) -> tf.Tensor:
        """Turns a wave or mel frames into the input of the model.

        Before the column is fitted, numbers are not standardized and frames not padded.
        """
        settings = self._settings
        if settings.is_pretrained:
            return _with_length(decoded, settings.max_samples)
        if seed is not None:
            decoded = mask_frames(decoded, seed, augment)
        if settings.is_sequence:
            values = features.frame_features(decoded, settings)
        else:
            values = features.audio_vector(decoded, settings)
        if "mean" not in self._state:
            return values
        z = standardize(values, self._state)
        return features.pad_frames(z, settings) if settings.is_sequence else z

    def decoded_bytes(self, encoded_bytes: int) -> int:
        """Estimates mel frames, or the wave as floats, of audio of 16 bits."""
        settings = self._settings
        if settings.is_pretrained:
            return 2 * encoded_bytes
        return encoded_bytes * 4 * settings.bands // (2 * max(settings.hop, 1))


def _with_length(wave, max_samples):
    """Returns the number of samples and the wave with zeros: (1 + max_samples,).

    An absent row is decoded as one sample, and has none.
    """
    samples = tf.size(wave)
    wave = tf.pad(wave, [[0, max_samples - samples]])
    samples = tf.where(samples > 1, samples, 0)
    wave = tf.concat([tf.cast(samples[None], tf.float32), wave], axis=0)
    return tf.ensure_shape(wave, [1 + max_samples])


def _check_version(branch, state):
    if "width" in state:
        raise UserError(
            f"The model of audio.encoder={branch.settings.encoder} for '{branch.name}' "
            "is of an earlier version, without the encoder in its file; train it again."
        )
