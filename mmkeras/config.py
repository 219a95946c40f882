"""Every number a run depends on, with its unit. Nothing else reads settings."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import combinations
from typing import Any, Literal

from mmkeras.errors import UserError
from mmkeras.schema import MODALITIES

_SHARE = "from 0 to below 1"

ImageEncoder = Literal[
    "resnet50",
    "resnet101",
    "efficientnetv2",
    "convnext",
    "mobilenetv3",
    "small_cnn",
    "cnn",
    "cnn_lstm",
    "vit",
    "kerashub_vit",
    "pixels",
]
WITH_IMAGENET = ("resnet50", "resnet101", "efficientnetv2", "convnext", "mobilenetv3")
TextEncoder = Literal["tfidf", "hub", "vector", "lstm", "gru", "transformer", "bert"]
AudioEncoder = Literal["log_mel_stats", "mfcc_stats", "hub", "vector", "cnn", "gru"]
Pooling = Literal["mean", "max", "last", "attention"]
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
        folds: For cross-validation, parts that the rows are divided into, whatever
            their split column says; 0 is none. `--folds` trains all.
        fold: Which of them, from 1, is the test; of the others val_share is val.
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
    folds: int = 0
    fold: int = 0
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
        self._check_folds()
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

    def _check_folds(self):
        check(
            self.folds == 0 or self.folds >= 2,
            "table.folds",
            self.folds,
            "0 (no cross-validation) or at least 2",
        )
        allowed = f"from 1 to table.folds={self.folds}" if self.folds else "0"
        least = min(1, self.folds)
        check(least <= self.fold <= self.folds, "table.fold", self.fold, allowed)

    @property
    def modality_names(self) -> tuple[str, ...]:
        return tuple(n.strip() for n in self.modalities.split(",") if n.strip())


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Image branch.

    Attributes:
        encoder: Of keras.applications: resnet50 and resnet101 (2048 wide),
            efficientnetv2 (EfficientNetV2B0, 1280), convnext (ConvNeXtTiny, 768) and
            mobilenetv3 (MobileNetV3Large, 960). From scratch: small_cnn; cnn (two
            convolutions of 16 and 32 filters, then 128); cnn_lstm (two blocks of 32 and
            64 filters whose map runs through an LSTM of 128); vit (patches through a
            Transformer); kerashub_vit (KerasHub's ViT); pixels (small pixels as they
            are, no weights).
        size_px: Side of the square that pictures are resized to.
        weights: Of keras.applications: imagenet (downloaded once), none, or the path
            of a .weights.h5/.h5 file without top. Of kerashub_vit: the path of a
            .weights.h5 file of such a backbone; imagenet and none are from scratch.
            Of no meaning to the others.
        frozen: Whether the encoder keeps its weights; its output is then computed
            once and cached. auto is yes with pretrained weights.
        width: Filters of the small CNN's first block.
        patch_px: Side of a ViT's patches, of vit and of kerashub_vit.
        units: Width of a ViT's patches inside.
        layers: Transformer blocks of a ViT.
        heads: Attention heads of a ViT.
        pooling: How patches or places become one vector, where fusion wants vectors.
        max_megapixels: Largest picture that is decoded; more is a broken one.
    """

    encoder: ImageEncoder = "resnet50"
    size_px: int = 224
    weights: str = "imagenet"
    frozen: Literal["auto", "yes", "no"] = "auto"
    width: int = 16
    patch_px: int = 8
    units: int = 64
    layers: int = 2
    heads: int = 4
    pooling: Pooling = "mean"
    max_megapixels: int = 50

    def __post_init__(self):
        check(self.size_px >= 32, "image.size_px", self.size_px, "at least 32")
        check(
            1 <= self.patch_px <= self.size_px,
            "image.patch_px",
            self.patch_px,
            f"from 1 to image.size_px={self.size_px}",
        )
        for name in ("width", "units", "layers", "heads"):
            value = getattr(self, name)
            check(value >= 1, f"image.{name}", value, "at least 1")
        check(
            self.units % self.heads == 0,
            "image.units",
            self.units,
            f"a multiple of image.heads={self.heads}",
        )
        check(
            1 <= self.max_megapixels <= 178,  # TF decodes at most 2^29 bytes
            "image.max_megapixels",
            self.max_megapixels,
            "from 1 to 178",
        )

    @property
    def is_pretrained(self) -> bool:
        """Whether weights are loaded: those of ImageNet, or a file."""
        if self.encoder == "kerashub_vit":
            return self.weights not in ("imagenet", "none")
        return self.encoder in WITH_IMAGENET and self.weights != "none"

    @property
    def is_frozen(self) -> bool:
        if self.frozen == "auto":
            return self.is_pretrained
        return self.frozen == "yes"


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text branch.

    Attributes:
        encoder: Of one vector a row: tfidf (tokens found in the training rows), hub (a
            TF-Hub sentence encoder) or vector (.npy paths in the column). Of token
            sequences: lstm, gru or transformer over learned embeddings, or bert
            (KerasHub's BERT).
        tokens: word; char for character n-grams inside words; or wordpiece, for
            encoders of sequences, words in the longest pieces of a vocabulary.
        vocab_file: For wordpiece: a vocab.txt of BERT; empty learns the pieces from
            the training rows.
        max_ngram: Longest n-gram of characters.
        min_rows: A token that fewer training rows have is not kept.
        vocab_size: Tokens kept, the most frequent first; with tfidf the vector's width.
        max_tokens: Tokens used of a text, from its start, by encoders of sequences.
        hub_handle: TF-Hub handle or local folder, for encoder hub.
        weights: For bert: none, or the path of a .weights.h5 file of such a backbone.
        dropout: Dropped share of the vector.
        units: Width of the dense layer (0 is none: the vector itself), of the LSTM or
            GRU, or of the Transformer inside.
        layers: Transformer blocks.
        heads: Attention heads.
        pooling: How tokens become one vector, where fusion wants vectors.
    """

    encoder: TextEncoder = "tfidf"
    tokens: Literal["word", "char", "wordpiece"] = "word"
    vocab_file: str = ""
    max_ngram: int = 3
    min_rows: int = 2
    vocab_size: int = 512
    max_tokens: int = 64
    hub_handle: str = ""
    weights: str = "none"
    dropout: float = 0.5
    units: int = 256
    layers: int = 2
    heads: int = 4
    pooling: Pooling = "mean"

    def __post_init__(self):
        for name in ("vocab_size", "min_rows", "layers", "heads"):
            value = getattr(self, name)
            check(value >= 1, f"text.{name}", value, "at least 1")
        check(0 <= self.dropout < 1, "text.dropout", self.dropout, _SHARE)
        check(1 <= self.max_ngram <= 8, "text.max_ngram", self.max_ngram, "from 1 to 8")
        least = 1 if self.is_sequence else 0
        check(self.units >= least, "text.units", self.units, f"at least {least}")
        if self.encoder in ("transformer", "bert"):
            check(
                self.units % self.heads == 0,
                "text.units",
                self.units,
                f"a multiple of text.heads={self.heads}",
            )
        check(
            self.tokens != "wordpiece" or self.is_sequence,
            "text.tokens",
            self.tokens,
            f"word or char with text.encoder={self.encoder}; pieces go with lstm, "
            "gru, transformer and bert",
        )
        check(
            not self.vocab_file or self.tokens == "wordpiece",
            "text.vocab_file",
            self.vocab_file,
            f"empty with text.tokens={self.tokens}",
        )
        least = 3 if self.vocab_file else 1  # two are [CLS] and [SEP]
        allowed = f"at least {least}"
        check(self.max_tokens >= least, "text.max_tokens", self.max_tokens, allowed)
        if self.encoder == "hub" and not self.hub_handle:
            raise UserError(
                "text.encoder=hub needs text.hub_handle: a TF-Hub handle or the "
                "folder of a downloaded module."
            )

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads token numbers, (max_tokens,) of each row."""
        return self.encoder in ("lstm", "gru", "transformer", "bert")

    @property
    def has_vocabulary(self) -> bool:
        """Whether tokens are looked up in what the training rows have taught."""
        return self.is_sequence or self.encoder == "tfidf"


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Audio branch.

    Attributes:
        encoder: Of one vector a row: log_mel_stats or mfcc_stats (mean and deviation
            over time), hub (a YAMNet-like TF-Hub module, its embeddings averaged) or
            vector (.npy paths in the column). Of frame sequences: cnn over log-mel
            bands, gru over MFCCs.
        rate_hz: Sample rate that sounds are brought to.
        clip_s: Seconds used of a sound, from its start.
        window_ms: Length of an analysis window.
        hop_ms: Step between windows.
        bands: Mel bands.
        low_hz: Lower edge of the lowest band.
        high_hz: Upper edge of the highest band.
        mfccs: Coefficients kept of the bands, for mfcc_stats and gru.
        hub_handle: TF-Hub handle or local folder, for encoder hub; the module takes
            one wave (S,) at `rate_hz` (YAMNet's is 16000) and gives embeddings.
        dropout: Dropped share of the vector.
        units: Width of the dense layer (0 is none: the vector itself), of the GRU, or
            of the CNN's last block.
        pooling: How frames become one vector, where fusion wants vectors.
    """

    encoder: AudioEncoder = "log_mel_stats"
    rate_hz: int = 16_000
    clip_s: float = 10.0
    window_ms: int = 25
    hop_ms: int = 10
    bands: int = 64
    low_hz: float = 125.0
    high_hz: float = 7_500.0
    mfccs: int = 40
    hub_handle: str = ""
    dropout: float = 0.2
    units: int = 64
    pooling: Pooling = "mean"

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
        least = 1 if self.is_sequence else 0
        check(self.units >= least, "audio.units", self.units, f"at least {least}")
        if self.encoder == "hub" and not self.hub_handle:
            raise UserError(
                "audio.encoder=hub needs audio.hub_handle: a TF-Hub handle or the "
                "folder of a downloaded module, YAMNet for one."
            )

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads frames, (max_frames, width) of each row."""
        return self.encoder in ("cnn", "gru")

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

    @property
    def max_frames(self) -> int:
        """Frames of a sound of `clip_s`, whole windows only."""
        return 1 + max(0, self.max_samples - self.window) // self.hop


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
            check(0 <= value < 1, f"fusion.{name}", value, _SHARE)

    @property
    def takes_tokens(self) -> bool:
        """Whether the branches give token sequences instead of one vector."""
        return self.kind in ("cross_attention", "mult", "mean_tokens")


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
            check(0 <= value < 1, f"train.{name}", value, _SHARE)
        if self.oversample and self.class_weights != "none":
            raise UserError(
                f"train.oversample=True with train.class_weights={self.class_weights} "
                "would count rare classes twice; set train.class_weights=none."
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What the report computes.

    Attributes:
        bootstrap_resamples: Resamples behind each 95 % interval.
        worst_errors: Wrong rows shown in the report, the surest first.
        calibration_bins: Bins of the reliability diagram and of the expected
            calibration error.
        noise_rows: Rows behind the curves of accuracy under noise; 0 leaves them out.
        trained_alone: Whether a model of its own is trained on each modality alone,
            as a baseline; takes as long again for each.
    """

    bootstrap_resamples: int = 500
    worst_errors: int = 12
    calibration_bins: int = 10
    noise_rows: int = 500
    trained_alone: bool = False

    def __post_init__(self):
        for name, least in (
            ("noise_rows", 0),
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
