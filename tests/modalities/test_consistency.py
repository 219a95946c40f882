"""Property tests: the graph decodes a raw file as it decodes the prepared one, or not.

Training stores prepared files; a served model may receive raw ones.
"""

import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from mmkeras.config import AudioConfig, ImageConfig
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.audio.reading import prepare_audio
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.decoding import decode_image, image_kind
from mmkeras.modalities.image.reading import prepare_image
from tests.modalities import encoded_media as media

PIXELS = ImageConfig(size_px=32, max_megapixels=1)
WAVE = AudioConfig(clip_s=0.1)
RNG = np.random.default_rng(0)
NOISE = Image.fromarray(RNG.integers(0, 256, (13, 17, 4), np.uint8))
QUANTIZED = NOISE.convert("RGB").quantize(9)
IMAGES = [media.encode_image(NOISE, *kind) for kind in media.IMAGE_FORMATS]
IMAGES += [
    media.encode_image(NOISE, kind, "RGB", exif=media.exif(6))
    for kind in ("JPEG", "PNG", "TIFF", "WEBP")
]
IMAGES += [media.encode_image(QUANTIZED, "GIF", transparency=2)]
IMAGES += [
    media.encode_image(QUANTIZED, "PNG", bits=bits, transparency=0) for bits in (4, 8)
]
LEVELS = [bytes(RNG.integers(0, 256, 3, np.uint8)) for _ in range(13)]
IMAGES += [
    media.encode_png(24 // depth, 13, depth, 0, LEVELS, extra)
    for depth in (1, 2, 4)
    for extra in (b"", media.png_chunk(b"tRNS", b"\0\1"))
]
TONE = np.sin(2 * np.pi * 440 * np.arange(3000) / 16_000) / 2
AUDIO = [media.encode_audio(TONE, *kind) for kind in media.AUDIO_FORMATS]


def check(prepare, decode, config, data):
    """Compares the decoded raw file with the decoded prepared file."""

    def decoded(content):
        try:
            return media.traced(decode, config)(content).numpy()
        except tf.errors.InvalidArgumentError:
            return None

    raw = decoded(data)
    try:
        prepared = decoded(prepare(data, config))
    except Unreadable:
        prepared = None
    if raw is not None:
        assert prepared is not None
        np.testing.assert_array_equal(raw, prepared)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage that it tolerates
@settings(max_examples=600, deadline=None)
@given(st.sampled_from(IMAGES), media.CUTS, media.FLIPS)
def test_an_image_has_the_same_pixels_raw_and_prepared(data, cut, flips):
    check(prepare_image, decode_image, PIXELS, media.damage(data, cut, flips))


EMPTY_EXIF = b"\xff\xe1\0\x08Exif\0\0"
JPEGS = [data for data in IMAGES if data.startswith(b"\xff\xd8")]
JPEGS += [data[:2] + EMPTY_EXIF + data[2:] for data in JPEGS]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=200, deadline=None)
@given(st.sampled_from(JPEGS), media.CUTS, media.FLIPS)
def test_a_graph_of_the_kinds_that_occur_has_the_pixels_of_the_full_one(
    data, cut, flips
):
    data = media.damage(data, cut, flips)
    kinds = tuple(filter(None, (image_kind(data), "png")))
    try:
        expected = media.traced(decode_image, PIXELS)(data).numpy()
    except tf.errors.InvalidArgumentError:
        return
    small = media.traced(decode_image, PIXELS, kinds)(data).numpy()
    np.testing.assert_array_equal(small, expected)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(AUDIO), media.CUTS, media.FLIPS)
def test_audio_has_the_same_samples_raw_and_prepared(data, cut, flips):
    check(prepare_audio, decode_wave, WAVE, media.damage(data, cut, flips))


# What docs/serving.md lists as decoded by the graph.
OPAQUE = NOISE.convert("RGB")
DECODED_IMAGES = {
    "JPEG": media.encode_image(OPAQUE, "JPEG"),
    "JPEG gray": media.encode_image(OPAQUE, "JPEG", "L"),
    "JPEG CMYK": media.encode_image(OPAQUE, "JPEG", "CMYK"),
    "JPEG turned": media.encode_image(OPAQUE, "JPEG", exif=media.exif(6)),
    "PNG": media.encode_image(NOISE),
    "PNG palette": media.encode_image(QUANTIZED),
    "GIF": media.encode_image(QUANTIZED, "GIF"),
    "BMP 24 bits": media.encode_image(OPAQUE, "BMP"),
    "BMP 32 bits": media.encode_image(NOISE, "BMP"),
}


@pytest.mark.parametrize("name", DECODED_IMAGES)
def test_the_graph_decodes_the_images_that_the_docs_list(name):
    pixels = media.traced(decode_image, PIXELS)(DECODED_IMAGES[name]).numpy()
    assert pixels.std() > 10
    check(prepare_image, decode_image, PIXELS, DECODED_IMAGES[name])


@pytest.mark.parametrize(("kind", "subtype"), media.PLAIN_WAVS)
@pytest.mark.parametrize("rate_hz", [8000, 44_100])
def test_the_graph_decodes_the_audio_that_the_docs_list(kind, subtype, rate_hz):
    data = media.encode_audio(TONE, kind, subtype, rate_hz)
    wave = media.traced(decode_wave, WAVE)(data).numpy()
    assert 0.2 < wave.std() < 0.5  # of a sine of 0.5
    check(prepare_audio, decode_wave, WAVE, data)


SIZES = st.sampled_from([0, 1, 2, 40, 0x7FFF0000, 2**32 - 1]) | st.integers(0, 300)
NAMES = st.sampled_from([b"data", b"fmt ", b"fact", b"LIST", b"\1\2\3\4"])


@settings(max_examples=600, deadline=None)
@given(
    code=st.sampled_from([1, 2, 3, 6, 7, 17, 0x55, 0xFFFE]),
    bits=st.sampled_from([4, 8, 12, 16, 24, 32, 64]),
    channels=st.sampled_from([0, 1, 2, 3, 64, 65]),
    rate_hz=st.sampled_from([999, 1000, 8000, 16_000, 48_000, 768_000, 768_001]),
    block=st.none() | st.integers(0, 12),
    extension=st.sampled_from([b"", b"\0\0", b"\x16\0" + bytes(22)]),
    before=st.lists(st.tuples(NAMES, st.binary(max_size=9)), max_size=2),
    samples=st.binary(min_size=60, max_size=260),
    size=SIZES | st.none(),
    counts_file=st.booleans(),
    after=st.sampled_from([b"", b"LIST\2\0\0\0ab", b"\0", b"x" * 50]),
)
@example(1, 16, 1, 16_000, None, b"", [], b"ab" * 99, 396, False, b"")
@example(
    *(1, 8, 1, 1_000, None, b"", [(b"data", b""), (b"\1\2\3\4", b"")]),
    *(bytes(60), None, False, b""),
)
@example(1, 16, 1, 16_000, None, b"", [], b"ab" * 99, 0, False, b"")
@example(7, 8, 1, 16_000, None, b"\0\0", [], b"ab" * 99, None, False, b"")
def test_any_wav_header_gives_the_same_samples_raw_and_prepared(
    code,
    bits,
    channels,
    rate_hz,
    block,
    extension,
    before,
    samples,
    size,
    counts_file,
    after,
):
    block = channels * bits // 8 if block is None else block
    numbers = (code, channels, rate_hz, rate_hz * block, block, bits)
    chunks = [*before, (b"fmt ", struct.pack("<HHIIHH", *numbers) + extension)]
    body = b"".join(
        name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
        for name, content in chunks
    )
    size = len(samples) if size is None else size
    if counts_file:
        size = len(body) + len(samples) + 20
    body += b"data" + struct.pack("<I", size) + samples + after
    data = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body
    check(prepare_audio, decode_wave, WAVE, data)
