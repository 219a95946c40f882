import json
import shutil

import pytest

from mmkeras.data.generated_folder import generate_folder
from mmkeras.errors import UserError

STAMP = {"version": 1, "rows": 2, "seed": 0}


def write_files(folder):
    (folder / "images").mkdir()
    for name in ("data.csv", "images/0.png"):
        (folder / name).write_text(name)


def generate(folder, write=write_files, **changes):
    stamp = {**STAMP, **changes}
    return generate_folder(folder, stamp, write, name="set of x", stamp_file="x.json")


def names(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files}


def test_the_stamp_is_written_with_the_number_of_files(tmp_path):
    folder = generate(str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert names(folder) == {"data.csv", "images/0.png", "x.json"}
    assert json.loads((folder / "x.json").read_text()) == {**STAMP, "files": 2}


def test_a_complete_folder_is_not_written_again(tmp_path):
    generate(tmp_path)
    assert generate(tmp_path, write=None) == tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "x.json").unlink(), "is not a complete set of x"),
        (lambda folder: shutil.rmtree(folder / "images"), "is not a complete set of x"),
        (lambda folder: (folder / "a.txt").touch(), "is not a complete set of x"),
    ],
)
def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path, change, message):
    change(generate(tmp_path))
    before = names(tmp_path)
    with pytest.raises(UserError, match=f"{message}. Remove it"):
        generate(tmp_path)
    assert names(tmp_path) == before


@pytest.mark.parametrize("change", [{"rows": 3}, {"seed": 1}, {"version": 2}])
def test_a_data_set_of_another_stamp_is_refused(tmp_path, change):
    generate(tmp_path)
    with pytest.raises(UserError, match="holds the data set of rows=2, seed=0"):
        generate(tmp_path, **change)


def test_an_interrupted_run_leaves_no_folder(tmp_path):
    def interrupt(folder):
        write_files(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path / "data", interrupt)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_another_process_completes_first_is_kept(tmp_path):
    def complete_first(folder):
        generate(tmp_path / "data")
        (folder / "slow.csv").touch()

    folder = generate(tmp_path / "data", complete_first)
    assert names(folder) == {"data.csv", "images/0.png", "x.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="The set of x cannot .*file/data: Not a dir"):
        generate(tmp_path / "file" / "data")
