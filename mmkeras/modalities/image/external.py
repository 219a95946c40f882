"""Image encoders that users bring: a saved Keras model, or a SavedModel."""

import keras
from keras import layers

from mmkeras.config import ImageConfig
from mmkeras.errors import UserError, one_line
from mmkeras.files import check_file
from mmkeras.layers.saved_model import SavedModelLayer
from mmkeras.modalities.image.applications import FrozenBatchNorm
from mmkeras.modalities.image.cnn import flatten_map
from mmkeras.modalities.image.scaling import scale_pixels


def keras_file(pixels, config: ImageConfig, tokens: bool) -> keras.KerasTensor:
    """Applies the model of a .keras file: (B, S, S, 3) uint8 to (B, D) float32.

    The model takes pixels in the range of `image.scale` and gives (B, D), or a map
    (B, H, W, D), which is averaged; with `tokens` all its positions are returned. Code
    in the file, such as a Lambda layer, is never run.

    Raises:
        UserError: The file is missing or unreadable, or the model is another one.
    """
    model = _load(config.weights)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise _refuse(config, "with several inputs or outputs", "one of each")
    size_px = config.size_px
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3 or any(n not in (None, size_px) for n in shape[:2]):
        expected = f"({size_px}, {size_px}, 3) by image.size_px"
        raise _refuse(config, f"for inputs {shape}", expected)
    # A loaded model may take and give a list or a dictionary of one.
    images = keras.Input((size_px, size_px, 3), name="images")
    result = model(keras.tree.pack_sequence_as(model.input, [images]))
    model = keras.Model(images, keras.tree.flatten(result)[0], name="keras_file")
    x = FrozenBatchNorm(model, name="fixed_statistics")(
        scale_pixels(pixels, config.scale)
    )
    return _pool(x, config, tokens)


def saved_model(pixels, config: ImageConfig, tokens: bool) -> keras.KerasTensor:
    """Applies the SavedModel of a folder: (B, S, S, 3) uint8 to (B, D) float32.

    As `keras_file`; pixels of the range 0..255 are cast to the type that it takes. Its
    weights stay as they are.

    Raises:
        UserError: The folder has no SavedModel, or one that does not take the pixels.
    """
    if config.scale != "0..255":
        pixels = scale_pixels(pixels, config.scale)
    x = SavedModelLayer(config.weights, name="saved_model")(pixels)
    return _pool(x, config, tokens)


def _load(path):
    check_file("image.weights", path, "the path of a .keras file")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    # Keras has no error of its own for unknown layers and damaged files.
    except Exception as error:
        raise UserError(
            f"image.weights='{path}' cannot be loaded as a Keras model "
            f"({one_line(error, 200)}). Give a .keras file with the layers of Keras "
            "only, or export the model and use image.encoder=saved_model."
        ) from error


def _pool(x, config, tokens):
    """(B, D) as it is; (B, H, W, D) -> (B, D), or (B, L, D) with `tokens`."""
    if len(x.shape) not in (2, 4) or None in x.shape[1:]:
        raise _refuse(config, f"with outputs {x.shape[1:]}", "(D,) or (H, W, D)")
    if len(x.shape) == 4 and tokens:
        return flatten_map(x)
    return x if len(x.shape) == 2 else layers.GlobalAveragePooling2D(name="pool")(x)


def _refuse(config, problem, expected):
    return UserError(
        f"image.weights='{config.weights}' is a model {problem}; image.encoder="
        f"{config.encoder} needs {expected}."
    )
