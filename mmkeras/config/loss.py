"""Settings of the training loss."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from mmkeras.config.validation import AUTO, check_range

_ALONE = ("text", "image", "audio", "vector", "tabular")
_PAIRS = ("text_image", "text_audio", "image_audio")

# Values of `loss.kind` by task; the first is that of "auto".
CLASS_LOSSES, REGRESSION_LOSSES = ("cross_entropy", "focal"), ("mse", "mae", "huber")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Loss of the prediction, and auxiliary losses per branch and per pair.

    The total is L + Σ_i [λ_i·L_i + Σ_j≠i w_ij·L_ij]: L_i is the loss of a classifier
    on modality i alone, L_ij the distance between a row's embeddings of i and j. A
    weight of 0 removes its term and its layers.

    Attributes:
        kind: Form of L and L_i. Of classes: cross_entropy; or focal, which reduces the
            weight of rows that are classified well. Of regression: mse; mae; or huber,
            which is mse below and mae above one standard deviation. auto is
            cross_entropy or mse.
        focal_gamma: Exponent of the focal loss.
        text: λ of the classifier on each column of text alone.
        image: λ of the classifier on each column of images alone.
        audio: λ of the classifier on each column of audio alone.
        vector: λ of the classifier on each column of vectors alone.
        tabular: λ of the classifier on numbers and categories alone.
        text_image: w of each pair of a text and an image, in both directions.
        text_audio: w of each pair of a text and audio.
        image_audio: w of each pair of an image and audio.
        alignment: contrastive (symmetric, over the rows of a batch, with a learned
            temperature) or cosine.
        width: Width of the aligned vectors.
    """

    kind: Literal["auto", "cross_entropy", "focal", "mse", "mae", "huber"] = AUTO
    focal_gamma: float = 2.0
    text: float = 0.0
    image: float = 0.0
    audio: float = 0.0
    vector: float = 0.0
    tabular: float = 0.0
    text_image: float = 0.0
    text_audio: float = 0.0
    image_audio: float = 0.0
    alignment: Literal["contrastive", "cosine"] = "contrastive"
    width: int = 64

    def __post_init__(self):
        names = (f"loss.{name}" for name in ("focal_gamma", *_ALONE, *_PAIRS))
        check_range(self, *names, ge=0, lt=float("inf"))
        check_range(self, "loss.width", ge=1)

    def classifiers(self, types: Mapping[str, str]) -> dict[str, float]:
        """Returns branch -> λ of those with an auxiliary classifier.

        `types` is branch -> its type, here and below.
        """
        weights = {name: getattr(self, kind, 0.0) for name, kind in types.items()}
        return {name: weight for name, weight in weights.items() if weight}

    def pairs(self, types: Mapping[str, str]) -> dict[tuple[str, str], float]:
        """Returns pair -> w of the aligned pairs of branches."""
        weights = {
            (a, b): max(
                getattr(self, f"{types[x]}_{types[y]}", 0.0)
                for x, y in ((a, b), (b, a))
            )
            for a, b in combinations(types, 2)
        }
        return {pair: weight for pair, weight in weights.items() if weight}

    def unavailable(self, types: Mapping[str, str]) -> list[str]:
        """Returns the settings that need a type that no branch has."""
        needed = {name: {name} for name in _ALONE}
        needed |= {name: set(name.split("_")) for name in _PAIRS}
        missing = [name for name, need in needed.items() if need - set(types.values())]
        return [name for name in missing if getattr(self, name)]

    def aligned(self, types: Mapping[str, str]) -> list[str]:
        """Returns the branches that are in an aligned pair."""
        pairs = self.pairs(types)
        return [name for name in types if any(name in pair for pair in pairs)]
