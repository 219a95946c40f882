"""Base path whose model versions change while it is served."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

from mmkeras.files import join_path
from mmkeras.schema import WARMUP_FILE

KEPT = 2  # valid versions, so that a rollback is possible


class Releases:
    """Adds copies of a version to the base path `base`, some broken, and removes some.

    Version 1 exists from the start.
    """

    def __init__(self, base: Path, source: Path):
        self.base, self._source = base, source
        self._good, self._broken, self._number = [], None, 0
        self._breaks = itertools.cycle([_half_graph, _no_values, _bad_warmup, _empty])
        base.mkdir()
        self.add()

    @property
    def newest(self) -> int:
        """Version that should be served."""
        return self._good[-1]

    def change(self, step: int) -> tuple[str, int]:
        """Makes the change of a step, counted from 1; returns its kind and version.

        Every third version is "broken", every fifth change a "rollback", the others are
        "new".
        """
        if self._broken is not None:
            self._remove(self._broken)
            self._broken = None
        if step % 3 == 0:
            self._broken = self._put(next(self._breaks))
            return "broken", self._broken
        if step % 5 == 0 and len(self._good) > 1:
            self._remove(self._good.pop())
            return "rollback", self.newest
        self.add()
        return "new", self.newest

    def add(self) -> None:
        """Adds a valid version and removes the oldest."""
        self._good.append(self._put(lambda path: None))
        while len(self._good) > KEPT:
            self._remove(self._good.pop(0))

    def _put(self, spoil: Callable[[Path], object]) -> int:
        """Adds a version at once."""
        self._number += 1
        tmp_path = self.base / f".{self._number}"
        shutil.copytree(self._source, tmp_path)
        spoil(tmp_path)
        tmp_path.rename(self.base / str(self._number))
        return self._number

    def _remove(self, number: int) -> None:
        tmp_path = self.base / f".{number}.removed"
        (self.base / str(number)).rename(tmp_path)
        shutil.rmtree(tmp_path)


def _half_graph(path: Path) -> None:
    file = path / "saved_model.pb"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def _no_values(path: Path) -> None:
    for file in (path / "variables").glob("*.data-*"):
        file.unlink()


def _bad_warmup(path: Path) -> None:
    """Lets the warm-up fail after the load."""
    file = Path(join_path(str(path), WARMUP_FILE))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(100 * b"no records")


def _empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()
