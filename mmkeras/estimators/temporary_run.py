"""Run folder of an estimator without a path."""

import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from mmkeras.config import Config


class TemporaryRun:
    """Run folder in a temporary folder, which is removed with this object.

    A copy or a pickle holds the files, and has a folder of its own.

    Attributes:
        path: Run folder.
    """

    def __init__(self):
        folder = mkdtemp(prefix="mmkeras-")
        weakref.finalize(self, shutil.rmtree, folder, True)
        self.path = Path(folder) / "run"

    def with_cache(self, config: Config) -> Config:
        """Returns the settings with the cache of tables beside the run folder."""
        cache_dir = str(self.path.with_name("cache"))
        return replace(config, table=replace(config.table, cache_dir=cache_dir))

    def __getstate__(self) -> dict[str, bytes]:
        files = [path for path in self.path.rglob("*") if path.is_file()]
        return {str(p.relative_to(self.path)): p.read_bytes() for p in files}

    def __setstate__(self, files: dict[str, bytes]) -> None:
        self.__init__()
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
