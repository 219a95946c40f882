"""Several models on one table: the command line, the runs, what each came to."""

import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from mmkeras.cli import Parser, add_settings, drop_flags
from mmkeras.config import Config
from mmkeras.config.presets import PRESETS
from mmkeras.errors import UserError, did_you_mean
from mmkeras.experiments.comparison_table import (
    TestPredictions,
    accuracy,
    read_predictions,
)
from mmkeras.experiments.cross_validation import check_no_folds
from mmkeras.experiments.subprocess_run import (
    SubprocessRun,
    check_runs,
    plan_run,
    run_subprocess,
    run_with_log,
    sigterm_as_keyboard_interrupt,
)
from mmkeras.schema import MANIFEST_FILE, METRICS_FILE, PREDICTIONS_FILE
from mmkeras.training import run_folder

ALL = "all"
_OWN = ("--data", "--presets", "--seeds", "--output")


@dataclass(frozen=True, kw_only=True)
class ComparisonArgs:
    """A command line, understood.

    Attributes:
        program: Name of the module that was started.
        words: The command line, but --output.
        table: None is the embedded data set.
        presets: Their names.
        seeds: Each 0 or more.
        folder: Where all comes to lie.
        flags: Settings, as they were given; they hold for all models alike.
    """

    program: str
    words: tuple[str, ...]
    table: Path | None
    presets: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path
    flags: tuple[str, ...]


@dataclass(kw_only=True)
class ModelRuns:
    """A model and its runs.

    Attributes:
        name: Of the model.
        trials: Seed -> the run.
        finished: Seed -> folder of the run, once it is finished.
        seconds: Of each finished run, from start to report.
        peak_mb: Of each, the most memory held.
        measured: Whether `mmkeras.cost` measures the first.
        cost: What it found.
        error: One line; "" where all went well.
    """

    name: str
    trials: dict[int, SubprocessRun]
    finished: dict[int, Path] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    measured: bool = True
    cost: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def answers(self, seeds: Sequence[int] = ()) -> list[TestPredictions]:
        """Returns the test rows' answers of each seed; all finished ones by default."""
        folders = [self.finished[seed] for seed in seeds or self.finished]
        return [read_predictions(folder / PREDICTIONS_FILE) for folder in folders]

    @property
    def resamples(self) -> int:
        """Those that settings ask for behind each interval."""
        return next(iter(self.trials.values())).config.evaluate.bootstrap_resamples

    def row(self) -> dict:
        """Returns what tables say of the model, None where it is not known."""
        found = [_metrics(folder) for folder in self.finished.values()]
        each = [m["metrics"]["accuracy"]["value"] for m in found]
        return {
            "name": self.name,
            "accuracy": accuracy(self.answers(), self.resamples) if found else None,
            "seeds": dict(zip(self.finished, each, strict=True)),
            "parameters": self.cost.get("parameters"),
            "seconds": mean(self.seconds) if found else None,
            "peak_mb": max(self.peak_mb, default=None),
            "row_ms": self.cost.get("row_ms"),
            "row_of_batch_ms": self.cost.get("row_of_batch_ms"),
            "error": self.error,
        }


def _metrics(folder: Path) -> dict:
    return json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))


# The command line ---------------------------------------------------------------


def build_parser(program: str, description: str) -> Parser:
    """Returns a parser of --presets, --data, --seeds, --output and all settings."""
    parser = Parser(
        prog=f"python -m {program}",
        usage="%(prog)s --presets NAME,NAME,... [--data FILE.csv] [--seeds N] "
        "[--output DIR] [--config FILE.yaml] [--SETTING VALUE ...]",
        description=description,
    )
    parser.add_argument(
        "--presets",
        required=True,
        metavar="NAME,NAME,...",
        help=f"Which, with commas between; {ALL} is every one.",
    )
    parser.add_argument(
        "--data", metavar="FILE.csv", help="Table of rows; else the embedded data set."
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="Each with seeds 0 to N - 1."
    )
    parser.add_argument(
        "--output", metavar="DIR", help="Folder of all runs; else a new one in runs/."
    )
    add_settings(parser, Config())
    return parser


def parse_args(
    parser: Parser, argv: Sequence[str], own: Sequence[str] = ()
) -> ComparisonArgs:
    """Reads a command line.

    Args:
        parser: As of `new_parser`.
        argv: The command line.
        own: Further flags of the program, which are no settings.

    Raises:
        UserError: It asks for what there is not.
    """
    parsed = parser.parse_args(argv)
    presets = _presets(parsed.presets)
    flags = drop_flags(argv, *_OWN, *own)
    for word in flags:
        if word.partition("=")[0] in ("--preset", "--seed"):
            raise UserError(f"{word} is for one model; give --presets and --seeds.")
    if parsed.seeds < 1:
        raise UserError(f"--seeds {parsed.seeds} is not possible; give 1 or more.")
    if parsed.data is not None and not Path(parsed.data).is_file():
        raise UserError(f"--data '{parsed.data}' is no file; give the path of a CSV.")
    program = parser.prog.removeprefix("python -m ")
    return ComparisonArgs(
        program=program,
        words=tuple(drop_flags(argv, "--output")),
        table=Path(parsed.data) if parsed.data else None,
        presets=presets,
        seeds=tuple(range(parsed.seeds)),
        folder=Path(parsed.output or run_folder.new_folder(program.rpartition(".")[2])),
        flags=tuple(flags),
    )


def _presets(names: str) -> tuple[str, ...]:
    if names == ALL:
        return tuple(PRESETS)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in PRESETS:
            raise UserError(
                f"There is no preset '{name}'.{did_you_mean(name, list(PRESETS))}"
            )
    if not wanted or len(set(wanted)) < len(wanted):
        raise UserError(f"--presets '{names}' must name presets, each once.")
    return tuple(wanted)


def plan_runs(
    contest: ComparisonArgs, preset: str, kind: str = "", flags=()
) -> ModelRuns:
    """Plans the runs of a preset, with every seed.

    Args:
        contest: What was asked.
        preset: Its name.
        kind: What its name is followed by, where `flags` make another model of it.
        flags: Settings beside those of all models.

    Raises:
        UserError: The settings are not possible with this preset.
    """
    name, trials = f"{preset} {kind}".strip(), {}
    for seed in contest.seeds:
        words = [*contest.flags, *flags, "--preset", preset, "--seed", str(seed)]
        folder = contest.folder / f"{name.replace(' ', '-')}-seed{seed}"
        trials[seed] = plan_run(f"{name}, seed {seed}", folder, contest.table, words)
    return ModelRuns(name=name, trials=trials)


# The runs -------------------------------------------------------------------------


@contextmanager
def locked_folder(
    contest: ComparisonArgs, entries: Sequence[ModelRuns]
) -> Iterator[None]:
    """Takes the folder for this process alone; Ctrl-C inside says how to go on.

    Raises:
        UserError: The folder holds something else, or runs of other settings.
    """
    with run_folder.locked_folder(contest.folder):
        check_no_folds(contest.folder)
        if (contest.folder / MANIFEST_FILE).exists():
            raise UserError(
                f"'{contest.folder}' holds a single run. Give another --output."
            )
        check_runs([t for entry in entries for t in entry.trials.values()])
        sigterm_as_keyboard_interrupt()
        try:
            yield
        except KeyboardInterrupt:
            words = [*contest.words, "--output", str(contest.folder)]
            again = shlex.join(["python", "-m", contest.program, *words])
            print(f"\nInterrupted.\nTo go on: {again}", file=sys.stderr)
            sys.exit(130)


def train_all(entries: Sequence[ModelRuns]) -> None:
    """Trains whatever is not finished; a run that fails is noted in its entry.

    Prints a line a run.

    Raises:
        KeyboardInterrupt: After the run under way has ended.
    """
    total, number = sum(len(entry.trials) for entry in entries), 0
    for entry in entries:
        for seed, trial in entry.trials.items():
            number += 1
            place = f"[{number:>{len(str(total))}}/{total}]"
            print(f"{place} {trial.name}: ", end="", flush=True)
            print(_train(entry, seed, trial), flush=True)


def _train(entry, seed, trial) -> str:
    outcome = run_subprocess(trial)
    if outcome.error:
        entry.error = entry.error or outcome.error.splitlines()[0]
        return f"failed; see {trial.log}"
    entry.finished[seed] = trial.folder
    entry.seconds.append(outcome.seconds)
    entry.peak_mb.append(outcome.peak_mb)
    if entry.measured and not entry.cost:
        _measure(entry, trial)
    value = _metrics(trial.folder)["metrics"]["accuracy"]["value"]
    when = ", was there" if outcome.was_there else f" in {outcome.seconds:.0f} s"
    return f"accuracy {value:.3f}{when}"


def _measure(entry, trial) -> None:
    """Measures what the model costs, once and in a process of its own."""
    path = trial.folder.with_name(f"{trial.folder.name}.cost.json")
    if not path.exists():
        command = [sys.executable, "-m", "mmkeras.cost", "--model", str(trial.folder)]
        error = run_with_log([*command, "--output", str(path)], trial.log)
        if error:
            entry.error = entry.error or error.splitlines()[0]
            return
    entry.cost = json.loads(path.read_text())


def baselines(entries: Sequence[ModelRuns]) -> list[dict]:
    """Returns rows, as of `Entry.row`, of what any model has to beat.

    They are those of the entry with the most finished runs, the first of several.
    Each number is a mean over seeds, the ends of the interval too.
    """
    most = max(entries, key=lambda entry: len(entry.finished))
    found = {seed: _metrics(path)["baselines"] for seed, path in most.finished.items()}
    names = dict.fromkeys(name for of_run in found.values() for name in of_run)
    rows = []
    for name in names:
        each = {seed: b[name]["accuracy"] for seed, b in found.items() if name in b}
        rows.append(
            {
                "name": name.replace("_", " "),
                "accuracy": {
                    k: mean(value[k] for value in each.values())
                    for k in ("value", "low", "high")
                },
                "seeds": {seed: value["value"] for seed, value in each.items()},
                "of": most.name,
            }
        )
    return rows
