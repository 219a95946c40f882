"""File system of s3:// URIs for TFX's fileio, through boto3."""

import io
from collections.abc import Callable, Iterator
from typing import IO

from tfx.dsl.io import filesystem_registry
from tfx.dsl.io.filesystem import Filesystem, NotFoundError

from mmkeras import s3


def register() -> None:
    """Registers this file system with TFX's fileio."""
    # The lowest number wins; TensorFlow's is 10.
    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(S3Filesystem, priority=1)


class S3Filesystem(Filesystem):
    """Objects as files; a folder exists while there is an object below it."""

    SUPPORTED_SCHEMES = [s3.SCHEME]

    @staticmethod
    def open(name: str, mode: str = "r") -> IO:
        if mode.startswith("w"):
            return _Upload(name)
        try:
            content = s3.read(name)
        except FileNotFoundError as error:
            raise _not_found(name) from error
        return io.BytesIO(content) if "b" in mode else io.StringIO(content.decode())

    @staticmethod
    def copy(src: str, dst: str, overwrite: bool = False) -> None:
        _check_free(dst, overwrite)
        _copy(src, dst)

    @staticmethod
    def exists(path: str) -> bool:
        return _is_object(path) or S3Filesystem.isdir(path)

    @staticmethod
    def isdir(path: str) -> bool:
        return next(_paths_below(path), None) is not None

    @staticmethod
    def listdir(path: str) -> list[str]:
        start = len(_folder(path))
        paths = _below(path)
        if not paths:
            raise _not_found(path)
        return sorted({path[start:].partition("/")[0] for path in paths})

    @staticmethod
    def makedirs(path: str) -> None:
        """Does nothing: an object store has no folders."""

    mkdir = makedirs

    @staticmethod
    def remove(path: str) -> None:
        if not _is_object(path):
            raise _not_found(path)
        _delete(path)

    @staticmethod
    def rename(src: str, dst: str, overwrite: bool = False) -> None:
        """Copies an object, or each object below a folder, then removes the source."""
        _check_free(dst, overwrite)
        if _is_object(src):
            pairs = [(src, dst)]
        else:
            start = len(_folder(src))
            pairs = [(path, _folder(dst) + path[start:]) for path in _below(src)]
        if not pairs:
            raise _not_found(src)
        for source, target in pairs:
            _copy(source, target)
        for source, _ in pairs:
            _delete(source)

    @staticmethod
    def rmtree(path: str) -> None:
        paths = _below(path)
        if not paths:
            raise _not_found(path)
        for path in paths:
            _delete(path)

    @staticmethod
    def walk(
        top: str, topdown: bool = True, onerror: Callable[..., None] | None = None
    ) -> Iterator[tuple[str, list[str], list[str]]]:
        """Yields each folder with the names of its folders and its files."""
        folders: dict[str, tuple[set[str], set[str]]] = {}
        for path in _below(top):
            folder = top.rstrip("/")
            *names, file = path[len(_folder(top)) :].split("/")
            for name in names:
                folders.setdefault(folder, (set(), set()))[0].add(name)
                folder = f"{folder}/{name}"
            folders.setdefault(folder, (set(), set()))[1].add(file)
        for folder in sorted(folders, reverse=not topdown):
            inner, files = folders[folder]
            yield folder, sorted(inner), sorted(files)


class _Upload(io.BytesIO):
    """File of bytes or UTF-8 that is uploaded on close, unless its block fails."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def write(self, content: bytes | str) -> int:
        return super().write(content.encode() if isinstance(content, str) else content)

    def __exit__(self, kind, error, traceback) -> None:
        if kind:
            super().close()
        self.close()

    def close(self) -> None:
        if not self.closed:
            bucket, key = s3.split(self._path)
            content = io.BytesIO(self.getvalue())
            super().close()
            with s3.os_errors(self._path):
                s3.client().upload_fileobj(content, bucket, key)


def _folder(path: str) -> str:
    return f"{path.rstrip('/')}/"


def _below(path: str) -> list[str]:
    return sorted(_paths_below(path))


def _paths_below(path: str) -> Iterator[str]:
    """Yields the objects below a folder, and lists them page by page."""
    bucket, prefix = s3.split(_folder(path))
    with s3.os_errors(path):
        pages = s3.client().get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=prefix):
            for item in page.get("Contents", ()):
                # A key that ends in "/" stands for an empty folder.
                if not item["Key"].endswith("/"):
                    yield f"{s3.SCHEME}{bucket}/{item['Key']}"


def _is_object(path: str) -> bool:
    bucket, key = s3.split(path)
    if not key or key.endswith("/"):
        return False
    try:
        with s3.os_errors(path):
            s3.client().head_object(Bucket=bucket, Key=key)
    except FileNotFoundError:
        return False
    return True


def _copy(source: str, target: str) -> None:
    bucket, key = s3.split(source)
    try:
        with s3.os_errors(source):
            s3.client().copy({"Bucket": bucket, "Key": key}, *s3.split(target))
    except FileNotFoundError as error:
        raise _not_found(source) from error


def _delete(path: str) -> None:
    bucket, key = s3.split(path)
    with s3.os_errors(path):
        s3.client().delete_object(Bucket=bucket, Key=key)


def _not_found(path: str) -> NotFoundError:
    return NotFoundError(2, "No such file or folder", path)


def _check_free(path: str, overwrite: bool) -> None:
    if not overwrite and S3Filesystem.exists(path):
        raise FileExistsError(17, "File or folder exists", path)
