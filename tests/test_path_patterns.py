from pathlib import Path

import pytest

from mmkeras.errors import UserError
from mmkeras.path_patterns import check_no_pattern, has_pattern, path_without_pattern


@pytest.mark.parametrize("name", ["my [1] run", "a*", "why?", "a\\b"])
def test_a_folder_with_a_name_like_a_pattern_is_reached_by_a_link(name, tmp_path):
    folder = tmp_path / name / "1"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("content")
    with path_without_pattern(folder) as path:
        assert not has_pattern(path)
        assert (Path(path) / "a.txt").read_text() == "content"
    assert not Path(path).exists() and (folder / "a.txt").exists()
    with pytest.raises(UserError, match=r"--root '.* characters \* \? \[ .* give"):
        check_no_pattern("--root", folder)


def test_a_link_is_made_in_a_folder_whose_name_is_no_pattern(tmp_path, monkeypatch):
    folder = tmp_path / "tmp [1]"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with path_without_pattern(folder) as path:
        assert Path(path).samefile(folder) and not has_pattern(path)


@pytest.mark.parametrize("path", ["plain", "gs://bucket/a[1]"])
def test_other_folders_are_used_by_their_own_path(path):
    with path_without_pattern(path) as result:
        assert result == path
