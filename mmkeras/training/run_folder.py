"""A run folder: made new, resumed or refused, never overwritten."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from mmkeras.config import Config, to_dict
from mmkeras.errors import UserError
from mmkeras.export.run_manifest import check_keras, read_manifest
from mmkeras.files import write_text
from mmkeras.schema import (
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    MANIFEST_FILE,
)

EMBEDDED = "the embedded data set"
MARKER_FILE = ".lock"  # marks a run folder; runs of version 0.1 lock it, too
_LOCK_FILE = ".running"  # not there while no process trains, by filelock's version


def new_folder(what: str, parent: Path = Path("runs")) -> Path:
    """Returns a folder name under `parent`, ending in `what`, that nothing has."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    name, number = f"{stamp}-{what}", 1
    while (parent / name).exists():
        number += 1
        name = f"{stamp}-{what}-{number}"
    return parent / name


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Makes the folder, or takes an unfinished run's, for this process alone.

    Raises:
        UserError: It holds something else than a run, or another process trains in
            it right now.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output '{folder}' is a file; give a folder.")
    foreign = folder.exists() and not (folder / MARKER_FILE).exists()
    if foreign and any(folder.iterdir()):
        raise UserError(
            f"--output '{folder}' is not empty and holds no run of mmkeras; nothing is "
            "overwritten. Give a new folder."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARKER_FILE).open("a").close()  # keeps its time, if it exists
        lock = FileLock(folder / _LOCK_FILE).acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"Another process is training in '{folder}'. Wait for it, or give "
            "another --output."
        ) from None
    except OSError as error:
        raise UserError(f"--output '{folder}' cannot be made: {error}.") from None
    with lock:
        yield


def check_unchanged(folder: Path, config: Config, data: str) -> None:
    """Refuses to go on with a run under other settings or another table.

    Raises:
        UserError: Naming the first setting that differs.
    """
    if not has_started(folder):
        return
    check_keras(folder)
    manifest = read_manifest(folder)
    if manifest["data"] != data:
        raise UserError(
            f"'{folder}' holds a run on '{manifest['data']}', not on '{data}'. Give "
            "another --output."
        )
    before, now = _flat(manifest["settings"]), _flat(to_dict(config))
    for name in now:
        if before.get(name) != now[name]:
            raise UserError(
                f"'{folder}' holds a run with {name}={before.get(name)}, and this one "
                f"has {name}={now[name]}. Give another --output, or the same settings "
                "to go on."
            )


def _flat(settings: dict[str, Any], start: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{start}{name}.")
        else:
            flat[start + name] = value
    return flat


def write_config(folder: Path, config: Config) -> None:
    """Writes the resolved settings; `--config` takes the file."""
    text = yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)
    write_text(folder / CONFIG_FILE, text)


def data_name(table: Path | None) -> str:
    """Returns how the manifest calls the rows."""
    return str(table.resolve()) if table else EMBEDDED


def has_started(folder: Path) -> bool:
    """Whether an epoch has been trained; before that, settings may still change."""
    return any((folder / CHECKPOINTS_DIR).glob("phase*"))


def is_finished(folder: Path) -> bool:
    """Whether all steps of the run are through."""
    return bool(read_manifest(folder).get("finished"))


def copy_started_run(folder: Path, own: Path) -> None:
    """Copies to `own` what a run needs to go on: its manifest and checkpoints."""
    if (folder / MANIFEST_FILE).exists():
        shutil.copy(folder / MANIFEST_FILE, own)
    if (folder / CHECKPOINTS_DIR).exists():
        aside = shutil.ignore_patterns(".*")  # of a killed run; the chief removes it
        shutil.copytree(folder / CHECKPOINTS_DIR, own / CHECKPOINTS_DIR, ignore=aside)
