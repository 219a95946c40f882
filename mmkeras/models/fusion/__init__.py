"""Fusion of encoded modalities and their presence into a vector, or also tokens."""

from collections.abc import Sequence

import keras

from mmkeras.config import FusionConfig
from mmkeras.layers.unit_vector import UnitVector
from mmkeras.models.fusion import token_fusion, vector_fusion
from mmkeras.models.fusion.late import average_classifiers
from mmkeras.models.fusion.memory import Memory, build_memory
from mmkeras.models.fusion.missing_modality import (
    MissingEmbedding,
    MissingToken,
    ModalityDropout,
    Passthrough,
    ZeroMissing,
)
from mmkeras.models.fusion.token_fusion import Tokens

__all__ = ["average_classifiers", "fuse", "fuse_tokens"]

_VECTORS = {
    "concat": vector_fusion.concat_dense,
    "interaction": vector_fusion.interact,
    "gated": vector_fusion.gate,
    "tensor": vector_fusion.multiply_out,
    "low_rank": vector_fusion.multiply_low_rank,
    "late": vector_fusion.concat,
    "linear": vector_fusion.standardize,
}
_SEQUENCES = {
    "cross_attention": token_fusion.attend_across,
    "mult": token_fusion.transform_pairs,
    "mean_tokens": token_fusion.average,
}


def fuse(
    branches: Sequence, present: keras.KerasTensor, config: FusionConfig
) -> keras.KerasTensor:
    """Fuses the branches into one vector by `config.kind`.

    A missing modality is replaced by a learned embedding (by zeros in late, linear and
    zero_shot fusion), so its input cannot affect the result. Without `config.presence`
    nothing is replaced, except in zero_shot.

    Args:
        branches: M vectors (B, D_m), widths may differ; with `config.takes_tokens` M
            pairs of tokens (B, L_m, D_m) and their mask (B, L_m) bool.
        present: (B, M), 1.0 where the branch has data, else 0.0.

    Returns:
        (B, D); D is `config.units`, except for interaction, late, linear and zero_shot,
        which have no dense layer between the branches and the classifier.

    Example:
        text, image = keras.Input((256,)), keras.Input((64,))
        vector = fuse([text, image], keras.Input((2,)), FusionConfig(kind="gated"))
    """
    if len(branches) != present.shape[1]:
        raise ValueError(
            f"`present` must have one column per branch: {len(branches)} branches, "
            f"received present.shape={present.shape}."
        )
    if config.kind == "zero_shot":
        (vector,) = branches
        return UnitVector(dtype="float32", name="fused")(vector, present)
    branches = _with_presence(branches, present, config, config.takes_tokens)
    if config.kind == "linear":
        branches = [*branches, present]
    kinds = _SEQUENCES if config.takes_tokens else _VECTORS
    return kinds[config.kind](branches, config)


def fuse_tokens(
    branches: Tokens, present: keras.KerasTensor, config: FusionConfig
) -> Memory:
    """Fuses the branches into what a decoder of texts reads, by `build_memory`.

    Arguments are those of `fuse` for tokens; missing modalities are replaced alike.
    """
    branches = _with_presence(branches, present, config, has_tokens=True)
    return build_memory(branches, config)


def _with_presence(branches, present, config, has_tokens):
    handle = _handle_missing if config.presence else _pass_through
    return handle(branches, present, config, has_tokens)


def _handle_missing(branches, present, config, has_tokens):
    """Drops modalities in training, and replaces the missing ones."""
    if config.kind != "late":  # whose average drops them
        drop = ModalityDropout(config.modality_dropout, name="modality_dropout")
        present = drop(present)
    columns = [present[:, i : i + 1] for i in range(len(branches))]
    if has_tokens:
        kind = MissingToken
    else:
        is_zero = config.kind in ("late", "linear")
        kind = ZeroMissing if is_zero else MissingEmbedding
        branches = [(vector,) for vector in branches]
    return [
        kind(name=f"absence_{i}")(*branch, columns[i])
        for i, branch in enumerate(branches)
    ]


def _pass_through(branches, present, config, has_tokens):
    layers = [Passthrough(name=f"given_{i}") for i in range(len(branches))]
    pairs = list(zip(layers, branches, strict=True))
    if has_tokens:
        return [(layer(tokens, present), mask) for layer, (tokens, mask) in pairs]
    return [layer(vector, present) for layer, vector in pairs]
