"""Keras models of a run: encoders, fusion and head, built from the settings."""

from collections.abc import Collection, Iterable, Mapping
from functools import partial
from types import MappingProxyType

import keras
from keras import layers, ops

from mmkeras.config import Config
from mmkeras.layers.sequence import FullMask
from mmkeras.layers.temperature import Temperature
from mmkeras.modalities.branch import Branch
from mmkeras.modalities.columns import branch_types, build_branches, build_columns
from mmkeras.modalities.preprocessing_state import (
    FIRST_TOKEN,
    GENERATE,
    MAX_DEVIATIONS,
    REGRESSION,
    PreprocessingState,
)
from mmkeras.modalities.vector.encoder import build_vector_encoder
from mmkeras.models.auxiliary_heads import auxiliary_outputs, unimodal_logits
from mmkeras.models.decoder import LOGITS, MEMORY, MEMORY_MASK, select_decoder_inputs
from mmkeras.models.fusion import average_classifiers, fuse, fuse_tokens
from mmkeras.models.fusion.vector_fusion import Standardize
from mmkeras.models.generator import GENERATOR, build_generator
from mmkeras.models.own_encoder import Encoder, apply_encoder, check_encoders
from mmkeras.models.tasks import head_activation, head_units
from mmkeras.schema import EMBEDDING, PRESENT, PROBABILITIES, TOKENS

HEAD, TEMPERATURE = "head", "temperature"
# Of the names of backbones, after the keys of their inputs, which have no point.
_ENCODER, _SEPARATOR = "_encoder", "."
_SCALE = "_scale"  # of the names of layers, after the key of a frozen encoder's branch
_NONE = MappingProxyType({})


def build_model(
    config: Config, state: PreprocessingState, encoders: Mapping[str, Encoder] = _NONE
) -> keras.Model:
    """Builds the complete model: preprocessed inputs to probabilities.

    Inputs, by key of the branch: what its preprocessing gives, such as (B, S, S, 3)
    uint8 of images, (B, D) float32, or (B, L) int32 token ids, 0 in padding; and
    "present" (B, M) float32 in the order of `state.branches`. Output: (B, 1) for binary
    tasks, else (B, C), float32; in regression the standardised prediction, (B, 1). A
    generator has the input "tokens" (B, L) int32 too, the text so far, and its output
    is the logits (B, L, V) of the token after each.

    Encoders that can be frozen (backbones) and the rest (the "head") are nested models,
    so that a frozen encoder's output can be computed once and the head trained alone.
    `encoders`, branch -> its encoder, replace those of the settings; they belong to the
    head.

    Raises:
        UserError: One of `encoders` cannot be used.

    Example:
        config = small_concat()  # of mmkeras.config.presets
        model = build_model(config, fit_preprocessing(dataset, config))
    """
    branches = list_branches(config, state)
    check_encoders(encoders, [branch.name for branch in branches])
    inputs = {b.key: _input(b, state) for b in branches}
    inputs[PRESENT] = keras.Input((len(branches),), name=PRESENT)
    head_inputs = dict(inputs)
    for group in _groups(b for b in branches if b.name not in encoders):
        if backbone := group[0].build_backbone(config.takes_tokens):
            backbone.name = backbone_name(branch.key for branch in group)
            backbone.trainable = not group[0].is_frozen
            for branch in group:
                head_inputs[branch.key] = backbone(inputs[branch.key])
    head = build_head(config, state, head_inputs, encoders)
    outputs = head(head_inputs)
    if state.task != GENERATE:
        return keras.Model(inputs, outputs[PROBABILITIES], name="mmkeras")
    inputs[TOKENS] = keras.Input((None,), dtype="int32", name=TOKENS)
    types = branch_types(branches, config)
    generator = build_generator(
        config,
        vocab_size=FIRST_TOKEN + len(state.texts.vocabulary),
        is_aligned=list(types)[-1] in config.loss.aligned(types),
    )
    decoder_inputs = {**select_decoder_inputs(outputs), TOKENS: inputs[TOKENS]}
    return keras.Model(inputs, generator(decoder_inputs)[LOGITS], name="mmkeras")


def _groups(branches: Iterable[Branch]) -> list[list[Branch]]:
    """Returns the branches in groups that share a backbone; most are alone."""
    groups: dict[tuple[str, str], list[Branch]] = {}
    for branch in branches:
        name = ("shared", branch.type) if branch.shares_backbone else ("", branch.name)
        groups.setdefault(name, []).append(branch)
    return list(groups.values())


def backbone_name(keys: Iterable[str]) -> str:
    """Returns the name of the backbone of the inputs with these keys."""
    return f"{_SEPARATOR.join(keys)}{_ENCODER}"


def list_branches(config: Config, state: PreprocessingState) -> list[Branch]:
    """Returns the branches of a model, in order."""
    branches = {b.name: b for b in build_branches(build_columns(config), config)}
    return [branches[name] for name in state.branches]


def _input(branch, state):
    shape, dtype = branch.input(state.columns)
    return keras.Input(shape, dtype=dtype, name=branch.key)


def build_head(
    config: Config,
    state: PreprocessingState,
    like: dict[str, keras.KerasTensor],
    encoders: Mapping[str, Encoder] = _NONE,
) -> keras.Model:
    """Builds the model after the backbones.

    `like` has, by name, a tensor of each input's shape and dtype, which may be the
    output of a backbone. Outputs, by name: "probabilities" as in `build_model`;
    "embedding" (B, D), the fused vector; and those of `auxiliary_outputs`. In the place
    of probabilities a generator has "memory" (B, K, width) and "memory_mask" (B, K),
    the tokens that its decoder reads beside the fused vector.
    """
    inputs = {
        name: keras.Input(x.shape[1:], dtype=x.dtype, name=name)
        for name, x in like.items()
    }
    present = inputs[PRESENT]
    parts = list_branches(config, state)
    branches = {
        b.name: _encode_branch(b, inputs[b.key], config, state, encoders.get(b.name))
        for b in parts
    }
    keys = {b.name: b.key for b in parts}
    if state.task == GENERATE:
        memory = fuse_tokens(list(branches.values()), present, config.fusion)
        outputs = {MEMORY: memory.tokens, MEMORY_MASK: memory.mask}
        outputs[EMBEDDING] = memory.embedding
        outputs |= auxiliary_outputs(parts, branches, present, config)
        return keras.Model(inputs, outputs, name=HEAD)
    fused = fuse(list(branches.values()), present, config.fusion)
    units, activation = head_units(state), head_activation(state.task)
    unimodal = {}
    if config.fusion.kind == "late":
        unimodal = {b: unimodal_logits(keys[b], x, units) for b, x in branches.items()}
        each = list(unimodal.values())
        logits = average_classifiers(each, present, activation, config.fusion)
    else:
        logits = layers.Dense(units, dtype="float32", name="logits")(fused)
    if state.task != REGRESSION:
        logits = Temperature(dtype="float32", name=TEMPERATURE)(logits)
    out = layers.Activation(activation, dtype="float32", name="probabilities")(logits)
    settings = {"units": units, "activation": activation, "logits": unimodal}
    auxiliary = auxiliary_outputs(parts, branches, present, config, **settings)
    outputs = {PROBABILITIES: out, EMBEDDING: fused, **auxiliary}
    return keras.Model(inputs, outputs, name=HEAD)


def _encode_branch(branch, x, config, state, encoder=None):
    """Returns one vector (B, D), or tokens and mask where fusion takes tokens."""
    tokens = config.takes_tokens
    if encoder is None:
        x = branch.build_encoder(x, state.columns, tokens)
        # Linear fusion standardizes all vectors itself.
        is_raw = config.fusion.kind in ("linear", "zero_shot")
        if branch.is_frozen and not tokens and not is_raw:
            x = _encode_frozen(x, branch.key, config.vector)
    else:
        encode = partial(apply_encoder, encoder, branch.name, tokens=tokens)
        x = branch.apply_encoder(encode, x, state.columns)
    if not tokens or isinstance(x, list | tuple):
        return x
    if len(x.shape) == 2:  # a vector is one token
        x = layers.Reshape((1, x.shape[1]), name=f"{branch.key}_token")(x)
    return x, FullMask(name=f"{branch.key}_mask")(x)


def _encode_frozen(x, key, config):
    """Standardizes the vectors of a frozen encoder and encodes them like a column."""
    scale = Standardize(MAX_DEVIATIONS, dtype="float32", name=f"{key}{_SCALE}")
    encode = build_vector_encoder(config, x.shape[1], f"{key}_vector")
    return encode(scale(x))


def scale_layers(model: keras.Model) -> dict[str, Standardize]:
    """Returns key of a branch -> layer that standardizes its frozen encoder's output.

    It is the identity until its mean and deviation are set.
    """
    nested = model.get_layer(HEAD).layers
    scales = {x.name: x for x in nested if x.name.endswith(_SCALE)}
    return {name.removesuffix(_SCALE): layer for name, layer in scales.items()}


def backbones(model: keras.Model) -> dict[str, keras.Model]:
    """Returns the nested encoders of a model by input, those that can be frozen."""
    nested = [x for x in model.layers if x.name.endswith(_ENCODER)]
    keys = {x.name: x.name.removesuffix(_ENCODER).split(_SEPARATOR) for x in nested}
    return {key: x for x in nested for key in keys[x.name]}


def with_outputs(
    model: keras.Model, encoded: Collection[str] = (), has_tokens: bool = False
) -> keras.Model:
    """Returns the model with all outputs of its head, by name, numbers in float32.

    The inputs in `encoded` are outputs of their backbones, instead of raw inputs. With
    `has_tokens` a generator has the input "tokens" and the outputs of its decoder too.
    """
    head = model.get_layer(HEAD)
    inputs = {k: (head if k in encoded else model).input[k] for k in head.input}
    head_inputs = dict(inputs)
    for key, backbone in backbones(model).items():
        if key not in encoded:
            head_inputs[key] = backbone(inputs[key])
    outputs = dict(head(head_inputs))
    if has_tokens:
        inputs[TOKENS] = model.input[TOKENS]
        generator = model.get_layer(GENERATOR)
        outputs |= generator({**select_decoder_inputs(outputs), TOKENS: inputs[TOKENS]})
    return keras.Model(inputs, {name: _as_float(x) for name, x in outputs.items()})


def _as_float(x):
    return ops.cast(x, "float32") if "float" in x.dtype else x


def classify(model: keras.Model, head_inputs: dict):
    """Runs the head on outputs of the backbones: to (B, 1) or (B, C)."""
    return run_head(model, head_inputs)[PROBABILITIES]


def run_head(model: keras.Model, head_inputs: dict) -> dict:
    """Runs the head on outputs of the backbones; returns all its outputs by name."""
    return model.get_layer(HEAD)(head_inputs, training=False)


def get_temperature(model: keras.Model) -> float:
    """Returns the number that logits are divided by."""
    return float(ops.convert_to_numpy(_temperature(model)))


def set_temperature(model: keras.Model, temperature: float) -> None:
    """Sets the number that logits are divided by."""
    _temperature(model).assign(temperature)


def _temperature(model):
    return model.get_layer(HEAD).get_layer(TEMPERATURE).temperature
