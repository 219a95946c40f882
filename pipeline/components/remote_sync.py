"""A local folder that stands for a remote one while a program works in it."""

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
    """Gives a local folder with what lies at `uri`; what is written there goes back.

    A local `uri` is given as it is. Of a remote one a copy is made, and new files
    are sent every `every_s` seconds and at the end, also when the program fails: a
    killed one loses no more than that. A folder's files become valid together only
    where their reader checks, as `Checkpoints` does.
    """
    if not is_remote(uri):
        Path(uri).mkdir(parents=True, exist_ok=True)
        yield Path(uri)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sent = _fetch(uri, folder)
        stop = threading.Event()
        sender = threading.Thread(target=_send_until, args=(stop, every_s, sent, uri))
        sender.start()
        try:
            yield folder
        finally:
            stop.set()
            sender.join()
            sent.send(uri)
        if sent.error:  # what is not there must not count as done
            raise sent.error


class _Sent:
    """Which files of a folder have been sent, as they were then."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.stamps: dict[str, tuple[int, int]] = {}
        self.error: Exception | None = None  # the last sending's, if any

    def now(self) -> dict[str, tuple[int, int]]:
        stamps = {}
        for path in self.folder.rglob("*"):
            hidden = any(p.startswith(".") for p in path.relative_to(self.folder).parts)
            if not hidden and path.is_file():
                status = path.stat()
                name = path.relative_to(self.folder).as_posix()
                stamps[name] = (status.st_size, status.st_mtime_ns)
        return stamps

    def send(self, uri: str) -> None:
        """Sends what is new and removes what is gone; small files last."""
        self.error = None
        try:
            stamps = self.now()
        except FileNotFoundError:  # replaced at this moment; it goes next time
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
            except Exception as error:  # the network; the next sending tries again
                logging.exception("Could not send %s to %s", name, uri)
                self.error = error
        for name in [n for n in self.stamps if n not in stamps]:
            try:
                fileio.remove(join_path(uri, name))
                del self.stamps[name]
            except Exception:  # left over there; nothing is missing
                logging.exception("Could not remove %s from %s", name, uri)


def _fetch(uri: str, folder: Path) -> _Sent:
    sent = _Sent(folder)
    if fileio.exists(uri):
        for path, _, names in fileio.walk(uri):
            for name in names:
                source = join_path(path, name)
                target = folder / source.removeprefix(uri).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                fileio.copy(source, str(target), overwrite=True)
    sent.stamps = sent.now()
    return sent


def _send_until(stop: threading.Event, every_s: float, sent: _Sent, uri: str) -> None:
    while not stop.wait(every_s):
        sent.send(uri)
