import io
import struct
import time
import zlib

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmkeras.config import AudioConfig, ImageConfig
from mmkeras.modalities.audio.reading import prepare_audio
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.reading import prepare_image
from mmkeras.modalities.metadata import measure_audio, measure_image, measure_text
from tests import table_factory

RATE_HZ = 16_000
TONE = np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ)
SQUARE = np.sign(TONE + 1e-9)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (13, 17, 4), np.uint8)
KINDS = [("WAV", s) for s in "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE".split()]
KINDS += [
    ("WAVEX", "PCM_16"),
    ("WAVEX", "FLOAT"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
]
KINDS += [("AIFF", "PCM_16"), ("RF64", "PCM_16"), ("CAF", "ALAC_16")]
LOSSY = [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS")]
LOSSY += [("WAV", "ULAW"), ("WAV", "IMA_ADPCM")]


def sound(samples, kind="WAV", subtype="PCM_16", rate_hz=RATE_HZ):
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, subtype, format=kind)
    return file.getvalue()


def measured(data, clip_s=5.0):
    wave = prepare_audio(data, AudioConfig(clip_s=clip_s))
    found = measure_audio(data, wave, clip_s)
    return [found[f"audio_{name}"] for name in ("seconds", "clipped", "silent")]


def encoded(mode, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


# Pictures ---------------------------------------------------------------------


CHANNELS = {"1": 1, "L": 1, "I;16": 1, "LA": 2, "RGB": 3, "P": 3, "RGBA": 4, "CMYK": 4}
STORED = {
    "PNG": ("1", "L", "I;16", "LA", "RGB", "P", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("P",),
    "BMP": ("RGB",),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("L", "LA", "CMYK"),
}


@pytest.mark.parametrize(("kind", "mode"), [(k, m) for k in STORED for m in STORED[k]])
def test_a_picture_has_its_stored_size_and_channels(kind, mode):
    assert measure_image(encoded(mode, kind)) == {
        "image_width_px": 17,
        "image_height_px": 13,
        "image_channels": CHANNELS[mode],
    }


def test_a_palette_with_a_clear_colour_is_three_channels():
    assert measure_image(encoded("P", transparency=3))["image_channels"] == 3


def test_sixteen_bits_of_gray_and_alpha_are_two_channels():
    data = encoded("RGBA")
    assert data[24:26] == b"\x08\x06"
    gray_alpha = data[:24] + b"\x10\x04" + data[26:]
    check = struct.pack(">I", zlib.crc32(gray_alpha[12:29]))
    gray_alpha = gray_alpha[:29] + check + gray_alpha[33:]
    assert measure_image(gray_alpha)["image_channels"] == 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_a_picture_on_its_side_is_measured_as_it_is_stored(kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = measure_image(encoded("RGB", kind, exif=exif.tobytes()))
    assert (found["image_width_px"], found["image_height_px"]) == (17, 13)


def test_only_the_header_of_a_picture_is_read():
    whole = table_factory.image(size=(4000, 3000), kind="JPEG")
    start = time.perf_counter()
    assert measure_image(whole[: len(whole) // 2])["image_width_px"] == 4000
    assert time.perf_counter() - start < 0.01


# Sounds -----------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_silence_is_silent_a_square_clipped_and_a_tone_neither(kind, subtype):
    options = {"kind": kind, "subtype": subtype}
    assert measured(sound(0 * TONE, **options)) == [1.0, 0.0, 1.0]
    assert measured(sound(SQUARE, **options)) == [1.0, 1.0, 0.0]
    assert measured(sound(TONE / 2, **options)) == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(("kind", "subtype"), LOSSY)
def test_the_meanings_survive_lossy_coding(kind, subtype):
    options = {"kind": kind, "subtype": subtype}
    seconds, clipped, silent = measured(sound(0 * TONE, **options))
    assert seconds == pytest.approx(1, abs=0.1) and (clipped, silent) == (0, 1)
    seconds, clipped, silent = measured(sound(TONE / 2, **options))
    assert seconds == pytest.approx(1, abs=0.1) and clipped == 0 and silent < 0.1


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_a_tone_that_only_touches_full_scale_is_not_clipped(subtype):
    assert measured(sound(TONE, subtype=subtype))[1] == 0
    low = np.sin(2 * np.pi * 100 * np.arange(44_100) / 44_100)
    assert measured(sound(low, subtype=subtype, rate_hz=44_100))[1] == 0


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_flat_tops_are_clipped_by_their_share(subtype):
    data = sound((2 * TONE).clip(-1, 1), subtype=subtype)
    _, clipped, _ = measured(data)
    # |sin| is above a half for two thirds of the time.
    assert clipped == pytest.approx(2 / 3, abs=0.03)


def test_two_samples_at_full_scale_are_a_peak_and_three_a_flat_top():
    for run, clipped in {2: 0, 3: 3, 7: 7}.items():
        samples = TONE[:1000] / 2
        samples[500 : 500 + run] = -1
        assert measured(sound(samples))[1] == pytest.approx(clipped / 1000)


def test_neither_peaks_beyond_full_scale_nor_flat_tops_below_it_are_clipped():
    low = 1.08 * np.sin(2 * np.pi * 200 * np.arange(44_100) / 44_100)
    assert measured(sound(low, subtype="FLOAT", rate_hz=44_100))[1] == 0
    loud = sound(1.5 * low.clip(-0.99, 0.99), "OGG", "VORBIS", 44_100)
    assert soundfile.read(io.BytesIO(loud))[0].max() > 1.3
    assert measured(loud)[1] < 0.001
    assert measured(sound(0.9 * SQUARE))[1] == 0
    flat = sound(low.clip(-1.02, 1.02), subtype="FLOAT", rate_hz=44_100)
    assert measured(flat)[1] == pytest.approx(0.21, abs=0.02)  # asin(1.02 / 1.08)


def test_a_run_goes_on_in_one_channel_only():
    stereo = np.stack([SQUARE, TONE / 2], 1)
    assert measured(sound(stereo))[1:] == [0.5, 0.0]
    turns = np.stack([TONE / 2, TONE / 2], 1)  # full scale, one after the other
    turns[[100, 102], 0] = turns[[101, 103], 1] = 1
    assert measured(sound(turns))[1] == 0


def test_half_a_second_of_silence_is_half_silent():
    half = np.where(np.arange(RATE_HZ) < RATE_HZ // 2, TONE, 0)
    assert measured(sound(half / 2))[2] == 0.5
    faint = 10 ** (-50 / 20)
    assert measured(sound(half + faint * TONE, subtype="PCM_24"))[2] == 0.0
    faint = 10 ** (-58 / 20)  # RMS is 3 dB lower
    assert measured(sound(half + faint * TONE, subtype="PCM_24"))[2] == 0.5


def test_one_channel_that_sounds_is_enough_and_an_offset_is_not():
    quiet = np.zeros((RATE_HZ, 8))
    assert measured(sound(quiet + 0.25))[2] == 1.0
    quiet[:, 3] = 0.002 * TONE
    assert measured(sound(quiet))[2] == 0.0


def test_a_sound_shorter_than_a_frame_is_one_frame():
    assert measured(sound(np.zeros(5)))[2] == 1.0
    assert measured(sound(TONE[:5]))[2] == 0.0
    assert measured(sound(np.zeros(1)))[1:] == [0.0, 1.0]
    assert [measured(sound(np.ones(n)))[1] for n in (1, 2, 3)] == [0, 0, 1]


@pytest.mark.parametrize(("kind", "subtype"), KINDS)
def test_the_length_is_the_files_and_the_shares_are_the_clips(kind, subtype):
    samples = np.concatenate([np.zeros(RATE_HZ), SQUARE, SQUARE])
    data = sound(samples, kind=kind, subtype=subtype)
    assert measured(data, clip_s=1.0) == [3.0, 0.0, 1.0]
    assert measured(data, clip_s=2.0) == [3.0, 0.5, 0.5]


def test_rate_and_channels_are_the_files_own():
    data = sound(np.zeros((800, 3)), "FLAC", rate_hz=8_000)
    found = measure_audio(data, prepare_audio(data, AudioConfig()), 1.0)
    assert (found["audio_rate_hz"], found["audio_channels"]) == (8_000, 3)
    kinds = {name: type(value) for name, value in found.items()}
    assert kinds == {
        "audio_seconds": float,
        "audio_rate_hz": int,
        "audio_channels": int,
        "audio_clipped": float,
        "audio_silent": float,
    }


def test_floats_far_beyond_full_scale_are_clipped_and_no_error():
    data = sound(3e38 * SQUARE, subtype="FLOAT")
    assert measured(data) == [1.0, 1.0, 0.0]
    assert measured(sound(32_768 * TONE, subtype="DOUBLE"))[1] > 0.99


def test_a_bomb_of_silence_is_measured_in_no_time():
    bomb = sound(np.zeros(2**23, np.int16), "FLAC")
    wave = prepare_audio(bomb, AudioConfig())
    start = time.perf_counter()
    found = measure_audio(bomb, wave, AudioConfig().clip_s)
    assert time.perf_counter() - start < 0.2
    assert found["audio_seconds"] == 2**23 / RATE_HZ and found["audio_silent"] == 1


def test_an_endless_clip_is_measured_at_its_start_only(monkeypatch):
    data = sound(np.concatenate([0 * TONE, SQUARE]))
    monkeypatch.setattr("mmkeras.modalities.metadata._MEASURED_SAMPLES", RATE_HZ)
    assert measured(data, clip_s=1e6) == [2.0, 0.0, 1.0]


def test_a_wave_that_libsndfile_refuses_is_measured():
    wave = sound(SQUARE)
    odd = wave[:12] + wave[36:] + wave[12:36]  # the data before the format
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(io.BytesIO(odd))
    assert measured(odd) == [1.0, 1.0, 0.0]
    for size in (0, 0xFFFFFFFF):  # left open by a stream
        streamed = wave[:40] + struct.pack("<I", size) + wave[44:]
        assert measured(streamed) == [1.0, 1.0, 0.0]


# Text -------------------------------------------------------------------------


def test_a_text_has_characters_not_bytes():
    assert measure_text("Grüße 🐄".encode()) == {"text_characters": 7}
    assert measure_text(b"\xff") == {"text_characters": 1}


# Damage -----------------------------------------------------------------------

PICTURES = [encoded(m) for m in ("1", "L", "P", "RGB", "RGBA")]
PICTURES += [encoded("RGB", k) for k in ("JPEG", "GIF", "BMP", "TIFF", "WEBP")]
SOUNDS = [sound(TONE[:3000] / 2, *kind) for kind in KINDS + LOSSY]


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage that it can live with
@settings(max_examples=400, deadline=2000)
@given(
    good=st.sampled_from([*PICTURES, *SOUNDS]),
    cut=st.none() | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
)
def test_whatever_is_accepted_can_be_measured(good, cut, flips):
    data = bytearray(good if cut is None else good[: int(cut * len(good))])
    for where, value in flips:
        if data:  # squared: most of the damage falls on the header
            data[int(where**2 * (len(data) - 1))] = value
    data = bytes(data)
    try:
        if good in PICTURES:
            prepare_image(data, ImageConfig())
        else:
            wave = prepare_audio(data, AudioConfig(clip_s=0.1))
    except Unreadable:
        return
    if good in PICTURES:
        found = measure_image(data)
    else:
        found = measure_audio(data, wave, 0.1)
        assert 0 <= found["audio_clipped"] <= 1 and 0 <= found["audio_silent"] <= 1
        assert found["audio_seconds"] > 0
    assert all(type(value) in (int, float) for value in found.values())
    assert all(np.isfinite(value) for value in found.values())
