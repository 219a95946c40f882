"""KerasHub's backbones: of presets, and ViT with sizes from the settings."""

from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

import keras
from keras import layers

from mmkeras.config import ImageConfig
from mmkeras.environment.extras import import_extra
from mmkeras.environment.model_hub import find_model, is_handle
from mmkeras.errors import UserError, one_line
from mmkeras.files import check_file
from mmkeras.layers.sequence import FullMask, TokenPooling
from mmkeras.modalities.weights import load_weights_file


def keras_hub() -> ModuleType:
    """Imports KerasHub, which takes seconds, or raises UserError."""
    return import_extra("keras_hub", "An encoder of KerasHub")


def find_preset(setting: str, preset: str) -> Path:
    """Returns the folder of a preset; remote ones are fetched once.

    A preset is a folder of KerasHub, timm or transformers, a handle of `find_model`, or
    a name in KerasHub. `setting` names it in errors.

    Raises:
        UserError: There is no such preset, or it cannot be fetched.
    """
    if not is_handle(preset) and not Path(preset).is_dir():
        names = keras_hub().models.Backbone.presets
        if preset not in names:
            close = get_close_matches(preset, names, n=1)
            raise UserError(
                f"{setting}='{preset}' is no folder here and no preset of KerasHub; "
                "give the path of a folder, hf://NAME/NAME, kaggle://HANDLE or the "
                "name of a preset." + (f" Did you mean '{close[0]}'?" if close else "")
            )
        preset = names[preset]["kaggle_handle"]
    folder = find_model(setting, preset)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{setting}='{preset}' is a folder without config.json; give that of a "
            "preset of KerasHub, or of a model of timm or transformers."
        )
    return folder


def load_preset(setting: str, preset: str, **settings) -> keras.Model:
    """Loads the backbone of a preset, with its weights; as for `find_preset`.

    `settings` are arguments of the backbone.

    Raises:
        UserError: It cannot be found, or KerasHub cannot read it.

    Example:
        backbone = load_preset("image.weights", "hf://timm/resnet18.a1_in1k")
    """
    return _from_preset(keras_hub().models.Backbone, setting, preset, **settings)


def load_image_converter(setting: str, preset: str) -> keras.layers.Layer | None:
    """Loads the preprocessing of a preset's images, if it has one."""
    try:
        return _from_preset(keras_hub().layers.ImageConverter, setting, preset)
    except UserError as error:
        if isinstance(error.__cause__, ValueError | FileNotFoundError):
            return None  # of no class of KerasHub, or without a file
        raise


def load_preprocessor(
    setting: str, preset: str, kind: str, tokens: int
) -> keras.layers.Layer:
    """Loads the preprocessing of a preset, of the class that `kind` names.

    `tokens` is the length of its texts where the preset does not have it.
    """
    models = keras_hub().models
    if getattr(models, kind).backbone_cls:
        return _from_preset(getattr(models, kind), setting, preset)
    # KerasHub 0.21 cannot load that of CLIP.
    tokenizer = _from_preset(models.Tokenizer, setting, preset)
    return getattr(models, kind)(tokenizer, sequence_length=tokens)


def _from_preset(kind, setting, preset, **settings):
    folder = find_preset(setting, preset)
    try:
        return kind.from_preset(str(folder), **settings)
    except Exception as error:  # each converter has errors of its own
        reason = one_line(error, 200) or type(error).__name__
        raise UserError(
            f"{setting}='{preset}' could not be loaded ({reason}). Give another preset."
        ) from error


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
