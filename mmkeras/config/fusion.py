"""Settings of the fusion of modalities."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import check_multiple, check_range

FusionKind = Literal[
    "concat",
    "interaction",
    "gated",
    "tensor",
    "low_rank",
    "late",
    "linear",
    "zero_shot",
    "cross_attention",
    "mult",
    "mean_tokens",
]


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Fusion of the branches.

    Attributes:
        kind: For vectors: concat; interaction (all products of projections); gated
            (gated multimodal units); tensor (outer product) or low_rank (the same by
            low-rank factors); late (average of one classifier per modality); linear
            (logistic regression, fitted by scikit-learn); zero_shot (the image's unit
            vector, compared with that of each class name). For token sequences:
            cross_attention (tokens of each modality attend to the others'); mult
            (pairwise cross-modal Transformers); mean_tokens (mean of the modalities'
            aligned mean tokens).
        units: Width of the fused vector; unused with late, linear and zero_shot.
        layers: Dense layers before the classifier, for concat.
        width: Width of the projections in interaction, tensor and low_rank, and of
            tokens in cross_attention, mult and mean_tokens, and with task=generate.
        rank: Factors of low_rank.
        heads: Attention heads.
        blocks: Blocks of each cross-modal Transformer of mult, and of cross_attention
            with task=generate.
        late: Weights of the classifiers of late: mean (equal) or weighted (learned).
        dropout: Dropout rate of the inputs of fusion and of the fused vector.
        modality_dropout: Probability of hiding a modality of a training row; one
            always remains.
        presence: Whether fusion handles missing modalities. If false, their inputs
            are zeros, as in an ordinary model (a baseline).
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
        names = ("units", "layers", "width", "rank", "heads", "blocks")
        check_range(self, *(f"fusion.{name}" for name in names), ge=1)
        if self.takes_tokens:
            check_multiple(self, "fusion.width", of="fusion.heads")
        check_range(self, "fusion.dropout", "fusion.modality_dropout", ge=0, lt=1)

    @property
    def has_epochs(self) -> bool:
        """Whether the model is trained in epochs."""
        return self.kind not in ("linear", "zero_shot")

    @property
    def takes_tokens(self) -> bool:
        """Whether fusion reads token sequences instead of one vector per modality."""
        return self.kind in ("cross_attention", "mult", "mean_tokens")
