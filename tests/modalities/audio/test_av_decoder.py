import io
import struct

import numpy as np
import pytest
import soundfile

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio import av_decoder
from mmkeras.modalities.audio.av_decoder import av_format, decode_av
from mmkeras.modalities.audio.metadata import measure_audio
from mmkeras.modalities.audio.reading import prepare_audio, read_audio
from mmkeras.modalities.file import Unreadable
from tests.modalities.phone_media import RATE_HZ, SECONDS, STEREO, encode_av

CONFIG = AudioConfig(clip_s=1.0)
FORMATS = [("aac", "ipod"), ("aac", "mp4"), ("aac", "adts"), ("alac", "ipod")]
FORMATS += [("libopus", "webm"), ("libopus", "matroska")]


def error(samples, reference):
    """Returns the RMS of a difference, relative to that of the reference."""
    difference = samples - reference[: len(samples)]
    return difference.std() / reference.std()


@pytest.mark.parametrize(("codec", "container"), FORMATS)
def test_the_samples_are_those_that_were_encoded(codec, container):
    data = encode_av(codec, container)
    audio = read_audio(data, CONFIG)
    samples, rate_hz = soundfile.read(io.BytesIO(audio.wav))
    assert rate_hz == RATE_HZ and samples.shape[1] == 2
    # ADTS has no field for the samples that the encoder puts in front.
    errors = [error(samples[shift:RATE_HZ], STEREO.T) for shift in (0, 1024)]
    assert errors[container == "adts"] < (1e-6 if codec == "alac" else 0.1)
    metadata = measure_audio(audio, CONFIG.clip_s)
    assert metadata["seconds"] == pytest.approx(SECONDS, abs=0.05)
    assert metadata["channels"] == 2


@pytest.mark.parametrize(("codec", "container"), FORMATS)
def test_each_sample_of_the_decoder_is_kept(codec, container):
    av = pytest.importorskip("av")
    data = encode_av(codec, container)
    with av.open(io.BytesIO(data)) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
    expected = np.concatenate(frames, axis=1).T
    if expected.dtype.kind == "i":
        expected = expected / 2**31
    audio = decode_av(data, av_format(data), 99, 2**28)
    assert audio.rate_hz == RATE_HZ and audio.seconds == len(expected) / RATE_HZ
    np.testing.assert_allclose(audio.samples, expected, atol=1e-7)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(("codec", "container"), FORMATS)
def test_a_truncated_file_is_unreadable(codec, container, share):
    options = {"movflags": "faststart"} if container in ("mp4", "ipod") else {}
    for data in (encode_av(codec, container), encode_av(codec, container, **options)):
        with pytest.raises(Unreadable, match="^truncated .*(Invalid data|s of|audio)"):
            prepare_audio(data[: int(len(data) * share)], CONFIG)


def test_a_rate_that_changes_is_unreadable():
    other = encode_av("aac", "adts", rate_hz=RATE_HZ // 2)
    for clip_s in (0.5, 60):
        with pytest.raises(Unreadable, match="AAC whose rate or channels change"):
            prepare_audio(encode_av("aac", "adts") + other, AudioConfig(clip_s=clip_s))


def test_a_length_that_is_announced_too_long_is_noted():
    data = encode_av("libopus", "webm")
    cut = data[: int(len(data) * 0.96)]
    audio = read_audio(cut, CONFIG)
    assert "the WebM announces 3" in audio.notes[0]
    assert read_audio(data, CONFIG).notes == ()


def test_mono_stays_mono():
    wav = prepare_audio(encode_av("aac", "ipod", STEREO[:1]), CONFIG)
    assert soundfile.info(io.BytesIO(wav)).channels == 1


def test_a_clip_is_all_that_is_returned():
    data = encode_av("libopus", "webm")
    audio = decode_av(data, av_format(data), 0.5, 2**28)
    assert 0.5 * RATE_HZ <= len(audio.samples) < 0.6 * RATE_HZ
    assert audio.seconds == pytest.approx(SECONDS, abs=0.01)


def test_the_length_is_that_of_the_whole_file_if_only_a_part_is_decoded():
    data = encode_av("libopus", "webm")
    audio = decode_av(data, av_format(data), 0.5, max_samples=RATE_HZ)
    assert len(audio.samples) < RATE_HZ and not audio.notes
    assert audio.seconds == pytest.approx(SECONDS, abs=0.05)


def test_a_video_without_sound_is_unreadable():
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame(32, 32, "yuv420p")
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    with pytest.raises(Unreadable, match="M4A or MP4 without audio"):
        prepare_audio(file.getvalue(), CONFIG)


def test_a_missing_decoder_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(av_decoder, "find_spec", lambda _: None)
    with pytest.raises(Unreadable, match=r"WebM needs av.*\[media\]"):
        prepare_audio(b"\x1a\x45\xdf\xa3" + bytes(40), CONFIG)


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x1cftypM4A ", "M4A or MP4"),
        (b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81", "WebM"),
        (struct.pack(">Q", 0xFFF14C401A7FFCDE), "AAC"),
        (struct.pack(">Q", 0xFFF94C401A7FFCDE), "AAC"),
        (b"\xff\xfb\x90\x64\0\0\0\0", ""),  # MP3
        (b"RIFF\0\0\0\0WAVEfmt ", ""),
        (b"OggS\0\2\0\0", ""),
        (b"", ""),
    ],
)
def test_the_format_is_that_of_the_first_bytes(start, name):
    assert (av_format(start) or ("",))[0] == name
