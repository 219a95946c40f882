"""A table -> TFRecord shards, checked, in parallel, kept by content: the one way in."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock
from tqdm import tqdm

from mmkeras.config import Config
from mmkeras.data.dataset import Dataset, load_dataset, summarize_shards
from mmkeras.data.example_reader import RowReader
from mmkeras.data.ingest_plan import IngestPlan, plan_ingest
from mmkeras.data.shards import write_shard
from mmkeras.schema import INGESTED_FILE

_PARTIAL = ".partial-"


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
) -> Dataset:
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
    plan = plan_ingest(table, config, only=only, widths=widths)
    folder = cache_dir(config) / f"table-{plan.fingerprint}"
    if not (folder / INGESTED_FILE).exists():
        _write(plan, folder)
    return load_dataset(folder)


def _write(plan: IngestPlan, folder: Path) -> None:
    """Writes the shards to a temporary folder, which one rename puts in place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for path in folder.parent.glob(f"{_PARTIAL}*"):  # folders and locks of killed runs
        with suppress(OSError), _temporary(path.with_suffix("")):
            pass
    with _temporary(folder.with_name(_PARTIAL + uuid4().hex)) as partial:
        reader = RowReader(plan.folder, plan.config, plan.widths)
        rows = sum(len(shard.rows) for shard in plan.shards)
        with tqdm(desc="Checking rows", total=rows, unit="row", disable=None) as bar:
            summaries = [
                write_shard(shard, str(partial), reader, bar.update)
                for shard in plan.shards
            ]
        text = json.dumps(summarize_shards(plan, summaries), ensure_ascii=False)
        (partial / INGESTED_FILE).write_text(text, encoding="utf-8")
        _publish(partial, folder)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Makes a folder and locks it; removes what is left of it at the end.

    The system releases the lock when this process ends, however it ends.

    Raises:
        OSError: Another process is at work in it, or it belongs to another user.
    """
    lock_file = folder.with_name(f"{folder.name}.lock")
    lock = FileLock(lock_file).acquire(blocking=False)
    try:
        with lock:
            folder.mkdir(mode=0o700, exist_ok=True)
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock_file.unlink(missing_ok=True)


def _publish(partial: Path, folder: Path) -> None:
    try:
        os.rename(partial, folder)
    except OSError:
        if not (folder / INGESTED_FILE).exists():  # no other run was faster
            raise
