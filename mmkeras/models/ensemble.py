"""Keras model of an ensemble: the weighted mean of several models, in one model.

It has the form of any other model: backbones by key of their input, and one nested
model named "head", in which the heads of the members are.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from mmkeras.layers.temperature import Temperature
from mmkeras.layers.unit_vector import UnitVector
from mmkeras.layers.weighted_mean import WeightedMean
from mmkeras.modalities.preprocessing_state import REGRESSION
from mmkeras.models.model import HEAD, TEMPERATURE, backbone_name, backbones
from mmkeras.models.tasks import head_activation
from mmkeras.schema import EMBEDDING, PRESENT, PROBABILITIES


@dataclass(frozen=True, kw_only=True)
class Part:
    """What an ensemble has of a member.

    Attributes:
        head: Nested model after the backbones.
        keys: Key of an input in the member -> its key in the ensemble.
        inputs: Key in the ensemble -> (shape of a row, dtype) of the input.
        encoders: Keys in the ensemble -> backbone of these inputs, of those that no
            earlier member has.
    """

    head: keras.Model
    keys: Mapping[str, str]
    inputs: Mapping[str, tuple[tuple, str]]
    encoders: Mapping[tuple[str, ...], keras.Model]


def split_model(model: keras.Model, keys: Mapping[str, str], known: Sequence) -> Part:
    """Returns the parts of a member; of backbones those of keys that are not `known`.

    The model itself can be deleted after it, and its other backbones with it.
    """
    encoders: dict[tuple[str, ...], keras.Model] = {}
    shared: dict[int, list[str]] = {}
    by_key = backbones(model)
    for key, backbone in by_key.items():
        if keys[key] not in known:
            shared.setdefault(id(backbone), []).append(key)
    for names in shared.values():
        encoders[tuple(keys[name] for name in names)] = by_key[names[0]]
    inputs = {
        keys[k]: (x.shape[1:], x.dtype) for k, x in model.input.items() if k in keys
    }
    head = model.get_layer(HEAD)
    return Part(head=head, keys=keys, inputs=inputs, encoders=encoders)


def weights_digest(model: keras.Model) -> str:
    """Returns a hash of the weights of a model."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def build_ensemble(
    parts: Sequence[Part], weights: Sequence[float], task: str, aligned: Sequence[str]
) -> keras.Model:
    """Builds the model of several parts, whose layers it shares.

    Inputs and output are as those of `build_model`, but a branch has as many inputs as
    the members preprocess or encode it differently. The head has the outputs
    "probabilities", the weighted mean, whose logits a temperature divides;
    "embedding", the concatenation of the members' unit vectors, times the roots of the
    weights, so that a product of two is the weighted mean of the members' cosines; and
    `aligned`, the same of the members that have these outputs.

    Example:
        ensemble = build_ensemble(parts, [0.75, 0.25], "multiclass", ())
    """
    specs = {key: spec for part in parts for key, spec in part.inputs.items()}
    inputs = {k: keras.Input(shape, dtype=d, name=k) for k, (shape, d) in specs.items()}
    branches = parts[0].head.input[PRESENT].shape[1]
    inputs[PRESENT] = keras.Input((branches,), name=PRESENT)
    head_inputs = dict(inputs)
    for part in parts:
        for keys, encoder in part.encoders.items():
            # A model of the same layers, as the member keeps its name.
            backbone = keras.Model(
                encoder.input, encoder.output, name=backbone_name(keys)
            )
            backbone.trainable = encoder.trainable
            for key in keys:
                head_inputs[key] = backbone(inputs[key])
    head = _build_head(parts, weights, task, aligned, head_inputs)
    return keras.Model(inputs, head(head_inputs)[PROBABILITIES], name="mmkeras")


def _build_head(parts, weights, task, aligned, like) -> keras.Model:
    weights = np.asarray(weights, "float64")
    weights = (weights / weights.sum()).tolist()
    inputs = {
        name: keras.Input(x.shape[1:], dtype=x.dtype, name=name)
        for name, x in like.items()
    }
    outputs = []
    for i, part in enumerate(parts, 1):
        head = keras.Model(part.head.input, part.head.output, name=f"member_{i}")
        own_inputs = {k: inputs[key] for k, key in part.keys.items()}
        outputs.append(head({**own_inputs, PRESENT: inputs[PRESENT]}))
    activation = head_activation(task)
    each = ops.stack([output[PROBABILITIES] for output in outputs], axis=1)
    x = WeightedMean(weights, activation, dtype="float32", name="weighted_mean")(each)
    if task != REGRESSION:
        x = Temperature(dtype="float32", name=TEMPERATURE)(x)
    out = layers.Activation(activation, dtype="float32", name="probabilities")(x)
    result = {PROBABILITIES: out}
    for name in (EMBEDDING, *aligned):
        vectors = [
            (x[name], w) for x, w in zip(outputs, weights, strict=True) if name in x
        ]
        result[name] = _concatenate(vectors, name)
    return keras.Model(inputs, result, name=HEAD)


def _concatenate(vectors: Sequence[tuple[Any, float]], name: str):
    """Concatenates unit vectors (B, D) times the root of their share of the weight."""
    total, parts = sum(weight for _, weight in vectors), []
    for i, (x, weight) in enumerate(vectors, 1):
        unit = UnitVector(dtype="float32", name=f"{name}_unit_{i}")
        scale = layers.Rescaling(
            (weight / total) ** 0.5, dtype="float32", name=f"{name}_share_{i}"
        )
        parts.append(scale(unit(x, ops.ones_like(x[:, :1]))))
    if len(parts) == 1:
        return parts[0]
    return layers.Concatenate(dtype="float32", name=f"{name}_joined")(parts)
