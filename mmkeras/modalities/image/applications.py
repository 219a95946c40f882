"""Networks of keras.applications: from scratch, or with ImageNet weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers, ops
from keras.applications import convnext, efficientnet_v2, mobilenet_v3, resnet

from mmkeras.errors import UserError
from mmkeras.layers.saving import saved_as
from mmkeras.modalities.weights import load_all_weights

# Of batch norm from scratch: with MobileNetV3's 0.999 the statistics would follow the
# weights in thousands of steps, and until then the network would answer with noise.
_MOST_MOMENTUM = 0.99
_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"


@dataclass(frozen=True, kw_only=True)
class Application:
    """A network of keras.applications.

    Attributes:
        build: Its constructor.
        preprocess: RGB from 0 to 255 to what it takes; the newer ones scale inside.
        url: Its ImageNet-1k weights without top.
        file_hash: MD5 or SHA-256 of that file.
    """

    build: Callable[..., keras.Model]
    preprocess: Callable
    url: str
    file_hash: str

    @property
    def name(self) -> str:
        return self.build.__name__


# Source of addresses and hashes: keras.applications 3.10, which keeps them to itself.
APPLICATIONS = {
    # He et al., 2016, https://arxiv.org/abs/1512.03385
    "resnet50": Application(
        build=resnet.ResNet50,
        preprocess=resnet.preprocess_input,
        url=_STORE + "resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        file_hash="4d473c1dd8becc155b73f8504c6f6626",
    ),
    "resnet101": Application(
        build=resnet.ResNet101,
        preprocess=resnet.preprocess_input,
        url=_STORE + "resnet/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
        file_hash="88cf7a10940856eca736dc7b7e228a21",
    ),
    # Tan and Le, 2021, https://arxiv.org/abs/2104.00298
    "efficientnetv2": Application(
        build=efficientnet_v2.EfficientNetV2B0,
        preprocess=efficientnet_v2.preprocess_input,
        url=_STORE + "efficientnet_v2/efficientnetv2-b0_notop.h5",
        file_hash="893217f2bb855e2983157299931e43ff",
    ),
    # Liu et al., 2022, https://arxiv.org/abs/2201.03545
    "convnext": Application(
        build=convnext.ConvNeXtTiny,
        preprocess=convnext.preprocess_input,
        url=_STORE + "convnext/convnext_tiny_notop.h5",
        file_hash="d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
    ),
    # Howard et al., 2019, https://arxiv.org/abs/1905.02244
    "mobilenetv3": Application(
        build=keras.applications.MobileNetV3Large,
        preprocess=mobilenet_v3.preprocess_input,
        url=_STORE
        + "mobilenet_v3/weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
        file_hash="07fb09a5933dd0c8eaafa16978110389",
    ),
}


@saved_as("FixedStatistics")
class FrozenBatchNorm(layers.Layer):
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


def application(pixels, config, tokens):
    """(B, S, S, 3) -> (B, D), the mean of the last map, with `tokens` too.

    Raises:
        UserError: The weights can be neither found nor fetched, or do not fit.

    Source: keras.applications, of the papers that APPLICATIONS names, but statistics of
    batch norm move faster where they were slower than ResNet's.
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
            layer.momentum = min(layer.momentum, _MOST_MOMENTUM)
    return backbone(x)


def load_weights(backbone: keras.Model, entry: Application, weights: str) -> None:
    """Loads "imagenet" (fetched once), the file at a path, or with "none" nothing.

    Raises:
        UserError: One line that names the options that are left.
    """
    if weights == "none":
        return
    if weights != "imagenet" and not Path(weights).is_file():
        raise UserError(
            f"image.weights='{weights}' is no file; give imagenet, none, or the path "
            f"of a weights file of {entry.name} without top."
        )
    path = fetch_imagenet(entry) if weights == "imagenet" else weights
    try:
        load_all_weights(backbone, path)
    except (ValueError, OSError, KeyError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The weights in '{path}' do not fit {entry.name} without top ({words})."
        ) from error


def fetch_imagenet(entry: Application) -> str:
    """Returns the path of Keras' ImageNet weights, fetched into its cache once.

    Raises:
        UserError: They are not in the cache and cannot be fetched.
    """
    name = entry.url.rpartition("/")[2]
    try:
        return keras.utils.get_file(
            name, entry.url, cache_subdir="models", file_hash=entry.file_hash
        )
    except Exception as error:  # urllib, socket and Keras each have errors of their own
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"The ImageNet weights could not be fetched from {entry.url} "
            f"({words}). Download the file elsewhere and give it as --image.weights "
            "FILE, or train from scratch with --image.weights none, or use --preset "
            "small-concat."
        ) from None
