"""Image branch: pixels to one vector, through ResNet50 or a small CNN."""

from pathlib import Path

import keras
from keras import layers, ops
from keras.applications import resnet

from mmkeras.config import ImageConfig
from mmkeras.encoders import cnn
from mmkeras.encoders.vit import vit
from mmkeras.errors import UserError

# Source: keras.applications 3.10, which keeps them to itself.
IMAGENET_URL = (
    "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"
)
IMAGENET_MD5 = "4d473c1dd8becc155b73f8504c6f6626"


@keras.saving.register_keras_serializable(package="mmkeras")
class FixedStatistics(layers.Layer):
    """Runs a model with the statistics that it was trained with, in training too.

    Batches are too small to re-estimate ImageNet's. A `training=False` where the
    model is called would not last: an outer model's own `training` replaces it.
    """

    def __init__(self, model: keras.Model, **kwargs):
        super().__init__(**kwargs)
        self.model = model

    def call(self, x):
        return self.model(x, training=False)

    def compute_output_shape(self, shape):
        return self.model.compute_output_shape(shape)

    def get_config(self):
        model = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": model}

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config.pop("model"))
        return cls(model, **config)


def build_image_encoder(config: ImageConfig, tokens: bool = False) -> keras.Model:
    """Builds the image branch: (B, S, S, 3) uint8 RGB to (B, D) float32.

    With `tokens` encoders that have places or patches give (B, L, D), all of them.
    Scaling to the encoder's own range happens inside, so callers never do it.

    Raises:
        UserError: The weights can be neither found nor fetched, or do not fit.
    """
    pixels = keras.Input((config.size_px,) * 2 + (3,), dtype="uint8", name="pixels")
    x = _BUILDERS[config.encoder](pixels, config, tokens)
    return keras.Model(pixels, x, name="image_encoder")


def _resnet50(pixels, config, tokens):
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
    x = resnet.preprocess_input(ops.cast(pixels, "float32"))
    if config.weights == "none":
        return backbone(x)
    return FixedStatistics(backbone, name="fixed_statistics")(x)


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
    name = IMAGENET_URL.rpartition("/")[2]
    try:
        return keras.utils.get_file(
            name, IMAGENET_URL, cache_subdir="models", file_hash=IMAGENET_MD5
        )
    except Exception as error:  # urllib, socket and Keras each have errors of their own
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The ImageNet weights could not be fetched from {IMAGENET_URL} "
            f"({words}). Download the file elsewhere and give it as --image.weights "
            "FILE, or train from scratch with --image.weights none, or use --preset "
            "small-concat."
        ) from None


_BUILDERS = {
    "resnet50": _resnet50,
    "small_cnn": cnn.small_cnn,
    "cnn": cnn.two_convolutions,
    "cnn_lstm": cnn.cnn_lstm,
    "pixels": cnn.small_pixels,
    "vit": vit,
}
