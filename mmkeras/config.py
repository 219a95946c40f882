"""Every number a run depends on, with its unit. Nothing else reads settings."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from mmkeras.errors import UserError

_SHARE = "from 0 to below 1"


def check(ok: bool, name: str, value: Any, allowed: str) -> None:
    if not ok:
        raise UserError(f"{name}={value} is not possible: it must be {allowed}.")


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """The table: its columns, and how rows are divided.

    Attributes:
        text_column: Header of the text column.
        image_column: Header of the column of picture paths.
        audio_column: Header of the column of sound paths.
        label_column: Header of the label column.
        id_column: Header of the row identifier; optional in the table.
        split_column: Header of the train/val/test column; optional in the table.
        group_column: Header of the group column; no group straddles a split.
        modalities: Which to use, of those that the table has: any of text, image
            and audio, with commas between.
        val_share: Part of the rows for validation where the table has none.
        test_share: Part of the rows for the test where the table has none.
        max_file_mb: Largest media file that is read, in megabytes.
        rows_per_shard: Rows in one TFRecord file.
        workers: Threads that read and check rows; 0 is one a core.
        cache_dir: Folder of ingested tables; empty is ~/.cache/mmkeras.
    """

    text_column: str = "text"
    image_column: str = "image"
    audio_column: str = "audio"
    label_column: str = "label"
    id_column: str = "id"
    split_column: str = "split"
    group_column: str = "group"
    modalities: str = "text,image,audio"
    val_share: float = 0.15
    test_share: float = 0.15
    max_file_mb: int = 64
    rows_per_shard: int = 1024
    workers: int = 0
    cache_dir: str = ""

    def __post_init__(self):
        shares = self.val_share + self.test_share
        check(self.val_share > 0, "table.val_share", self.val_share, "above 0")
        check(self.test_share > 0, "table.test_share", self.test_share, "above 0")
        check(
            shares < 1, "table.val_share + table.test_share", f"{shares:g}", "below 1"
        )
        check(
            self.max_file_mb >= 1, "table.max_file_mb", self.max_file_mb, "at least 1"
        )
        check(
            self.rows_per_shard >= 1,
            "table.rows_per_shard",
            self.rows_per_shard,
            "at least 1",
        )
        check(self.workers >= 0, "table.workers", self.workers, "0 or more")
        names = self.modality_names
        known = {"text", "image", "audio"}
        check(
            bool(names) and set(names) <= known and len(set(names)) == len(names),
            "table.modalities",
            self.modalities,
            "any of text, image and audio, each once, with commas between",
        )

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(n.strip() for n in self.modalities.split(",") if n.strip())


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Image branch.

    Attributes:
        encoder: resnet50 (2048 wide) or small_cnn.
        size_px: Side of the square that pictures are resized to.
        weights: For resnet50: imagenet (downloaded once by keras.applications),
            none, or the path of a .weights.h5/.h5 file.
        frozen: Whether the encoder keeps its weights; its output is then computed
            once and cached. auto is yes with pretrained weights.
        width: Filters of the small CNN's first block.
        max_megapixels: Largest picture that is decoded; more is a broken one.
    """

    encoder: Literal["resnet50", "small_cnn"] = "resnet50"
    size_px: int = 224
    weights: str = "imagenet"
    frozen: Literal["auto", "yes", "no"] = "auto"
    width: int = 16
    max_megapixels: int = 50

    def __post_init__(self):
        check(self.size_px >= 32, "image.size_px", self.size_px, "at least 32")
        check(self.width >= 1, "image.width", self.width, "at least 1")
        check(
            1 <= self.max_megapixels <= 178,  # TF decodes at most 2^29 bytes
            "image.max_megapixels",
            self.max_megapixels,
            "from 1 to 178",
        )

    @property
    def is_frozen(self) -> bool:
        if self.frozen == "auto":
            return self.encoder == "resnet50" and self.weights != "none"
        return self.frozen == "yes"


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text branch.

    Attributes:
        encoder: tfidf (tokens found in the training rows), hub (a TF-Hub sentence
            encoder) or vector (.npy paths in the column).
        tokens: word, or char for character n-grams inside words.
        max_ngram: Longest n-gram of characters.
        min_rows: A token that fewer training rows have is not kept.
        vocab_size: Tokens kept, the most frequent first; the width of the vector.
        hub_handle: TF-Hub handle or local folder, for encoder hub.
        dropout: Dropped share of the vector.
        units: Width of the dense layer.
    """

    encoder: Literal["tfidf", "hub", "vector"] = "tfidf"
    tokens: Literal["word", "char"] = "word"
    max_ngram: int = 3
    min_rows: int = 2
    vocab_size: int = 512
    hub_handle: str = ""
    dropout: float = 0.5
    units: int = 256

    def __post_init__(self):
        check(self.vocab_size >= 1, "text.vocab_size", self.vocab_size, "at least 1")
        check(self.min_rows >= 1, "text.min_rows", self.min_rows, "at least 1")
        check(0 <= self.dropout < 1, "text.dropout", self.dropout, _SHARE)
        check(1 <= self.max_ngram <= 8, "text.max_ngram", self.max_ngram, "from 1 to 8")
        check(self.units >= 1, "text.units", self.units, "at least 1")
        if self.encoder == "hub" and not self.hub_handle:
            raise UserError(
                "text.encoder=hub needs text.hub_handle: a TF-Hub handle or the "
                "folder of a downloaded module."
            )


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Audio branch.

    Attributes:
        encoder: log_mel_stats or mfcc_stats (mean and deviation over time), or
            vector (.npy paths in the column).
        rate_hz: Sample rate that sounds are brought to.
        clip_s: Seconds used of a sound, from its start.
        window_ms: Length of an analysis window.
        hop_ms: Step between windows.
        bands: Mel bands.
        low_hz: Lower edge of the lowest band.
        high_hz: Upper edge of the highest band.
        mfccs: Coefficients kept of the bands, for mfcc_stats.
        dropout: Dropped share of the vector.
        units: Width of the dense layer.
    """

    encoder: Literal["log_mel_stats", "mfcc_stats", "vector"] = "log_mel_stats"
    rate_hz: int = 16_000
    clip_s: float = 10.0
    window_ms: int = 25
    hop_ms: int = 10
    bands: int = 64
    low_hz: float = 125.0
    high_hz: float = 7_500.0
    mfccs: int = 40
    dropout: float = 0.2
    units: int = 64

    def __post_init__(self):
        check(
            1_000 <= self.rate_hz <= 192_000,
            "audio.rate_hz",
            self.rate_hz,
            "from 1000 to 192000",
        )
        nyquist_hz = self.rate_hz / 2
        if not 0 <= self.low_hz < self.high_hz <= nyquist_hz:
            raise UserError(
                f"audio.low_hz={self.low_hz:g} and audio.high_hz={self.high_hz:g} must "
                f"satisfy 0 <= low < high <= {nyquist_hz:g}, half of "
                f"audio.rate_hz={self.rate_hz}. Lower audio.high_hz or raise "
                "audio.rate_hz."
            )
        check(self.window_ms >= 1, "audio.window_ms", self.window_ms, "at least 1")
        check(
            1 <= self.hop_ms <= self.window_ms,
            "audio.hop_ms",
            self.hop_ms,
            f"from 1 to audio.window_ms={self.window_ms}",
        )
        check(
            self.clip_s * 1000 >= self.window_ms,
            "audio.clip_s",
            self.clip_s,
            "at least one window",
        )
        check(self.bands >= 1, "audio.bands", self.bands, "at least 1")
        check(
            1 <= self.mfccs <= self.bands,
            "audio.mfccs",
            self.mfccs,
            f"from 1 to audio.bands={self.bands}",
        )
        check(0 <= self.dropout < 1, "audio.dropout", self.dropout, _SHARE)
        check(self.units >= 1, "audio.units", self.units, "at least 1")

    @property
    def window(self) -> int:
        """Samples in one window."""
        return self.window_ms * self.rate_hz // 1000

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return self.hop_ms * self.rate_hz // 1000

    @property
    def max_samples(self) -> int:
        return round(self.clip_s * self.rate_hz)


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Where the branches meet.

    Attributes:
        units: Width of the fused vector.
        dropout: Dropped share of the concatenated and of the fused vector.
        modality_dropout: Chance that a modality of a training row is hidden; the
            last one of a row never is.
    """

    units: int = 128
    dropout: float = 0.4
    modality_dropout: float = 0.3

    def __post_init__(self):
        check(self.units >= 1, "fusion.units", self.units, "at least 1")
        for name in ("dropout", "modality_dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, f"fusion.{name}", value, _SHARE)


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
            check(0 <= value < 1, f"augment.{name}", value, _SHARE)
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
        class_weights: balanced weighs each class by its inverse frequency.
        label_smoothing: Share of each target spread over all classes.
        monitor: Metric that early stopping and the best weights follow.
        patience: Epochs without a better value before training stops; 0 is never.
        restore_best: Whether the best epoch's weights are kept, or the last one's. On
            a few dozen validation rows the last ones of a full schedule are better.
        ema: Decay a step of the moving average of the weights, which is what is
            validated and kept; 0 keeps the weights themselves.
        precision: Of the arithmetic; mixed ones pay on a GPU.
        cache_mb: Decoded rows are kept in memory up to this size, in megabytes.
        fine_tune_epochs: Second phase, with the frozen image encoder unfrozen.
        fine_tune_learning_rate: Highest learning rate of the second phase.
    """

    batch_size: int = 32
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    learning_rate: float = 1.5e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup_epochs: float = 3.0
    weight_decay: float = 0.01
    class_weights: Literal["none", "balanced"] = "balanced"
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
        for name in ("label_smoothing", "ema"):
            value = getattr(self, name)
            check(0 <= value < 1, f"train.{name}", value, _SHARE)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What the report computes.

    Attributes:
        bootstrap_resamples: Resamples behind each 95 % interval.
        worst_errors: Wrong rows shown in the report, the surest first.
        calibration_bins: Bins of the reliability diagram and of the expected
            calibration error.
    """

    bootstrap_resamples: int = 500
    worst_errors: int = 12
    calibration_bins: int = 10

    def __post_init__(self):
        for name, least in (
            ("bootstrap_resamples", 10),
            ("worst_errors", 0),
            ("calibration_bins", 2),
        ):
            value = getattr(self, name)
            check(value >= least, f"evaluate.{name}", value, f"at least {least}")


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """The served model.

    Attributes:
        tolerance: Largest difference of a probability between the training model
            and the reloaded export.
    """

    tolerance: float = 1e-5

    def __post_init__(self):
        check(self.tolerance > 0, "export.tolerance", self.tolerance, "above 0")


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


def resnet50_concat() -> Config:
    """The reference model: ResNet50, text 512 -> 256, audio 128 -> 64."""
    return Config()


def small_concat() -> Config:
    """The same text and audio branches beside a small CNN; trains on a CPU."""
    return Config(
        preset="small-concat",
        image=ImageConfig(encoder="small_cnn", size_px=64, weights="none"),
        # Parts of words say something of words that no training row has.
        text=TextConfig(tokens="char"),
        # Changed pictures blur the histograms that this encoder begins with.
        augment=AugmentConfig(
            crop=0, colour=0, spec_bands=0, spec_frames=0, word_dropout=0
        ),
        train=TrainConfig(patience=0, restore_best=False),
    )


PRESETS: dict[str, Callable[[], Config]] = {
    "resnet50-concat": resnet50_concat,
    "small-concat": small_concat,
}


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
