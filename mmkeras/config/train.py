"""Settings of how the weights are found."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import SHARE, check
from mmkeras.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Changes drawn anew for each training row and epoch; 0 or false is off.

    Attributes:
        flip: Mirror pictures left to right, half of the time.
        crop: Largest share of the side that a random crop takes away.
        colour: Largest change of brightness, contrast and saturation, as a share.
        spec_bands: Widest mask over mel bands.
        spec_frames: Longest mask over time, as a share of the sound.
        word_dropout: Chance that a token is dropped.
    """

    flip: bool = False
    crop: float = 0.1
    colour: float = 0.1
    spec_bands: int = 8
    spec_frames: float = 0.1
    word_dropout: float = 0.1

    def __post_init__(self):
        for name in ("crop", "colour", "spec_frames", "word_dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, f"augment.{name}", value, SHARE)
        check(self.spec_bands >= 0, "augment.spec_bands", self.spec_bands, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the weights are found.

    Attributes:
        batch_size: Rows in one step.
        optimizer: adam, adamw or sgd (with Nesterov momentum 0.9).
        learning_rate: Highest learning rate, after the warm-up.
        schedule: After the warm-up: constant, or cosine down to zero.
        warmup_epochs: Epochs over which the learning rate rises from zero.
        weight_decay: Decoupled weight decay of adamw.
        class_weights: Of a row in the loss, by its class: none; balanced, by the
            class's inverse frequency; or effective, by the inverse of its effective
            number of rows, which weighs rare classes less.
        class_beta: Of effective: chance that a further row of a class says nothing
            new. 0 is as none; near 1 is as balanced.
        oversample: Whether rows of rare classes are drawn more often, and those of
            common ones less, so that all classes are equally common in training.
        label_smoothing: Share of each target spread over all classes.
        monitor: Metric that early stopping and the best weights follow.
        patience: Epochs without a better value before training stops; 0 is never.
        restore_best: Whether the best epoch's weights are kept, or the last one's. On
            a few dozen validation rows the last ones of a full schedule are better.
        ema: Decay a step of the moving average of the weights, which is what is
            validated and kept; 0 keeps the weights themselves.
        precision: Of the arithmetic; mixed ones pay on a GPU.
        cache_mb: Decoded rows of training, and batches of validation, are each kept
            in memory up to this size, in megabytes.
        fine_tune_epochs: Second phase, with the frozen image encoder unfrozen.
        fine_tune_learning_rate: Highest learning rate of the second phase.
    """

    batch_size: int = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 1.5e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = 3.0
    weight_decay: float = 0.01
    class_weights: Literal["none", "balanced", "effective"] = "balanced"
    class_beta: float = 0.999
    oversample: bool = False
    label_smoothing: float = 0.1
    monitor: Literal["val_loss", "val_accuracy", "val_auc"] = "val_loss"
    patience: int = 10
    restore_best: bool = True
    ema: float = 0.98
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    cache_mb: int = 1024
    fine_tune_epochs: int = 0
    fine_tune_learning_rate: float = 1e-5

    def __post_init__(self):
        check(self.batch_size >= 1, "train.batch_size", self.batch_size, "at least 1")
        for name in ("learning_rate", "fine_tune_learning_rate"):
            value = getattr(self, name)
            check(0 < value < float("inf"), f"train.{name}", value, "above 0")
        for name in (
            "warmup_epochs",
            "weight_decay",
            "patience",
            "cache_mb",
            "fine_tune_epochs",
        ):
            check(
                0 <= getattr(self, name) < float("inf"),
                f"train.{name}",
                getattr(self, name),
                "0 or more",
            )
        for name in ("label_smoothing", "ema", "class_beta"):
            value = getattr(self, name)
            check(0 <= value < 1, f"train.{name}", value, SHARE)
        if self.oversample and self.class_weights != "none":
            raise UserError(
                f"train.oversample=True with train.class_weights={self.class_weights} "
                "would count rare classes twice; set train.class_weights=none."
            )
