"""Hashes of source code and of files named in settings, for TFX's cache keys."""

import ast
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

from mmkeras.files import is_remote, read_remote

_ROOT = Path(__file__).parents[1]
_PROJECT = ("mmkeras", "pipeline")
_PACKAGES = ("tensorflow", "keras", "tfx", "numpy", "pillow", "soundfile")


@cache
def code_hash(module: str) -> str:
    """Returns a hash of a module of the project and of all that it imports.

    As a parameter of a component, it makes TFX run the component again if its code
    changes. It covers Jinja templates of the same name, and the versions of packages
    that decode and compute.
    """
    digest = hashlib.sha256()
    for path in sorted(_sources(module)):
        digest.update(str(path.relative_to(_ROOT)).encode())
        digest.update(path.read_bytes())
    for package in _PACKAGES:
        digest.update(f"{package} {version(package)}".encode())
    return digest.hexdigest()[:24]


def files_hash(paths: Mapping[str, str]) -> str:
    """Returns a hash of the files of setting -> path or URI, or "" for none.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for setting, path in sorted(paths.items()):
        content = read_remote(path) if is_remote(path) else Path(path).read_bytes()
        digest.update(f"{setting} {len(content)} ".encode() + content)
    return digest.hexdigest()[:24] if paths else ""


def _sources(module: str) -> set[Path]:
    """Returns the files of a module and of its imports, also those in functions."""
    result: set[Path] = set()
    waiting = [_file(module)]
    while waiting:
        path = waiting.pop()
        if path is None or path in result:
            continue
        result.add(path)
        result.update(path.parent.glob(f"{path.stem}*.j2"))
        waiting += [_file(name) for name in _imported(path)]
    return result


def _imported(path: Path) -> list[str]:
    if path.suffix != ".py":
        return []
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in _PROJECT]


def _file(name: str) -> Path | None:
    """Returns the file of a dotted name, which may end in a name inside the module."""
    parts = name.split(".")
    while parts:
        path = _ROOT.joinpath(*parts)
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
        parts.pop()
    return None
