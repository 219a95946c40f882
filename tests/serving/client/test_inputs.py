"""Rows are prepared as training prepares the same files."""

import io

import numpy as np
import pytest
from PIL import Image

from mmkeras.config import AudioConfig, Config, ImageConfig
from mmkeras.data.tables.cells import to_cell
from mmkeras.errors import UserError
from mmkeras.modalities.audio.reading import prepare_audio
from mmkeras.modalities.audio.wav import wav_format
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.image.heif import AVIF, HEIC
from mmkeras.modalities.image.reading import prepare_image
from mmkeras.modalities.types import TYPES as TYPES_OF_COLUMNS
from serving.client.inputs import list_columns, prepare_row
from serving.client.model_info import ModelInfo
from serving.client.settings import Limits, Settings
from tests import table_factory
from tests.modalities.phone_media import encode_av, encode_heif

TYPES = {"text": "text", "image": "image", "audio": "audio", "vectors": "vector"}
MODEL = ModelInfo(
    version=1,
    columns=TYPES | {"price": "numeric"},
    absent=dict.fromkeys(TYPES, b"") | {"price": float("nan")},
)


def prepare(strict=True, limits=None, **row):
    settings = Settings(target="localhost:1", model="m", limits=limits or Limits())
    return prepare_row(row, MODEL, settings, strict=strict)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
def test_images_that_the_model_decodes_are_unchanged(kind, tmp_path):
    data, path = table_factory.image(kind=kind), tmp_path / "image"
    path.write_bytes(data)
    for value in (data, path, str(path)):
        assert prepare(image=value).data == {"image": data}


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
def test_other_images_become_those_of_training(kind):
    data = table_factory.image(kind=kind)
    png = prepare(image=data).data["image"]
    assert png.startswith(b"\x89PNG") and png == prepare_image(data, ImageConfig())


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_waves_of_any_rate_are_unchanged(rate_hz):
    data = table_factory.tone(rate_hz=rate_hz)
    assert prepare(audio=data).data == {"audio": data}


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]
    + [("AIFF", "PCM_24")],
)
def test_other_audio_becomes_that_of_training(kind, subtype):
    data = table_factory.tone(kind=kind, subtype=subtype)
    wave = prepare(audio=data).data["audio"]
    assert wav_format(wave).rate_hz == table_factory.RATE_HZ
    assert wave == prepare_audio(data, AudioConfig())


@pytest.mark.parametrize(
    ("modality", "encode", "start"),
    [
        ("image", lambda: encode_heif(HEIC), b"\x89PNG"),
        ("image", lambda: encode_heif(AVIF), b"\x89PNG"),
        ("audio", lambda: encode_av("aac", "ipod"), b"RIFF"),
        ("audio", lambda: encode_av("libopus", "webm"), b"RIFF"),
    ],
    ids=["heic", "avif", "m4a", "webm"],
)
def test_files_of_phones_and_browsers_become_those_of_training(
    modality, encode, start, tmp_path
):
    path = tmp_path / "file"
    path.write_bytes(encode())
    sent = prepare(**{modality: path}).data[modality]
    assert sent.startswith(start)
    column = TYPES_OF_COLUMNS[modality](modality, getattr(Config(), modality))
    content = column.read("file", FileReader(tmp_path))
    assert content.metadata
    if modality == "image":  # training stores the clip at the model's rate
        assert content.data == sent


def test_a_fault_that_loses_no_samples_is_a_note(tmp_path):
    (tmp_path / "a.wav").write_bytes(table_factory.faulty_tone())
    prepared = prepare(audio=tmp_path / "a.wav")
    assert prepared.data == {"audio": table_factory.tone()}
    (note,) = prepared.notes
    assert note.startswith("audio '") and "a.wav': the WAV announces" in note


def test_clip_s_limits_transcoded_audio():
    data = table_factory.tone(kind="FLAC", seconds=4)
    full = prepare(audio=data).data["audio"]
    cut = prepare(audio=data, limits=Limits(clip_s=1)).data["audio"]
    assert len(full) == 44 + 4 * 2 * table_factory.RATE_HZ
    cut_s = (len(cut) - 44) / 2 / table_factory.RATE_HZ
    assert cut_s == pytest.approx(1.5, abs=0.01)  # half a second of margin


def test_a_str_is_text_and_a_path_is_a_text_file(tmp_path):
    assert prepare(text="caf\xe9.txt").data == {"text": b"caf\xc3\xa9.txt"}
    (tmp_path / "a.txt").write_text("warm fire")
    assert prepare(text=tmp_path / "a.txt").data == {"text": b"warm fire"}


def test_vectors_become_npy_files_of_one_form(tmp_path):
    expected = table_factory.vector([1, 2])
    np.save(tmp_path / "a.npy", np.array([[1.0, 2.0]]))  # float64, (1, D)
    for value in (tmp_path / "a.npy", np.array([1, 2]), expected):
        data = prepare(**dict.fromkeys(TYPES, value)).data
        assert data == dict.fromkeys(TYPES, expected)


def test_absent_values_are_left_out():
    row = {"text": "", "image": None, "audio": b"", "price": float("nan"), "x": None}
    assert prepare(**row).data == {} and list_columns([row]) == set()
    assert prepare(price=np.float32("nan"), text=np.nan).data == {}
    assert list_columns([row, {"text": "a", "price": 0}]) == {"text", "price"}


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3.0 ", np.float32(3), np.int64(3)])
def test_numbers_are_sent_as_floats(value):
    assert prepare(price=value).data == {"price": 3.0}


def test_pixels_and_pil_images_become_png_without_loss():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 36, 3), np.uint8)
    for value in (pixels, pixels[:, :, 0], Image.fromarray(pixels)):
        png = prepare(image=value).data["image"]
        assert png.startswith(b"\x89PNG")
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(png))), value)
    png = prepare(image=Image.fromarray(pixels).convert("CMYK")).data["image"]
    assert Image.open(io.BytesIO(png)).mode == "RGB"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I", "CMYK"])
def test_a_pil_image_is_sent_as_training_reads_it(mode):
    image = Image.new("L", (40, 36), 77).convert(mode)
    assert prepare(image=image).data["image"] == to_cell(image)


def test_a_pil_image_is_upright_like_its_file(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    Image.new("RGB", (40, 36)).save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as image:
        png = prepare(image=image).data["image"]
    assert Image.open(io.BytesIO(png)).size == (36, 40)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"image": "gone.png"}, "image 'gone.png': file not found"),
        ({"image": b"<html>"}, "image (bytes): unsupported SVG or HTML"),
        ({"image": table_factory.bomb()}, "200 megapixels, more than max_megapixels=5"),
        ({"audio": b"RIFF"}, "audio (bytes): "),
        ({"text": "\udce9"}, "text '\udce9': characters that UTF-8 cannot encode"),
        ({"audio": np.array([np.inf])}, "not finite"),
        ({"image": np.zeros((9, 9, 3))}, "image (ndarray): .npy of shape (9, 9, 3)"),
        ({"audio": np.zeros((9, 9, 3), np.uint8)}, "audio (ndarray): "),
        ({"vectors": b"RIFF"}, "vectors (bytes): "),
        ({"price": "dear"}, "price 'dear': not a number"),
    ],
)
def test_an_unreadable_value_is_an_error_or_sent_as_absent(row, reason):
    with pytest.raises(UserError) as error:
        prepare(**row)
    assert reason in str(error.value)
    prepared = prepare(**row, strict=False)
    assert prepared.data == {} and list(prepared.problems) == list(row)
    assert reason in next(iter(prepared.problems.values()))


def test_a_file_above_the_limit_is_not_read(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2_000_001)
    with pytest.raises(UserError, match="2.0 MB, more than max_file_mb=1"):
        prepare(image=tmp_path / "large", limits=Limits(max_file_mb=1))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"image": 3},
            "image must be a path, bytes, an image or a vector; received in",
        ),
        ({"text": 3.5}, "text must be text, bytes, a path or a vector; received float"),
        ({"text": Image.new("L", (9, 9))}, "text must be text, .*; received Image"),
        ({"price": [3]}, "price must be a number; received list"),
        ({"price": b"3"}, "price must be a number; received bytes"),
    ],
)
def test_a_value_of_a_wrong_type_is_an_error(row, message, strict):
    with pytest.raises(UserError, match=message):
        prepare(**row, strict=strict)


@pytest.mark.parametrize("strict", [True, False])
def test_an_unknown_column_is_an_error(strict):
    with pytest.raises(UserError, match="'m' has no column 'imge'.*mean 'image'?"):
        prepare(imge="a", strict=strict)
