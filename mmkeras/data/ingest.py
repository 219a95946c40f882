"""Ingest of a table: checks its rows and writes TFRecord shards, cached by content."""

import json
import shutil
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from mmkeras.config import Config
from mmkeras.console import progress, say
from mmkeras.data.dataset import Dataset, load_dataset, summarize_shards
from mmkeras.data.example_reader import RowReader
from mmkeras.data.ingest_plan import IngestPlan, plan_ingest
from mmkeras.data.shards import write_shard
from mmkeras.files import atomic_folder, default_cache_dir
from mmkeras.schema import INGESTED_FILE


def cache_dir(config: Config) -> Path:
    """Returns the folder of ingested tables and computed features."""
    return Path(config.table.cache_dir or default_cache_dir())


def ingest(
    table: Path,
    config: Config,
    *,
    only: str | None = None,
    has_columns: bool = False,
) -> Dataset:
    """Checks all rows and writes shards, unless the cache has them.

    Arguments are those of `plan_ingest`.

    Raises:
        UserError: The table cannot be used, or has bad rows and
            `config.on_bad_row` is "fail".

    Example:
        dataset = ingest(Path("data.csv"), small_concat())
        dataset.rows  # {"train": 70, "val": 15, "test": 15}
    """
    plan = plan_ingest(table, config, only=only, has_columns=has_columns)
    folder = cache_dir(config) / f"table-{plan.fingerprint}"
    if not _is_complete(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _wait_for(_lock(folder)):
            if not _is_complete(folder):
                _write(plan, folder)
    return load_dataset(folder)


def _is_complete(folder: Path) -> bool:
    return (folder / INGESTED_FILE).exists()


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _wait_for(lock: FileLock):
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        say("Waiting for another process that ingests the table.", file=sys.stderr)
        return lock.acquire()


def _write(plan: IngestPlan, folder: Path) -> None:
    _remove_leftovers(folder)
    with atomic_folder(folder) as tmp_folder:
        tmp_folder.chmod(0o700)  # training data is private
        reader = RowReader(plan.folder, plan.config)
        rows = sum(len(shard.rows) for shard in plan.shards)
        with progress(desc="Checking rows", total=rows, unit="row") as bar:
            summaries = [
                write_shard(shard, str(tmp_folder), reader, bar.update)
                for shard in plan.shards
            ]
        text = json.dumps(summarize_shards(plan, summaries), ensure_ascii=False)
        (tmp_folder / INGESTED_FILE).write_text(text, encoding="utf-8")


def _remove_leftovers(folder: Path) -> None:
    """Removes temporary folders of killed processes; `folder` is locked already."""
    for tmp_folder in folder.parent.glob(".*.table-*"):
        table = folder.with_name(tmp_folder.name.split(".", 2)[2])
        # An OSError: a living process writes it, or another user owns it.
        with suppress(OSError), ExitStack() as stack:
            if table != folder:
                stack.enter_context(_lock(table).acquire(blocking=False))
            shutil.rmtree(tmp_folder)
