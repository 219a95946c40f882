import os

import pytest

from mmkeras.modalities.file import Unreadable, find_file, read_file


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


@pytest.fixture
def photos(tmp_path):
    """A table's folder with names as other systems write them."""
    (tmp_path / "images").mkdir()
    (tmp_path / "link.png").symlink_to("gone.png")
    for name in (
        "images/1.jpg",
        "cafe\u0301.png",
        "na\u00efve.png",
        "B.JPG",
        "a\\b",
        " c",
    ):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("cell", "name"),
    [
        (" images/1.jpg\t", "images/1.jpg"),
        ("images\\1.jpg", "images/1.jpg"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("nai\u0308ve.png", "na\u00efve.png"),
        ("a\\b", "a\\b"),
        (" c", " c"),
    ],
)
def test_a_name_is_found_as_other_systems_write_it(cell, name, photos):
    assert read_file(find_file(photos, cell), 1) == name.encode()


@pytest.mark.parametrize(
    ("cell", "hint"),
    [
        ("b.jpg", "; did you mean 'B.JPG'?"),
        ("Images\\1.JPG", "; did you mean 'images/1.jpg'?"),
        ("c", "; did you mean ' c'?"),
        ("images/2.jpg", ""),
        ("gone/1.jpg", ""),
        ("B.JPG/1.jpg", ""),
        ("gone/", ""),
        ("images\\1.JPG/", "; did you mean '1.jpg'?"),
        ("Link.PNG", ""),
        ("link.png", "; it is a link to a file that does not exist"),
    ],
)
def test_a_missing_file_has_the_likely_one_in_its_reason(cell, hint, photos):
    with pytest.raises(Unreadable) as error:
        read_file(find_file(photos, cell), 1)
    assert str(error.value) == f"file not found{hint}"


def test_a_file_that_comes_later_is_a_hint_too(photos):
    for name in ("d.png", "e.png"):
        with pytest.raises(Unreadable, match="not found$"):
            read_file(photos / name, 1)
        (photos / name.upper()).touch()
        os.utime(photos, ns=(0, hash(name) % 10**9))
        with pytest.raises(Unreadable, match=f"did you mean '{name.upper()}'"):
            read_file(photos / name, 1)


def test_a_name_in_a_remote_folder_has_no_blanks_or_backslashes():
    assert find_file("gs://bucket/t", "a\\b.png ") == "gs://bucket/t/a/b.png"
    assert find_file("data", " gs://bucket/a ") == "gs://bucket/a"
