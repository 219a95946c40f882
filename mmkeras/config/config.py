"""Settings of a whole run."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from mmkeras.config.audio import AudioConfig
from mmkeras.config.evaluate import EvaluateConfig, ExportConfig
from mmkeras.config.fusion import FusionConfig
from mmkeras.config.image import ImageConfig
from mmkeras.config.loss import LossConfig
from mmkeras.config.table import TableConfig
from mmkeras.config.text import TextConfig
from mmkeras.config.train import AugmentConfig, TrainConfig
from mmkeras.config.validation import check
from mmkeras.errors import UserError
from mmkeras.schema import AUDIO, TEXT


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole run.

    Attributes:
        preset: Name of the settings that the others start from.
        seed: Of the split, the weights, the order of rows and the augmentation.
        epochs: At most; early stopping may end sooner.
        on_bad_row: fail stops before training and lists bad rows; reject goes on
            without them and writes rejected.csv; absent counts an unreadable
            modality as missing in that row.
        table: Columns and splits.
        image: Image branch.
        text: Text branch.
        audio: Audio branch.
        fusion: Where the branches meet.
        loss: What training minimises beside the fused classifier's loss.
        augment: Augmentation.
        train: Optimisation.
        evaluate: Metrics and report.
        export: The served model.
    """

    preset: str = "resnet50-concat"
    seed: int = 0
    epochs: int = 30
    on_bad_row: Literal["fail", "reject", "absent"] = "fail"
    table: TableConfig = field(default_factory=TableConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self):
        check(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        check(0 <= self.seed < 2**31, "seed", self.seed, "from 0 to 2147483647")
        if self.train.fine_tune_epochs and not self.image.is_frozen:
            raise UserError(
                f"train.fine_tune_epochs={self.train.fine_tune_epochs} unfreezes an "
                "image encoder that is frozen at first, and this one is not: leave it "
                "0, or set image.frozen=yes."
            )

    @property
    def files(self) -> dict[str, str]:
        """The files that settings name, by setting."""
        named = {"text.vocab_file": self.text.vocab_file}
        if self.image.weights not in ("imagenet", "none"):
            named["image.weights"] = self.image.weights
        if self.text.weights != "none":
            named["text.weights"] = self.text.weights
        return {name: path for name, path in named.items() if path}


def to_dict(config: Config) -> dict[str, Any]:
    """Returns the settings as plain nested values, ready for YAML or JSON."""
    return asdict(config)


def from_dict(content: dict[str, Any], kind: type = Config) -> Any:
    """Makes settings of what `to_dict` gave; the inverse, without a user's mistakes."""
    parts = {f.name: f.default_factory for f in fields(kind)}
    return kind(
        **{
            name: parts[name](**value) if isinstance(value, dict) else value
            for name, value in content.items()
        }
    )


def vector_columns(config: Config) -> set[str]:
    """Returns the modalities whose columns hold precomputed vectors."""
    return {m for m in (TEXT, AUDIO) if getattr(config, m).encoder == "vector"}
