import math

import pytest

from mmkeras.config import ImageConfig, TextConfig
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.column import Image
from mmkeras.modalities.text.column import Text


def test_a_cell_is_the_path_of_a_file_or_its_content(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"moo")
    reader = FileReader(tmp_path)
    assert reader.read("a.bin") == reader.read(" a.bin ") == b"moo"
    assert reader.read(b"a.bin") == b"a.bin"
    assert reader.find("a.bin") == str(tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("cell", "reason"),
    [(b"", "file is empty"), ("gone.bin", "file not found"), ("big.bin", "2.0 MB")],
)
def test_a_file_that_cannot_be_used_is_unreadable(cell, reason, tmp_path):
    (tmp_path / "big.bin").write_bytes(bytes(2_000_000))
    with pytest.raises(Unreadable, match=reason):
        FileReader(tmp_path, max_file_mb=1).read(cell)


def test_an_absent_string_is_empty_and_an_absent_number_is_nan():
    text = Text("title", TextConfig())
    assert text.absent == b"" and text.is_absent(text.absent)
    assert not text.is_absent(b"0")
    assert text.is_absent(math.nan) and not text.is_absent(0.0)


def test_a_column_with_an_encoder_of_its_own_is_a_branch_of_one_column():
    text, image = Text("title", TextConfig(encoder="gru")), Image("cat", ImageConfig())
    assert text.columns == (text,) and image.columns == (image,)
    assert text.is_sequence and not image.is_sequence
    assert text.describe() == "gru" and "resnet50, 224 px" in image.describe()
