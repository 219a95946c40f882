"""Local working copy of a remote folder, synchronized in the background."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from absl import logging
from tfx.dsl.io import fileio

from mmkeras.files import is_remote, join_path

_EVERY_S = 30.0


@contextmanager
def synced_folder(uri: str, every_s: float = _EVERY_S) -> Iterator[Path]:
    """Yields a local folder with the files of `uri`, and uploads its changes.

    A local `uri` is used directly. A remote one is copied, and new files are uploaded
    every `every_s` seconds and at the end, also after an exception. Uploads are not
    atomic across files; readers must validate them, as `Checkpoints` does.
    """
    if not is_remote(uri):
        Path(uri).mkdir(parents=True, exist_ok=True)
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = _fetch(uri, folder)
        stop = threading.Event()
        sender = threading.Thread(target=_send_until, args=(stop, every_s, state, uri))
        sender.start()
        try:
            yield folder
        finally:
            stop.set()
            sender.join()
            state.send(uri)
        if state.error:  # an incomplete upload must not count as done
            raise state.error


class _UploadState:
    """Sizes and times of the files of a folder at their last upload."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.stamps: dict[str, tuple[int, int]] = {}
        self.error: Exception | None = None  # of the last upload

    def local_stamps(self) -> dict[str, tuple[int, int]]:
        stamps = {}
        for path in self.folder.rglob("*"):
            hidden = any(p.startswith(".") for p in path.relative_to(self.folder).parts)
            if not hidden and path.is_file():
                status = path.stat()
                name = path.relative_to(self.folder).as_posix()
                stamps[name] = (status.st_size, status.st_mtime_ns)
        return stamps

    def send(self, uri: str) -> None:
        """Uploads new files and removes deleted ones; small files come last."""
        self.error = None
        try:
            stamps = self.local_stamps()
        except FileNotFoundError:  # being replaced; the next upload includes it
            return
        new = [n for n, stamp in stamps.items() if self.stamps.get(n) != stamp]
        for name in sorted(new, key=lambda n: -stamps[n][0]):
            try:
                target = join_path(uri, name)
                fileio.makedirs(target.rpartition("/")[0])
                fileio.copy(str(self.folder / name), target, overwrite=True)
                self.stamps[name] = stamps[name]
            except FileNotFoundError:
                continue
            except Exception as error:  # the next upload tries again
                logging.exception("Could not send %s to %s", name, uri)
                self.error = error
        for name in [n for n in self.stamps if n not in stamps]:
            try:
                fileio.remove(join_path(uri, name))
                del self.stamps[name]
            except Exception:  # the remote file remains; no file is missing
                logging.exception("Could not remove %s from %s", name, uri)


def _fetch(uri: str, folder: Path) -> _UploadState:
    state = _UploadState(folder)
    if fileio.exists(uri):
        for path, _, names in fileio.walk(uri):
            for name in names:
                source = join_path(path, name)
                target = folder / source.removeprefix(uri).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                fileio.copy(source, str(target), overwrite=True)
    state.stamps = state.local_stamps()
    return state


def _send_until(
    stop: threading.Event, every_s: float, state: _UploadState, uri: str
) -> None:
    while not stop.wait(every_s):
        state.send(uri)
