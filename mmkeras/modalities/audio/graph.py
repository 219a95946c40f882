"""Preprocessing of an audio column in the graph."""

from collections.abc import Mapping

import tensorflow as tf

from mmkeras.modalities.audio import features
from mmkeras.modalities.audio.augmentation import mask_frames
from mmkeras.modalities.branch import BranchColumn
from mmkeras.modalities.row_graph import RowGraph, standardize
from mmkeras.modalities.tf_hub import load_hub_audio_encoder


class AudioGraph(RowGraph):
    """Graph from WAV files to statistics of frames, frames, or a hub's embeddings."""

    def __init__(self, branch: BranchColumn, state: Mapping):
        super().__init__(branch)
        self._settings, self._state, self._hub = branch.settings, state, None
        shape, decoded = [state["width"]], [None, self._settings.bands]
        if self._settings.encoder == "hub":
            self._hub = load_hub_audio_encoder(self._settings.hub_handle)
            decoded = [None]
        elif self._settings.is_sequence:
            shape = [self._settings.max_frames, *shape]
        self.decoded_spec = tf.TensorSpec(decoded, tf.float32)
        self.input_spec = tf.TensorSpec(shape, tf.float32)

    @property
    def resources(self) -> list:
        return [] if self._hub is None else [self._hub]

    def _decode(self, data, formats):
        wave = features.decode_wave(data, self._settings)
        return wave if self._hub else features.log_mel(wave, self._settings)

    def finish_row(self, decoded, seed=None, augment=None) -> tf.Tensor:
        """Turns a wave or mel frames into the input of the model.

        Before the column is fitted, numbers are not standardized and frames not padded.
        """
        settings = self._settings
        if self._hub is not None:
            return self._hub(decoded)
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
        if self._hub is not None:
            return 2 * encoded_bytes
        settings = self._settings
        return encoded_bytes * 4 * settings.bands // (2 * max(settings.hop, 1))
