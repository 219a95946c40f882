import pytest

from mmkeras.errors import UserError
from mmkeras.files import check_files


def test_a_setting_whose_file_is_not_there_is_refused_by_name(tmp_path):
    there = tmp_path / "there.txt"
    there.touch()
    check_files({"a.b": str(there), "text.vocab_file": "gs://bucket/vocab.txt"})
    with pytest.raises(UserError, match="image.weights='gone.h5' is no file; give"):
        check_files({"a.b": str(there), "image.weights": "gone.h5"})
