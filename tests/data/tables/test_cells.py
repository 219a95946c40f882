import io
import re
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from PIL import Image

from mmkeras.data.tables.cells import NUL, text_fault, to_cell
from mmkeras.modalities.file import Unreadable


def pixels(*shape):
    return np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)


def decoded(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def numbers(npy):
    return np.load(io.BytesIO(npy))


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("text ", "text "),
        ("a\0b", f"a{NUL}b"),
        (b"\x89PNG", b"\x89PNG"),
        (bytearray(b"a"), b"a"),
        (None, ""),
        (float("nan"), ""),
        (np.float32("nan"), ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        (np.datetime64("NaT", "ns"), ""),
        (Decimal("nan"), ""),
        (3, "3"),
        (2.0, "2"),
        (-0.0, "0"),
        (np.float32(7), "7"),
        (2.5, "2.5"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (np.int64(3), "3"),
        (np.float64(1.5), "1.5"),
        (np.array(7), "7"),
        (True, "true"),
        (np.bool_(False), "false"),
        (Decimal("1.50"), "1.50"),
        (date(2024, 2, 29), "2024-02-29"),
        (pd.Timestamp("2024-02-29 12:00"), "2024-02-29T12:00:00"),
        (np.datetime64("2024-02-29T12:00", "ns"), "2024-02-29T12:00:00"),
        (datetime(2024, 2, 29, 12), "2024-02-29T12:00:00"),
        (Path("a/b.png"), "a/b.png"),
        ({"bytes": b"x", "path": "a.png"}, b"x"),
        ({"bytes": None, "path": "a.png"}, "a.png"),
        ({"bytes": None, "path": None}, ""),
        ({"array": None, "sampling_rate": 8000}, ""),
        ([], ()),
        ([None, None], ""),
        (["a", None, "", b"b"], ("a", b"b")),
        ([{"bytes": b"x", "path": None}, {"path": "b.png"}], (b"x", "b.png")),
        (np.array(["a", "b"], object), ("a", "b")),
    ],
)
def test_a_value_is_a_cell(value, cell):
    assert to_cell(value) == cell


@pytest.mark.parametrize(
    "value",
    [
        [1, 2.5],
        (1, 2.5),
        np.array([1, 2.5]),
        np.array([1, 2.5], "f2"),
        [Decimal(1), 2.5, None],
    ],
)
def test_numbers_are_a_vector(value):
    vector = numbers(to_cell(value))
    assert vector.dtype == "<f4" and list(vector[:2]) == [1, 2.5]
    assert np.isnan(vector[2:]).all()


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 3), (2, 3, 4)])
def test_pixels_are_a_png(shape):
    values = pixels(*shape)
    expected = values[:, :, 0] if shape[2:] == (1,) else values
    np.testing.assert_array_equal(decoded(to_cell(values)), expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "F"])
def test_an_image_of_pillow_is_a_png(mode):
    image = Image.new("RGB", (3, 2), (255, 0, 0)).convert(mode)
    assert decoded(to_cell(image)).shape[:2] == (2, 3)


def test_an_image_of_pillow_is_turned_upright():
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (3, 2)).save(file, "JPEG", exif=exif)
    assert decoded(to_cell(Image.open(file))).shape == (3, 2, 3)


def test_an_image_that_is_cut_is_reported():
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    with pytest.raises(Unreadable, match="image that cannot be read"):
        to_cell(Image.open(io.BytesIO(file.getvalue()[:200])))


TONE = np.sin(np.arange(800) / 5)


@pytest.mark.parametrize(
    ("samples", "channels"),
    [
        (TONE, 1),
        (TONE.astype("f4"), 1),
        ((TONE * 32_767).astype("i2"), 1),
        ((TONE * (2**31 - 1)).astype("i4"), 1),
        (list(TONE), 1),
        (np.stack([TONE, TONE]), 2),
        (np.stack([TONE, TONE], 1), 2),
    ],
)
def test_samples_are_a_wav(samples, channels):
    wav = to_cell((samples, 8000))
    assert wav == to_cell({"array": samples, "sampling_rate": 8000})
    assert wav == to_cell((samples, 8000.0))
    data, rate = soundfile.read(io.BytesIO(wav), always_2d=True)
    assert rate == 8000 and data.shape == (800, channels)
    np.testing.assert_allclose(data[:, -1], TONE, atol=1e-4)


def test_a_list_of_media_is_a_tuple():
    cell = to_cell([pixels(2, 2, 3), (TONE, 8000), np.array([1.0, 2.0])])
    assert [part[:4] for part in cell] == [b"\x89PNG", b"RIFF", b"\x93NUM"]


def nested_paths(levels):
    value = "a.png"
    for _ in range(levels):
        value = {"path": value}
    return value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "type object .allowed: text, number"),
        ({1, 2}, "type set"),
        ({"x": 1, "y": 2}, "keys x, y .allowed: a text"),
        ([[1, 2], [3]], "list of lists"),
        ([{"x": 1}], "list of lists or dictionaries"),
        (np.zeros((2, 3)), r"float64 of shape \(2, 3\).*uint8"),
        (pixels(2, 2, 2), r"shape \(2, 2, 2\)"),
        (pixels(2, 2, 2, 3), r"shape \(2, 2, 2, 3\)"),
        (np.array([1j]), "type complex"),
        ((TONE.astype("u1"), 8000), "unsigned"),
        ((np.zeros((2, 2, 2)), 8000), r"shape \(2, 2, 2\)"),
        ((np.array(["a"]), 8000), "audio of <U1"),
        (({"array": [], "sampling_rate": 8000}), "audio without samples"),
        ({"array": TONE, "sampling_rate": None}, "sampling_rate None .allowed: 1 to"),
        ({"array": TONE, "sampling_rate": "x"}, "sampling_rate 'x'"),
        ({"array": TONE, "sampling_rate": -1}, "sampling_rate -1"),
        ({"array": TONE, "sampling_rate": 10**11}, "sampling_rate 100000000000"),
        ({"array": [[0.1], [0.1, 0.2]], "sampling_rate": 8000}, "cannot be read"),
        ([10**400], "is a list that cannot be read: int too large"),
        (nested_paths(600), "is a dict that cannot be read: .*recursion"),
    ],
)
def test_a_value_of_another_type_is_named(value, message):
    with pytest.raises(Unreadable, match=message):
        to_cell(value)


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        ("caf\xe9", ""),
        (b"caf\xe9", ""),
        (("a", b"\xff"), ""),
        (f"a{NUL}b", "NUL"),
        ("caf\udce9", "bytes that are not UTF-8 .save the table as UTF-8"),
        (("a", "a\ud800b"), "half a character"),
        (("a", to_cell("a\0b")), "NUL"),
    ],
)
def test_characters_that_are_no_text_are_named(cell, fault):
    assert re.search(fault, text_fault(cell)) and bool(text_fault(cell)) == bool(fault)
