"""KerasHub's backbones: of presets, and BERT and ViT with sizes from the settings."""

from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

import keras
from keras import layers

from mmkeras.config import ImageConfig, TextConfig
from mmkeras.environment.download import download_problem, limited_wait
from mmkeras.environment.extras import import_extra
from mmkeras.errors import UserError, one_line
from mmkeras.files import check_file, is_remote
from mmkeras.layers.sequence import FullMask, TokenPooling
from mmkeras.modalities.weights import load_weights_file

_KAGGLE = "https://www.kaggle.com"
_HOSTS = {"hf": "https://huggingface.co"}  # of handles; others are of Kaggle


def keras_hub() -> ModuleType:
    """Imports KerasHub, which takes seconds, or raises UserError."""
    return import_extra("keras_hub", "An encoder of KerasHub")


def load_preset(setting: str, preset: str, **settings) -> keras.Model:
    """Loads the backbone of a preset, with its weights; remote ones are fetched once.

    A preset is a folder of KerasHub, timm or transformers, a handle hf://NAME/NAME or
    kaggle://HANDLE, or a name in KerasHub. `setting` names it in errors, `settings` are
    arguments of the backbone.

    Raises:
        UserError: There is no such preset, it cannot be fetched, or KerasHub cannot
            read it.

    Example:
        backbone = load_preset("image.weights", "hf://timm/resnet18.a1_in1k")
    """
    check_preset(setting, preset)
    return _from_preset(keras_hub().models.Backbone, setting, preset, **settings)


def load_image_converter(setting: str, preset: str) -> keras.layers.Layer | None:
    """Loads the preprocessing of a preset's images, if it has one."""
    try:
        return _from_preset(keras_hub().layers.ImageConverter, setting, preset)
    except UserError as error:
        if isinstance(error.__cause__, ValueError | FileNotFoundError):
            return None  # of no class of KerasHub, or without a file
        raise


def check_preset(setting: str, preset: str) -> None:
    """Checks the preset of a folder or of a name; remote ones are not opened.

    Raises:
        UserError: There is no such folder, or it has no config.json, or KerasHub has no
            preset of the name.
    """
    if is_remote(preset):
        return
    if Path(preset).is_dir():
        if not Path(preset, "config.json").is_file():
            raise UserError(
                f"{setting}='{preset}' is a folder without config.json; give that "
                "of a preset of KerasHub, or of a model of timm or transformers."
            )
        return
    names = keras_hub().models.Backbone.presets
    if preset not in names:
        close = get_close_matches(preset, names, n=1)
        raise UserError(
            f"{setting}='{preset}' is no folder here and no preset of KerasHub; give "
            "the path of a folder, hf://NAME/NAME, kaggle://HANDLE or the name of a "
            "preset." + (f" Did you mean '{close[0]}'?" if close else "")
        )


def _from_preset(kind, setting, preset, **settings):
    try:
        with limited_wait():
            return kind.from_preset(preset, **settings)
    except Exception as error:  # each transport and converter has errors of its own
        reason = one_line(error, 200) or type(error).__name__
        remedy = "Give another preset"
        if not Path(preset).is_dir():
            host = _HOSTS.get(preset.partition("://")[0], _KAGGLE)
            if problem := download_problem(host):
                reason = f"{host}: {problem}"
            remedy = f"Download it elsewhere and give its folder as --{setting} FOLDER"
        raise UserError(
            f"{setting}='{preset}' could not be loaded ({reason}). {remedy}."
        ) from error


def bert(ids, mask, config: TextConfig, vocabulary_size: int) -> keras.KerasTensor:
    """Applies BERT to token ids: (B, L) int32, (B, L) bool to (B, L, config.units).

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805; KerasHub's backbone.
    """
    backbone = keras_hub().models.BertBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=config.layers,
        num_heads=config.heads,
        hidden_dim=config.units,
        intermediate_dim=4 * config.units,
        max_sequence_length=config.max_tokens,
    )
    if config.weights != "none":
        _load_file(backbone, config.weights, "text.weights")
    # Without the pooled output, whose dense layer would get no gradient.
    body = keras.Model(backbone.input, backbone.output["sequence_output"], name="bert")
    return body(
        {
            "token_ids": ids,
            "segment_ids": keras.ops.zeros_like(ids),
            "padding_mask": keras.ops.cast(mask, "int32"),
        }
    )


def kerashub_vit(pixels, config: ImageConfig, tokens: bool) -> keras.KerasTensor:
    """Applies a ViT: (B, S, S, 3) uint8 to (B, units), or (B, 1 + L, units) `tokens`.

    The first token is the class token; the others are patches. Pixels past the last
    complete patch are ignored. image.weights "imagenet" means from scratch here.

    Source: Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929; KerasHub's
    backbone, whose tokens are pooled as those of vit.py.
    """
    size_px = config.size_px // config.patch_px * config.patch_px
    backbone = keras_hub().models.ViTBackbone(
        image_shape=(size_px, size_px, 3),
        patch_size=config.patch_px,
        num_layers=config.layers,
        num_heads=config.heads,
        hidden_dim=config.units,
        mlp_dim=4 * config.units,
        dropout_rate=0.1,
        name="kerashub_vit",
    )
    if config.is_pretrained:
        _load_file(backbone, config.weights, "image.weights")
    x = layers.Rescaling(1 / 127.5, -1, name="scale")(pixels[:, :size_px, :size_px])
    x = backbone(x)
    if tokens:
        return x
    return TokenPooling(config.pooling, name="image_pool")(x, FullMask(name="all")(x))


def _load_file(backbone, path, setting):
    expected = "none, or the path of a .weights.h5 file of such a backbone"
    check_file(setting, path, expected)
    section = setting.partition(".")[0]
    sizes = f"the sizes in the settings ({section}.layers, {section}.units, ...)"
    load_weights_file(backbone, path, sizes)
