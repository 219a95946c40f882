import numpy as np
import pytest

from mmkeras.config import TextConfig, VectorConfig
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.vector.column import Vector
from tests.modalities.encoded_media import encode_vector

NUMBERS = Vector("numbers", VectorConfig(units=4), width=3)
FILE = encode_vector(np.float64([1, 2, 3]))
STORED = encode_vector(np.float32([1, 2, 3]))


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([FILE, STORED], "vectors"),
        (["a.npy", " b.npy "], "paths of .npy files"),
        (["a.npy", "b.png"], ""),
        ([FILE, b"moo"], ""),
        (["the cow", 3], ""),
        ([";", "a.npy"], ""),
    ],
)
def test_a_column_of_vectors_is_recognised(cells, reason):
    assert Vector.recognise(cells, FileReader("")) == reason


def test_a_vector_is_stored_as_float32_and_its_digest_is_of_the_file(tmp_path):
    (tmp_path / "a.npy").write_bytes(FILE)
    content = NUMBERS.read("a.npy", FileReader(tmp_path))
    assert content.data == STORED == NUMBERS.prepare(FILE)[0]
    assert content.digest == FILE and not content.metadata and not content.warning


def test_a_vector_of_another_width_is_unreadable_and_its_width_is_named():
    with pytest.raises(Unreadable, match="2 numbers where others have 3"):
        NUMBERS.read(encode_vector(np.zeros(2)), FileReader(""))
    unknown = Vector("numbers", VectorConfig())
    assert unknown.read(encode_vector(np.zeros(2)), FileReader("")).data


@pytest.mark.parametrize("cell", [b"moo", FILE[:-1], "gone.npy"])
def test_what_is_no_vector_is_unreadable(cell, tmp_path):
    with pytest.raises(Unreadable):
        NUMBERS.read(cell, FileReader(tmp_path))


def test_the_width_decides_what_is_read_and_fitted():
    for key in (Vector.read_key, Vector.fit_key):
        other = Vector("other", VectorConfig(units=8), width=3)
        assert key(other) == key(NUMBERS)
        assert key(Vector("numbers", VectorConfig(), width=2)) != key(NUMBERS)


def test_the_training_rows_give_a_scale():
    statistic = NUMBERS.statistics()
    assert statistic.width == 3 and not statistic.is_sequence
    assert statistic.vector(STORED).numpy().tolist() == [1, 2, 3]
    state = NUMBERS.fit((np.zeros(3), np.float64([1, 2, 0])))
    scale = {"mean": [0.0] * 3, "deviation": [1.0, 2.0, 1.0]}
    assert state == {"width": 3, **scale}
    assert NUMBERS.input({"numbers": state}) == ((3,), "float32")


def test_vectors_of_a_text_are_no_sequence_even_if_its_settings_have_tokens():
    text = TextConfig(encoder="vector", tokens="word")
    column = Vector("title", text, 3, "text")
    assert column.type == "text" and not column.is_sequence
    assert column.describe() == "vector"
    assert Vector("numbers", VectorConfig(), 3).describe() == "vector"


def test_a_vector_has_a_preview_and_neither_noise_nor_an_explanation():
    assert NUMBERS.preview(STORED) == {"kind": "text", "content": "(a vector)"}
    assert NUMBERS.explain(STORED, None) is None and NUMBERS.noise_levels == ()


def test_linear_features_are_the_vector():
    x = np.ones((2, 3))
    np.testing.assert_array_equal(NUMBERS.linear_features(x, {}), x)
