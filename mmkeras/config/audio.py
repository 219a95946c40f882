"""Settings of audio preprocessing and of the audio encoder."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import Pooling, check, check_range
from mmkeras.errors import UserError

AudioEncoder = Literal["log_mel_stats", "mfcc_stats", "hub", "vector", "cnn", "gru"]


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Audio branch.

    Attributes:
        encoder: For one vector per row: log_mel_stats or mfcc_stats (mean and standard
            deviation over time), hub (mean embedding of a TF-Hub module, such as
            YAMNet) or vector (.npy paths in the column). For frame sequences: cnn on
            log-mel bands, gru on MFCCs.
        rate_hz: Sample rate to which audio is resampled.
        clip_s: Seconds used, from the start.
        window_ms: Length of an analysis window.
        hop_ms: Step between windows.
        bands: Number of mel bands.
        low_hz: Lower edge of the lowest band.
        high_hz: Upper edge of the highest band.
        mfccs: Number of coefficients, for mfcc_stats and gru.
        hub_handle: TF-Hub handle or local folder, for encoder hub. The module takes
            one wave (S,) at `rate_hz` (YAMNet: 16000) and returns embeddings.
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
    hub_handle: str = ""
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
        check_range(self, "audio.dropout", ge=0, lt=1)
        check_range(self, "audio.units", ge=1 if self.is_sequence else 0)
        if self.encoder == "hub" and not self.hub_handle:
            raise UserError(
                "audio.encoder=hub needs audio.hub_handle: a TF-Hub handle or the "
                "folder of a downloaded module, such as YAMNet."
            )

    @property
    def is_sequence(self) -> bool:
        """Whether the encoder reads frames, (max_frames, width) per row."""
        return self.encoder in ("cnn", "gru")

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
