"""Local and remote files: paths, checks, and atomic writes."""

import csv
import io
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

from mmkeras import s3
from mmkeras.errors import UserError
from mmkeras.full_disk import full_disk_at


def is_remote(path: str | Path) -> bool:
    """Whether the path is a URI such as gs://bucket/data.csv."""
    return "://" in str(path)


def parent_path(path: str | Path) -> str:
    """Returns the folder of a file."""
    return str(path).rpartition("/")[0] if is_remote(path) else str(Path(path).parent)


def join_path(folder: str | Path, name: str) -> str:
    """Returns `folder`/`name`; `name` alone if it is a URI or an absolute path."""
    if is_remote(name):
        return name
    if is_remote(folder):
        return f"{str(folder).rstrip('/')}/{name}"
    return os.path.join(folder, name)


def read_remote(path: str) -> bytes:
    """Reads a file behind a URI.

    Raises:
        FileNotFoundError, PermissionError, OSError: As for a local file.
    """
    import tensorflow as tf

    if path.startswith(s3.SCHEME) and "s3" not in tf.io.gfile.get_registered_schemes():
        return s3.read(path)
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.NotFoundError:
        raise FileNotFoundError(2, "No such file", path) from None
    except tf.errors.PermissionDeniedError:
        raise PermissionError(13, "Permission denied", path) from None
    except tf.errors.UnimplementedError as error:
        reason = f"no file system for such URIs is installed ({error.message})"
        raise OSError(95, reason, path) from None
    except tf.errors.OpError as error:
        raise OSError(5, error.message, path) from None


def read_text(path: str | Path) -> str:
    """Reads a UTF-8 file, local or behind a URI."""
    if is_remote(path):
        return read_remote(str(path)).decode()
    return Path(path).read_text(encoding="utf-8")


def read_json(folder: str | Path, name: str) -> Any:
    """Reads a JSON file of a folder, local or behind a URI."""
    return json.loads(read_text(join_path(folder, name)))


def default_cache_dir() -> Path:
    """Returns ~/.cache/mmkeras, or the folder under XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mmkeras"


def check_file(name: str, path: str | Path, expected: str = "the path of one") -> Path:
    """Returns the path of a local file, the value of the flag or setting `name`.

    Raises:
        UserError: There is no such file; the user can give what is `expected`.

    Example:
        table = check_file("--data", "rows.csv", "the path of a CSV")
    """
    if not Path(path).is_file():
        separator = " " if name.startswith("--") else "="
        raise UserError(f"{name}{separator}'{path}' is no file; give {expected}.")
    return Path(path)


def check_table(path: str) -> Path:
    """Returns the path of a table, the value of --data: a file, a folder or "-".

    Raises:
        UserError: There is no such file or folder.
    """
    if path != "-" and not Path(path).exists():
        raise UserError(
            f"--data '{path}' is no file and no folder; give the path of a table."
        )
    return Path(path)


def check_files(paths: Mapping[str, str]) -> None:
    """Checks each file of setting -> path; remote ones are not opened.

    Raises:
        UserError: A local file does not exist.
    """
    for setting, path in paths.items():
        if not is_remote(path):
            check_file(setting, path)


def check_output_file(output: Path, table: Path) -> None:
    """Checks --output before a program reads the table of --data.

    Raises:
        UserError: `output` cannot be a file, or is the table.
    """
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise UserError(f"--output '{output}' must be a file in a folder that exists.")
    if output.exists() and output.samefile(table):
        raise UserError("--output is the table itself; give another file.")


def check_output_folder(output: Path, name: str = "--output") -> None:
    """Checks the folder that a program is to write; `name` is its argument.

    Raises:
        UserError: `output` is not empty, or is below a file.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{name} '{output}' exists already; give a new folder.")
    parent = next(path for path in output.absolute().parents if path.exists())
    if not parent.is_dir():
        raise UserError(
            f"{name} '{output}' cannot be made, since '{parent}' is a file; give "
            "another folder."
        )


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`, then renames it to `path`.

    Readers see the old file or the new one, also after a crash of the machine (fsync).
    After an exception `path` is unchanged. The temporary name ends with the name of
    `path`, since some writers choose their format by the suffix. A device or a pipe
    (/dev/stdout) is yielded itself.

    Example:
        with atomic_path("metrics.json") as tmp_path:
            tmp_path.write_text("{}")
    """
    path = Path(path)
    if _is_special(path):
        yield path
        return
    tmp_path = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        with full_disk_at(path):
            yield tmp_path
            _sync(tmp_path)
            os.replace(tmp_path, path)
            _sync(path.parent)
    finally:
        tmp_path.unlink(missing_ok=True)


@contextmanager
def atomic_csv(path: Path) -> Iterator[Any]:
    """Yields a `csv.writer` of a file that is written as by `atomic_path`."""
    with atomic_path(path) as tmp_path:
        with tmp_path.open("w", newline="", encoding="utf-8") as file:
            yield csv.writer(file)


@contextmanager
def atomic_folder(folder: str | Path, *, sync: bool = True) -> Iterator[Path]:
    """Yields a temporary folder next to `folder`, then renames it to `folder`.

    `sync=False` saves some milliseconds per file, for many files that can be generated
    again: they may be lost if the machine crashes.

    Raises:
        OSError: `folder` exists and is not empty; it is unchanged.
    """
    folder = Path(folder)
    tmp_folder = folder.with_name(f".{uuid.uuid4().hex[:8]}.{folder.name}")
    tmp_folder.mkdir(parents=True)
    try:
        with full_disk_at(folder):
            yield tmp_folder
            for path in tmp_folder.rglob("*") if sync else ():
                _sync(path)
            os.rename(tmp_folder, folder)
            _sync(folder.parent)
    finally:
        shutil.rmtree(tmp_folder, ignore_errors=True)


@contextmanager
def exclusive_lock(path: str | Path, message: str) -> Iterator[None]:
    """Holds a lock file; the system releases it when this process ends in any way.

    Raises:
        UserError: `message`, if another process holds the lock.

    Example:
        with exclusive_lock(folder / ".running", "Another process trains here."):
            train()
    """
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(path).acquire(blocking=False)
    except Timeout:
        raise UserError(message) from None
    with lock:
        yield


def unused_path(path: Path) -> Path:
    """Returns `path`, or the first of `path`-2, `path`-3, ... that does not exist."""
    paths = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return next(p for p in chain([path], paths) if not p.exists())


def latest_version(folder: str | Path) -> Path | None:
    """Returns the subfolder with the highest number, as TF Serving picks it."""
    versions = [path for path in Path(folder).glob("*") if path.name.isdigit()]
    return max(versions, key=lambda path: int(path.name), default=None)


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Returns rows of cells as the text of a CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 file atomically."""
    with atomic_path(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8", errors="replace")


def _is_special(path: Path) -> bool:
    """Whether the path is a device, a pipe or a descriptor of this process."""
    if str(path.parent) in ("/dev", "/dev/fd"):  # also where it leads to a file
        return True
    return path.exists() and not path.is_file()


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
