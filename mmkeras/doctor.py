"""`python -m mmkeras.doctor`: what is wrong with an installation, in plain words."""

import argparse
import http.client
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

OK, WARN, FAIL = "ok", "warn", "FAIL"
_NAME = "mmkeras"
_PYTHON = ((3, 10), (3, 13))  # oldest and newest of setup.cfg
# All that has packages; only the first is tested.
_PLATFORMS = (
    ("Linux", "x86_64"),
    ("Linux", "aarch64"),
    ("Darwin", "arm64"),
    ("Windows", "AMD64"),
)
# manylinux tags of TensorFlow's wheels; those of TFX 1.21 need more.
_OLDEST_GLIBC, _TESTED_GLIBC, _TFX_GLIBC = (2, 27), (2, 31), (2, 39)
_LEAST_DISK_GB = 2  # shards and features of some ten thousand rows
_LEAST_MEMORY_GB = 4  # TensorFlow and ResNet50 with a batch of 32
_IMPORT_S = 300  # of TensorFlow from a slow network disk, uncompiled
_HOST_S = 3

_PROBE = """
import json, time
start = time.perf_counter()
import tensorflow as tf
seconds = time.perf_counter() - start
gpus = [
    tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
    for gpu in tf.config.list_physical_devices("GPU")
]
from mmkeras.modalities.image.applications import APPLICATIONS
found = dict(seconds=seconds, version=tf.__version__, gpus=gpus)
print(json.dumps({**found, "weights_url": APPLICATIONS["resnet50"].url}))
"""


@dataclass(frozen=True)
class Finding:
    """What one check found; `level` is ok, warn or FAIL."""

    level: str
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:4}  {self.what}" + (self.advice and f". {self.advice}")


@dataclass(frozen=True)
class Probe:
    """What a process that imports TensorFlow tells; only `error` where it failed."""

    seconds: float = 0.0
    version: str = ""
    gpus: tuple[str, ...] = ()
    weights_url: str = ""
    error: str = ""


def main(argv: Sequence[str]) -> int:
    """Prints one line a check; returns 1 if anything FAILed, else 0."""
    # argparse, not mmkeras.cli: what that imports may be what is missing.
    parser = argparse.ArgumentParser(
        prog="python -m mmkeras.doctor",
        description="Say what is wrong with this installation, one line a check.",
    )
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        print(f"error: There is no flag '{unknown[0]}'.", file=sys.stderr)
        return 2
    failed = False
    for finding in examine():
        print(finding, flush=True)
        failed = failed or finding.level == FAIL
    return int(failed)


def examine() -> Iterator[Finding]:
    """Yields the finding of each check, the slow ones last."""
    yield check_python()
    yield check_platform()
    yield check_glibc()
    yield check_cpu()
    yield check_memory()
    yield check_environment()
    yield check_requirements()
    for extra in _extras():
        yield check_extra(extra)
    yield check_soundfile()
    yield check_cache()
    probe = probe_tensorflow()
    yield check_tensorflow(probe)
    yield check_gpu(probe)
    yield check_weights(probe)


# The machine ------------------------------------------------------------------


def check_python() -> Finding:
    """Python is one that the stacks have wheels for."""
    what = f"Python {platform.python_version()} in {sys.prefix}"
    if _PYTHON[0] <= tuple(sys.version_info[:2]) <= _PYTHON[1]:
        return Finding(OK, what)
    return Finding(
        FAIL, what, "3.10 to 3.13 is wanted: make a new environment with it."
    )


def check_platform() -> Finding:
    """All packages exist for the system; it is tested on Linux x86-64."""
    platform_name = (platform.system(), platform.machine())
    what = f"system: {' '.join(platform_name)}"
    if platform_name == _PLATFORMS[0]:
        return Finding(OK, what)
    if platform_name in _PLATFORMS:
        return Finding(WARN, what, "Packages exist, but it is tested on Linux x86_64.")
    known = ", ".join(" ".join(x) for x in _PLATFORMS)
    return Finding(FAIL, what, f"TensorFlow has no packages for it, only for {known}.")


def check_glibc() -> Finding:
    """The C library of Linux is a glibc that the wheels run on."""
    if platform.system() != "Linux":
        return Finding(OK, "C library: the system's own")
    name, version = platform.libc_ver()
    if name != "glibc":
        what = f"C library: not glibc (received '{name}'; Alpine Linux has musl)"
        advice = "No wheels of TensorFlow exist for it: use Debian, Ubuntu or the like."
        return Finding(FAIL, what, advice)
    what, number = f"C library: glibc {version}", _numbers(version)
    if number < _OLDEST_GLIBC:
        advice = "The wheels need 2.27 or later: use a newer distribution of Linux."
        return Finding(FAIL, what, advice)
    if number < _TESTED_GLIBC:
        return Finding(WARN, what, "Not tested below 2.31 (Debian 11, Ubuntu 20.04).")
    return Finding(OK, what)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """The CPU has AVX, without which TensorFlow's wheels die at import."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return Finding(OK, f"CPU: {platform.machine()}, which needs no AVX")
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return Finding(WARN, f"CPU: AVX not known, {cpuinfo} says: {error.strerror}")
    if any(x.startswith("flags") and "avx" in x.split() for x in lines):
        return Finding(OK, "CPU: has AVX")
    advice = "TensorFlow needs it: use another machine, or another CPU model of the VM."
    return Finding(FAIL, "CPU: no AVX", advice)


def check_memory() -> Finding:
    """There is memory enough to train."""
    if not hasattr(os, "sysconf"):
        return Finding(WARN, "memory: not known on this system")
    gigabytes = _memory_bytes() / 1e9
    what = f"memory: {gigabytes:.1f} GB"
    if gigabytes >= _LEAST_MEMORY_GB:
        return Finding(OK, what)
    advice = f"Below {_LEAST_MEMORY_GB} GB use --preset small-concat and small batches."
    return Finding(WARN, what, advice)


def _memory_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The machine's memory, or what the container may use of it."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):  # cgroup 2, cgroup 1
        file = cgroup / name
        if file.is_file() and (limit := file.read_text().strip()).isdigit():
            most = min(most, int(limit))
    return most


def check_environment() -> Finding:
    """No environment variable sends Keras elsewhere."""
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    wrong = []
    if backend != "tensorflow":
        wrong.append(f"KERAS_BACKEND={backend}")
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true"):
        wrong.append(f"TF_USE_LEGACY_KERAS={os.environ['TF_USE_LEGACY_KERAS']}")
    if not wrong:
        return Finding(OK, "environment variables: nothing in the way")
    advice = f"Run: unset {' '.join(x.partition('=')[0] for x in wrong)}"
    return Finding(WARN, f"environment variables: {', '.join(wrong)}", advice)


def check_cache() -> Finding:
    """The cache folder can be written and has room."""
    # As records.default_cache_dir has it, which stands above TensorFlow.
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base).absolute() / _NAME
    there = next(path for path in (folder, *folder.parents) if path.exists())
    what, move = f"cache: {folder}", "set XDG_CACHE_HOME or --table.cache_dir"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(
            FAIL, f"{what} cannot be written ({error.strerror})", f"To move it {move}"
        )
    free_gb = shutil.disk_usage(there).free / 1e9
    what = f"{what}, {free_gb:.1f} GB free"
    if free_gb >= _LEAST_DISK_GB:
        return Finding(OK, what)
    return Finding(WARN, what, f"Make room for {_LEAST_DISK_GB} GB, or {move}")


# The packages -----------------------------------------------------------------


def check_requirements() -> Finding:
    """Everything that mmkeras needs is installed, at the versions that it names."""
    try:
        wanted = _requirements(_NAME)
    except metadata.PackageNotFoundError:
        what = "requirements: mmkeras itself is not installed, so none are known"
        return Finding(WARN, what, "In its folder: pip install -e .")
    except ModuleNotFoundError as error:
        return Finding(FAIL, f"requirements: no module '{error.name}'", _fix([]))
    lacks = {str(r): said for r in wanted if (said := _lacks(r))}
    if not lacks:
        return Finding(OK, f"requirements: all {len(wanted)} as wanted")
    said = "; ".join("; ".join(x) for x in lacks.values())
    return Finding(FAIL, f"requirements: {said}", _fix(list(lacks)))


def _fix(requirements: list[str]) -> str:
    quoted = " ".join(f"'{x}'" for x in requirements or ["packaging"])
    return f"Run: pip install {quoted}"


def _extras() -> list[str]:
    try:
        return metadata.metadata(_NAME).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return []


def check_extra(extra: str) -> Finding:
    """Whether an optional part is installed whole; either way is fine."""
    try:
        lacks = [x for r in _requirements(_NAME, extra) for x in _lacks(r)]
    except ModuleNotFoundError as error:
        return Finding(WARN, f"extra {extra}: not known without '{error.name}'")
    if not lacks:
        return Finding(OK, f"extra {extra}: whole")
    more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
    what = f"extra {extra}: not installed ({lacks[0]}{more})"
    if extra == "tfx" and (problem := _tfx_problem()):
        return Finding(OK, what, problem)
    return Finding(OK, what, f"To install it, in the folder of mmkeras: {_pip(extra)}")


def _pip(extra: str) -> str:
    return f"pip install '.[{extra}]'"


def _tfx_problem() -> str:
    """Returns why TFX cannot be installed beside this Python, or ""."""
    name, version = platform.libc_ver()
    if sys.version_info[:2] == (3, 10):
        return ""
    if name == "glibc" and _numbers(version) >= _TFX_GLIBC:
        return ""
    return (
        f"TFX 1.21 needs glibc 2.39 (Debian 13, Ubuntu 24.04), this system has "
        f"{version or 'none'}: use Python 3.10, as `make pipeline` does"
    )


def _requirements(name: str, extra: str = "") -> list:
    """What a distribution asks for here: always, or only for one of its extras."""
    from packaging.requirements import Requirement  # may be what is missing

    wanted = [Requirement(text) for text in metadata.requires(name) or []]
    always = [r for r in wanted if not r.marker or r.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [
        r for r in wanted if r not in always and r.marker.evaluate({"extra": extra})
    ]


def _requirements_of(*packages: str) -> list[str]:
    """Returns what mmkeras asks for of packages; their names, if it is not known."""
    try:
        wanted = {r.name: f"{r.name}{r.specifier}" for r in _requirements(_NAME)}
    except (metadata.PackageNotFoundError, ModuleNotFoundError):
        wanted = {}
    return [wanted.get(name, name) for name in packages]


def _lacks(requirement) -> list[str]:
    """Says in which ways a requirement, with its own extras, is not met."""
    name, wanted = requirement.name, str(requirement.specifier) or "any version"
    try:
        # None, or no version: a folder that a broken installation left behind.
        found = (metadata.metadata(name) or {}).get("Version")
    except metadata.PackageNotFoundError:
        found = None
    if found is None:
        return [f"{name}: not found, {wanted} wanted"]
    if not requirement.specifier.contains(found, prereleases=True):
        return [f"{name}: {found} found, {wanted} wanted"]
    extras = sorted(requirement.extras)
    return [x for e in extras for r in _requirements(name, e) for x in _lacks(r)]


def check_soundfile() -> Finding:
    """Sounds can be read, MP3 among them."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: no libsndfile beside it
        what = f"sounds: soundfile does not import ({_last_line(str(error))})"
        return Finding(FAIL, what, "Run: pip install --force-reinstall soundfile")
    what = f"sounds: libsndfile {soundfile.__libsndfile_version__}"
    if "MP3" in soundfile.available_formats():
        return Finding(OK, f"{what}, reads MP3")
    advice = "Run: pip install --force-reinstall soundfile, whose wheel has a newer one"
    return Finding(WARN, f"{what}, reads no MP3", advice)


# TensorFlow, in a process of its own ------------------------------------------


def probe_tensorflow() -> Probe:
    """Imports TensorFlow and the picture encoder elsewhere, as they may crash."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=_IMPORT_S
        )
    except subprocess.TimeoutExpired:
        return Probe(error=f"not done after {_IMPORT_S} s")
    if done.returncode < 0:
        return Probe(error=f"killed by {signal.Signals(-done.returncode).name}")
    if done.returncode:
        return Probe(error=_last_line(done.stderr))
    found = json.loads(done.stdout.splitlines()[-1])
    return Probe(**{**found, "gpus": tuple(found["gpus"])})


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2] or "no message"


def check_tensorflow(probe: Probe) -> Finding:
    """TensorFlow and Keras import."""
    if not probe.error:
        what = f"TensorFlow {probe.version}: imported in {probe.seconds:.1f} s"
        return Finding(OK, what)
    advice = "Repair the FAILs above first; else run: pip install --force-reinstall "
    advice += " ".join(f"'{x}'" for x in _requirements_of("tensorflow", "keras"))
    return Finding(FAIL, f"TensorFlow: does not import ({probe.error})", advice)


def check_gpu(probe: Probe) -> Finding:
    """TensorFlow sees the GPU, where there is one."""
    if probe.gpus:
        return Finding(OK, f"GPU: {', '.join(probe.gpus)}")
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()):
        return Finding(OK, "GPU: none; training runs on the CPU")
    if probe.error:
        return Finding(WARN, "GPU: not known, as TensorFlow does not import")
    what = "GPU: the machine has a driver, and TensorFlow sees no GPU"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        what += f" (CUDA_VISIBLE_DEVICES='{hidden}')"
    advice = f"In the folder of mmkeras: {_pip('gpu')}, or train on the CPU"
    return Finding(WARN, what, advice)


def check_weights(probe: Probe) -> Finding:
    """ResNet50's ImageNet weights are here or can be fetched."""
    if probe.error:
        return Finding(WARN, "weights: not known, as TensorFlow does not import")
    home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    file = Path(home) / "models" / probe.weights_url.rpartition("/")[2]
    if file.is_file():
        return Finding(OK, f"weights: {file}")
    if not (problem := host_problem(probe.weights_url)):
        return Finding(OK, "weights: not in the cache; the first training fetches them")
    host = probe.weights_url.split("/")[2]
    what = f"weights: neither {file} nor {host} can be read ({problem})"
    advice = "Use --image.weights FILE, --image.weights none or --preset small-concat."
    return Finding(WARN, what, advice)


def host_problem(url: str) -> str:
    """Returns why a file cannot be fetched, empty if it can."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_HOST_S).close()
    except (OSError, http.client.HTTPException) as error:
        words = str(error).removeprefix("<urlopen error ").removesuffix(">")
        return " ".join(words.split()) or type(error).__name__
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
