"""Image branch: pixels to one vector, through ResNet50 or a small CNN."""

from pathlib import Path

import keras
from keras import layers, ops
from keras.applications import resnet

from mmkeras.config import ImageConfig
from mmkeras.encoders.histograms import ColourHistogram, OrientedGradients
from mmkeras.errors import UserError


def build_image_encoder(config: ImageConfig) -> keras.Model:
    """Builds the image branch: (B, S, S, 3) uint8 RGB to (B, D) float32.

    Scaling to the encoder's own range happens inside, so callers never do it.

    Raises:
        UserError: The weights can be neither found nor fetched, or do not fit.
    """
    build = {"resnet50": _resnet50, "small_cnn": _small_cnn}[config.encoder]
    pixels = keras.Input((config.size_px,) * 2 + (3,), dtype="uint8", name="pixels")
    return keras.Model(pixels, build(pixels, config), name="image_encoder")


def _resnet50(pixels, config):
    """(B, S, S, 3) -> (B, 2048).

    Source: He et al., 2016, https://arxiv.org/abs/1512.03385; ImageNet-1k weights
    of keras.applications.
    """
    backbone = resnet.ResNet50(
        include_top=False,
        pooling="avg",
        weights=None,
        input_shape=(config.size_px, config.size_px, 3),
    )
    load_resnet50_weights(backbone, config.weights)
    # training=False: batches are too small to re-estimate ImageNet's statistics.
    frozen_statistics = {"training": False} if config.weights != "none" else {}
    x = resnet.preprocess_input(ops.cast(pixels, "float32"))
    return backbone(x, **frozen_statistics)


def load_resnet50_weights(backbone: keras.Model, weights: str) -> None:
    """Loads "imagenet" (fetched once), the file at a path, or with "none" nothing.

    Raises:
        UserError: One line that names the options that are left.
    """
    if weights == "none":
        return
    if weights != "imagenet" and not Path(weights).is_file():
        raise UserError(
            f"image.weights='{weights}' is no file; give imagenet, none, or the path "
            "of a weights file of ResNet50 without top."
        )
    path = fetch_imagenet() if weights == "imagenet" else weights
    try:
        backbone.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The weights in '{path}' do not fit ResNet50 without top ({words})."
        ) from error


def fetch_imagenet() -> str:
    """Returns the path of Keras' ImageNet weights, fetched into its cache once.

    Raises:
        UserError: They are not in the cache and cannot be fetched.
    """
    name = "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
    url = resnet.BASE_WEIGHTS_PATH + name
    try:
        return keras.utils.get_file(
            name,
            url,
            cache_subdir="models",
            file_hash=resnet.WEIGHTS_HASHES["resnet50"][1],
        )
    except Exception as error:  # urllib, socket and Keras each have errors of their own
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The ImageNet weights could not be fetched from {url} ({words}). Download "
            "the file elsewhere and give it as --image.weights FILE, or train from "
            "scratch with --image.weights none, or use --preset small-concat."
        ) from None


def _small_cnn(pixels, config):
    """(B, S, S, 3) -> (B, 256): half from fixed histograms, half from a small CNN.

    On a few hundred rows a CNN from scratch learns little, and histograms of colour
    and of edges carry most of what can be had; on thousands the CNN adds to them.
    """
    x = layers.Rescaling(1 / 255, name="scale")(pixels)
    known = layers.Concatenate(name="histograms")(
        [
            ColourHistogram(name="colour_histogram")(x),
            OrientedGradients(name="oriented_gradients")(x),
        ]
    )
    known = layers.BatchNormalization(
        momentum=0.9, center=False, scale=False, name="histogram_norm"
    )(known)
    known = layers.Dropout(0.2, name="histogram_dropout")(known)
    known = layers.Dense(128, activation="relu", name="histogram_dense")(known)
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
    x = layers.GlobalAveragePooling2D(name="cnn_pool")(x)
    x = layers.Dropout(0.3, name="cnn_dropout")(x)
    x = layers.Dense(128, activation="relu", name="cnn_dense")(x)
    return layers.Concatenate(name="image_vector")([known, x])
