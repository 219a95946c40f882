"""A run folder: made new, resumed or refused, never overwritten."""

import json
import os
import platform
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from mmkeras.config import Config, to_dict
from mmkeras.errors import UserError
from mmkeras.schema import (
    CHECKPOINTS_DIR,
    CONFIG_FILE,
    EXPORT_DIR,
    MANIFEST_FILE,
    METRICS_FILE,
    REPORT_FILE,
)

# Release of TensorFlow -> TF Serving's newest image of that release.
SERVING_RELEASES = {"2.16": "2.16.1", "2.21": "2.21.0"}
EMBEDDED = "the embedded data set"
MARKER_FILE = ".lock"  # marks a run folder; runs of version 0.1 lock it, too
_LOCK_FILE = ".running"  # not there while no process trains, by filelock's version
SHOWN_METRICS = (
    "accuracy",
    "balanced_accuracy",
    "f1_macro",
    "roc_auc",
    "log_loss",
    "ece",
)
_PACKAGES = ("mmkeras", "tensorflow", "keras", "numpy", "scikit-learn", "soundfile")


def new_folder(what: str, parent: Path = Path("runs")) -> Path:
    """Returns a folder name under `parent`, ending in `what`, that nothing has."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    name, number = f"{stamp}-{what}", 1
    while (parent / name).exists():
        number += 1
        name = f"{stamp}-{what}-{number}"
    return parent / name


@contextmanager
def opened(folder: Path) -> Iterator[None]:
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


def check_same(folder: Path, config: Config, data: str) -> None:
    """Refuses to go on with a run under other settings or another table.

    Raises:
        UserError: Naming the first setting that differs.
    """
    if not has_begun(folder):
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


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns manifest.json, or {} where there is none yet."""
    path = folder / MANIFEST_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_manifest(folder: Path, **content: Any) -> None:
    """Writes manifest.json: what the run was made of."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    content = {**read_manifest(folder), **content, "versions": versions}
    write_text(folder / MANIFEST_FILE, json.dumps(content, indent=1))


def data_name(table: Path | None) -> str:
    """Returns how the manifest calls the rows."""
    return str(table.resolve()) if table else EMBEDDED


def has_begun(folder: Path) -> bool:
    """Whether an epoch has been trained; before that, settings may still change."""
    return any((folder / CHECKPOINTS_DIR).glob("phase*"))


def is_finished(folder: Path) -> bool:
    """Whether all steps of the run are through."""
    return bool(read_manifest(folder).get("finished"))


def copy_begun(folder: Path, own: Path) -> None:
    """Copies to `own` what a run needs to go on: its manifest and checkpoints."""
    if (folder / MANIFEST_FILE).exists():
        shutil.copy(folder / MANIFEST_FILE, own)
    if (folder / CHECKPOINTS_DIR).exists():
        aside = shutil.ignore_patterns(".*")  # of a killed run; the chief removes it
        shutil.copytree(folder / CHECKPOINTS_DIR, own / CHECKPOINTS_DIR, ignore=aside)


def metric_lines(metrics: dict[str, Any]) -> list[str]:
    """Returns what a user wants to see first: metrics, and whether fusion helps."""
    lines = [f"Metrics on {metrics['rows']:,} rows, with 95 % intervals:"]
    for name in SHOWN_METRICS:
        value = metrics["metrics"][name]
        if value["value"] is not None:
            interval = f"({value['low']:.3f} to {value['high']:.3f})"
            lines.append(f"  {name:<18} {value['value']:.3f}  {interval}")
    if metrics.get("fusion_verdict"):
        lines.append(metrics["fusion_verdict"])
    return lines


def summary(folder: Path) -> str:
    """Returns the last lines of a run: metrics, where things lie, what to do next."""
    metrics = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    base_path = (folder / EXPORT_DIR).resolve()
    versions = [int(p.name) for p in base_path.glob("*") if p.name.isdigit()]
    lines = [
        *metric_lines(metrics),
        metrics.get("verdict", ""),
        f"Report:  {folder / REPORT_FILE}",
        f"Export:  {base_path / str(max(versions))}" if versions else "",
        f"Serve:   {serve_command(base_path, read_manifest(folder))}",
        f"Predict: python -m mmkeras.predict --model {shlex.quote(str(folder))} "
        "--data FILE.csv --output predictions.csv",
    ]
    return "\n".join(line for line in lines if line)


def serve_command(base_path: str | Path, manifest: dict[str, Any]) -> str:
    """Returns the command that serves exports in Docker.

    Args:
        base_path: Folder of the versions.
        manifest: Manifest of the run that exported them; its TensorFlow decides on the
            image, as TF Serving reads graphs of its own release and of older ones.
    """
    tensorflow = manifest.get("versions", {}).get("tensorflow", "")
    release = tensorflow.rpartition(".")[0]
    return (
        "docker run --rm -p 8500:8500 -p 8501:8501 -e MODEL_NAME=mmkeras "
        f"-v {shlex.quote(str(base_path))}:/models/mmkeras "
        f"tensorflow/serving:{SERVING_RELEASES.get(release, 'latest')}"
    )


def check_keras(folder: Path) -> None:
    """Checks that this Keras can read the model and the checkpoints of a run.

    Raises:
        UserError: A later release of Keras wrote them.
    """
    theirs = read_manifest(folder).get("versions", {}).get("keras", "")
    ours = version("keras")
    if _release(theirs) > _release(ours):
        raise UserError(
            f"Keras {theirs} wrote the model in '{folder}', and Keras {ours} cannot "
            f"read it. Use Keras {theirs} or later (Python 3.11 to 3.13); the export "
            "can be served by either."
        )


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def write_text(path: Path, text: str) -> None:
    """Writes a file aside and renames it, so that it is never half there."""
    aside = path.with_name(f".{path.name}")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)
