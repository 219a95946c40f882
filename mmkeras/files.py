"""Paths of files, local ones and URIs such as gs://bucket/data.csv."""

import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mmkeras import s3
from mmkeras.errors import UserError


def is_remote(path: str | Path) -> bool:
    """Whether the path is a URI, which TensorFlow's file systems or boto3 open."""
    return "://" in str(path)


def parent_path(path: str | Path) -> str:
    """Returns the folder that a file lies in."""
    return str(path).rpartition("/")[0] if is_remote(path) else str(Path(path).parent)


def join_path(folder: str | Path, name: str) -> str:
    """Returns the path of `name` in `folder`; a URI or an absolute path is kept."""
    if is_remote(name):
        return name
    if is_remote(folder):
        return f"{str(folder).rstrip('/')}/{name}"
    return os.path.join(folder, name)


def read_remote(path: str) -> bytes:
    """Reads a whole file behind a URI.

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
    """Reads a whole UTF-8 file, local or behind a URI."""
    if is_remote(path):
        return read_remote(str(path)).decode()
    return Path(path).read_text(encoding="utf-8")


def check_files(named: Mapping[str, str]) -> None:
    """Makes sure that files are there before hours go into what will need them.

    Args:
        named: Setting -> the path of its file; one behind a URI is not looked for.

    Raises:
        UserError: One is no file.
    """
    for setting, path in named.items():
        if not is_remote(path) and not Path(path).is_file():
            raise UserError(f"{setting}='{path}' is no file; give the path of one.")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, and renames the file to `path` at the end.

    Readers see the old file or the whole new one, after a crash of the machine too
    (fsync). After an exception `path` is as it was. The temporary name ends like
    `path`, as some writers choose their format by the suffix.

    Example:
        with atomic_path("metrics.json") as tmp_path:
            tmp_path.write_text("{}")
    """
    path = Path(path)
    tmp_path = path.with_name(f".{uuid.uuid4().hex[:8]}.{path.name}")
    try:
        yield tmp_path
        _sync(tmp_path)
        os.replace(tmp_path, path)
        _sync(path.parent)
    finally:
        tmp_path.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yields a new folder beside `folder`, and renames it to `folder` at the end.

    Raises:
        OSError: `folder` exists and is not empty; it is as it was.
    """
    folder = Path(folder)
    tmp_folder = folder.with_name(f".{uuid.uuid4().hex[:8]}.{folder.name}")
    tmp_folder.mkdir(parents=True)
    try:
        yield tmp_folder
        for path in tmp_folder.rglob("*"):
            _sync(path)
        os.rename(tmp_folder, folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(tmp_folder, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 file by `atomic_path`."""
    with atomic_path(path) as tmp_path:
        tmp_path.write_text(text, encoding="utf-8", errors="replace")


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
