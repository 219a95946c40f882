"""Settings of the audio branch."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import SHARE, Pooling, check
from mmkeras.errors import UserError

AudioEncoder = Literal["log_mel_stats", "mfcc_stats", "hub", "vector", "cnn", "gru"]


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
        check(0 <= self.dropout < 1, "audio.dropout", self.dropout, SHARE)
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
