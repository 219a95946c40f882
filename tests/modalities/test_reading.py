import io
import itertools
import os
import struct
import subprocess
import sys
import time
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import soundfile  # noqa: E402
import tensorflow as tf  # noqa: E402
from hypothesis import example, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from PIL import Image  # noqa: E402

from mmkeras.config import AudioConfig, ImageConfig  # noqa: E402
from mmkeras.modalities.audio.reading import prepare_audio
from mmkeras.modalities.file import Unreadable, read_file
from mmkeras.modalities.image.reading import prepare_image
from mmkeras.modalities.vector.reading import prepare_vector, vector_width

IMAGE, AUDIO = ImageConfig(), AudioConfig(clip_s=1.0)
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (13, 17, 3), np.uint8)
CLEAR = RNG.integers(0, 256, (13, 17), np.uint8)  # alpha
Y, X = np.mgrid[0:32, 0:40]
SMOOTH = np.stack([Y * 8, X * 6, (X + Y) * 3], -1).astype(np.uint8)
GRAY16 = RNG.integers(0, 65_536, (13, 17)).astype(np.uint16)


def encoded(pixels, kind, mode=None, **options):
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()


def over_white(rgba):
    alpha = rgba[..., 3:] / 255.0
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def served(data):
    """The pixels that the served graph's decoders see, over white."""
    if data[:4] == b"\x89PNG":
        return over_white(tf.io.decode_png(data, channels=4).numpy())
    if data[:2] == b"\xff\xd8":
        return tf.io.decode_jpeg(data, channels=3).numpy()
    return tf.io.decode_image(data, channels=3, expand_animations=False).numpy()


def seen(data):
    """The pixels that Pillow sees, over white."""
    return over_white(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))


def chunk(name, content):
    check = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


def png(width, height, depth, colour, rows, extra=b"", interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def adam7(pixels):
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)]
    for x, y, dx, dy in [*steps, (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]:
        yield from (row.tobytes() for row in pixels[y::dy, x::dx] if row.size)


def bmp(bits, rows, masks=b"", height=13):
    offset, body = 54 + len(masks), b"".join(rows)
    size = 40 + len(masks)
    kind = 3 if masks else 0
    head = struct.pack("<2sIII", b"BM", offset + len(body), 0, offset)
    numbers = (size, 17, height, 1, bits, kind, len(body), 0, 0, 0, 0)
    return head + struct.pack("<IiiHHIIiiII", *numbers) + masks + body


def quantized(colours):
    return Image.fromarray(NOISE).quantize(colours)


def exif(orientation, padding=0):
    block = Image.Exif()
    if padding:
        block[0x010E] = "x" * padding  # ImageDescription stands before Orientation
    block[0x0112] = orientation
    return block.tobytes()


def with_segment(jpeg, name, content):
    return jpeg[:2] + name + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


# Pictures ---------------------------------------------------------------------

BGRA = np.dstack([NOISE[..., ::-1], CLEAR])
RGB24 = [row[:, ::-1].tobytes() + b"\0" for row in NOISE]
AS_CAME = {
    "jpeg": encoded(SMOOTH, "JPEG"),
    "jpeg progressive": encoded(SMOOTH, "JPEG", progressive=True),
    "jpeg gray": encoded(SMOOTH, "JPEG", "L"),
    "jpeg cmyk": encoded(SMOOTH, "JPEG", "CMYK", quality=95),
    "png rgb": encoded(NOISE, "PNG"),
    "png rgba": encoded(np.dstack([NOISE, CLEAR]), "PNG"),
    "png gray": encoded(CLEAR, "PNG"),
    "png gray alpha": encoded(np.dstack([NOISE, CLEAR]), "PNG", "LA"),
    "png palette": encoded(quantized(200), "PNG"),
    "png palette clear": encoded(quantized(200), "PNG", transparency=3),
    "png rgb clear": encoded(NOISE, "PNG", transparency=tuple(map(int, NOISE[0, 0]))),
    "png interlaced": png(17, 13, 8, 2, adam7(NOISE), interlaced=1),
    "png upright": encoded(NOISE, "PNG", exif=exif(1)),
    "bmp 24": bmp(24, RGB24[::-1]),
    "bmp 24 top first": bmp(24, RGB24, height=-13),
    "bmp 32": bmp(32, [row.tobytes() for row in BGRA]),
    "gif": encoded(quantized(64), "GIF"),
    "gif animated": encoded(
        quantized(64), "GIF", save_all=True, append_images=[quantized(9)]
    ),
}  # fmt: skip
LEVELS = [bytes(RNG.integers(0, 256, 3, np.uint8)) for _ in range(13)]
PALETTE = chunk(b"PLTE", bytes(RNG.integers(0, 256, 48, np.uint8)))
TRANSCODED = {
    "png 1 bit": encoded(NOISE, "PNG", "1"),
    "png gray 2 bits": png(12, 13, 2, 0, LEVELS),
    "png gray 4 bits": png(6, 13, 4, 0, LEVELS),
    "png palette 4 bits": png(6, 13, 4, 3, LEVELS, PALETTE),
    "webp": encoded(NOISE, "WEBP", lossless=True),
    "webp alpha": encoded(np.dstack([NOISE, CLEAR]), "WEBP", lossless=True, exact=True),
    "tiff": encoded(NOISE, "TIFF"),
    "tiff lzw": encoded(NOISE, "TIFF", compression="tiff_lzw"),
    "tiff gray alpha": encoded(NOISE, "TIFF", "LA"),
    "tiff cmyk": encoded(NOISE, "TIFF", "CMYK"),
    "tiff 1 bit": encoded(NOISE, "TIFF", "1"),
    "bmp palette": encoded(quantized(64), "BMP"),
    "bmp 1 bit": encoded(NOISE, "BMP", "1"),
    "bmp masks": bmp(
        32,
        [row.tobytes() for row in BGRA],
        struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"\0" * 52,
    ),
    "gif transparent": encoded(quantized(64), "GIF", transparency=2),
}


@pytest.mark.parametrize("name", AS_CAME)
def test_a_picture_that_tensorflow_decodes_rightly_comes_back_as_it_came(name):
    data = AS_CAME[name]
    assert prepare_image(data, IMAGE) is data
    # Chroma and rounding differ a little between two JPEG decoders.
    tolerance = 4 if name.startswith("jpeg") else 0
    np.testing.assert_allclose(served(data), seen(data), atol=tolerance)


@pytest.mark.parametrize("name", TRANSCODED)
def test_any_other_picture_becomes_png_with_the_same_pixels(name):
    data = TRANSCODED[name]
    result = prepare_image(data, IMAGE)
    assert result.startswith(b"\x89PNG") and result != data
    np.testing.assert_array_equal(served(result), seen(data))


def test_cmyk_without_adobe_marker_is_not_taken_for_inverted():
    white = encoded(Image.new("CMYK", (16, 16)), "JPEG")  # no ink, stored inverted
    at = white.find(b"Adobe") - 4
    bare = white[:at] + white[at + 16 :]  # now the same bytes say: all the ink
    assert served(prepare_image(white, IMAGE)).min() > 250
    assert prepare_image(bare, IMAGE) is bare and served(bare).max() < 5


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind, inverted):
    options = {"tiffinfo": {262: 0}} if kind == "TIFF" and inverted else {}
    result = prepare_image(encoded(GRAY16, kind, **options), IMAGE)
    expected = (GRAY16 >> 8).astype(float)
    if options:
        expected = 255 - expected
    np.testing.assert_array_equal(served(result)[..., 0], expected)


def test_the_clear_level_of_a_shallow_gray_png_is_clear():
    clear = chunk(b"tRNS", struct.pack(">H", 2))
    row = bytes([0b00011011])  # levels 0 1 2 3
    result = prepare_image(png(4, 1, 2, 0, [row], clear), IMAGE)
    alpha = tf.io.decode_png(result, channels=4)[0, :, 3]
    np.testing.assert_array_equal(alpha, [255, 255, 0, 255])


def test_around_a_small_first_frame_is_nothing():
    gif = AS_CAME["gif"]
    larger = gif[:6] + struct.pack("<HH", 23, 18) + gif[10:]
    pixels = served(prepare_image(larger, IMAGE))
    assert pixels.shape == (18, 23, 3)
    np.testing.assert_array_equal(pixels[:13, :17], seen(gif))
    assert (pixels[13:] == 255).all() and (pixels[:, 17:] == 255).all()


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_picture_that_lies_on_its_side_is_set_upright(kind, orientation):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(NOISE, kind, exif=exif(orientation), **options)
    turned = {
        2: NOISE[:, ::-1],
        3: NOISE[::-1, ::-1],
        4: NOISE[::-1],
        5: NOISE.transpose(1, 0, 2),
        6: np.rot90(NOISE, 3),
        7: NOISE[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(NOISE),
    }[orientation]
    np.testing.assert_array_equal(served(prepare_image(data, IMAGE)), turned)


def test_a_jpeg_with_its_orientation_in_front_stays_as_it_came():
    data = encoded(SMOOTH, "JPEG", exif=exif(6))
    assert data.find(b"Exif") in (6, 24)
    assert prepare_image(data, IMAGE) is data


@pytest.mark.parametrize("where", ["behind a comment", "deep in its block"])
def test_a_hidden_orientation_of_a_jpeg_is_repeated_in_front(where):
    if where == "behind a comment":
        data = encoded(SMOOTH, "JPEG", exif=exif(6))
        data = with_segment(data, b"\xff\xfe", b"x" * 5000)
    else:  # its directory starts behind 2,000 bytes
        block = b"MM\0*" + struct.pack(">I", 2008) + b"\0" * 2000
        block += struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
        data = with_segment(encoded(SMOOTH, "JPEG"), b"\xff\xe1", b"Exif\0\0" + block)

    result = prepare_image(data, IMAGE)

    assert result[6:12] == b"Exif\0\0"
    assert Image.open(io.BytesIO(result[:2] + result[4 + 34 :])).size == (40, 32)
    short = encoded(SMOOTH, "JPEG")
    alone = short[:2] + result[2 : 2 + 36] + short[2:]
    assert Image.open(io.BytesIO(alone)).getexif()[0x0112] == 6
    np.testing.assert_array_equal(served(result), served(data))


def test_too_many_pixels_are_refused_before_they_are_decoded():
    huge = png(20_000, 10_000, 8, 2, [])
    with pytest.raises(
        Unreadable, match="200 megapixels, more than image.max_meg.*=50"
    ):
        prepare_image(huge, IMAGE)
    # Within the limit, but Pillow itself would warn of a bomb.
    data = png(10_000, 10_000, 8, 2, [])
    assert prepare_image(data, ImageConfig(max_megapixels=178)) is data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file is empty"),
        (b"hello", "unsupported format .supported: JPEG, PNG, GIF, BMP, TIFF, WebP"),
        (b"\0\0\0\x1cftypheic" + b"\0" * 50, "unsupported HEIC"),
        (b"<svg></svg>", "unsupported SVG"),
        (TRANSCODED["webp"][:60], "truncated or unreadable WebP"),
        (TRANSCODED["tiff"][:300], "truncated or unreadable TIFF"),
        (encoded(CLEAR.astype(np.float32), "TIFF"), "unsupported TIFF of signed, fl"),
    ],
)
def test_a_picture_that_cannot_be_used_says_why(data, message):
    with pytest.raises(Unreadable, match=message):
        prepare_image(data, IMAGE)


# Sounds -----------------------------------------------------------------------

SECONDS = np.arange(22_050 * 3) / 22_050
TONE = 0.5 * np.sin(2 * np.pi * 440 * SECONDS)
STEREO = np.stack([TONE, TONE[::-1] / 2], 1)


def sound(kind, subtype, samples=STEREO, rate_hz=22_050):
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, subtype, format=kind)
    return buffer.getvalue()


def info(data):
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return file.format, file.subtype, file.samplerate, file.channels


PLAIN = [("WAV", s) for s in "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE".split()]
PLAIN += [("WAVEX", "PCM_16"), ("WAVEX", "FLOAT")]
OTHERS = {  # what soundfile writes, what becomes of it, and the largest difference
    ("FLAC", "PCM_16"): ("PCM_16", 0),
    ("FLAC", "PCM_24"): ("PCM_24", 0),
    ("AIFF", "PCM_S8"): ("PCM_16", 0),
    ("AIFF", "PCM_24"): ("PCM_24", 0),
    ("CAF", "ALAC_16"): ("PCM_16", 0),
    ("AU", "FLOAT"): ("FLOAT", 0),
    ("W64", "PCM_16"): ("PCM_16", 0),
    ("RF64", "PCM_32"): ("FLOAT", 1e-7),
    ("WAV", "ULAW"): ("FLOAT", 0),
    ("WAV", "ALAW"): ("FLOAT", 0),
    ("WAV", "IMA_ADPCM"): ("FLOAT", 0),
    ("WAV", "MS_ADPCM"): ("FLOAT", 0),
    ("OGG", "VORBIS"): ("FLOAT", 0),
    ("MP3", "MPEG_LAYER_III"): ("FLOAT", 1e-6),
}


@pytest.mark.parametrize(("kind", "subtype"), PLAIN)
def test_a_plain_wav_comes_back_as_it_came(kind, subtype):
    data = sound(kind, subtype)
    assert prepare_audio(data, AUDIO) is data


@pytest.mark.parametrize(("kind", "subtype"), OTHERS)
def test_any_other_sound_becomes_wav_with_the_same_samples(kind, subtype):
    data = sound(kind, subtype)
    expected, tolerance = OTHERS[kind, subtype]

    result = prepare_audio(data, AUDIO)

    assert info(result) == ("WAV", expected, 22_050, 2)
    assert prepare_audio(result, AUDIO) is result
    samples, _ = soundfile.read(io.BytesIO(result))
    whole, _ = soundfile.read(io.BytesIO(data))
    assert 22_050 <= len(samples) < 40_000  # one second and a margin, of three
    np.testing.assert_allclose(samples, whole[: len(samples)], atol=tolerance)


def test_opus_keeps_its_tone():
    tone = np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000) / 2
    result = prepare_audio(sound("OGG", "OPUS", tone, 48_000), AUDIO)
    samples, rate_hz = soundfile.read(io.BytesIO(result))
    assert rate_hz == 48_000
    assert np.argmax(np.abs(np.fft.rfft(samples[:48_000]))) == 440


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFF024])
def test_a_data_size_left_open_by_a_stream_is_filled_in(size):
    data = sound("WAV", "PCM_16", TONE)
    at = data.find(b"data") + 4
    streamed = data[:at] + struct.pack("<I", size) + data[at + 4 :]
    assert prepare_audio(streamed, AUDIO) == data
    assert prepare_audio(streamed + b"x", AUDIO) == data  # half a sample


@pytest.mark.parametrize(("kind", "subtype"), [*PLAIN, *OTHERS, ("OGG", "OPUS")])
@pytest.mark.parametrize("part", [0.6, 0.97])
def test_a_truncated_sound_is_refused_even_behind_the_clip(kind, subtype, part):
    data = sound(kind, subtype, rate_hz=24_000 if subtype == "OPUS" else 22_050)
    with pytest.raises(Unreadable, match="truncated"):
        prepare_audio(data[: int(len(data) * part)], AUDIO)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file is empty"),
        (b"hello" * 20, "unsupported format .supported: WAV, FLAC"),
        (sound("WAV", "PCM_16", np.zeros(0)), "no sound in it"),
        (sound("OGG", "VORBIS", np.zeros(0)), "no sound in it"),
        (sound("WAV", "FLOAT", np.array([0.0, np.nan])), "not finite"),
        (sound("WAV", "DOUBLE", np.array([0.0, 1e300])), "not finite"),
        (sound("AU", "FLOAT", np.array([0.0, np.inf])), "not finite"),
        (sound("WAV", "PCM_16", rate_hz=500), "sample rate 500 Hz"),
        (b"RIFF\0\0\0\0WAVE", "no format or no data chunk"),
    ],
    ids=itertools.count(),  # an Ogg stream's bytes differ each time it is written
)
def test_a_sound_that_cannot_be_used_says_why(data, message):
    with pytest.raises(Unreadable, match=message):
        prepare_audio(data, AUDIO)


def test_a_list_chunk_behind_an_empty_one_is_no_sound():
    data = sound("WAV", "PCM_16", np.zeros(0))[:44] + b"LIST\4\0\0\0abcd"
    with pytest.raises(Unreadable, match="no sound"):
        prepare_audio(data, AUDIO)


def test_vbr_mp3_without_a_written_length_is_whole():
    loud = np.concatenate([np.zeros(22_050), RNG.normal(0, 0.2, 22_050), TONE])
    buffer = io.BytesIO()
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5}
    soundfile.write(buffer, loud, 22_050, format="MP3", **options)
    data = buffer.getvalue()
    second = data.find(data[:2], 4)
    assert b"Xing" in data[:second]
    assert info(prepare_audio(data[second:], AUDIO))[0] == "WAV"


def test_a_bomb_of_silence_stays_small(monkeypatch):
    monkeypatch.setattr("mmkeras.modalities.audio.reading._CHECKED_SAMPLES", 2**22)
    bomb = sound("FLAC", "PCM_16", np.zeros(2**23, np.int16), 16_000)
    start = time.perf_counter()
    assert len(prepare_audio(bomb, AUDIO)) < 50_000
    assert time.perf_counter() - start < 2
    assert prepare_audio(bomb[:-9], AUDIO)  # its end is not looked at


# Vectors ----------------------------------------------------------------------


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i8", "u1", ">i2"])
@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_any_vector_becomes_the_same_file_of_float32(dtype, shape):
    vector = np.arange(5).astype(dtype)
    result = prepare_vector(saved(vector.reshape(shape, order="F")))
    assert result == saved(np.arange(5, dtype="<f4"))
    assert vector_width(result) == 5


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file is empty"),
        (b"1,2,3", "unreadable .npy"),
        (saved(np.zeros(5))[:-1], "truncated .npy"),
        (saved(np.zeros(0)), "of shape"),
        (saved(np.zeros((2, 5))), "of shape"),
        (saved(np.array(1.0)), "of shape"),
        (saved(np.array([1j])), "of type complex128"),
        (saved(np.array([None])), "of type object"),
        (saved(np.array([1.0, np.nan])), "not finite"),
        (saved(np.array([1e300])), "not finite"),
        (saved(np.zeros(5)).replace(b"(5,), }  ", b"(9**9,)}"), "unreadable .npy"),
        (saved(np.zeros(5)).replace(b"(5,), }         ", b"(5000000000,), }"), "trunc"),
    ],
)
def test_a_vector_that_cannot_be_used_says_why(data, message):
    with pytest.raises(Unreadable, match=message):
        prepare_vector(data)


# Files and damage -------------------------------------------------------------


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"x" * 1_100_000)
    (tmp_path / "good").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    assert read_file(tmp_path / "good", 1) == b"x"
    for name, message in {
        "no": "file not found",
        "good/no": "file not found",
        ".": "a folder",
        "pipe": "a device or a pipe",
        "empty": "file is empty",
        "large": "1.1 MB, more than table.max_file_mb=1",
        "a\0b": "not a possible path",
        "x" * 300: "cannot be read",
    }.items():
        with pytest.raises(Unreadable, match=message):
            read_file(tmp_path / name, 1)


SAMPLES = [*AS_CAME.values(), *TRANSCODED.values()]
SHORT = STEREO[:3000]
SOUNDS = [sound(*kind, SHORT) for kind in [*PLAIN[::3], *OTHERS]]
VECTORS = [saved(np.arange(5.0)), saved(np.arange(5, dtype=">i2").reshape(1, 5))]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage that it can live with
@settings(max_examples=400, deadline=2000)
@given(
    task=st.one_of(
        *(
            st.tuples(st.just(prepare), st.just(config), st.sampled_from(good))
            for prepare, config, good in (
                (prepare_image, IMAGE, SAMPLES),
                (prepare_audio, AUDIO, SOUNDS),
                (prepare_vector, None, VECTORS),
            )
        )
    ),
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    noise=st.none() | st.binary(max_size=64),
)
@example((prepare_image, IMAGE, AS_CAME["gif"]), 0.02, [], None)
def test_damage_gives_bytes_or_bad_media(task, cut, flips, noise):
    prepare, config, good = task
    data = bytearray(good if cut is None else good[: int(cut * len(good))])
    for where, value in flips:
        if data:
            # Squared: most of the damage falls on the header.
            data[int(where**2 * (len(data) - 1))] = value
    data = bytes(data) if noise is None else bytes(data[:12]) + noise
    try:
        result = prepare(data, config) if config else prepare(data)
    except Unreadable as error:
        assert str(error)
    else:
        assert isinstance(result, bytes) and result


def test_reading_tables_and_media_needs_no_tensorflow():
    code = "import sys, mmkeras.modalities, mmkeras.data.table; print('tensorflow' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert run.stdout.strip() == b"False"
