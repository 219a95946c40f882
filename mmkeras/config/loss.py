"""Settings of the training loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from mmkeras.config.validation import AUTO, check_range
from mmkeras.schema import MODALITIES

# Values of `loss.kind` by task; the first is that of "auto".
CLASS_LOSSES, REGRESSION_LOSSES = ("cross_entropy", "focal"), ("mse", "mae", "huber")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss of the prediction, and auxiliary losses per modality and per pair.

    The total is L + Σ_i [λ_i·L_i + Σ_j≠i w_ij·L_ij]: L_i is the loss of a classifier
    on modality i alone, L_ij the distance between a row's embeddings of i and j. A
    weight of 0 removes its term and its layers.

    Attributes:
        kind: Form of L and L_i. Of classes: cross_entropy; or focal, which reduces the
            weight of rows that are classified well. Of regression: mse; mae; or huber,
            which is mse below and mae above one standard deviation. auto is
            cross_entropy or mse.
        focal_gamma: Exponent of the focal loss.
        text: λ of the classifier on text alone.
        image: λ of the classifier on images alone.
        audio: λ of the classifier on audio alone.
        text_image: w of text and image, in both directions.
        text_audio: w of text and audio.
        image_audio: w of image and audio.
        alignment: contrastive (symmetric, over the rows of a batch, with a learned
            temperature) or cosine.
        width: Width of the aligned vectors.
    """

    kind: Literal["auto", "cross_entropy", "focal", "mse", "mae", "huber"] = AUTO
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
        names = (f"loss.{name}" for name in ("focal_gamma", *MODALITIES, *pairs))
        check_range(self, *names, ge=0, lt=float("inf"))
        check_range(self, "loss.width", ge=1)

    def classifiers(self, modalities: Sequence[str]) -> dict[str, float]:
        """Returns modality -> λ of those with an auxiliary classifier."""
        weights = {m: getattr(self, m) for m in modalities}
        return {m: weight for m, weight in weights.items() if weight}

    def pairs(self, modalities: Sequence[str]) -> dict[tuple[str, str], float]:
        """Returns pair -> w of the aligned pairs of `modalities`."""
        pairs = [p for p in combinations(MODALITIES, 2) if set(p) <= set(modalities)]
        weights = {pair: getattr(self, "_".join(pair)) for pair in pairs}
        return {pair: weight for pair, weight in weights.items() if weight}

    def unavailable(self, modalities: Sequence[str]) -> list[str]:
        """Returns the settings that need a modality outside `modalities`."""
        needed = {"_".join(pair): set(pair) for pair in combinations(MODALITIES, 2)}
        needed |= {m: {m} for m in MODALITIES}
        missing = [name for name, need in needed.items() if need - set(modalities)]
        return [name for name in missing if getattr(self, name)]

    def aligned(self, modalities: Sequence[str]) -> list[str]:
        """Returns those of `modalities` that are in an aligned pair."""
        pairs = self.pairs(modalities)
        return [m for m in modalities if any(m in pair for pair in pairs)]
