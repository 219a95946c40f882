"""Settings of what training minimises."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from mmkeras.config.validation import check
from mmkeras.schema import MODALITIES


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """What training minimises beside the fused classifier's own loss.

    The sum L + Σ_i [λ_i·L_i + Σ_j≠i w_ij·L_ij]: L_i is the loss of a classifier on one
    modality alone, L_ij says how far a row's two modalities lie apart. A weight of 0
    leaves out its term and its layers.

    Attributes:
        kind: Of L and L_i: cross_entropy; or focal, in which rows that are surely
            right count less.
        focal_gamma: How much less.
        text: λ of the classifier on text alone.
        image: λ of the classifier on pictures alone.
        audio: λ of the classifier on sounds alone.
        text_image: w of text and picture, in both directions.
        text_audio: w of text and sound.
        image_audio: w of picture and sound.
        alignment: contrastive (symmetric, over the rows of a batch, with a learned
            temperature) or cosine.
        width: Width of the aligned vectors.
    """

    kind: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = 2.0
    text: float = 0.0
    image: float = 0.0
    audio: float = 0.0
    text_image: float = 0.0
    text_audio: float = 0.0
    image_audio: float = 0.0
    alignment: Literal["contrastive", "cosine"] = "contrastive"
    width: int = 64

    def __post_init__(self):
        pairs = ("_".join(pair) for pair in combinations(MODALITIES, 2))
        for name in ("focal_gamma", *MODALITIES, *pairs):
            value = getattr(self, name)
            check(0 <= value < float("inf"), f"loss.{name}", value, "0 or more")
        check(self.width >= 1, "loss.width", self.width, "at least 1")

    def classifiers(self, modalities: Sequence[str]) -> dict[str, float]:
        """λ of those `modalities` that have a classifier of their own."""
        weights = {m: getattr(self, m) for m in modalities}
        return {m: weight for m, weight in weights.items() if weight}

    def pairs(self, modalities: Sequence[str]) -> dict[tuple[str, str], float]:
        """w of those pairs of `modalities` that are aligned."""
        pairs = [p for p in combinations(MODALITIES, 2) if set(p) <= set(modalities)]
        weights = {pair: getattr(self, "_".join(pair)) for pair in pairs}
        return {pair: weight for pair, weight in weights.items() if weight}

    def unmet(self, modalities: Sequence[str]) -> list[str]:
        """Settings whose modality, or one of the two, is not among `modalities`."""
        needed = {"_".join(pair): set(pair) for pair in combinations(MODALITIES, 2)}
        needed |= {m: {m} for m in MODALITIES}
        lacking = [name for name, need in needed.items() if need - set(modalities)]
        return [name for name in lacking if getattr(self, name)]

    def aligned(self, modalities: Sequence[str]) -> list[str]:
        """Those of `modalities` that have a vector of their own."""
        pairs = self.pairs(modalities)
        return [m for m in modalities if any(m in pair for pair in pairs)]
