"""Small convolutional image encoders from scratch, and downscaled pixels."""

from keras import layers, ops

from mmkeras.layers.replica_dropout import Dropout
from mmkeras.layers.sequence import FullMask, TokenPooling
from mmkeras.modalities.image.histograms import ColourHistogram, OrientedGradients

_SMALL_PX = 16  # side of the images of `small_pixels`


def small_cnn(pixels, config, tokens):
    """Applies fixed histograms and a small CNN: (B, S, S, 3) -> (B, 256), half each.

    A CNN from scratch learns little on a few hundred rows, where histograms of color
    and edges have most of the information; on thousands it adds to them. With `tokens`
    the result is the CNN's positions alone: (B, (S / 16)^2, 8 * width).
    """
    scaled = layers.Rescaling(1 / 255, name="scale")(pixels)
    if tokens:
        return flatten_map(_four_blocks(scaled, config))
    histograms = _histograms(scaled)
    x = _four_blocks(scaled, config)
    x = layers.GlobalAveragePooling2D(name="cnn_pool")(x)
    x = Dropout(0.3, name="cnn_dropout")(x)
    x = layers.Dense(128, activation="relu", name="cnn_dense")(x)
    return layers.Concatenate(name="image_vector")([histograms, x])


def _histograms(scaled):
    """(B, S, S, 3) in [0, 1] -> (B, 128)."""
    colors = ColourHistogram(name="colour_histogram")(scaled)
    edges = OrientedGradients(name="oriented_gradients")(scaled)
    x = layers.Concatenate(name="histograms")([colors, edges])
    norm = {"center": False, "scale": False, "name": "histogram_norm"}
    x = layers.BatchNormalization(momentum=0.9, **norm)(x)
    x = Dropout(0.2, name="histogram_dropout")(x)
    return layers.Dense(128, activation="relu", name="histogram_dense")(x)


def _four_blocks(x, config):
    """(B, S, S, 3) -> (B, S / 16, S / 16, 8 * width)."""
    for i, factor in enumerate((1, 2, 4, 8), start=1):
        if i > 1:
            x = layers.MaxPooling2D(name=f"pool{i}")(x)
        x = layers.Conv2D(
            factor * config.width,
            3,
            strides=2 if i == 1 else 1,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            name=f"conv{i}",
        )(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"norm{i}")(x)
        x = layers.ReLU(name=f"relu{i}")(x)
    return x


def flatten_map(x):
    """Returns the places of a map, row by row: (B, H, W, D) -> (B, H * W, D)."""
    return layers.Reshape((-1, x.shape[-1]), name="places")(x)


def _blocks(pixels, filters):
    """3x3 convolutions, each followed by pooling: (B, S, S, 3) -> (B, H, W, D)."""
    x = layers.Rescaling(1 / 255, name="scale")(pixels)
    for i, count in enumerate(filters, start=1):
        conv = layers.Conv2D(
            count, 3, padding="same", activation="relu", name=f"conv{i}"
        )
        x = layers.MaxPooling2D(name=f"pool{i}")(conv(x))
    return x


def two_convolutions(pixels, config, tokens):
    """Applies two convolutions of 16 and 32 filters: (B, S, S, 3) -> (B, 128).

    With `tokens` the result is their positions, (B, (S / 4)^2, 32).
    """
    x = _blocks(pixels, (16, 32))
    if tokens:
        return flatten_map(x)
    x = Dropout(0.3, name="cnn_dropout")(layers.Flatten(name="flat")(x))
    return layers.Dense(128, activation="relu", name="cnn_dense")(x)


def cnn_lstm(pixels, config, tokens):
    """Applies two blocks and an LSTM over the map's rows: (B, S, S, 3) -> (B, 128).

    With `tokens` the result is the LSTM's states, (B, S / 4, 128).
    """
    x = _blocks(pixels, (32, 64))  # (B, H, W, 64)
    _, height, width, depth = x.shape
    x = layers.Reshape((height, width * depth), name="rows")(x)
    x = layers.LSTM(128, return_sequences=True, name="image_lstm")(x)
    if tokens:
        return x
    x = TokenPooling(config.pooling, name="image_pool")(x, FullMask(name="all")(x))
    x = Dropout(0.3, name="cnn_dropout")(x)
    return layers.Dense(128, activation="relu", name="cnn_dense")(x)


def small_pixels(pixels, config, tokens):
    """Averages the colors of 16 x 16 cells: (B, S, S, 3) -> (B, 768) in [0, 1].

    With `tokens` the result is the cells, (B, 256, 3). No weights.
    """
    x = layers.Rescaling(1 / 255, name="scale")(pixels)
    side = x.shape[1] // _SMALL_PX  # 2 or more, as images have 32 pixels or more
    start = (x.shape[1] - side * _SMALL_PX) // 2  # the center is used
    end = start + side * _SMALL_PX
    x = ops.average_pool(x[:, start:end, start:end], side, side)
    return flatten_map(x) if tokens else layers.Flatten(name="flat")(x)
