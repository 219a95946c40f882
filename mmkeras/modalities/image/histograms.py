"""Layers without weights: histograms of color and of edge directions, in float32."""

import math

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="mmkeras")
class ColourHistogram(layers.Layer):
    """Square root of the joint RGB histogram of an image.

    Shapes: (B, H, W, 3) in [0, 1], H and W static, to (B, bins**3). Each pixel is
    shared between neighboring bins, so that the histogram changes smoothly.

    Source: Swain and Ballard, 1991, https://doi.org/10.1007/BF00130487 (color
    indexing), with triangular bins and the root of the Hellinger kernel.
    """

    def __init__(self, bins: int = 4, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.bins = bins

    def call(self, pixels):
        bins, (_, height, width, _) = self.bins, pixels.shape
        half = 0.5 / bins
        x = ops.reshape(ops.clip(pixels, half, 1 - half), (-1, height * width, 3))
        centers = (ops.arange(bins, dtype="float32") + 0.5) / bins
        distance = ops.abs(x[..., None] - centers) * bins  # (B, H * W, 3, bins)
        share = ops.maximum(0.0, 1.0 - distance)
        red, green, blue = share[:, :, 0], share[:, :, 1], share[:, :, 2]
        pairs = red[..., :, None] * green[..., None, :]  # (B, H * W, bins, bins)
        pairs = ops.reshape(pairs, (-1, height * width, bins**2))
        counts = ops.matmul(ops.transpose(pairs, (0, 2, 1)), blue)
        histogram = ops.reshape(counts, (-1, bins**3)) / (height * width)
        return ops.sqrt(histogram + 1e-4)

    def compute_output_shape(self, shape):
        return (shape[0], self.bins**3)

    def get_config(self):
        return {**super().get_config(), "bins": self.bins}


@keras.saving.register_keras_serializable(package="mmkeras")
class OrientedGradients(layers.Layer):
    """Histogram of edge directions in each cell of a grid over the image.

    Shapes: (B, H, W, 3) in [0, 1], H and W static and at least `cells`, to
    (B, cells**2 * bins). A cell's histogram has about length 1, or less if its edges
    are weak.

    Source: Dalal and Triggs, 2005, https://doi.org/10.1109/CVPR.2005.177, with
    unsigned directions, each cell normalized by itself instead of in blocks.
    """

    def __init__(self, cells: int = 4, bins: int = 9, floor: float = 0.1, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.cells, self.bins, self.floor = cells, bins, floor

    def call(self, pixels):
        gray = ops.mean(pixels, axis=-1)  # (B, H, W)
        _, height, width = gray.shape
        gray = ops.pad(gray, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
        dx = (gray[:, 1:-1, 2:] - gray[:, 1:-1, :-2]) / 2
        dy = (gray[:, 2:, 1:-1] - gray[:, :-2, 1:-1]) / 2
        strength = ops.sqrt(dx * dx + dy * dy + 1e-12)
        turn = ops.arctan2(dy, dx) / math.pi
        turn = (turn - ops.floor(turn)) * self.bins  # [0, bins), half a circle
        distance = ops.abs(turn[..., None] - ops.arange(self.bins, dtype="float32"))
        share = ops.maximum(0.0, 1.0 - ops.minimum(distance, self.bins - distance))
        cell = (height // self.cells, width // self.cells)
        mean = ops.average_pool(share * strength[..., None], cell, cell)
        mean = mean[:, : self.cells, : self.cells]
        # The sum over a cell, as if the image had 128 pixels per side.
        histogram = mean * (cell[0] * cell[1] * 128.0 / height)
        length = ops.sum(histogram * histogram, axis=-1, keepdims=True)
        histogram = histogram / ops.sqrt(length + self.floor)
        return ops.reshape(histogram, (-1, self.cells**2 * self.bins))

    def compute_output_shape(self, shape):
        return (shape[0], self.cells**2 * self.bins)

    def get_config(self):
        settings = {"cells": self.cells, "bins": self.bins, "floor": self.floor}
        return {**super().get_config(), **settings}
