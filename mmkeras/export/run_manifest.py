"""manifest.json of a run folder: data, settings and package versions."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmkeras.errors import UserError
from mmkeras.files import write_text
from mmkeras.schema import MANIFEST_FILE

_PACKAGES = ("mmkeras", "tensorflow", "keras", "numpy", "scikit-learn", "soundfile")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Returns the content of manifest.json, or {} if it does not exist."""
    path = folder / MANIFEST_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write_manifest(folder: Path, **content: Any) -> None:
    """Adds `content` and the package versions to manifest.json.

    Example:
        write_manifest(folder, seed=0, rows={"train": 24})
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    content = {**read_manifest(folder), **content, "versions": versions}
    write_text(folder / MANIFEST_FILE, json.dumps(content, indent=1))


def check_keras(folder: Path) -> None:
    """Checks that this Keras can read the model and the checkpoints of a run.

    Raises:
        UserError: A later release of Keras wrote them.
    """
    writer = read_manifest(folder).get("versions", {}).get("keras", "")
    reader = version("keras")
    if _release(writer) > _release(reader):
        raise UserError(
            f"Keras {writer} wrote the model in '{folder}', and Keras {reader} cannot "
            f"read it. Use Keras {writer} or later (Python 3.11 to 3.13); the export "
            "can be served by either."
        )


def _release(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
