"""Image encoders of keras.applications, from scratch or with ImageNet weights."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
from keras import layers, ops
from keras.applications import convnext, efficientnet_v2, resnet

from mmkeras.environment.download import (
    FETCH_S,
    cached_weights,
    download_problem,
    limited_wait,
)
from mmkeras.errors import UserError, one_line
from mmkeras.files import check_file
from mmkeras.layers.saving import saved_as
from mmkeras.modalities.weights import load_weights_file

# Limit for batch norm from scratch: at MobileNetV3's 0.999 the statistics would need
# thousands of steps to follow the weights, and evaluation would be noise until then.
_MAX_MOMENTUM = 0.99
_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"


@dataclass(frozen=True, kw_only=True)
class Application:
    """A network of keras.applications.

    Attributes:
        file: Name of the ImageNet-1k weights without top, below `_STORE`.
        file_hash: MD5 or SHA-256 of the file.
        preprocess: Function from RGB in [0, 255] to the network's input; newer
            networks scale inside.
    """

    build: Callable[..., keras.Model]
    file: str
    file_hash: str
    preprocess: Callable = lambda x: x

    @property
    def url(self) -> str:
        return _STORE + self.file


# Source of addresses and hashes: keras.applications 3.10, where they are private.
APPLICATIONS = {
    # He et al., 2016, https://arxiv.org/abs/1512.03385
    "resnet50": Application(
        build=resnet.ResNet50,
        preprocess=resnet.preprocess_input,
        file="resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        file_hash="4d473c1dd8becc155b73f8504c6f6626",
    ),
    "resnet101": Application(
        build=resnet.ResNet101,
        preprocess=resnet.preprocess_input,
        file="resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
        file_hash="88cf7a10940856eca736dc7b7e228a21",
    ),
    # Tan and Le, 2021, https://arxiv.org/abs/2104.00298
    "efficientnetv2": Application(
        build=efficientnet_v2.EfficientNetV2B0,
        file="efficientnet_v2/efficientnetv2-b0_notop.h5",
        file_hash="893217f2bb855e2983157299931e43ff",
    ),
    # Liu et al., 2022, https://arxiv.org/abs/2201.03545
    "convnext": Application(
        build=convnext.ConvNeXtTiny,
        file="convnext/convnext_tiny_notop.h5",
        file_hash="d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    # Howard et al., 2019, https://arxiv.org/abs/1905.02244
    "mobilenetv3": Application(
        build=keras.applications.MobileNetV3Large,
        file="mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        file_hash="07fb09a5933dd0c8eaafa16978110389",
    ),
}


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
    """Applies the network: (B, S, S, 3) -> (B, D), averaged, with `tokens` too.

    Source: keras.applications, of the papers in APPLICATIONS, with the momentum of
    batch norm limited to ResNet's.
    """
    entry = APPLICATIONS[config.encoder]
    backbone = entry.build(
        include_top=False,
        pooling="avg",
        weights=None,
        input_shape=(config.size_px, config.size_px, 3),
    )
    load_weights(backbone, entry, config.weights)
    x = entry.preprocess(ops.cast(pixels, "float32"))
    if config.is_pretrained:
        return FrozenBatchNorm(backbone, name="fixed_statistics")(x)
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = min(layer.momentum, _MAX_MOMENTUM)
    return backbone(x)


def load_weights(backbone: keras.Model, entry: Application, weights: str) -> None:
    """Loads "imagenet" (fetched once) or the file at a path; "none" does nothing."""
    if weights == "none":
        return
    network = f"{entry.build.__name__} without top"
    if weights == "imagenet":
        weights = fetch_imagenet(entry)
    else:
        expected = f"imagenet, none, or the path of a weights file of {network}"
        check_file("image.weights", weights, expected)
    load_weights_file(backbone, weights, network)


def fetch_imagenet(entry: Application) -> str:
    """Returns the path of Keras' ImageNet weights, fetched into its cache once.

    Raises:
        UserError: The file is not in the cache and cannot be fetched.
    """
    name = entry.url.rpartition("/")[2]
    try:
        if not cached_weights(entry.url).exists():
            if problem := download_problem(entry.url, FETCH_S):
                raise OSError(problem)
        with limited_wait():
            return keras.utils.get_file(
                name, entry.url, cache_subdir="models", file_hash=entry.file_hash
            )
    except Exception as error:  # urllib, socket and Keras each have errors of their own
        raise UserError(
            f"The ImageNet weights could not be fetched from {entry.url} "
            f"({one_line(error, 200)}). Download the file elsewhere and give it as "
            "--image.weights FILE, or train from scratch with --image.weights none, "
            "or use --preset small-concat."
        ) from None
