"""Preprocessing of an image column in the graph."""

import tensorflow as tf

from mmkeras.modalities.branch import BranchColumn
from mmkeras.modalities.image.augmentation import augment_images
from mmkeras.modalities.image.decoding import KINDS, decode_image
from mmkeras.modalities.row_graph import RowGraph


class ImageGraph(RowGraph):
    """Graph from encoded images to pixels, (B, S, S, 3) uint8."""

    def __init__(self, branch: BranchColumn):
        super().__init__(branch)
        shape = [branch.settings.size_px] * 2 + [3]
        self.decoded_spec = self.input_spec = tf.TensorSpec(shape, tf.uint8)

    def _decode(self, data, formats):
        kinds = [kind for kind in KINDS if kind in formats] or KINDS
        return decode_image(data, self.branch.settings, kinds)

    def finish_batch(self, pixels, seed=None, augment=None) -> tf.Tensor:
        return pixels if seed is None else augment_images(pixels, seed, augment)

    def decoded_bytes(self, encoded_bytes: int) -> int:
        return 3 * self.branch.settings.size_px**2
