import os
import threading
from pathlib import Path

import pytest

from mmkeras.errors import UserError
from mmkeras.files import (
    atomic_folder,
    atomic_path,
    check_file,
    check_files,
    csv_text,
    exclusive_lock,
    latest_version,
    write_text,
)


def test_a_missing_file_is_refused_by_the_name_of_its_setting_or_flag(tmp_path):
    path = tmp_path / "a.txt"
    path.touch()
    check_files({"a.b": str(path), "text.vocab_file": "gs://bucket/vocab.txt"})
    with pytest.raises(UserError, match="image.weights='gone.h5' is no file; give"):
        check_files({"a.b": str(path), "image.weights": "gone.h5"})
    assert check_file("--data", str(path)) == path
    with pytest.raises(UserError, match="--data 'gone.csv' is no file; give a CSV"):
        check_file("--data", "gone.csv", "a CSV")


def test_a_pipe_or_the_standard_output_is_written_directly(tmp_path):
    path, lines = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: lines.append(path.read_text()))
    reader.start()
    write_text(path, "content")
    reader.join()
    assert lines == ["content"] and path.is_fifo()
    with atomic_path("/dev/stdout") as output:
        assert output == Path("/dev/stdout")


def test_a_folder_appears_at_the_end_or_not_at_all(tmp_path):
    with atomic_folder(tmp_path / "new") as folder:
        (folder / "a.txt").write_text("content")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "content"
    with pytest.raises(OSError):
        with atomic_folder(tmp_path / "new"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_file_that_cannot_be_finished_does_not_replace_the_old(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_text(tmp_path / "a.txt", "new")
    (path,) = tmp_path.iterdir()
    assert path.read_text() == "old"


def test_the_latest_version_is_the_highest_number(tmp_path):
    assert latest_version(tmp_path / "missing") is None
    for name in ("9", "10", ".11.partial", "notes"):
        (tmp_path / name).mkdir()
    assert latest_version(tmp_path).name == "10"


def test_a_lock_is_refused_while_another_holds_it(tmp_path):
    with exclusive_lock(tmp_path / "lock", "first"):
        with pytest.raises(UserError, match="second"):
            with exclusive_lock(tmp_path / "lock", "second"):
                pass
    with exclusive_lock(tmp_path / "lock", "third"):
        pass


def test_an_unknown_value_is_empty_in_csv():
    assert csv_text([["a", "b"], [1, None]]).splitlines() == ["a,b", "1,"]
