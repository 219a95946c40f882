"""Settings of augmentation and optimisation."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import AUTO, check_range
from mmkeras.errors import UserError

# Without a number of the user; more where steps are small, see `schedule`.
BATCH_ROWS = 32


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random augmentation of training rows, new in each epoch; 0 or false is off.

    Attributes:
        flip: Whether to mirror images left to right with probability 0.5.
        crop: Largest fraction of the side that a random crop removes.
        colour: Largest change of brightness, contrast and saturation, as a fraction.
        spec_bands: Widest mask over mel bands.
        spec_frames: Longest mask over time, as a fraction of the clip.
        word_dropout: Probability of dropping a token.
    """

    flip: bool = False
    crop: float = 0.1
    colour: float = 0.1
    spec_bands: int = 8
    spec_frames: float = 0.1
    word_dropout: float = 0.1

    def __post_init__(self):
        names = ("crop", "colour", "spec_frames", "word_dropout")
        check_range(self, *(f"augment.{name}" for name in names), ge=0, lt=1)
        check_range(self, "augment.spec_bands", ge=0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation.

    Attributes:
        batch_size: Rows per step, at most, as the rows are spread evenly over the
            batches; auto is the largest multiple of the number of devices up to 32.
        passes: Passes over the training rows per epoch; auto is 1, or without a number
            of epochs as many as give 20 steps per epoch.
        optimizer: adam, adamw or sgd (with Nesterov momentum 0.9).
        learning_rate: Peak learning rate, after the warm-up.
        schedule: After the warm-up: constant, or cosine down to zero.
        warmup_epochs: Epochs over which the learning rate rises from zero.
        weight_decay: Decoupled weight decay of adamw.
        class_weights: Weight of a row in the loss, by its class: none; balanced (the
            class's inverse frequency); or effective (the inverse of the class's
            effective number of rows).
        class_beta: β of effective, from 0 (as none) to near 1 (as balanced).
        oversample: Whether to draw rows of rare classes more often, so that all
            classes are equally common in training.
        label_smoothing: Fraction of each target spread over all classes.
        monitor: Metric of early stopping and of the best weights.
        patience: Epochs without improvement before training stops; 0 is never.
        restore_best: Whether to restore the weights of the best epoch. With a few
            dozen validation rows the last weights of a full schedule are better.
        ema: Decay per step of the moving average of the weights, which is validated
            and saved; 0 is off.
        precision: Keras dtype policy; the mixed ones are faster on a GPU.
        cache_mb: Limit of memory, in megabytes, for decoded rows of training, and the
            same for batches of validation.
        fine_tune_epochs: Epochs of a second phase with the frozen encoders unfrozen.
        fine_tune_rate: Peak learning rate of the second phase, and of pretrained
            encoders that are not frozen.
        fine_tune_decay: Rate of the first layer of such an encoder as a share of the
            rate of its last; those between follow in equal ratios. 1 is off.
    """

    batch_size: int | Literal["auto"] = AUTO
    passes: int | Literal["auto"] = AUTO
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
    fine_tune_rate: float = 1e-5
    fine_tune_decay: float = 0.3

    def __post_init__(self):
        check_range(self, "train.batch_size", "train.passes", ge=1, auto=True)
        check_range(self, "train.patience", ge=0)
        infinity = float("inf")
        names = ("train.learning_rate", "train.fine_tune_rate")
        check_range(self, *names, gt=0, lt=infinity)
        check_range(self, "train.fine_tune_decay", gt=0, le=1)
        names = ("warmup_epochs", "weight_decay", "cache_mb", "fine_tune_epochs")
        names = (f"train.{name}" for name in names)
        check_range(self, *names, ge=0, lt=infinity)
        names = ("train.label_smoothing", "train.ema", "train.class_beta")
        check_range(self, *names, ge=0, lt=1)
        if self.oversample and self.class_weights != "none":
            raise UserError(
                f"train.oversample=True with train.class_weights={self.class_weights} "
                "would count rare classes twice; set train.class_weights=none."
            )

    @property
    def read_rows(self) -> int:
        """Rows per batch where nothing is trained.

        An ensemble has no batch size: its members have one each.
        """
        return BATCH_ROWS if self.batch_size == AUTO else self.batch_size
