import io
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from mmkeras.config import AudioConfig, Config, TableConfig, TextConfig
from mmkeras.data.example_reader import RowReader, common_widths, make_example, read_all
from mmkeras.data.table import Row
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.audio.reading import prepare_audio
from mmkeras.modalities.preprocessing_state import PreprocessingState, Scale
from mmkeras.modalities.preprocessor import Preprocessor
from tests import table_factory

CONFIG = table_factory.tiny_config("unused", table=TableConfig(max_file_mb=1))
VECTORS = replace(CONFIG, text=TextConfig(encoder="vector"))


def row_of(**cells):
    return Row(line=7, id="r7", cells=cells, labels=("a",))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return RowReader(tmp_path_factory.mktemp("media"), CONFIG, {})


@pytest.fixture
def read(reader):
    """Writes the content to a file and reads the row that names it."""

    def one(modality, content):
        (reader.folder / "file.bin").write_bytes(content)
        return reader.read(row_of(**{modality: "file.bin"}))

    return one


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP"])
def test_a_picture_that_the_graph_decodes_is_stored_as_it_came(read, kind):
    data = table_factory.picture(kind=kind)
    assert read("image", data).data == {"image": data}


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_a_wav_of_the_right_rate_is_stored_as_it_came(read, subtype):
    data = table_factory.tone(subtype=subtype)
    assert read("audio", data).data == {"audio": data}


SOUNDS = {
    "flac": table_factory.tone(kind="FLAC", rate_hz=22_050),
    "ogg": table_factory.tone(kind="OGG", subtype="VORBIS", rate_hz=44_100),
    "mp3": table_factory.tone(kind="MP3", subtype="MPEG_LAYER_III", rate_hz=32_000),
    "wav 44.1 kHz": table_factory.tone(subtype="PCM_24", rate_hz=44_100),
    "stereo 8 kHz": table_factory.tone(hz=(440, 880), rate_hz=8_000),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_any_other_sound_becomes_the_wave_that_the_graph_makes_of_it(read, name):
    stored = read("audio", SOUNDS[name]).data["audio"]

    info = soundfile.info(io.BytesIO(stored))
    assert (info.format, info.subtype) == ("WAV", "FLOAT")
    assert (info.samplerate, info.channels) == (16_000, 1)
    wave, _ = soundfile.read(io.BytesIO(stored), dtype="float32")
    as_wav = prepare_audio(SOUNDS[name], CONFIG.audio)
    served = decode_wave(tf.constant(as_wav), CONFIG.audio).numpy()
    np.testing.assert_array_equal(wave, served)
    assert 0.3 < wave.max() < 0.7 and len(wave) >= 0.2 * 16_000


def test_a_sound_sent_raw_gives_the_vector_that_its_record_gave(read):
    raw = table_factory.tone(
        hz=[300, 3000], subtype="PCM_24", rate_hz=44_100, seconds=0.9
    )
    stored = read("audio", raw).data["audio"]
    width = 2 * CONFIG.audio.bands
    state = PreprocessingState(
        modalities=("audio",),
        task="binary",
        classes=("a", "b"),
        class_rows=(1, 1),
        widths={"audio": width},
        scales={"audio": Scale(mean=(-3.0,) * width, deviation=(2.0,) * width)},
    )

    inputs, status = Preprocessor(CONFIG, state)({"audio": tf.constant([raw, stored])})

    assert list(status.numpy()) == [b"ok", b"ok"] and raw != stored
    served, trained_model = inputs["audio"].numpy()
    assert np.ptp(trained_model) > 0.5  # not clipped to one number
    np.testing.assert_allclose(served, trained_model, atol=1e-5)


BROKEN = {
    "truncated png": (
        "image",
        table_factory.picture()[:60],
        "picture cannot be decoded",
    ),
    "truncated jpeg": (
        "image",
        table_factory.picture(kind="JPEG")[:-40],
        "cannot be decoded",
    ),
    "webp cut": (
        "image",
        table_factory.picture(kind="WEBP")[:30],
        "truncated or unreadable",
    ),
    "bomb": (
        "image",
        table_factory.bomb(),
        "200 megapixels, more than image.max_megapixels=50",
    ),
    "heic": ("image", b"\0\0\0\x1cftypheic" + b"\0" * 50, "unsupported HEIC"),
    "text": ("image", b"hello", "unsupported format"),
    "empty picture": ("image", b"", "file is empty"),
    "large": (
        "image",
        table_factory.picture() + b"\0" * 10**6,
        "more than table.max_file_mb",
    ),
    "truncated wav": ("audio", table_factory.tone()[:3000], "truncated WAV"),
    "truncated flac": ("audio", table_factory.tone(kind="FLAC")[:1500], "truncated"),
    "m4a": ("audio", b"\0\0\0\x20ftypM4A " + b"\0" * 90, "unsupported format"),
    "no samples": ("audio", table_factory.tone(seconds=0), "no sound in it"),
    "empty sound": ("audio", b"", "file is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_empty_and_says_why(read, name):
    modality, content, reason = BROKEN[name]
    found = read(modality, content)
    assert found.data == {modality: b""} and found.digest == {}
    assert found.broken[modality].startswith(f"{modality} 'file.bin': ")
    assert reason in found.broken[modality]
    assert found.status == f"{modality} unreadable"


def test_one_broken_cell_leaves_the_others_of_its_row_as_they_are(reader):
    (reader.folder / "a.png").write_bytes(table_factory.picture())
    found = reader.read(row_of(text="Grüße", image="a.png", audio="gone.wav"))
    assert found.data == {
        "text": "Grüße".encode(),
        "image": table_factory.picture(),
        "audio": b"",
    }
    assert found.broken == {"audio": "audio 'gone.wav': file not found"}


def test_an_empty_cell_is_absent_and_not_broken(reader):
    found = reader.read(row_of(text="hi", image=""))
    assert found.data["image"] == b"" and found.broken == {} and found.status == ""


def test_a_folder_and_an_endless_name_are_broken_cells(reader):
    found = reader.read(row_of(image=".", audio="x" * 5000))
    assert "is a folder" in found.broken["image"]
    assert len(found.broken["audio"]) < 200 and "xxx..." in found.broken["audio"]


def test_a_vector_of_another_width_is_broken(tmp_path):
    (tmp_path / "a.npy").write_bytes(table_factory.vector(range(5)))
    (tmp_path / "b.npy").write_bytes(table_factory.vector(range(4)))
    reader = RowReader(tmp_path, VECTORS, {"text": 4})
    wrong, right = (reader.read(row_of(text=f"{name}.npy")) for name in "ab")
    assert wrong.broken["text"].endswith("5 numbers where others have 4")
    np.testing.assert_array_equal(np.load(io.BytesIO(right.data["text"])), range(4))


def test_the_first_readable_vector_tells_the_width(tmp_path):
    (tmp_path / "b.npy").write_bytes(b"no vector")
    (tmp_path / "c.npy").write_bytes(table_factory.vector(range(6)))
    rows = [row_of(text=name) for name in ("", "a.npy", "b.npy", "c.npy")]
    assert common_widths(rows, tmp_path, VECTORS) == {"text": 6}
    assert common_widths(rows, tmp_path, Config(audio=AudioConfig())) == {}


def test_equal_content_has_one_digest_whatever_the_file_is_called(reader):
    for name, hz in (("a", 440), ("b", 440), ("c", 441)):
        (reader.folder / f"{name}.wav").write_bytes(table_factory.tone(hz))
    a, b, c = (reader.read(row_of(audio=f"{n}.wav")).digest["audio"] for n in "abc")
    assert a == b and a != c


def values_of(example):
    kinds = ("bytes_list", "int64_list", "float_list")
    return {
        name: list(getattr(feature, feature.WhichOneof("kind")).value)
        for name, feature in example.features.feature.items()
        if feature.WhichOneof("kind") in kinds
    }


def test_an_example_holds_content_id_labels_and_what_was_unreadable(reader):
    row = replace(row_of(text="hé", audio="gone.wav", image=""), labels=("b", "a"))
    assert values_of(make_example(reader.read(row), "val")) == {
        "text": ["hé".encode()],
        "id": [b"r7"],
        "label": [b"b|a"],
        "status": [b"audio unreadable"],
        "split": [b"val"],
        "text_characters": [2],
    }
    assert "split" not in make_example(reader.read(row)).features.feature


def test_an_example_holds_what_its_media_are_like_as_they_stood_in_the_file(reader):
    (reader.folder / "a.tif").write_bytes(
        table_factory.picture(kind="TIFF", size=(40, 36))
    )
    stereo = table_factory.tone(hz=(440, 880), kind="FLAC", rate_hz=8_000, seconds=2)
    (reader.folder / "a.flac").write_bytes(stereo)

    found = values_of(make_example(reader.read(row_of(image="a.tif", audio="a.flac"))))

    assert found["image"][0].startswith(b"\x89PNG")
    assert found["image_width_px"] == [40] and found["image_height_px"] == [36]
    assert found["image_channels"] == [3]
    assert soundfile.info(io.BytesIO(found["audio"][0])).duration < 1  # the clip
    assert found["audio_seconds"] == [2.0]
    assert found["audio_rate_hz"] == [8_000] and found["audio_channels"] == [2]
    assert found["audio_clipped"] == [0.0] and found["audio_silent"] == [0.0]


def test_what_cannot_be_decoded_is_not_measured(read):
    assert read("image", table_factory.picture()[:60]).facts == {}


def test_a_vector_is_not_measured(tmp_path):
    (tmp_path / "a.npy").write_bytes(table_factory.vector(range(4)))
    assert RowReader(tmp_path, VECTORS, {}).read(row_of(text="a.npy")).facts == {}


def odd_wave(name):
    """A good WAV of 44.1 kHz whose chunks stand as libsndfile does not like them."""
    wave = table_factory.tone(rate_hz=44_100)
    fmt, data = wave[12:36], wave[36:]
    body = {
        "data first": data + fmt,
        "junk in front": b"\1\2\3\4\2\0\0\0ab" + fmt + data,
    }
    return b"RIFF" + wave[4:8] + b"WAVE" + body[name]


@pytest.mark.parametrize("name", ["data first", "junk in front"])
def test_a_wave_with_its_chunks_in_an_odd_order_is_read(name, tmp_path):
    (tmp_path / "odd.wav").write_bytes(odd_wave(name))
    reader = RowReader(tmp_path, Config(), {})
    read = reader.read(Row(line=2, id="0", cells={"audio": "odd.wav"}))
    assert not read.broken
    assert reader.read(read.row).data == read.data  # the same bytes each time


def test_rows_are_read_in_order_and_a_bounded_number_is_in_flight():
    started, most, done = [], 0, 0

    class Reader:
        def read(self, row):
            started.append(row)
            time.sleep(0.001 * (row % 3))  # they finish out of order
            return row

    workers = 3
    for i, row in enumerate(read_all(iter(range(200)), Reader(), workers)):
        assert row == i
        most, done = max(most, len(started) - done), i + 1
        time.sleep(0.001)
    assert done == 200 and 1 < most <= 4 * workers + 1


def test_an_error_in_a_thread_is_not_lost():
    class Reader:
        def read(self, row):
            raise MemoryError(row)

    with pytest.raises(MemoryError):
        list(read_all(range(9), Reader(), 2))
