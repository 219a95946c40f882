"""Fusion: branches and their presence in, one vector out. Knows no modality by name."""

from collections.abc import Sequence

import keras

from mmkeras.config import FusionConfig
from mmkeras.models.fusion import token_fusion, vector_fusion
from mmkeras.models.fusion.late import average_classifiers
from mmkeras.models.fusion.missing_modality import (
    MissingEmbedding,
    MissingToken,
    ModalityDropout,
    Passthrough,
    ZeroMissing,
)

__all__ = ["average_classifiers", "fuse"]

_VECTORS = {
    "concat": vector_fusion.concatenate,
    "interaction": vector_fusion.interact,
    "gated": vector_fusion.gate,
    "tensor": vector_fusion.multiply_out,
    "low_rank": vector_fusion.multiply_low_rank,
    "late": vector_fusion.concat,
}
_SEQUENCES = {
    "cross_attention": token_fusion.attend_across,
    "mult": token_fusion.transform_pairs,
    "mean_tokens": token_fusion.average,
}


def fuse(
    branches: Sequence, present: keras.KerasTensor, config: FusionConfig
) -> keras.KerasTensor:
    """Makes one vector of the branches, by `config.kind`.

    Each absent branch stands there by what its place has learned for absence (in late,
    whose classifiers do without, by zeros), so that its data cannot reach the result.
    Without `config.presence` it counts as it is.

    Args:
        branches: M vectors (B, D_m), widths may differ; with `config.takes_tokens` M
            pairs of tokens (B, L_m, D_m) and their mask (B, L_m) bool.
        present: (B, M), 1.0 where the branch has data, else 0.0.
        config: Kind and sizes.

    Returns:
        (B, D); D is `config.units`, but of interaction and late, which have no dense
        layer between the branches and the classifier.
    """
    if len(branches) != present.shape[1]:
        raise ValueError(
            f"`present` must have one column per branch: {len(branches)} branches, "
            f"received present.shape={present.shape}."
        )
    if config.presence:
        branches = _known(branches, present, config)
    else:
        branches = _as_given(branches, present, config)
    kinds = _SEQUENCES if config.takes_tokens else _VECTORS
    return kinds[config.kind](branches, config)


def _known(branches, present, config):
    """Hides modalities of training rows, and fills the places of absent ones."""
    if config.kind != "late":  # whose average hides them
        hide = ModalityDropout(config.modality_dropout, name="modality_dropout")
        present = hide(present)
    there = [present[:, i : i + 1] for i in range(len(branches))]
    if config.takes_tokens:
        return [
            MissingToken(name=f"absence_{i}")(*branch, there[i])
            for i, branch in enumerate(branches)
        ]
    kind = ZeroMissing if config.kind == "late" else MissingEmbedding
    return [
        kind(name=f"absence_{i}")(branch, there[i]) for i, branch in enumerate(branches)
    ]


def _as_given(branches, present, config):
    if config.takes_tokens:
        return [
            (Passthrough(name=f"given_{i}")(tokens, present), mask)
            for i, (tokens, mask) in enumerate(branches)
        ]
    return [
        Passthrough(name=f"given_{i}")(vector, present)
        for i, vector in enumerate(branches)
    ]
