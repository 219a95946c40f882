"""Environments of third-party clients, created once in `build/conformance`.

All packages are pinned, so that new releases do not break a test; other pins give a new
environment.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CACHE = ROOT / "build" / "conformance"
TIMEOUT_S = 600
NUMPY_AND_GRPC = ("numpy==2.2.6", "grpcio==1.71.0")  # for Python 3.10 to 3.13
PACKAGES = {
    "ovmsclient": (
        *("ovmsclient==2023.1", "protobuf==5.29.5", "requests==2.32.3"),
        *("certifi==2025.4.26", "charset-normalizer==3.4.2", "idna==3.10"),
        *("urllib3==2.4.0", *NUMPY_AND_GRPC),
    ),
    "min-tfs-client": ("min-tfs-client==1.0.2", "protobuf==3.20.3", *NUMPY_AND_GRPC),
}
# What npm installs; the lock names each package with its checksum.
NPM_FILES = (HERE / "grpc_js" / "package.json", HERE / "grpc_js" / "package-lock.json")


class UnavailableError(Exception):
    """An environment cannot be created here; the text is one line."""


def python_with(client: str, cache: Path = CACHE) -> Path:
    """Returns a Python with `client` and its dependencies alone.

    Raises:
        UnavailableError: There is no uv, or no package registry.
    """
    packages = PACKAGES[client]

    def create(folder: Path) -> None:
        uv = _program("uv", ROOT / ".uv" / "bin" / "uv")
        python = folder / "bin" / "python"
        _run(uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, folder)
        _run(uv, "pip", "install", "--quiet", "--python", python, *packages)

    pinned = "\n".join([f"python {sys.version_info[:2]}", *packages])
    return create_once(client, pinned, create, cache) / "bin" / "python"


def node_modules(cache: Path = CACHE) -> Path:
    """Returns a folder node_modules with gRPC's client for Node.

    Raises:
        UnavailableError: There is no npm, or no package registry.
    """

    def create(folder: Path) -> None:
        npm = _program("npm")
        for file in NPM_FILES:
            shutil.copy(file, folder)
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _run(npm, "ci", *quiet, "--prefix", folder)

    pinned = "".join(file.read_text() for file in NPM_FILES)
    return create_once("grpc-js", pinned, create, cache) / "node_modules"


def create_once(
    name: str, pinned: str, create: Callable[[Path], None], cache: Path
) -> Path:
    """Returns the folder that `create` fills, unless it exists.

    `create` gets a temporary folder, so an incomplete environment is never used.
    """
    folder = cache / f"{name}-{hashlib.sha256(pinned.encode()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as tmp_folder:
        fresh = Path(tmp_folder) / "environment"
        fresh.mkdir()
        create(fresh)
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # created by another process
                raise
    return folder


def _program(name: str, *others: Path) -> str:
    path = shutil.which(name) or next((str(o) for o in others if o.is_file()), None)
    if path is None:
        raise UnavailableError(
            f"There is no program '{name}', which creates the environment of a "
            "client. Install it, or leave these tests out by -m 'not slow'."
        )
    return path


def _run(*words: object) -> None:
    command = [str(word) for word in words]
    try:
        process = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise UnavailableError(
            f"Not done in {TIMEOUT_S} s: {' '.join(command)}"
        ) from None
    if process.returncode:
        text = " ".join((process.stderr or process.stdout).split())[-600:]
        raise UnavailableError(
            "The environment of a client cannot be created, which needs the package "
            "registries; -m 'not slow' leaves these tests out. "
            f"{os.path.basename(command[0])} {command[1]}: {text}"
        )
