import pytest

from mmkeras.errors import UserError
from mmkeras.files import atomic_folder, atomic_path, write_text
from mmkeras.full_disk import find_full_disk
from tests.program_harness import run_python


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
    result = run_python(program)
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


def test_a_mistake_keeps_its_traceback_whatever_it_quotes_or_follows():
    assert find_full_disk(ValueError("label 'disk I/O error' is bad")) is None
    for mistake in (KeyError("a"), RuntimeError("b")):
        try:
            try:
                raise OSError(28, "No space left on device", "a.csv")
            except OSError:
                raise mistake  # noqa: B904
        except Exception as error:
            assert bool(find_full_disk(error)) == isinstance(error, RuntimeError)
            error.__suppress_context__ = True
            assert find_full_disk(error) is None
            error.__cause__ = error.__context__
            assert find_full_disk(error).filename == "a.csv"


def test_a_full_disk_is_one_line_also_with_unwritten_output():
    code = """
from mmkeras.cli import run_program
def main(argv):
    print("left")
    raise OSError(28, "No space left on device", "out.csv")
run_program(main)
"""
    with open("/dev/full", "w") as full:
        result = run_python(code, stdout=full)
    assert result.returncode == 1
    assert result.stderr == (
        "error: out.csv: No space left on device. Free some space, and repeat the "
        "command.\n"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "raise RuntimeError('a.h5: No space left on device')",
        "raise OSError(27, 'File too large')",
        "raise UserError('wrapped') from OSError(122, 'Disk quota exceeded')",
        "raise sqlite3.OperationalError('database or disk is full')",
        "raise MetadataError('sqlite: disk I/O error')",
        "raise OSError(5, 'A database cannot be written (disk I/O error)', 'a.db')",
    ],
)
def test_a_full_disk_is_one_line_and_exit_code_1_whoever_reports_it(statement):
    program = f"""
from mmkeras.cli import run_program
from mmkeras.errors import UserError
import sqlite3
class MetadataError(Exception):
    __module__ = "ml_metadata.errors"
def main(argv):
    {statement}
run_program(main)
"""
    result = run_python(program)
    (line,) = result.stderr.splitlines()
    assert result.returncode == 1
    assert line.startswith("error: ") and "Free some space" in line
    assert "wrapped" not in line


@pytest.mark.parametrize(("file", "is_silent"), [("h5py/a.pyx", True), ("a.py", False)])
def test_errors_of_h5py_finalizers_are_hidden_and_no_others(file, is_silent):
    program = f"""
import sys
from mmkeras.full_disk import silence_finalizers
silence_finalizers()
names = {{}}
exec(compile("def __dealloc__(_): raise KeyError(0)", {file!r}, "exec"), names)
Finalized = type("Finalized", (), {{"__del__": names["__dealloc__"]}})
Finalized()
try:
    names["__dealloc__"](0)
except KeyError:
    sys.excepthook(*sys.exc_info())  # as Cython does before the other hook
"""
    err = run_python(program).stderr
    assert (err == "") == is_silent
    assert err.count("KeyError: 0") == (0 if is_silent else 2)
