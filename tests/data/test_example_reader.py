import io
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import tensorflow as tf

from mmkeras.config import TableConfig
from mmkeras.data.example_reader import RowReader, make_example, read_all
from mmkeras.data.table import Row
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.audio.reading import prepare_audio
from tests.table_factory import bomb, image, tiny_config, tone, vector

CONFIG = tiny_config("unused", table=TableConfig(max_file_mb=1))
VECTORS = {"text": {"type": "text", "encoder": "vector", "vector_width": 4}}


def row_of(**cells):
    return Row(line=7, id="r7", cells=cells, labels=("a",))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return RowReader(tmp_path_factory.mktemp("media"), CONFIG)


@pytest.fixture
def read(reader):
    """Writes the content to a file and reads a row with its name."""

    def write(modality, content):
        (reader.files.folder / "file.bin").write_bytes(content)
        return reader.read(row_of(**{modality: "file.bin"}))

    return write


AUDIO = {
    "flac": tone(kind="FLAC", rate_hz=22_050),
    "ogg": tone(kind="OGG", subtype="VORBIS", rate_hz=44_100),
    "mp3": tone(kind="MP3", subtype="MPEG_LAYER_III", rate_hz=32_000),
    "wav 44.1 kHz": tone(subtype="PCM_24", rate_hz=44_100),
    "stereo 8 kHz": tone(hz=(440, 880), rate_hz=8_000),
}


@pytest.mark.parametrize("name", AUDIO)
def test_other_audio_is_stored_as_the_wave_that_the_graph_decodes(read, name):
    stored = read("audio", AUDIO[name]).data["audio"]

    info = soundfile.info(io.BytesIO(stored))
    assert (info.format, info.subtype) == ("WAV", "FLOAT")
    assert (info.samplerate, info.channels) == (16_000, 1)
    wave, _ = soundfile.read(io.BytesIO(stored), dtype="float32")
    as_wav = prepare_audio(AUDIO[name], CONFIG.audio)
    served = decode_wave(tf.constant(as_wav), CONFIG.audio).numpy()
    np.testing.assert_array_equal(wave, served)
    assert 0.3 < wave.max() < 0.7 and len(wave) >= 0.2 * 16_000


@pytest.mark.parametrize(
    ("modality", "content", "reason"),
    [
        ("image", image()[:60], "cannot be decoded"),
        ("image", image(kind="JPEG")[:-40], "decoded: truncated or damaged JPEG"),
        ("image", image(kind="WEBP")[:30], "truncated"),
        ("image", bomb(), "200 megapixels, more than image.max_megapixels=50"),
        ("image", image() + b"\0" * 10**6, "more than table.max_file_mb"),
        ("audio", tone()[:3000], "truncated WAV"),
        ("audio", tone(kind="FLAC")[:1500], "truncated"),
    ],
)
def test_unreadable_content_is_empty_and_has_a_reason(read, modality, content, reason):
    row = read(modality, content)
    assert row.data == {modality: b""} and row.contents == {}
    assert row.broken[modality].startswith(f"{modality} 'file.bin': ")
    assert reason in row.broken[modality]
    assert row.status == f"{modality} unreadable"


def test_one_broken_cell_does_not_affect_the_others_of_its_row(reader):
    (reader.files.folder / "a.png").write_bytes(image())
    row = reader.read(row_of(text="Grüße", image="a.png", audio="gone.wav"))
    assert row.data == {"text": "Grüße".encode(), "image": image(), "audio": b""}
    assert row.broken == {"audio": "audio 'gone.wav': file not found"}


def test_an_empty_cell_is_absent_and_a_wav_of_the_rate_is_unchanged(reader):
    (reader.files.folder / "a.wav").write_bytes(tone())
    row = reader.read(row_of(text="hi", image="", audio="a.wav"))
    assert row.data == {"text": b"hi", "image": b"", "audio": tone()}
    assert row.broken == {} and row.status == ""


def test_a_folder_and_an_endless_name_are_broken_cells(reader):
    row = reader.read(row_of(image=".", audio="x" * 5000))
    assert "is a folder" in row.broken["image"]
    assert len(row.broken["audio"]) < 200 and "xxx..." in row.broken["audio"]


def test_a_vector_of_another_width_is_broken(tmp_path):
    (tmp_path / "a.npy").write_bytes(vector(range(5)))
    (tmp_path / "b.npy").write_bytes(vector(range(4)))
    reader = RowReader(tmp_path, replace(CONFIG, columns=VECTORS))
    wrong, right = (reader.read(row_of(text=f"{name}.npy")) for name in "ab")
    assert wrong.broken["text"].endswith("5 numbers where others have 4")
    np.testing.assert_array_equal(np.load(io.BytesIO(right.data["text"])), range(4))
    assert right.contents["text"].metadata == {}


def test_equal_content_has_one_digest_whatever_the_name_of_the_file(reader):
    for name, hz in (("a", 440), ("b", 440), ("c", 441)):
        (reader.files.folder / f"{name}.wav").write_bytes(tone(hz))
    rows = (reader.read(row_of(audio=f"{name}.wav")) for name in "abc")
    a, b, c = (row.contents["audio"].digest for row in rows)
    assert a == b and a != c


def values_of(example):
    return {
        name: list(getattr(feature, feature.WhichOneof("kind")).value)
        for name, feature in example.features.feature.items()
    }


def test_an_example_has_content_id_labels_and_status(reader):
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


def test_an_example_has_the_metadata_of_the_original_files(reader):
    (reader.files.folder / "a.tif").write_bytes(image(kind="TIFF", size=(40, 36)))
    stereo = tone(hz=(440, 880), kind="FLAC", rate_hz=8_000, seconds=2)
    (reader.files.folder / "a.flac").write_bytes(stereo)

    values = values_of(make_example(reader.read(row_of(image="a.tif", audio="a.flac"))))

    assert values["image"][0].startswith(b"\x89PNG")
    assert soundfile.info(io.BytesIO(values["audio"][0])).duration < 1  # the clip
    metadata = {"image_width_px": [40], "image_height_px": [36], "image_channels": [3]}
    metadata |= {"audio_seconds": [2.0], "audio_rate_hz": [8_000]}
    metadata |= {"audio_channels": [2], "audio_clipped": [0.0], "audio_silent": [0.0]}
    assert metadata.items() <= values.items()


def test_rows_are_read_in_order_and_a_bounded_number_is_in_flight():
    started, maximum, count = [], 0, 0

    class Reader:
        def read(self, row):
            started.append(row)
            time.sleep(0.001 * (row % 3))  # they finish out of order
            return row

    workers = 3
    for i, row in enumerate(read_all(iter(range(200)), Reader(), workers)):
        assert row == i
        maximum, count = max(maximum, len(started) - count), i + 1
        time.sleep(0.001)
    assert count == 200 and 1 < maximum <= 4 * workers + 1


def test_an_error_in_a_thread_is_not_lost():
    class Reader:
        def read(self, row):
            raise MemoryError(row)

    with pytest.raises(MemoryError):
        list(read_all(range(9), Reader(), 2))
