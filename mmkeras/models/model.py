"""Keras models of a run: encoders, fusion and head, built from the settings."""

import keras
from keras import layers, ops

from mmkeras.config import Config
from mmkeras.layers.sequence import FullMask
from mmkeras.modalities.audio.encoder import build_audio_encoder
from mmkeras.modalities.image.encoder import build_image_encoder
from mmkeras.modalities.preprocessing_state import (
    REGRESSION,
    RESERVED,
    PreprocessingState,
)
from mmkeras.modalities.text.encoder import build_text_encoder
from mmkeras.models.auxiliary_heads import auxiliary_outputs, unimodal_logits
from mmkeras.models.fusion import average_classifiers, fuse
from mmkeras.models.tasks import head_activation, head_units
from mmkeras.schema import AUDIO, EMBEDDING, IMAGE, PRESENT, PROBABILITIES, TEXT

IMAGE_ENCODER, HEAD, TEMPERATURE = "image_encoder", "head", "temperature"


@keras.saving.register_keras_serializable(package="mmkeras")
class Temperature(layers.Layer):
    """Division of logits by one number, fitted on validation rows after training.

    Shapes: (B, C) float32 to (B, C).

    Source: Guo et al., 2017, https://arxiv.org/abs/1706.04599.
    """

    def build(self, shape):
        self.temperature = self.add_weight(
            name="temperature", shape=(), initializer="ones", trainable=False
        )

    def call(self, logits):
        return logits / self.temperature


def build_model(config: Config, state: PreprocessingState) -> keras.Model:
    """Builds the complete model: preprocessed inputs to probabilities.

    Inputs, by name: "image" (B, S, S, 3) uint8; "text" (B, D) float32, or (B, L) int32
    token ids, 0 in padding, for encoders of sequences; "audio" (B, D) float32, or
    (B, T, F), zeros in padding; each only where in use; and "present" (B, M) float32
    in the order of `state.modalities`. Output: (B, 1) for binary tasks, else (B, C),
    float32; in regression the standardised prediction, (B, 1).

    The image encoder and the rest (the "head") are nested models, so that a frozen
    encoder's output can be computed once and the head trained alone.

    Example:
        config = small_concat()  # of mmkeras.config.presets
        model = build_model(config, fit_preprocessing(dataset, config))
    """
    inputs = {m: _input(m, config, state) for m in state.modalities}
    inputs[PRESENT] = keras.Input((len(state.modalities),), name=PRESENT)
    head_inputs = dict(inputs)
    if IMAGE in inputs:
        encoder = build_image_encoder(config.image, config.fusion.takes_tokens)
        encoder.trainable = not config.image.is_frozen
        head_inputs[IMAGE] = encoder(inputs[IMAGE])
    head = build_head(config, state, head_inputs)
    return keras.Model(inputs, head(head_inputs)[PROBABILITIES], name="mmkeras")


def _input(modality, config, state):
    if modality == IMAGE:
        shape = (config.image.size_px, config.image.size_px, 3)
        return keras.Input(shape, dtype="uint8", name=IMAGE)
    if modality == TEXT and config.text.is_sequence:
        return keras.Input((config.text.max_tokens,), dtype="int32", name=TEXT)
    width = state.widths[modality]
    if modality == AUDIO and config.audio.is_sequence:
        return keras.Input((config.audio.max_frames, width), name=AUDIO)
    return keras.Input((width,), name=modality)


def build_head(
    config: Config, state: PreprocessingState, like: dict[str, keras.KerasTensor]
) -> keras.Model:
    """Builds the model after the image encoder.

    `like` has, by name, a tensor of each input's shape and dtype; the image is the
    output of the image encoder. Outputs, by name: "probabilities" as in `build_model`;
    "embedding" (B, D), the fused vector; and those of `auxiliary_outputs`.
    """
    inputs = {
        name: keras.Input(x.shape[1:], dtype=x.dtype, name=name)
        for name, x in like.items()
    }
    present = inputs[PRESENT]
    branches = {
        m: _encode_modality(m, inputs[m], config, state) for m in state.modalities
    }
    fused = fuse(list(branches.values()), present, config.fusion)
    units, activation = head_units(state), head_activation(state.task)
    unimodal = {}
    if config.fusion.kind == "late":
        unimodal = {m: unimodal_logits(m, x, units) for m, x in branches.items()}
        each = list(unimodal.values())
        logits = average_classifiers(each, present, activation, config.fusion)
    else:
        logits = layers.Dense(units, dtype="float32", name="logits")(fused)
    if state.task != REGRESSION:
        logits = Temperature(dtype="float32", name=TEMPERATURE)(logits)
    out = layers.Activation(activation, dtype="float32", name="probabilities")(logits)
    settings = {"units": units, "activation": activation, "logits": unimodal}
    auxiliary = auxiliary_outputs(branches, present, config.loss, **settings)
    outputs = {PROBABILITIES: out, EMBEDDING: fused, **auxiliary}
    return keras.Model(inputs, outputs, name=HEAD)


def _encode_modality(modality, x, config, state):
    """Returns one vector (B, D), or tokens and mask where fusion takes tokens."""
    tokens = config.fusion.takes_tokens
    if modality == TEXT:
        vocabulary = RESERVED + len(state.vocabulary)
        encoder = build_text_encoder(config.text, x.shape[1], vocabulary, tokens)
        x = encoder(x)
    if modality == AUDIO:
        x = build_audio_encoder(config.audio, x.shape[1:], tokens)(x)
    if not tokens or isinstance(x, list | tuple):
        return x
    if len(x.shape) == 2:  # a vector is one token
        x = layers.Reshape((1, x.shape[1]), name=f"{modality}_token")(x)
    return x, FullMask(name=f"{modality}_mask")(x)


def with_outputs(model: keras.Model) -> keras.Model:
    """Returns the model with all outputs of its head, by name, in float32."""
    inputs = dict(model.input)
    head_inputs = dict(inputs)
    if IMAGE in inputs:
        head_inputs[IMAGE] = model.get_layer(IMAGE_ENCODER)(inputs[IMAGE])
    outputs = model.get_layer(HEAD)(head_inputs)
    outputs = {name: ops.cast(x, "float32") for name, x in outputs.items()}
    return keras.Model(inputs, outputs)


def encode(model: keras.Model, inputs: dict) -> dict:
    """Runs the image encoder: inputs of a model with images to inputs of its head."""
    encoded = model.get_layer(IMAGE_ENCODER)(inputs[IMAGE], training=False)
    return {**inputs, IMAGE: encoded}


def classify(model: keras.Model, head_inputs: dict):
    """Runs the head on the output of `encode`: to (B, 1) or (B, C)."""
    return model.get_layer(HEAD)(head_inputs, training=False)[PROBABILITIES]


def get_temperature(model: keras.Model) -> float:
    """Returns the number that logits are divided by."""
    return float(ops.convert_to_numpy(_temperature(model)))


def set_temperature(model: keras.Model, temperature: float) -> None:
    """Sets the number that logits are divided by."""
    _temperature(model).assign(temperature)


def _temperature(model):
    return model.get_layer(HEAD).get_layer(TEMPERATURE).temperature
