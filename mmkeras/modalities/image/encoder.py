"""The image branch: builds the encoder that `image.encoder` names."""

import keras

from mmkeras.config import ImageConfig
from mmkeras.layers.saved_model import check_saved_model
from mmkeras.modalities.image import applications, cnn, efficientnet_lite
from mmkeras.modalities.image.applications import APPLICATIONS, application
from mmkeras.modalities.image.efficientnet_lite import efficientnet_lite0
from mmkeras.modalities.image.external import keras_file, saved_model
from mmkeras.modalities.image.preset import kerashub
from mmkeras.modalities.image.vit import vit
from mmkeras.modalities.kerashub import find_preset, kerashub_vit

_BUILDERS = dict.fromkeys(APPLICATIONS, application) | {
    "efficientnet_lite0": efficientnet_lite0,
    "kerashub": kerashub,
    "keras": keras_file,
    "saved_model": saved_model,
    "small_cnn": cnn.small_cnn,
    "cnn": cnn.two_convolutions,
    "cnn_lstm": cnn.cnn_lstm,
    "pixels": cnn.small_pixels,
    "vit": vit,
    "kerashub_vit": kerashub_vit,
}


def build_image_encoder(
    config: ImageConfig, tokens: bool = False, name: str = "image_encoder"
) -> keras.Model:
    """Builds the image branch: (B, S, S, 3) uint8 RGB to (B, D) float32.

    With `tokens`, encoders with positions or patches return all of them, (B, L, D).
    Pixels are scaled to the encoder's range inside.

    Raises:
        UserError: The weights cannot be found or fetched, or do not fit.

    Example:
        encoder = build_image_encoder(ImageConfig(encoder="small_cnn", size_px=32))
        vectors = encoder(pixels)
    """
    pixels = keras.Input((config.size_px,) * 2 + (3,), dtype="uint8", name="pixels")
    x = _BUILDERS[config.encoder](pixels, config, tokens)
    return keras.Model(pixels, x, name=name)


def fetch_image_weights(config: ImageConfig) -> None:
    """Fetches the weights that `build_image_encoder` loads, and checks their folder.

    Raises:
        UserError: They are neither in their cache nor can be fetched.
    """
    if config.encoder == "kerashub":
        find_preset("image.weights", config.weights)
    elif config.encoder == "saved_model":
        check_saved_model("image.weights", config.weights)
    elif config.encoder == "efficientnet_lite0" and config.weights != "none":
        efficientnet_lite.find_lite0(config.weights)
    elif config.encoder in APPLICATIONS and config.weights == "imagenet":
        applications.fetch_imagenet(APPLICATIONS[config.encoder])
