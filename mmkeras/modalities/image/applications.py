"""Image encoders of keras.applications, from scratch or with ImageNet weights."""

import keras
import numpy as np
from keras import layers

from mmkeras.config import ImageConfig
from mmkeras.environment.download import (
    FETCH_S,
    cached_weights,
    download_problem,
    limited_wait,
)
from mmkeras.errors import UserError, one_line
from mmkeras.files import check_file
from mmkeras.layers.saving import saved_as
from mmkeras.modalities.image.application_table import APPLICATIONS, Application
from mmkeras.modalities.image.cnn import flatten_map
from mmkeras.modalities.image.scaling import scale_pixels
from mmkeras.modalities.weights import load_weights_file

# Limit for batch norm from scratch, that of ResNet: at MobileNetV3's 0.999 the
# statistics would need thousands of steps to follow the weights, and evaluation would
# be noise until then.
_MAX_MOMENTUM = 0.99
# Mean and deviation of ImageNet, RGB in 0..1.
_MEAN, _DEVIATION = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], "float32")


@saved_as("FixedStatistics")
class FrozenBatchNorm(layers.Layer):
    """A model whose batch norm keeps its trained statistics, in training too.

    Batches are too small to re-estimate ImageNet's. `training=False` in a functional
    call is not enough, since the `training` of an outer model replaces it.
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


def application(pixels, config, tokens):
    """Applies the network: (B, S, S, 3) -> (B, D), the mean over its map.

    With `tokens` the result is the positions of the map, (B, L, D).

    Source: keras.applications, of the papers in `application_table`.
    """
    entry = APPLICATIONS[config.encoder]
    backbone = entry.build(
        include_top=False,
        pooling=None if tokens else "avg",
        weights=None,
        input_shape=(config.size_px, config.size_px, 3),
    )
    load_weights(backbone, entry, config.weights)
    x = _complete_scale(scale_pixels(pixels, entry.scale), backbone)
    return apply_backbone(backbone, x, config)


def apply_backbone(backbone: keras.Model, x, config: ImageConfig) -> keras.KerasTensor:
    """Applies a network, whose batch norm is as its weights need it.

    The result of a network without pooling, (B, H, W, D), becomes (B, H * W, D).
    Pretrained statistics are never updated; of a network from scratch the momentum is
    limited.
    """
    if config.is_pretrained:
        x = FrozenBatchNorm(backbone, name="fixed_statistics")(x)
    else:
        for layer in backbone.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.momentum = min(layer.momentum, _MAX_MOMENTUM)
        x = backbone(x)
    return flatten_map(x) if len(x.shape) == 4 else x


def _complete_scale(x, backbone):
    """Divides by the root of ImageNet's deviation, where only the other is in a file.

    The files of EfficientNetB0 to B7 have the deviation in the place of its square.
    Keras adds a layer after the network's own, if it loads them itself; here the pixels
    (B, S, S, 3) before that layer are changed, with the same result.
    """
    for layer in backbone.layers:
        if isinstance(layer, layers.Normalization) and layer.weights:
            if np.allclose(layer.variance, _DEVIATION, atol=0.01):
                factor = _DEVIATION**-0.5
                offset = 255 * _MEAN * (1 - factor)
                return layers.Rescaling(factor.tolist(), offset.tolist())(x)
    return x


def load_weights(backbone: keras.Model, entry: Application, weights: str) -> None:
    """Loads "imagenet" (fetched once) or the file at a path; "none" does nothing."""
    if weights == "none":
        return
    network = f"{entry.builder} without top"
    if weights == "imagenet":
        weights = fetch_imagenet(entry)
    else:
        expected = f"imagenet, none, or the path of a weights file of {network}"
        check_file("image.weights", weights, expected)
    load_weights_file(backbone, weights, network)


def fetch_imagenet(entry: Application) -> str:
    """Returns the path of Keras' ImageNet weights, fetched into its cache once."""
    return fetch_weights(entry.cached_as, entry.url, entry.file_hash)


def fetch_weights(name: str, url: str, file_hash: str = "") -> str:
    """Returns the path of ImageNet weights in Keras' cache, fetched once from a URL.

    `file_hash` is MD5 or SHA-256; "" is not checked.

    Raises:
        UserError: The file is not in the cache and cannot be fetched.
    """
    try:
        if not cached_weights(name).exists():
            if problem := download_problem(url, FETCH_S):
                raise OSError(problem)
        with limited_wait():
            return keras.utils.get_file(
                name, url, cache_subdir="models", file_hash=file_hash or None
            )
    except Exception as error:  # urllib, socket and Keras each have errors of their own
        raise UserError(
            f"The ImageNet weights could not be fetched from {url} "
            f"({one_line(error, 200)}). Download the file elsewhere and give it as "
            "--image.weights FILE, or train from scratch with --image.weights none, "
            "or use --preset small-concat."
        ) from None
