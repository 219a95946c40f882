"""Environments of third-party clients, created once in `build/conformance`.

All packages are pinned, so that new releases do not break a test; other pins give a new
environment. Without uv, npm or the registries, -m 'not slow' leaves these tests out.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from mmkeras.files import atomic_folder

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
TIMEOUT_S = 600
OVMSCLIENT = (  # for Python 3.10 to 3.13
    *("ovmsclient==2023.1", "protobuf==5.29.5", "requests==2.32.3"),
    *("certifi==2025.4.26", "charset-normalizer==3.4.2", "idna==3.10"),
    *("urllib3==2.4.0", "numpy==2.2.6", "grpcio==1.71.0"),
)
# What npm installs; the lock names each package with its checksum.
NPM_FILES = (HERE / "grpc_js" / "package.json", HERE / "grpc_js" / "package-lock.json")


def python_with_ovmsclient() -> Path:
    """Returns a Python with ovmsclient and its dependencies alone."""

    def create(folder: Path) -> None:
        uv = shutil.which("uv") or ROOT / ".uv" / "bin" / "uv"
        python = folder / "bin" / "python"
        _run(uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, folder)
        _run(uv, "pip", "install", "--quiet", "--python", python, *OVMSCLIENT)

    pinned = "\n".join([f"python {sys.version_info[:2]}", *OVMSCLIENT])
    return _create_once("ovmsclient", pinned, create) / "bin" / "python"


def node_modules() -> Path:
    """Returns a folder node_modules with gRPC's client for Node."""

    def create(folder: Path) -> None:
        for file in NPM_FILES:
            shutil.copy(file, folder)
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _run("npm", "ci", *quiet, "--prefix", folder)

    pinned = "".join(file.read_text() for file in NPM_FILES)
    return _create_once("grpc-js", pinned, create) / "node_modules"


def _create_once(name: str, pinned: str, create: Callable[[Path], None]) -> Path:
    """Returns the folder that `create` fills, unless it exists."""
    digest = hashlib.sha256(pinned.encode()).hexdigest()[:12]
    folder = ROOT / "build" / "conformance" / f"{name}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):  # of all test processes
        if not folder.is_dir():
            with atomic_folder(folder, sync=False) as tmp_folder:
                create(tmp_folder)
    return folder


def _run(*words: str | Path) -> None:
    process = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert process.returncode == 0, f"{words[0]} {words[1]}: {process.stderr}"
