"""Hashes of code and of settings' files: TFX does not look at them by itself."""

import ast
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mmkeras.files import is_remote, read_remote

_ROOT = Path(__file__).parents[1]
_OURS = ("mmkeras", "pipeline")
_PACKAGES = ("tensorflow", "keras", "tfx", "numpy", "pillow", "soundfile")


@cache
def code_hash(module: str) -> str:
    """Returns a hash of a module of ours and all of ours that it imports.

    It stands among a component's parameters, so that changed code runs anew what
    depends on it, and nothing else. Templates beside the sources count too, and the
    versions of the packages that decode and compute.
    """
    digest = hashlib.sha256()
    for path in sorted(_sources(module)):
        digest.update(str(path.relative_to(_ROOT)).encode())
        digest.update(path.read_bytes())
    for package in _PACKAGES:
        digest.update(f"{package} {version(package)}".encode())
    return digest.hexdigest()[:24]


def files_hash(named: Mapping[str, str]) -> str:
    """Returns a hash of the files that settings name, "" where none does.

    Args:
        named: Setting -> the path or URI of its file.

    Raises:
        OSError: One cannot be read.
    """
    digest = hashlib.sha256()
    for setting, path in sorted(named.items()):
        content = read_remote(path) if is_remote(path) else Path(path).read_bytes()
        digest.update(f"{setting} {len(content)} ".encode() + content)
    return digest.hexdigest()[:24] if named else ""


def _sources(module: str) -> set[Path]:
    """Returns the files of a module and of what it imports, within functions too."""
    found: set[Path] = set()
    waiting = [_file(module)]
    while waiting:
        path = waiting.pop()
        if path is None or path in found:
            continue
        found.add(path)
        found.update(path.parent.glob(f"{path.stem}*.j2"))
        waiting += [_file(name) for name in _imported(path)]
    return found


def _imported(path: Path) -> list[str]:
    if path.suffix != ".py":
        return []
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in _OURS]


def _file(name: str) -> Path | None:
    """Returns the file that a dotted name lies in, which may end in one of its own."""
    parts = name.split(".")
    while parts:
        path = _ROOT.joinpath(*parts)
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
        parts.pop()
    return None
