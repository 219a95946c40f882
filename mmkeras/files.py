"""Paths of files, local ones and URIs such as gs://bucket/data.csv."""

import os
from collections.abc import Mapping
from pathlib import Path

from mmkeras import s3
from mmkeras.errors import UserError


def is_remote(path: str | Path) -> bool:
    """Whether the path is a URI, which TensorFlow's file systems or boto3 open."""
    return "://" in str(path)


def parent(path: str | Path) -> str:
    """Returns the folder that a file lies in."""
    return str(path).rpartition("/")[0] if is_remote(path) else str(Path(path).parent)


def join(folder: str | Path, name: str) -> str:
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
