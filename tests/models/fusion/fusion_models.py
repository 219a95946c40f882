"""Small fusion models of each kind, and inputs for them."""

from functools import cache

import keras
import numpy as np

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import fuse

VECTOR_KINDS = ("concat", "interaction", "gated", "tensor", "low_rank", "late")
TOKEN_KINDS = ("cross_attention", "mult", "mean_tokens")
KINDS = VECTOR_KINDS + TOKEN_KINDS
WIDTHS = (3, 5, 2)
TOKENS = ((4, 3), (6, 5), (2, 7))  # number of tokens, width


def build_fusion(kind, branches=3, widths=WIDTHS, **settings) -> keras.Model:
    """Builds a model of the branches' inputs and the presence."""
    keras.utils.set_random_seed(1)
    width = 8 if kind in TOKEN_KINDS else 3
    settings = {"units": 4, "width": width, "rank": 2, "heads": 2} | settings
    config = FusionConfig(kind=kind, **settings)
    if kind in TOKEN_KINDS:
        pairs = [
            (keras.Input(shape), keras.Input(shape[:1], dtype="bool"))
            for shape in TOKENS[:branches]
        ]
        inputs = [tensor for pair in pairs for tensor in pair]
    else:
        pairs = inputs = [keras.Input((width,)) for width in widths[:branches]]
    present = keras.Input((branches,))
    return keras.Model([*inputs, present], fuse(pairs, present, config))


@cache
def shared_fusion(kind) -> keras.Model:
    """Returns one model of three branches per kind, which no test may change."""
    return build_fusion(kind, dropout=0.5)


def branch_inputs(kind, rows=6) -> list[np.ndarray]:
    """Returns the vectors, or tokens and masks; some rows have a token of padding."""
    rng, inputs = np.random.default_rng(0), []
    if kind in VECTOR_KINDS:
        return [rng.normal(size=(rows, width)).astype("float32") for width in WIDTHS]
    for length, width in TOKENS:
        mask = np.ones((rows, length), bool)
        mask[: rows // 2, -1] = False
        inputs += [rng.normal(size=(rows, length, width)).astype("float32"), mask]
    return inputs


def presence(rows=6, branches=3) -> np.ndarray:
    return np.ones((rows, branches), "float32")
