import os

import pytest

from mmkeras.modalities.file import Unreadable, read_file


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "large").write_bytes(b"x" * 1_100_000)
    (tmp_path / "good").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def test_a_file_is_read(folder):
    assert read_file(folder / "good", 1) == b"x"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no", "file not found"),
        ("good/no", "file not found"),
        (".", "a folder"),
        ("pipe", "a device or a pipe"),
        ("empty", "file is empty"),
        ("large", "1.1 MB, more than table.max_file_mb=1"),
        ("a\0b", "not a possible path"),
        ("x" * 300, "cannot be read"),
    ],
)
def test_the_reason_names_why_a_file_is_unreadable(name, reason, folder):
    with pytest.raises(Unreadable, match=reason):
        read_file(folder / name, 1)
