#!/usr/bin/env python3
"""Tests of the wheel: installation on each Python, training, and crossing of stacks.

    python3 .ci/package.py --uv UV [--folder DIR] [PYTHON ...]

PYTHON are versions, by default 3.10 to 3.13. The wheel is installed without this
repository's constraints, alternately by pip and uv; each installation trains for two
epochs. Then each stack reads exports and run folders of the other.
"""

import argparse
import csv
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLD, NEW = "3.10", "3.13"
# uv's names of the platforms for which only the resolution is tested.
PLATFORMS = {
    "Linux ARM": "aarch64-manylinux_2_31",
    "macOS ARM": "aarch64-apple-darwin",
    "Windows": "x86_64-pc-windows-msvc",
}
# Extras that are installed together; tfx asks for another tensorflow-hub than hub.
EXTRAS = ("bert,generate,hub,media,s3,serving,test,tune", "tfx,s3,serving", "gpu")
NEWEST_LINUX = "x86_64-manylinux_2_40"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
TRAIN = ["--preset", "small-concat", "--evaluate.noise_rows", "0"]
TIMEOUT_S = 900


class Installation:
    """An environment with the wheel, and its programs."""

    def __init__(self, folder: Path, python: str):
        self.python, self.folder = python, folder / f"env-{python}"
        self.work = folder / f"work-{python}"
        self.work.mkdir()
        self.run = self.work / "run"

    def install(self, uv: str, wheel: Path, by_pip: bool) -> None:
        name = [f"mmkeras[serving] @ {wheel.as_uri()}"]
        seed = ["--seed"] if by_pip else []
        python = find_python(self.python)
        output_of([uv, "venv", "--quiet", *seed, "--python", python, self.folder])
        if by_pip:
            command = [self.program("python"), "-m", "pip", "install", "--quiet"]
        else:
            python = ["--python", self.program("python"), "--compile-bytecode"]
            command = [uv, "pip", "install", "--quiet", "--no-config", *python]
        output_of([*command, *name], cwd=self.work)

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def mmkeras(self, *words, code: int = 0) -> str:
        """Runs `mmkeras WORDS`; returns stdout, or stderr if `code` is not 0."""
        return output_of([self.program("mmkeras"), *words], cwd=self.work, code=code)

    def start(self, name: str, *words) -> subprocess.Popen:
        command = [self.program(name), *map(str, words)]
        return subprocess.Popen(
            command,
            cwd=self.work,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def environment() -> dict[str, str]:
    """Returns the environment without variables that add import paths."""
    return {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")
    }


def output_of(command, cwd=None, code: int = 0) -> str:
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode != code:
        raise AssertionError(
            f"{' '.join(map(str, command))} exited with {done.returncode}, not {code}:"
            f"\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        )
    return done.stderr if code else done.stdout


def find_python(python: str) -> str:
    """Returns the path of pyenv's Python, or else the version, which uv resolves."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    paths = sorted(pyenv.glob(f"versions/{python}.*/bin/python{python}"))
    return str(paths[-1]) if paths else python


# The checks -------------------------------------------------------------------


def check_wheel(wheel: Path) -> None:
    """Checks that the wheel has the license, metadata and console scripts."""
    with zipfile.ZipFile(wheel) as file:
        names = file.namelist()
        (info,) = {n.partition("/")[0] for n in names if ".dist-info/" in n}
        metadata = file.read(f"{info}/METADATA").decode()
        scripts = file.read(f"{info}/entry_points.txt").decode()
    for line in (
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
        "Project-URL: ",
        "Classifier: Programming Language :: Python :: 3.13",
    ):
        assert f"\n{line}" in metadata, f"no '{line}' in METADATA"
    assert f"{info}/licenses/LICENSE" in names
    assert "mmkeras = " in scripts and "mmkeras-serve = " in scripts
    assert "mmkeras/reports/report.html.j2" in names
    assert "serving/client/tensorflow_serving.textproto" in names
    assert "serving/config_messages.textproto" in names
    assert not any(n.startswith(("tests/", "benchmarks/")) for n in names)


def check_resolution(uv: str, wheel: Path, extras: str, *options: str) -> None:
    """Checks that uv resolves the extras for each Python."""
    for python in PYTHONS:
        done = subprocess.run(
            [uv, "pip", "compile", "--quiet", "--no-config", "--python-version", python]
            + [*options, "-"],
            input=f"mmkeras[{extras}] @ {wheel.as_uri()}",
            text=True,
            capture_output=True,
        )
        assert done.returncode == 0, f"{python}: {done.stderr}"


def check_training(at: Installation) -> None:
    """Trains for two epochs and predicts with the run."""
    shown = at.mmkeras("train", *TRAIN, "--epochs", "2", "--output", at.run)
    image = "2.16.1" if at.python == OLD else "2.21.0"
    assert f"tensorflow/serving:{image}" in shown, shown
    predict(at, at.run)


def check_log(at: Installation) -> None:
    """Checks that no log lines of TensorFlow are printed."""
    command = [at.program("python"), "-m", "mmkeras.predict", "--model", at.run]
    command += ["--data", table(at), "--output", at.work / "quiet.csv"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=at.work,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def check_missing_extras(at: Installation) -> None:
    """Checks that a missing extra gives a one-line error that names it."""
    pipeline = [at.program("python"), "-m", "pipeline.local", "--root", "root"]
    for extra, line in (
        ("bert", at.mmkeras("train", "--preset", "bert-vit", code=2)),
        ("tfx", output_of(pipeline, cwd=at.work, code=2)),
    ):
        assert len(line.splitlines()) == 1 and f"[{extra}]" in line, line


def check_served(exporter: Installation, server: Installation) -> None:
    """Checks that one stack serves an export of the other with equal predictions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    output = server.work / f"served-{exporter.python}.csv"
    ports = ["--port", port, "--rest-port", -1]
    model = f"mmkeras={exporter.run / 'export'}"
    process = server.start("mmkeras-serve", "--model", model, *ports)
    try:
        wait_for_port(port, process)
        client = [server.program("python"), "-m", "serving.client"]
        client += ["--target", f"localhost:{port}", "--timeout", "60"]
        client += ["--data", table(exporter), "--output", output]
        output_of(client, cwd=server.work)
    finally:
        process.terminate()
        process.wait(60)
    compare(exporter.work / "predictions.csv", output)


def check_run_read(old: Installation, new: Installation) -> None:
    """Checks that only the current stack reads run folders of the other."""
    predict(new, old.run, new.work / "of-old.csv", table(old))
    compare(old.work / "predictions.csv", new.work / "of-old.csv")
    words = ["--model", new.run, "--data", table(old), "--output", "no.csv"]
    line = old.mmkeras("predict", *words, code=2)
    assert len(line.splitlines()) == 1 and "Keras 3.10" in line, line


def check_run_goes_on(old: Installation, new: Installation) -> None:
    """Checks that only the current stack resumes a run of the other."""
    words = ["train", *TRAIN, "--epochs", "8", "--data", table(old)]
    for at in (old, new):
        folder = at.work / "interrupted"
        process = at.start("mmkeras", *words, "--output", folder)
        end_s = time.monotonic() + TIMEOUT_S
        while not list(folder.glob("checkpoints/phase*/*")):
            assert process.poll() is None and time.monotonic() < end_s
            time.sleep(0.1)
        process.terminate()
        code = process.wait(120)
        assert code == 130, f"exit code {code} after SIGTERM"
    new.mmkeras(*words, "--output", old.work / "interrupted")
    line = old.mmkeras(*words, "--output", new.work / "interrupted", code=2)
    assert len(line.splitlines()) == 1 and "Keras 3.10" in line, line


def table(at: Installation) -> Path:
    """Writes every eighth row of the demo data."""
    path = at.work / "rows.csv"
    if not path.exists():
        data = Path(
            output_of([at.program("python"), "-c", DEMO_DATA], cwd=at.work).strip()
        )
        with (data / "data.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            for row in rows[::8]:
                for column in ("image", "audio"):
                    row[column] = row[column] and str(data / row[column])
                writer.writerow(row)
    return path


DEMO_DATA = """
from mmkeras.data.demo_dataset import default_folder, make_dataset
print(make_dataset(default_folder()))
"""


def predict(at: Installation, run: Path, output: Path | None = None, data=None) -> None:
    output = output or at.work / "predictions.csv"
    words = ["--model", run, "--data", data or table(at), "--output", output]
    at.mmkeras("predict", *words)


def compare(expected: Path, received: Path) -> None:
    """Checks that predicted labels are equal, and scores to 1e-5."""
    with expected.open(newline="") as one, received.open(newline="") as other:
        pairs = list(zip(csv.DictReader(one), csv.DictReader(other), strict=True))
    assert len(pairs) > 100
    largest = 0.0
    for a, b in pairs:
        assert (a["id"], a["predicted"]) == (b["id"], b["predicted"])
        largest = max(largest, abs(float(a["score"]) - float(b["score"])))
    print(f"      largest difference of a score: {largest:.1e}")
    assert largest <= 1e-5, largest


def wait_for_port(port: int, process: subprocess.Popen) -> None:
    end_s = time.monotonic() + 120
    while time.monotonic() < end_s and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"the server did not open its port: {process.poll()}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--uv", default="uv")
    parser.add_argument("--folder", type=Path, help="Default: a temporary one.")
    parser.add_argument("pythons", nargs="*", default=PYTHONS)
    arguments = parser.parse_args()
    uv = str(Path(shutil.which(arguments.uv) or arguments.uv).absolute())
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="mmkeras-package-"))
    folder.mkdir(exist_ok=True)
    passed = failed = 0

    def check(what, function, *args):
        nonlocal passed, failed
        start_s = time.monotonic()
        try:
            function(*args)
        except Exception as error:  # the rest is still checked
            failed += 1
            print(f"FAIL  {what}: {type(error).__name__}: {error}", flush=True)
        else:
            passed += 1
            print(f"ok    {what} ({time.monotonic() - start_s:.0f} s)", flush=True)

    try:
        # The wheel of the sdist, so that no old build/ of the clone gets into it.
        output_of([uv, "build", "--quiet", "--out-dir", folder, ROOT])
        (wheel,) = folder.glob("*.whl")
        check(f"{wheel.name}: metadata", check_wheel, wheel)
        for name, platform in PLATFORMS.items():
            what = f"core and serving resolve on {name}"
            options = ("--python-platform", platform, "--only-binary", ":all:")
            check(what, check_resolution, uv, wheel, "serving", *options)
        for extras in EXTRAS:
            what = f"[{extras}] resolves on Linux"
            options = ("--python-platform", NEWEST_LINUX)
            check(what, check_resolution, uv, wheel, extras, *options)
        stacks = {}
        for i, python in enumerate(arguments.pythons):
            at = stacks[python] = Installation(folder, python)
            by = "pip" if i % 2 == 0 else "uv"
            check(f"{python}: installed by {by}", at.install, uv, wheel, by == "pip")
            check(f"{python}: two epochs and predictions", check_training, at)
            check(f"{python}: no lines of TensorFlow's log", check_log, at)
        for python in sorted({OLD, NEW} & set(stacks)):
            check(f"{python}: missing extras", check_missing_extras, stacks[python])
        if {OLD, NEW} <= set(stacks):
            old, new = stacks[OLD], stacks[NEW]
            check(
                "the old stack's export served by the current", check_served, old, new
            )
            check(
                "the current stack's export served by the old", check_served, new, old
            )
            check("the old stack's run folder read", check_run_read, old, new)
            check("the old stack's run goes on", check_run_goes_on, old, new)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
