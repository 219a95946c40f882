"""Settings of where the branches meet."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import SHARE, check

FusionKind = Literal[
    "concat",
    "interaction",
    "gated",
    "tensor",
    "low_rank",
    "late",
    "cross_attention",
    "mult",
    "mean_tokens",
]


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Where the branches meet.

    Attributes:
        kind: Of vectors: concat; interaction (all products of projections); gated
            (gated multimodal units); tensor (outer product) or low_rank (the same by
            low-rank factors); late (a classifier a modality, averaged). Of token
            sequences: cross_attention (each modality's tokens over the others');
            mult (pairwise cross-modal Transformers); mean_tokens (mean of the
            modalities' aligned mean tokens).
        units: Width of the fused vector; with late there is none.
        layers: Dense layers that make the fused vector, for concat.
        width: Width of the projections in interaction, tensor and low_rank, and of
            tokens in cross_attention, mult and mean_tokens.
        rank: Factors of low_rank.
        heads: Attention heads.
        blocks: Blocks of each cross-modal Transformer of mult.
        late: Whether the classifiers of late count alike (mean) or by learned weights.
        dropout: Dropped share of what is fused and of the fused vector.
        modality_dropout: Chance that a modality of a training row is hidden; the
            last one of a row never is.
        presence: Whether fusion knows what is absent. Without, it is an ordinary
            model, to which zeros are given instead: a baseline.
    """

    kind: FusionKind = "concat"
    units: int = 128
    layers: int = 1
    width: int = 64
    rank: int = 4
    heads: int = 4
    blocks: int = 1
    late: Literal["mean", "weighted"] = "weighted"
    dropout: float = 0.4
    modality_dropout: float = 0.3
    presence: bool = True

    def __post_init__(self):
        for name in ("units", "layers", "width", "rank", "heads", "blocks"):
            value = getattr(self, name)
            check(value >= 1, f"fusion.{name}", value, "at least 1")
        if self.takes_tokens:
            check(
                self.width % self.heads == 0,
                "fusion.width",
                self.width,
                f"a multiple of fusion.heads={self.heads}",
            )
        for name in ("dropout", "modality_dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, f"fusion.{name}", value, SHARE)

    @property
    def takes_tokens(self) -> bool:
        """Whether the branches give token sequences instead of one vector."""
        return self.kind in ("cross_attention", "mult", "mean_tokens")
