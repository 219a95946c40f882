"""Installation check: one line per check, with a remedy for each problem."""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mmkeras.environment.download import cached_weights, download_problem
from mmkeras.environment.extras import EXTRAS

OK, WARN, FAIL = "ok", "warn", "FAIL"
# manylinux tags of TensorFlow's wheels, and the oldest version in our tests.
_MIN_GLIBC, _TESTED_GLIBC = (2, 27), (2, 36)
_IMPORT_S = 300  # TensorFlow from a slow network disk, not compiled yet

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
url = APPLICATIONS["resnet50"].url
result = dict(seconds=seconds, version=tf.__version__, gpus=gpus, weights_url=url)
print(json.dumps(result))
"""


@dataclass(frozen=True)
class Finding:
    """Result of one check; `level` is ok, warn or FAIL."""

    level: str
    text: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:4}  {self.text}" + (self.advice and f". {self.advice}")


@dataclass(frozen=True)
class Probe:
    """Result of an import of TensorFlow; only `error` is set if it failed."""

    seconds: float = 0.0
    version: str = ""
    gpus: tuple[str, ...] = ()
    weights_url: str = ""
    error: str = ""


def main(argv: Sequence[str]) -> int:
    """Prints one line per check; returns 1 if a check FAILed, else 0."""
    # argparse, not mmkeras.cli: its imports may be missing.
    parser = argparse.ArgumentParser(
        prog="python -m mmkeras.doctor",
        description="Check this installation; print one line per check.",
    )
    _, unknown = parser.parse_known_args(argv)
    if unknown:
        print(f"error: There is no flag '{unknown[0]}'.", file=sys.stderr)
        return 2
    has_failure = False
    for finding in run_checks():
        print(finding, flush=True)
        has_failure = has_failure or finding.level == FAIL
    return int(has_failure)


def run_checks() -> Iterator[Finding]:
    """Yields the finding of each check, the slow ones last."""
    yield check_glibc()
    yield check_cpu()
    yield from check_extras()
    probe = probe_tensorflow()
    yield check_tensorflow(probe)
    yield check_gpu(probe)
    yield check_weights(probe)


def check_glibc() -> Finding:
    """Checks that the C library of Linux is a glibc that the wheels support."""
    if platform.system() != "Linux":
        return Finding(OK, "C library: the system's own")
    name, version = platform.libc_ver()
    numbers = version.split(".")[:2] if name == "glibc" else []
    text = f"C library: {name or 'unknown'} {version}".rstrip()
    if tuple(map(int, numbers)) < _MIN_GLIBC:
        advice = "TensorFlow needs glibc 2.27 or later: use a newer Debian, Ubuntu or "
        return Finding(FAIL, text, f"{advice}the like (Alpine Linux has musl).")
    if tuple(map(int, numbers)) < _TESTED_GLIBC:
        return Finding(WARN, text, "Not tested below 2.36 (Debian 12).")
    return Finding(OK, text)


def check_cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    """Checks for AVX, without which TensorFlow crashes at import."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return Finding(OK, f"CPU: {platform.machine()}, which needs no AVX")
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return Finding(WARN, f"CPU: AVX not known ({cpuinfo}: {error.strerror})")
    if any(x.startswith("flags") and "avx" in x.split() for x in lines):
        return Finding(OK, "CPU: has AVX")
    advice = "TensorFlow needs it: use another machine, or another CPU model of the VM."
    return Finding(FAIL, "CPU: no AVX", advice)


def check_extras() -> Iterator[Finding]:
    """Yields a finding per extra; a missing one is no problem."""
    for extra in dict.fromkeys(EXTRAS.values()):
        modules = [name for name in EXTRAS if EXTRAS[name] == extra]
        missing = next((name for name in modules if find_spec(name) is None), None)
        text, advice = f"extra {extra}: installed", ""
        if missing:
            text = f"extra {extra}: not installed (no {missing})"
            advice = f"In the folder of mmkeras: pip install '.[{extra}]'"
        yield Finding(OK, text, advice)


def probe_tensorflow() -> Probe:
    """Imports TensorFlow and an image encoder in another process, as they may crash."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    try:
        result = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=env,
            capture_output=True,
            text=True,
            timeout=_IMPORT_S,
        )
    except subprocess.TimeoutExpired:
        return Probe(error=f"not done after {_IMPORT_S} s")
    if result.returncode < 0:
        return Probe(error=f"killed by {signal.Signals(-result.returncode).name}")
    if result.returncode:
        last_line = result.stderr.strip().rpartition("\n")[2]
        return Probe(error=last_line or "no message")
    content = json.loads(result.stdout.splitlines()[-1])
    return Probe(**{**content, "gpus": tuple(content["gpus"])})


def check_tensorflow(probe: Probe) -> Finding:
    """Checks that TensorFlow and Keras can be imported."""
    text = f"TensorFlow {probe.version}: imported in {probe.seconds:.1f} s"
    if not probe.error:
        return Finding(OK, text)
    text = f"TensorFlow: cannot be imported ({probe.error})"
    advice = "Fix the FAILs above; else run, in the folder of mmkeras: pip install ."
    return Finding(FAIL, text, advice)


def check_gpu(probe: Probe) -> Finding:
    """Checks that TensorFlow can use the machine's GPU, if there is one."""
    if probe.gpus:
        return Finding(OK, f"GPU: {', '.join(probe.gpus)}")
    if not (shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists()):
        return Finding(OK, "GPU: none; training runs on the CPU")
    if probe.error:
        return Finding(WARN, "GPU: not known, as TensorFlow cannot be imported")
    text = "GPU: the machine has a driver, but TensorFlow finds no GPU"
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if devices is not None:
        text += f" (CUDA_VISIBLE_DEVICES='{devices}')"
    advice = "In the folder of mmkeras: pip install '.[gpu]', or train on the CPU"
    return Finding(WARN, text, advice)


def check_weights(probe: Probe) -> Finding:
    """Checks that ResNet50's ImageNet weights are cached or can be downloaded."""
    if probe.error:
        return Finding(WARN, "weights: not known, as TensorFlow cannot be imported")
    path = cached_weights(probe.weights_url)
    if path.is_file():
        return Finding(OK, f"weights: {path}")
    if not (problem := download_problem(probe.weights_url)):
        return Finding(OK, "weights: not in the cache; the first training fetches them")
    host = probe.weights_url.split("/")[2]
    text = f"weights: neither {path} nor {host} can be read ({problem})"
    advice = "Use --image.weights FILE, --image.weights none or --preset small-concat."
    return Finding(WARN, text, advice)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
