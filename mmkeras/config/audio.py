"""Settings of audio preprocessing and of the audio encoder."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import AUTO, Frozen, Pooling, check, check_range
from mmkeras.errors import UserError

AudioEncoder = Literal[
    "log_mel_stats",
    "mfcc_stats",
    "hub",
    "saved_model",
    "kerashub",
    "vector",
    "cnn",
    "gru",
]
# Pretrained encoders of the wave -> the setting that names them, and its value.
_PRETRAINED = {
    "hub": ("hub_handle", "a TF-Hub handle or the folder of a module, such as YAMNet"),
    "saved_model": ("weights", "the folder of a SavedModel"),
    "kerashub": (
        "weights",
        "a folder, hf://NAME/NAME, kaggle://HANDLE or the name of a preset of Whisper "
        "or Moonshine",
    ),
}


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Audio branch.

    Attributes:
        encoder: For one vector per row: log_mel_stats or mfcc_stats (mean and standard
            deviation over time) or vector (.npy paths in the column). For sequences of
            frames: cnn on log-mel bands, gru on MFCCs. Pretrained, for the mean over
            time or for all frames: saved_model (a folder of any SavedModel that
            takes waves), hub (a module of TF-Hub, such as YAMNet) or kerashub (encoder
            of Whisper or Moonshine).
        rate_hz: Sample rate to which audio is resampled.
        clip_s: Seconds used, from the start.
        window_ms: Length of an analysis window.
        hop_ms: Step between windows.
        bands: Number of mel bands.
        low_hz: Lower edge of the lowest band.
        high_hz: Upper edge of the highest band.
        mfccs: Number of coefficients, for mfcc_stats and gru.
        segments: For log_mel_stats and mfcc_stats, number of equal parts of the audio
            with statistics each, in their order: 1 for the sound as a whole, 3 or
            more for words.
        hub_handle: TF-Hub handle or local folder, for encoder hub.
        weights: For saved_model, the folder. For kerashub, a preset: a folder,
            hf://NAME/NAME, kaggle://HANDLE or a name of KerasHub. Unused by the others.
        signature: For saved_model and hub: name of a signature that takes waves in
            [-1, 1] at `rate_hz`, one (S,) or a batch (B, S). By default the call of the
            module, else serving_default.
        input_name: Input of the signature; it can be left out if there is one only.
        output_name: Output of the signature, or its index: vectors (D,) or frames
            (N, D) of a wave, or (B, D) or (B, N, D). By default the only one, or
            "embeddings" or "embedding", or 1, the embeddings of YAMNet.
        frozen: Whether a pretrained encoder keeps its weights; its output is then
            computed once and cached. auto means yes; no is possible for kerashub.
        dropout: Dropout rate of the vector.
        units: Width of the dense layer (0: no layer), of the GRU, or of the CNN's last
            block.
        pooling: Pooling of frames to one vector, for a fusion of vectors.
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
    segments: int = 1
    hub_handle: str = ""
    weights: str = ""
    signature: str = ""
    input_name: str = ""
    output_name: str = ""
    frozen: Frozen = AUTO
    dropout: float = 0.2
    units: int = 64
    pooling: Pooling = "mean"

    def __post_init__(self):
        check_range(self, "audio.rate_hz", ge=1000, le=192_000)
        nyquist_hz = self.rate_hz / 2
        if not 0 <= self.low_hz < self.high_hz <= nyquist_hz:
            raise UserError(
                f"audio.low_hz={self.low_hz:g} and audio.high_hz={self.high_hz:g} must "
                f"satisfy 0 <= low < high <= {nyquist_hz:g}, half of "
                f"audio.rate_hz={self.rate_hz}. Lower audio.high_hz or raise "
                "audio.rate_hz."
            )
        check_range(self, "audio.window_ms", "audio.bands", ge=1)
        check_range(self, "audio.hop_ms", ge=1, le="audio.window_ms")
        has_window = self.clip_s * 1000 >= self.window_ms
        check(has_window, "audio.clip_s", self.clip_s, "at least one window")
        check_range(self, "audio.mfccs", ge=1, le="audio.bands")
        check_range(self, "audio.segments", ge=1, le=100)
        check_range(self, "audio.dropout", ge=0, lt=1)
        check_range(self, "audio.units", ge=1 if self.is_sequence else 0)
        self._check_pretrained()

    def _check_pretrained(self):
        setting, value = _PRETRAINED.get(self.encoder, ("encoder", ""))
        if not getattr(self, setting):
            raise UserError(
                f"audio.encoder={self.encoder} needs audio.{setting}: {value}."
            )
        allowed = {AUTO, "yes" if self.is_pretrained else "no"}
        if self.encoder == "kerashub":
            allowed.add("no")
        text = f"{' or '.join(sorted(allowed))} with audio.encoder={self.encoder}"
        check(self.frozen in allowed, "audio.frozen", self.frozen, text)
        if self.is_frozen and self.pooling == "attention":
            raise UserError(
                "audio.pooling=attention has weights, which a frozen encoder cannot "
                "learn; set audio.pooling to mean or max."
            )

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads frames, (max_frames, width) per row."""
        return self.encoder in ("cnn", "gru")

    @property
    def has_statistics(self) -> bool:
        """Whether the encoder reads statistics over time, of `segments` parts."""
        return self.encoder in ("log_mel_stats", "mfcc_stats")

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder is a pretrained one of the wave."""
        return self.encoder in _PRETRAINED

    @property
    def is_frozen(self) -> bool:
        return self.is_pretrained and self.frozen != "no"

    @property
    def window(self) -> int:
        """Samples per window."""
        return self.window_ms * self.rate_hz // 1000

    @property
    def hop(self) -> int:
        """Samples between the starts of two windows."""
        return self.hop_ms * self.rate_hz // 1000

    @property
    def max_samples(self) -> int:
        return round(self.clip_s * self.rate_hz)

    @property
    def max_frames(self) -> int:
        """Complete windows in `clip_s`."""
        return 1 + max(0, self.max_samples - self.window) // self.hop
