"""Image branch: pixels to one vector or tokens, through the encoder of choice."""

import keras

from mmkeras.config import ImageConfig
from mmkeras.modalities.image import cnn
from mmkeras.modalities.image.applications import APPLICATIONS, application
from mmkeras.modalities.image.vit import vit
from mmkeras.modalities.kerashub import kerashub_vit


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


_BUILDERS = dict.fromkeys(APPLICATIONS, application) | {
    "small_cnn": cnn.small_cnn,
    "cnn": cnn.two_convolutions,
    "cnn_lstm": cnn.cnn_lstm,
    "pixels": cnn.small_pixels,
    "vit": vit,
    "kerashub_vit": kerashub_vit,
}
