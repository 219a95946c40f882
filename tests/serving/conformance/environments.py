"""An environment of its own for each client that nobody here wrote, made once.

They stand in `build/conformance` and are made anew when what is pinned changes. What is
pinned is all that is installed, so that no release of somebody else breaks a test.
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


class Unavailable(Exception):
    """An environment cannot be made here; one line that says why."""


def python_with(client: str, cache: Path = CACHE) -> Path:
    """Returns a Python that has `client` and what it needs, and nothing else.

    Raises:
        Unavailable: There is no uv, or the packages cannot be had.
    """
    packages = PACKAGES[client]

    def make(folder: Path) -> None:
        uv = _program("uv", ROOT / ".uv" / "bin" / "uv")
        python = folder / "bin" / "python"
        _run(uv, "venv", "--quiet", "--relocatable", "--python", sys.executable, folder)
        _run(uv, "pip", "install", "--quiet", "--python", python, *packages)

    pinned = "\n".join([f"python {sys.version_info[:2]}", *packages])
    return made(client, pinned, make, cache) / "bin" / "python"


def node_modules(cache: Path = CACHE) -> Path:
    """Returns a folder node_modules with gRPC's own client for Node.

    Raises:
        Unavailable: There is no npm, or the packages cannot be had.
    """

    def make(folder: Path) -> None:
        npm = _program("npm")
        for file in NPM_FILES:
            shutil.copy(file, folder)
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        _run(npm, "ci", *quiet, "--prefix", folder)

    pinned = "".join(file.read_text() for file in NPM_FILES)
    return made("grpc-js", pinned, make, cache) / "node_modules"


def made(name: str, pinned: str, make: Callable[[Path], None], cache: Path) -> Path:
    """Returns the folder that `make` fills, and calls it only where it has not yet.

    `make` gets an empty folder beside the real one, so what it leaves unfinished is
    never taken for an environment.
    """
    folder = cache / f"{name}-{hashlib.sha256(pinned.encode()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as aside:
        fresh = Path(aside) / "environment"
        fresh.mkdir()
        make(fresh)
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    return folder


def _program(name: str, *others: Path) -> str:
    found = shutil.which(name) or next((str(o) for o in others if o.is_file()), None)
    if found is None:
        raise Unavailable(
            f"There is no program '{name}', which makes the environment of a foreign "
            "client. Install it, or leave these tests out by -m 'not e2e'."
        )
    return found


def _run(*words: object) -> None:
    command = [str(word) for word in words]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"Not done in {TIMEOUT_S} s: {' '.join(command)}") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-600:]
        raise Unavailable(
            "The environment of a foreign client cannot be made, which needs the "
            f"package registries; -m 'not e2e' leaves these tests out. "
            f"{os.path.basename(command[0])} {command[1]}: {said}"
        )
