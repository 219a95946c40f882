"""Training runs in subprocesses that end with this process.

The files of a run folder `NAME` are `NAME.log`, and `NAME.spent.json` with the time and
the peak memory of all processes of the run.
"""

import ctypes
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmkeras.cli import Parser, add_settings, choose_preset, settings
from mmkeras.config import Config
from mmkeras.files import read_json, write_text
from mmkeras.schema import METRICS_FILE
from mmkeras.training import run_folder

_SET_PARENT_DEATH_SIGNAL = 1  # of prctl(2)
_POLL_S = 0.05
_ERROR = "error: "  # prefix of the message that `run_program` prints


@dataclass(frozen=True, kw_only=True)
class SubprocessRun:
    """A planned call of `python -m mmkeras.train`.

    `config` has the parsed `flags`; a `table` of None is the demo data set.
    """

    name: str
    folder: Path
    table: Path | None
    flags: tuple[str, ...]
    config: Config

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def spent(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.spent.json")

    @property
    def command(self) -> list[str]:
        data = ["--data", str(self.table)] if self.table else []
        words = [*self.flags, *data, "--output", str(self.folder)]
        return [sys.executable, "-m", "mmkeras.train", *words]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """Result of a run; time and peak memory are those of all its processes.

    `error` is "" without one; `was_finished` is whether an earlier call finished it.
    """

    error: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    was_finished: bool = False


def plan_run(
    name: str, folder: Path, table: Path | None, flags: Sequence[str]
) -> SubprocessRun:
    """Parses the settings of a run.

    Raises:
        UserError: A setting or value does not exist.

    Example:
        run = plan_run("gated", Path("runs/a"), None, ["--preset", "gated"])
        outcome = run_subprocess(run)
    """
    parser = Parser()
    add_settings(parser, choose_preset(flags, has_demo=table is None))
    config = settings(parser, parser.parse_args(flags))
    return SubprocessRun(
        name=name, folder=folder, table=table, flags=tuple(flags), config=config
    )


def check_runs(runs: Sequence[SubprocessRun]) -> None:
    """Checks that started runs have the planned settings and rows."""
    for run in runs:
        data = run_folder.data_name(run.table)
        run_folder.check_unchanged(run.folder, run.config, data)
        run_folder.check_finished(run.folder, run.table)


def run_subprocess(run: SubprocessRun) -> RunOutcome:
    """Trains a run or resumes it; a finished run is not changed.

    Raises:
        KeyboardInterrupt: After the subprocess was interrupted too, and has ended.
    """
    if run_folder.is_finished(run.folder):
        return RunOutcome(was_finished=True, **_read_spent(run.spent))
    error = run_with_log(run.command, run.log, run.spent)
    return RunOutcome(error=error, **_read_spent(run.spent))


def run_with_log(command: Sequence[str], log: Path, spent: Path | None = None) -> str:
    """Runs a command, appends its output to a log, and returns its error or "".

    Adds time and peak memory to the file `spent`.

    Raises:
        KeyboardInterrupt: After the subprocess was interrupted too, and has ended.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    with log.open("ab") as file:
        offset = file.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,  # `_wait` forwards Ctrl-C, once
            preexec_fn=_parent_death_signal(),
        )
    peak_mb, was_interrupted = _wait(process)
    if spent is not None:
        _add_spent(spent, time.perf_counter() - start, peak_mb)
    if was_interrupted:
        raise KeyboardInterrupt
    return _error(log.read_bytes()[offset:], process.returncode)


def _parent_death_signal() -> Callable[[], None] | None:
    """Returns a function that makes a new process end when this one is killed."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    return lambda: prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


def sigterm_as_keyboard_interrupt() -> None:
    """Makes SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does."""
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(name, signal.default_int_handler)


def print_resume_command(program: str, argv: Sequence[str], note: str = "") -> None:
    """Prints, after Ctrl-C, a note and the command that resumes the runs."""
    command = shlex.join(["python", "-m", program, *argv])
    print(f"\nInterrupted.{note}\nTo go on: {command}", file=sys.stderr)


def read_metrics(folder: Path) -> dict:
    """Reads metrics.json of a finished run."""
    return read_json(folder, METRICS_FILE)


def _wait(process) -> tuple[float, bool]:
    """Returns the peak memory in MB, and whether Ctrl-C has interrupted the process.

    The kernel also counts the memory that this process had at the fork.
    """
    was_interrupted = False
    pid = 0
    while pid == 0:
        try:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid == 0:  # Ctrl-C just before a wait without limit would be lost
                time.sleep(_POLL_S)
        except KeyboardInterrupt:  # the first lets it save its work
            sig = signal.SIGKILL if was_interrupted else signal.SIGTERM
            os.kill(process.pid, sig)
            was_interrupted = True
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss / 1024, was_interrupted


def _error(output: bytes, code: int) -> str:
    if code == 0:
        return ""
    if code < 0:
        note = " The machine may be out of memory." if code == -signal.SIGKILL else ""
        return f"It was ended by {signal.Signals(-code).name}.{note}"
    lines = output.decode("utf-8", "replace").strip().splitlines()
    for i, line in enumerate(lines):
        if line.startswith(_ERROR):
            return "\n".join([line.removeprefix(_ERROR), *lines[i + 1 :]])
    return lines[-1] if lines else f"It exited with code {code}."


def _read_spent(path: Path) -> dict[str, float]:
    return json.loads(path.read_text()) if path.exists() else {}


def _add_spent(path: Path, seconds: float, peak_mb: float) -> None:
    before = {"seconds": 0.0, "peak_mb": 0.0, **_read_spent(path)}
    seconds += before["seconds"]
    spent = {"seconds": seconds, "peak_mb": max(peak_mb, before["peak_mb"])}
    write_text(path, json.dumps(spent))
