"""Encoders, fusion and head put together: settings in, `keras.Model` out."""

import keras
from keras import layers, ops

from mmkeras.config import Config
from mmkeras.encoders import (
    build_audio_encoder,
    build_image_encoder,
    build_text_encoder,
)
from mmkeras.fusion import fuse
from mmkeras.preprocess.analysis import BINARY, MULTICLASS, Analysis
from mmkeras.schema import AUDIO, IMAGE, PRESENT, TEXT

IMAGE_ENCODER, HEAD, TEMPERATURE, FUSED = (
    "image_encoder",
    "head",
    "temperature",
    "fused",
)


@keras.saving.register_keras_serializable(package="mmkeras")
class Temperature(layers.Layer):
    """Divides logits by one number, fitted on validation rows after training.

    Shapes: (B, C) float32 to (B, C).

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """

    def build(self, shape):
        self.temperature = self.add_weight(
            name="temperature", shape=(), initializer="ones", trainable=False
        )

    def call(self, logits):
        return logits / self.temperature


def build_model(config: Config, analysis: Analysis) -> keras.Model:
    """Builds the whole model: preprocessed inputs to probabilities.

    Inputs, by name: "image" (B, S, S, 3) uint8, "text" and "audio" (B, D) float32,
    each only where in use, and "present" (B, M) float32 in the order of
    `analysis.modalities`. Output: (B, 1) for binary tasks, else (B, C), float32.

    The image encoder and the rest (the "head") are models of their own inside, so
    that a frozen encoder's output can be computed once and the head trained alone.
    """
    inputs = {m: _input(m, config, analysis) for m in analysis.modalities}
    inputs[PRESENT] = keras.Input((len(analysis.modalities),), name=PRESENT)
    head_inputs = dict(inputs)
    if IMAGE in inputs:
        encoder = build_image_encoder(config.image)
        encoder.trainable = not config.image.is_frozen
        head_inputs[IMAGE] = encoder(inputs[IMAGE])
    widths = {m: x.shape[-1] for m, x in head_inputs.items()}
    head = build_head(config, analysis, widths)
    return keras.Model(inputs, head(head_inputs), name="mmkeras")


def _input(modality, config, analysis):
    if modality == IMAGE:
        shape = (config.image.size_px, config.image.size_px, 3)
        return keras.Input(shape, dtype="uint8", name=IMAGE)
    return keras.Input((analysis.widths[modality],), name=modality)


def build_head(config: Config, analysis: Analysis, widths: dict[str, int]):
    """Builds all but the image encoder: vectors by modality to probabilities."""
    inputs = {name: keras.Input((width,), name=name) for name, width in widths.items()}
    vectors = []
    for modality in analysis.modalities:
        x = inputs[modality]
        if modality == TEXT:
            x = build_text_encoder(config.text, widths[TEXT])(x)
        if modality == AUDIO:
            x = build_audio_encoder(config.audio, widths[AUDIO])(x)
        vectors.append(x)
    fused = fuse(vectors, inputs[PRESENT], config.fusion)  # (B, units)
    units = 1 if analysis.task == BINARY else len(analysis.classes)
    logits = layers.Dense(units, dtype="float32", name="logits")(fused)
    logits = Temperature(dtype="float32", name=TEMPERATURE)(logits)
    activation = "softmax" if analysis.task == MULTICLASS else "sigmoid"
    out = layers.Activation(activation, dtype="float32", name="probabilities")(logits)
    return keras.Model(inputs, out, name=HEAD)


def with_embedding(model: keras.Model) -> keras.Model:
    """Returns the model with the fused vector (B, units) as a second output."""
    head = model.get_layer(HEAD)
    both = keras.Model(head.input, [head.output, head.get_layer(FUSED).output])
    inputs = dict(model.input)
    head_inputs = dict(inputs)
    if IMAGE in inputs:
        head_inputs[IMAGE] = model.get_layer(IMAGE_ENCODER)(inputs[IMAGE])
    probabilities, fused = both(head_inputs)
    return keras.Model(inputs, [probabilities, ops.cast(fused, "float32")])


def set_temperature(model: keras.Model, temperature: float) -> None:
    """Sets the number that logits are divided by."""
    model.get_layer(HEAD).get_layer(TEMPERATURE).temperature.assign(temperature)
