"""Property tests: damaged files are refused, or can be prepared and decoded."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmkeras.config import AudioConfig, ImageConfig
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.audio.metadata import measure_audio
from mmkeras.modalities.audio.reading import AudioContent, read_audio
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.decoding import decode_image
from mmkeras.modalities.image.metadata import measure_image
from mmkeras.modalities.image.reading import prepare_image
from mmkeras.modalities.vector.decoding import decode_vector
from mmkeras.modalities.vector.reading import prepare_vector
from tests.modalities import encoded_media as media

CLIP_S = 0.1
NOISE = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (13, 17, 4), np.uint8)
)
GIF = media.encode_image(NOISE, "GIF", "P")
IMAGES = [media.encode_image(NOISE, *kind) for kind in media.IMAGE_FORMATS]
IMAGES += [media.encode_image(NOISE, "GIF", "P", transparency=2)]
TONE = np.sin(2 * np.pi * 440 * np.arange(3000) / 16_000) / 2
STEREO = np.stack([TONE, -TONE], 1)
AUDIO_FILES = [media.encode_audio(TONE, *kind) for kind in media.AUDIO_FORMATS]
AUDIO_FILES += [media.encode_audio(STEREO, *kind) for kind in media.AUDIO_FORMATS[::3]]
VECTORS = [media.encode_vector(np.arange(5.0)), media.encode_vector([[0, 1, 2]])]


def measure(prepare, data, result):
    if prepare is prepare_image:
        return measure_image(data)
    return measure_audio(result, CLIP_S) if prepare is read_audio else {}


def files(prepare, samples, *config):
    arguments = st.just(prepare), st.just(config), st.sampled_from(samples)
    return st.tuples(*arguments)


IMAGE = files(prepare_image, IMAGES, ImageConfig())
AUDIO = files(read_audio, AUDIO_FILES, AudioConfig(clip_s=CLIP_S))


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
    content = result.wav if isinstance(result, AudioContent) else result
    assert isinstance(content, bytes) and content
    metadata = measure(prepare, data, result)
    for name, value in metadata.items():
        assert type(value) in (int, float) and np.isfinite(value)
        assert name not in ("clipped", "silent") or 0 <= value <= 1
    assert metadata.get("seconds", 1) > 0


# Files that the graph decodes, and the largest size of the result.
KINDS = [k for k in media.IMAGE_FORMATS if k[0] in ("PNG", "JPEG", "GIF")]
KINDS += [("BMP", "RGB")]
PIXELS = ImageConfig(size_px=32, max_megapixels=1), 32 * 32 * 3
WAVE = AudioConfig(clip_s=CLIP_S), 1600
DECODED = [(decode_image, media.encode_image(NOISE, *k), *PIXELS) for k in KINDS]
DECODED += [
    (decode_wave, media.encode_audio(TONE[:99], *k), *WAVE) for k in media.PLAIN_WAVS
]
DECODED += [(decode_vector, media.encode_vector(np.arange(4.0)), 4, 4)]


@settings(max_examples=800, deadline=None)
@given(
    file=st.sampled_from(DECODED),
    cut=media.CUTS,
    flips=media.FLIPS,
    head=st.sampled_from([0, 12]),
    noise=st.none() | st.binary(max_size=64),
)
def test_damage_is_refused_by_a_graph_or_gives_finite_numbers(
    file, cut, flips, head, noise
):
    decode, data, config, size = file
    data = media.damage(data, cut, flips)
    data = data if noise is None else data[:head] + noise
    try:
        result = media.traced(decode, config)(data).numpy()
    except tf.errors.InvalidArgumentError:
        return
    assert 1 <= result.size <= size and np.isfinite(result).all()
    assert result.size == size or decode is decode_wave
