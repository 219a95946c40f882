"""The run folder: created, locked, resumed, or refused if it holds something else."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from mmkeras.config import Config, flatten, to_dict, to_yaml
from mmkeras.config.flags import RENAMED
from mmkeras.config.validation import AUTO
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.data.tables import open_table
from mmkeras.errors import UserError
from mmkeras.export.run_manifest import check_keras, read_manifest
from mmkeras.files import exclusive_lock, is_remote, unused_path, write_text
from mmkeras.schema import (
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    MANIFEST_FILE,
    MEMBERS_DIR,
    TUNE_FILE,
)

NO_ROWS = "class names"
DEMO_DATA = "the embedded data set"  # in the manifests of all versions
MARKER_FILE = ".lock"  # marks a run folder; version 0.1 used it as the lock as well
# Settings whose "auto" fits any value of a started run.
_AUTOMATIC = ("epochs", "train.batch_size", "train.passes", "text.tokens")
_AUTOMATIC += ("loss.kind", "text.pooling", "generate.max_tokens")
_LOCK_FILE = ".running"  # some versions of filelock remove it on release


def new_folder(name: str, parent: Path = Path("runs")) -> Path:
    """Returns an unused path under `parent`: a time stamp and `name`."""
    return unused_path(parent / f"{datetime.now():%Y%m%d-%H%M%S}-{name}")


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Creates a run folder, or reopens an unfinished one, and locks it.

    Raises:
        UserError: The folder holds something else than a run, or is locked by
            another process.

    Example:
        with locked_folder(Path("runs/a")):
            train(Path("runs/a"), config, table)
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output '{folder}' is a file; give a folder.")
    is_foreign = folder.exists() and not (folder / MARKER_FILE).exists()
    if is_foreign and any(folder.iterdir()):
        raise UserError(
            f"--output '{folder}' is not empty and holds no run of mmkeras; nothing is "
            "overwritten. Give a new folder."
        )
    message = f"Another process is training in '{folder}'. Wait for it, or give "
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / MARKER_FILE).open("a").close()  # keeps the time of an old one
            lock = exclusive_lock(folder / _LOCK_FILE, message + "another --output.")
            stack.enter_context(lock)
        except OSError as error:
            raise UserError(f"--output '{folder}' cannot be made: {error}.") from None
        yield


def check_unchanged(folder: Path, config: Config, data: str) -> None:
    """Checks that a run in `folder`, if one has started, has these settings and rows.

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
    if "columns" not in manifest["settings"]:
        if is_finished(folder):
            return
        raise UserError(
            f"'{folder}' holds an unfinished run of an earlier version, which cannot "
            "go on. Give another --output."
        )
    for name, (before, now) in differing_settings(folder, config).items():
        raise UserError(
            f"'{folder}' holds a run with {name}={before}, and this one has "
            f"{name}={now}. Give another --output, or the same settings to go on."
        )


def check_encoders(folder: Path, config: Config, names: Sequence[str]) -> None:
    """Checks that encoders of the user, by branch, are those of a started run.

    Raises:
        UserError: They are not, or a setting needs the encoders of the settings.
    """
    before = read_manifest(folder).get("own_encoders", [])
    if has_started(folder) and before != sorted(names):
        raise UserError(
            f"'{folder}' holds a run with the encoders {before} of a Python program, "
            f"and this one has {sorted(names)}. Give the same ones, or another folder."
        )
    if names and not config.fusion.has_epochs:
        raise UserError(
            f"fusion.kind={config.fusion.kind} trains no encoder, and "
            f"{', '.join(names)} has its own. Unset one of the two."
        )
    if names and config.evaluate.trained_alone:
        raise UserError(
            "evaluate.trained_alone=true trains the encoders of the settings, and "
            f"{', '.join(names)} has its own. Unset one of the two."
        )


def differing_settings(folder: Path, config: Config) -> dict[str, tuple[Any, Any]]:
    """Returns name -> (value of a started run, value in `config`) where they differ.

    A value may be as the user gave it or as config.yaml has it. A run of an earlier
    version has the default of a setting that is new.
    """
    requested, resolved = stored_settings(folder)
    defaults = flatten(to_dict(Config()))
    requested, resolved = defaults | requested, defaults | resolved
    return {
        name: (resolved[name], value)
        for name, value in flatten(to_dict(config)).items()
        if value not in (requested[name], resolved[name])
        and not (value == AUTO and name in _AUTOMATIC)
    }


def stored_settings(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the settings of a run by dotted name: as requested, and as resolved.

    The second have what follows the rows, such as numbers in the place of "auto".
    """
    manifest = read_manifest(folder)
    parts = flatten(manifest["settings"]), manifest.get("resolved", {})
    requested, resolved = (
        {RENAMED.get(name, name): value for name, value in part.items()}
        for part in parts
    )
    return requested, requested | resolved


def with_stored_values(folder: Path, config: Config) -> Config:
    """Returns the settings with the values of a started run in the place of "auto"."""
    _, stored = stored_settings(folder)
    for name in _AUTOMATIC:
        if attrgetter(name)(config) == AUTO:
            part, _, key = name.rpartition(".")
            change = {key: stored.get(name, AUTO)}
            if part:
                change = {part: replace(getattr(config, part), **change)}
            config = replace(config, **change)
    return config


def write_config(folder: Path, config: Config) -> None:
    """Writes config.yaml, which `--config` reads."""
    write_text(folder / CONFIG_FILE, to_yaml(config))


def needs_no_rows(config: Config, table: Any) -> bool:
    """Whether there is no table, and the demo data set is not in its place."""
    return table is None and config.fusion.kind == ZERO_SHOT


def data_name(table: Any) -> str:
    """Returns the name of the rows in the manifest: a path, or type and content."""
    if table is None:
        return DEMO_DATA
    if isinstance(table, str | os.PathLike):
        return str(table) if is_remote(table) else str(Path(table).resolve())
    source = open_table(table)
    return f"{source.name} {source.fingerprint()[:16]}"


def table_fingerprint(table: Any) -> str:
    """Returns a hash of the table without the files that it names; or "".

    Tables that are folders or Parquet have none, as they are not read whole.
    """
    if table is None:
        return ""
    source = open_table(table)
    return source.fingerprint() if source.has_content_hash else ""


@contextmanager
def opened_run(folder: Path, config: Config, table: Any) -> Iterator[bool]:
    """Locks a run folder and checks what it holds; yields whether the run is finished.

    Raises:
        UserError: As `locked_folder` and `check_unchanged`; or the run is finished, and
            the table has changed since.
    """
    with locked_folder(folder):
        if (folder / TUNE_FILE).exists():
            raise UserError(
                f"'{folder}' holds a search. Give another --output, or go on with it "
                "by python -m mmkeras.tune."
            )
        data = NO_ROWS if needs_no_rows(config, table) else data_name(table)
        check_unchanged(folder, config, data)
        check_finished(folder, table)
        yield is_finished(folder)


def check_finished(folder: Path, table: Any) -> None:
    """Checks that the table of a finished run is as it was; others are read anyway.

    Raises:
        UserError: It has changed.
    """
    before = read_manifest(folder).get("table")
    if is_finished(folder) and before and table_fingerprint(table) != before:
        raise changed("table has", folder)


def changed(subject: str, folder: Path) -> UserError:
    """Returns the error of rows that are no longer those of a run."""
    return UserError(
        f"The {subject} changed since the run in '{folder}' began. Give another "
        "--output."
    )


def has_started(folder: Path) -> bool:
    """Whether an epoch has been trained, or a linear model fitted.

    Before that, settings may still change.
    """
    folders = [folder, *(folder / MEMBERS_DIR).glob("*")]
    return any(
        any((path / CHECKPOINTS_DIR).glob("phase*"))
        or bool(read_manifest(path).get("fitted"))
        for path in folders
    )


def is_finished(folder: Path) -> bool:
    """Whether all steps of the run are done."""
    return bool(read_manifest(folder).get("finished"))


def copy_started_run(folder: Path, local_folder: Path) -> None:
    """Copies what resuming needs: the manifest and the checkpoints."""
    if (folder / MANIFEST_FILE).exists():
        shutil.copy(folder / MANIFEST_FILE, local_folder)
    if (folder / CHECKPOINTS_DIR).exists():
        shutil.copytree(
            folder / CHECKPOINTS_DIR,
            local_folder / CHECKPOINTS_DIR,
            ignore=shutil.ignore_patterns(".*"),  # left by a killed run
        )
