"""A table -> TFRecord shards, checked, in parallel, kept by content: the one way in."""

import fcntl
import json
import os
import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from mmkeras.config import Config
from mmkeras.examples import RowReader
from mmkeras.ingested import Ingested, load_ingested, summarize
from mmkeras.plan import Plan, make_plan
from mmkeras.schema import INGESTED_FILE
from mmkeras.shards import write_shard

_LOCK_FILE, _PARTIAL = ".lock", ".partial-"


def default_cache_dir() -> Path:
    """Returns ~/.cache/mmkeras, or where XDG_CACHE_HOME puts it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mmkeras"


def cache_dir(config: Config) -> Path:
    """Returns the folder of ingested tables and computed features."""
    return Path(config.table.cache_dir or default_cache_dir())


def ingest(
    table: Path,
    config: Config,
    *,
    only: str | None = None,
    widths: dict[str, int] | None = None,
) -> Ingested:
    """Reads and checks every row and writes shards, or finds them in the cache.

    Args:
        table: The CSV file.
        config: Columns, checks and what to do about bad rows.
        only: To evaluate a table: the rows of this split (all, where the table has
            none) become the test rows, and nothing is asked of their classes.
        widths: Then, of the model's precomputed vectors; encoders are the model's too.

    Raises:
        UserError: The table cannot be used, or has bad rows and
            `config.on_bad_row` is "fail".
    """
    plan = make_plan(table, config, only=only, widths=widths)
    folder = cache_dir(config) / f"table-{plan.fingerprint}"
    if not (folder / INGESTED_FILE).exists():
        _write(plan, folder)
    return load_ingested(folder)


def _write(plan: Plan, folder: Path) -> None:
    """Writes the shards aside; the finished folder appears by one rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(folder.parent)
    aside = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=folder.parent))
    lock = (aside / _LOCK_FILE).open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)  # let go when this process ends, however it ends
    try:
        reader = RowReader(plan.folder, plan.config, plan.widths)
        rows = sum(len(shard.rows) for shard in plan.shards)
        with tqdm(desc="Checking rows", total=rows, unit="row", disable=None) as bar:
            founds = [
                write_shard(shard, str(aside), reader, bar.update)
                for shard in plan.shards
            ]
        text = json.dumps(summarize(plan, founds), ensure_ascii=False)
        (aside / INGESTED_FILE).write_text(text, encoding="utf-8")
        _appear(aside, folder)
    finally:
        lock.close()
        shutil.rmtree(aside, ignore_errors=True)


def _appear(aside: Path, folder: Path) -> None:
    try:
        os.rename(aside, folder)
    except OSError:
        if not (folder / INGESTED_FILE).exists():  # no other run was faster
            raise


def _remove_left_over(parent: Path) -> None:
    """Removes what killed runs left behind: folders whose lock nobody holds."""
    for path in parent.glob(f"{_PARTIAL}*"):
        try:
            with (path / _LOCK_FILE).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
        except OSError:  # another run is at work in it, or has just made it
            continue
