"""Calls of programs in this process, and readers of their output files."""

import csv
import io
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import pytest

from mmkeras.cli import run_program


def to_argv(flags: Mapping[str, object]) -> list[str]:
    """Returns a command line of flag -> value; None leaves out the flag."""
    pairs = [(flag, str(value)) for flag, value in flags.items() if value is not None]
    return [word for pair in pairs for word in pair]


def output_of(main: Callable, argv: Sequence[object]) -> str:
    """Runs a program that succeeds; returns what it prints."""
    out = io.StringIO()
    with redirect_stdout(out):
        assert main([str(word) for word in argv]) == 0
    return out.getvalue()


def error_of(main: Callable, argv: Sequence[str], monkeypatch, capsys) -> str:
    """Runs a program that fails with exit code 2; returns its one line on stderr."""
    monkeypatch.setattr(sys, "argv", ["program", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def signal_at_checkpoint(
    program: str, argv: Sequence[object], run: Path, checkpoint: str, signal_number: int
) -> tuple[int, str]:
    """Signals a program when a checkpoint exists; returns its exit code and stderr."""
    command = [sys.executable, "-m", f"mmkeras.{program}", *map(str, argv)]
    pipe, root = subprocess.PIPE, Path(__file__).parents[1]
    process = subprocess.Popen(command, cwd=root, stdout=pipe, stderr=pipe, text=True)
    try:
        wait_for_checkpoint(run, checkpoint, process)
        process.send_signal(signal_number)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, err


def wait_for_checkpoint(run: Path, name: str, *processes: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not any((run / "checkpoints").glob(name)):
        for process in processes:
            assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def resume_command(err: str) -> list[str]:
    """Returns the words of the command that an interrupted program prints."""
    (line,) = [line for line in err.splitlines() if line.startswith("To go on: ")]
    return shlex.split(line.removeprefix("To go on: "))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@contextmanager
def cached_model(run: Path):
    """Loads and traces the model of a run once for all programs in the block."""
    from mmkeras.export import inference

    load, build = inference.load_trained, inference.Predictor
    trained_model = load(run)
    predictor = build(trained_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            inference, "load_trained", lambda f: trained_model if f == run else load(f)
        )
        patch.setattr(
            inference,
            "Predictor",
            lambda model: predictor if model is trained_model else build(model),
        )
        yield


def run_python(code: str, stdout=subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Runs statements in a process of their own, at most a minute."""
    env = {**os.environ, "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, stdout=stdout, stderr=subprocess.PIPE, env=env, text=True, timeout=60
    )
