import subprocess
import sys

import pytest

from mmkeras.errors import UserError
from mmkeras.files import atomic_folder, atomic_path, write_text
from mmkeras.full_disk import find_full_disk


def test_a_full_disk_is_named_by_the_outermost_path(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(OSError) as error:
        with atomic_folder(tmp_path / "new") as folder:
            with atomic_path(folder / "b.txt") as path:
                path.write_text("half")
                raise RuntimeError("b.txt; No space left on device")
    assert error.value.errno == 28 and error.value.filename == str(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert find_full_disk(ValueError("another")) is None


def test_a_file_above_the_limit_of_its_size_leaves_the_old_one(tmp_path):
    program = f"""
import resource
from mmkeras.cli import run_program
from mmkeras.files import write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
run_program(lambda _: write_text("{tmp_path}/a.txt", "new" * 1000))
"""
    write_text(tmp_path / "a.txt", "old")
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, capture_output=True, text=True)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1 and f"{tmp_path}/a.txt: File too large" in line
    (path,) = tmp_path.iterdir()
    assert path.read_text() == "old"


@pytest.mark.parametrize("text", ["File too large", "disk I/O error"])
def test_a_message_to_the_user_may_quote_the_text_of_a_full_disk(text):
    error = UserError(f"label '{text}' is bad")
    assert find_full_disk(error) is None
    error.__cause__ = RuntimeError(text)
    assert find_full_disk(error)
