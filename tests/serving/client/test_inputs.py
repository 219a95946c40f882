"""A row's values -> the bytes that training saw of the same files."""

from pathlib import Path

import numpy as np
import pytest

from mmkeras.config import AudioConfig, ImageConfig
from mmkeras.errors import UserError
from mmkeras.modalities.audio.reading import prepare_audio, wave_rate_hz
from mmkeras.modalities.image.reading import prepare_image
from serving.client.inputs import check_names, given, prepare
from serving.client.settings import Limits
from tests import table_factory


def run_data(strict=True, limits=None, **row):
    return prepare(row, limits or Limits(), strict=strict)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_pictures_that_the_graph_decodes_go_out_as_they_came(kind, tmp_path):
    data = table_factory.picture(kind=kind)
    (tmp_path / "picture").write_bytes(data)
    for value in (data, tmp_path / "picture", str(tmp_path / "picture")):
        assert run_data(image=value).data == {"image": data}


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_other_pictures_become_what_training_saw(kind):
    data = table_factory.picture(kind=kind)
    sent = run_data(image=data).data["image"]
    assert sent.startswith(b"\x89PNG") and sent == prepare_image(data, ImageConfig())


def test_waves_of_any_rate_go_out_as_they_came():
    for rate_hz in (8_000, 16_000, 44_100):
        data = table_factory.tone(rate_hz=rate_hz)
        assert run_data(audio=data).data == {"audio": data}


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]
    + [("AIFF", "PCM_24")],
)
def test_other_sounds_become_the_wave_that_training_saw(kind, subtype):
    data = table_factory.tone(kind=kind, subtype=subtype)
    sent = run_data(audio=data).data["audio"]
    assert sent.startswith(b"RIFF") and wave_rate_hz(sent) == table_factory.RATE_HZ
    assert sent == prepare_audio(data, AudioConfig())


def test_no_more_of_a_transcoded_sound_is_sent_than_asked():
    data = table_factory.tone(kind="FLAC", seconds=4)
    whole = run_data(audio=data).data["audio"]
    cut = run_data(audio=data, limits=Limits(clip_s=1)).data["audio"]
    assert len(whole) == 44 + 4 * 2 * table_factory.RATE_HZ
    sent_s = (len(cut) - 44) / 2 / table_factory.RATE_HZ
    assert sent_s == pytest.approx(1.5, abs=0.01)  # half a second of margin


def test_text_is_text_and_a_path_of_text_is_read(tmp_path):
    assert run_data(text="caf\xe9.txt").data == {"text": b"caf\xc3\xa9.txt"}
    (tmp_path / "a.txt").write_text("warm fire")
    assert run_data(text=tmp_path / "a.txt").data == {"text": b"warm fire"}


def test_vectors_become_the_one_kind_of_them(tmp_path):
    expected = table_factory.vector([1, 2])
    np.save(tmp_path / "a.npy", np.array([[1.0, 2.0]]))  # float64, (1, D)
    for value in (tmp_path / "a.npy", np.array([1, 2]), expected):
        assert run_data(text=value, audio=value).data == {
            "text": expected,
            "audio": expected,
        }


def test_what_is_absent_is_not_sent():
    row = {"text": "", "image": None, "audio": b""}
    assert run_data(**row).data == {} and given([row]) == set()
    assert given([row, {"text": "a"}]) == {"text"}


BROKEN = [
    ({"image": "gone.png"}, "image 'gone.png': file not found"),
    ({"image": b"<html>"}, "image (bytes): unsupported SVG or HTML"),
    ({"image": table_factory.bomb()}, "200 megapixels, more than max_megapixels=50"),
    ({"audio": b"RIFF"}, "audio (bytes): "),
    ({"text": "\udce9"}, "text '\udce9': characters that UTF-8 cannot write"),
    ({"audio": np.array([np.inf])}, "numbers that are not finite"),
]


@pytest.mark.parametrize(("row", "reason"), BROKEN)
def test_what_cannot_be_read_is_refused_or_else_said_and_sent_as_absent(row, reason):
    with pytest.raises(UserError) as error:
        run_data(**row)
    assert reason in str(error.value)
    lenient = run_data(**row, strict=False)
    assert lenient.data == {} and list(lenient.broken) == list(row)
    assert reason in next(iter(lenient.broken.values()))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2_000_001)
    with pytest.raises(UserError, match="2.0 MB, more than max_file_mb=1"):
        run_data(image=tmp_path / "large", limits=Limits(max_file_mb=1))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image": 3}, "image must be a path or bytes; received int"),
        ({"text": 3.5}, "text must be a path or bytes, text, or a vector; received"),
        ({"image": np.zeros(3)}, "image must be a path or bytes; received ndarray"),
    ],
)
def test_a_value_of_another_type_is_a_mistake_in_any_case(row, message):
    for strict in (True, False):
        with pytest.raises(UserError, match=message):
            run_data(**row, strict=strict)


def test_a_modality_that_is_not_there_is_named_beside_those_that_are():
    known = ("text", "image")
    check_names({"text": "a", "audio": None}, known, "m")
    with pytest.raises(UserError, match="'m' takes no audio; it takes text, image"):
        check_names({"audio": Path("a.wav")}, known, "m")
    with pytest.raises(UserError, match="no modality 'imge'. Did you mean 'image'?"):
        check_names({"imge": "a"}, known, "m")
