"""Columns of audio."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from mmkeras.modalities.column import Content, Effects, FileReader, Moments
from mmkeras.modalities.file_column import FileColumn
from mmkeras.modalities.media import count_media


class Audio(FileColumn):
    """Column of paths of audio files, or of their content."""

    type = "audio"
    encoder = "mmkeras.modalities.audio.encoder"
    has_encoder_of_vectors = True
    suffixes = tuple(
        ".aac .aif .aifc .aiff .au .caf .flac .m4a .mp3 .oga .ogg .opus .rf64 .w64 "
        ".wav .webm".split()
    )
    # Windows and frequencies must fit the rate.
    read_settings = ("rate_hz", "clip_s", "window_ms", "hop_ms", "low_hz", "high_hz")
    feature_settings = ("encoder", "hub_handle", "rate_hz", "clip_s", "window_ms")
    feature_settings += ("hop_ms", "bands", "low_hz", "high_hz", "mfccs", "segments")
    encoder_settings = ("weights", "signature", "input_name", "output_name", "frozen")
    encoder_settings += ("units", "pooling", "dropout")
    warnings = {"is silent": "of silence from start to end"}
    measured = {
        "seconds": ("Length", "s"),
        "silent": ("Silence", "% of the audio"),
        "clipped": ("Clipping", "% of the audio"),
    }
    counted = {"rate_hz": ("Sample rate", "Hz"), "channels": ("Channels", "")}
    # 1 ms of each second is audible as crackling. One flat top of three samples may be
    # chance.
    faults = {"silent": ("silent throughout", 1.0), "clipped": ("clipped", 0.001)}
    measured_note = (
        "Length, rate and channels are the file's own. Silence and clipping are "
        "measured on the part that the model receives (audio.clip_s). A frame of 20 ms "
        "is silent below -60 dBFS; a sample is clipped where the wave has a flat top "
        "at full scale. Audio counts as clipped if at least 0.1 % of its samples are."
    )
    noise_levels = (None, 40.0, 20.0, 10.0, 0.0, -10.0)  # signal to noise in dB
    noise_heading, noise_factor = "Audio with noise", 1
    noise_unit = "signal to noise, dB"

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        return count_media(cells, files, cls.suffixes, cls._is_audio, "audio")

    @staticmethod
    def _is_audio(data: bytes) -> bool:
        from mmkeras.modalities.audio.reading import is_audio

        return is_audio(data)

    @cached_property
    def decoder(self):
        """Decoder of the graph for Python code: the model's mono wave."""
        from mmkeras.modalities.audio.features import decode_wave
        from mmkeras.modalities.decoder import Decoder

        return Decoder(lambda data: decode_wave(data, self.settings), self.type)

    def read_file(self, content: bytes) -> Content:
        from mmkeras.modalities.audio.metadata import measure_audio
        from mmkeras.modalities.audio.reading import read_audio

        audio = read_audio(content, self.settings)
        metadata = measure_audio(audio, self.settings.clip_s)
        return Content(
            data=self._mono_wave(audio.wav),
            digest=content,
            metadata=metadata,
            notes=audio.notes,
            warning="is silent" if metadata["silent"] == 1.0 else "",
        )

    def prepare(self, content: bytes) -> tuple[bytes, tuple[str, ...]]:
        from mmkeras.modalities.audio.reading import read_audio

        audio = read_audio(content, self.settings)
        return audio.wav, audio.notes

    def _mono_wave(self, data):
        """Returns a WAV of the right rate unchanged, else converts it to floats."""
        from mmkeras.modalities.audio.wav import wav_bytes, wav_format

        wave, rate_hz = self.decoder(data), self.settings.rate_hz
        if wav_format(data).rate_hz == rate_hz:
            return data
        return wav_bytes(wave[:, None], 32, rate_hz)

    def read_key(self) -> Any:
        # A row that is unreadable without a decoder is readable once it is installed.
        has_av = find_spec("av") is not None
        return [self.type, self.settings.rate_hz, self.settings.clip_s, has_av]

    def statistics(self) -> Moments | None:
        if self.settings.is_pretrained:
            return None
        width = self._width()
        graph = self.file_graph({self.name: {"width": width}})
        return self.moments(graph, width, self.settings.is_sequence)

    def _width(self) -> int:
        from mmkeras.modalities.audio import features

        if self.settings.is_sequence:
            return features.frame_width(self.settings)
        return features.stats_width(self.settings)

    def fit(self, result: Any) -> dict[str, Any]:
        from mmkeras.modalities.preprocessing_state import scale_state

        if self.settings.is_pretrained:
            return {}
        return {"width": self._width(), **scale_state(result, self._width())}

    def file_graph(self, state):
        from mmkeras.modalities.audio.graph import AudioGraph

        return AudioGraph(self, state[self.name])

    def file_input(self, state):
        if self.settings.is_pretrained:
            return (1 + self.settings.max_samples,), "float32"
        width = state[self.name]["width"]
        shape = (self.settings.max_frames, width) if self.is_sequence else (width,)
        return shape, "float32"

    def file_encoder(self, shape, state, tokens, name):
        build = self.import_encoder().build_audio_encoder
        return build(self.settings, shape, tokens, name)

    @property
    def is_frozen(self) -> bool:
        return self.settings.is_frozen

    def build_backbone(self, tokens):
        if not self.settings.is_pretrained:
            return None
        return self.import_encoder().with_one_output(self.build_model({}, tokens))

    def build_encoder(self, x, state, tokens):
        if not self.settings.is_pretrained:
            return super().build_encoder(x, state, tokens)
        return self.split_tokens(x) if tokens and len(x.shape) == 3 else x

    def file_features(self, x, state):
        """Returns one vector per row; of waves it is that of log_mel_stats."""
        from mmkeras.modalities.audio import linear_features

        if self.settings.is_pretrained:
            return linear_features.summarize_waves(x, self.settings)
        return linear_features.summarize_frames(x) if self.is_sequence else x

    def fetch(self) -> None:
        if self.settings.is_pretrained:
            from mmkeras.modalities.audio import pretrained

            pretrained.fetch(self.settings)

    def describe(self) -> str:
        s = self.settings
        if not s.is_pretrained:
            return s.encoder
        return f"{s.encoder}, {s.rate_hz} Hz, {s.hub_handle or s.weights}"

    def corrupt_file(self, data: bytes, level: float, seed: Sequence[int]) -> bytes:
        from mmkeras.modalities.audio.corruption import add_noise

        return add_noise(data, level, self.settings.rate_hz, self.decoder, seed)

    def explain_file(self, data: bytes, effects: Effects) -> dict[str, Any] | None:
        """Returns the effects of bands and times, low frequencies first."""
        from mmkeras.modalities.audio import occlusion
        from mmkeras.modalities.windows import average_over_windows, windows

        rate_hz, wave = self.settings.rate_hz, self.decoder(data)
        spectrum = occlusion.compute_spectrum(wave, rate_hz)
        if spectrum is None:
            return None
        masks = windows(spectrum.grid)
        values = effects(occlusion.hide_bands(spectrum, masks))
        return {
            "effects": average_over_windows(values, masks).tolist(),
            "band_edges_hz": list(spectrum.edges_hz),
            "seconds": len(wave) / rate_hz,
        }

    def draw_file(self, data: bytes, explained) -> dict[str, Any]:
        from mmkeras.modalities.audio.occlusion import draw_effects

        wave, rate_hz = self.decoder(data), self.settings.rate_hz
        excerpt = self.preview_file(data)["content"]
        heatmap = draw_effects(wave, rate_hz, explained)
        return {"kind": "audio", "excerpt": excerpt, **heatmap}

    def draw_file_places(self, data: bytes, weights, scale: float) -> bytes | None:
        from mmkeras.modalities.audio.occlusion import draw_weights

        wave, s = self.decoder(data), self.settings
        return draw_weights(wave, s.rate_hz, weights, clip_s=s.clip_s, scale=scale)

    def preview_file(self, data: bytes) -> dict[str, Any]:
        from mmkeras.modalities.audio.excerpt import wave_excerpt

        excerpt = wave_excerpt(self.decoder(data), self.settings.rate_hz)
        return {"kind": "audio", "content": excerpt}
