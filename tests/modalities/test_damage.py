"""Property tests: damaged files are refused, or can be prepared and measured."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmkeras.config import AudioConfig, ImageConfig
from mmkeras.modalities.audio.metadata import measure_audio
from mmkeras.modalities.audio.reading import prepare_audio
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.metadata import measure_image
from mmkeras.modalities.image.reading import prepare_image
from mmkeras.modalities.vector.reading import prepare_vector
from tests.modalities import encoded_media as media

CLIP_S = 0.1
NOISE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (13, 17, 4), np.uint8)
)
MODES = {
    "PNG": ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("P",),
    "BMP": ("RGB", "P", "1"),
    "TIFF": ("RGB", "LA", "CMYK", "1"),
    "WEBP": ("RGB", "RGBA"),
}
GIF = media.encode_image(NOISE, "GIF", "P")
IMAGES = [
    media.encode_image(NOISE, kind, mode) for kind in MODES for mode in MODES[kind]
]
IMAGES += [media.encode_image(NOISE, "GIF", "P", transparency=2)]
FORMATS = [
    *media.PLAIN_WAVS,
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("AIFF", "PCM_16"),
]
FORMATS += [("AIFF", "PCM_S8"), ("CAF", "ALAC_16"), ("AU", "FLOAT"), ("W64", "PCM_16")]
FORMATS += [("RF64", "PCM_32"), ("WAV", "ULAW"), ("WAV", "ALAW"), ("WAV", "IMA_ADPCM")]
FORMATS += [("WAV", "MS_ADPCM"), ("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS")]
TONE = np.sin(2 * np.pi * 440 * np.arange(3000) / 16_000) / 2
AUDIO_FILES = [media.encode_audio(TONE, *kind) for kind in [*FORMATS, ("OGG", "OPUS")]]
AUDIO_FILES += [
    media.encode_audio(np.stack([TONE, -TONE], 1), *kind) for kind in FORMATS[::3]
]
VECTORS = [media.encode_vector(np.arange(5.0)), media.encode_vector([[0, 1, 2]])]


def measure(prepare, data, result):
    if prepare is prepare_image:
        return measure_image(data)
    return measure_audio(data, result, CLIP_S) if prepare is prepare_audio else {}


def files(prepare, samples, *config):
    arguments = st.just(prepare), st.just(config), st.sampled_from(samples)
    return st.tuples(*arguments)


IMAGE = files(prepare_image, IMAGES, ImageConfig())
AUDIO = files(prepare_audio, AUDIO_FILES, AudioConfig(clip_s=CLIP_S))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of media.damage that it tolerates
@settings(max_examples=800, deadline=2000)
@given(
    file=IMAGE | AUDIO | files(prepare_vector, VECTORS),
    cut=media.CUTS,
    flips=media.FLIPS,
    noise=st.none() | st.binary(max_size=64),
)
@example((prepare_image, (ImageConfig(),), GIF), 0.02, [], None)
def test_damage_is_refused_or_the_result_can_be_measured(file, cut, flips, noise):
    prepare, config, data = file
    data = media.damage(data, cut, flips)
    data = data if noise is None else data[:12] + noise
    try:
        result = prepare(data, *config)
    except Unreadable as error:
        assert str(error)
        return
    assert isinstance(result, bytes) and result
    metadata = measure(prepare, data, result)
    for name, value in metadata.items():
        assert type(value) in (int, float) and np.isfinite(value)
        assert name not in ("audio_clipped", "audio_silent") or 0 <= value <= 1
    assert metadata.get("audio_seconds", 1) > 0
