"""Training of several presets with several seeds on one table."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from mmkeras.cli import INTERRUPTED, Parser, add_settings, drop_flags
from mmkeras.config import Config
from mmkeras.config.presets import CAPTIONS, PRESETS, PRETRAINED
from mmkeras.errors import UserError, did_you_mean, one_line
from mmkeras.experiments.comparison_table import (
    accuracy,
    r2,
    read_matches,
    read_predictions,
    read_values,
)
from mmkeras.experiments.cross_validation import check_no_folds
from mmkeras.experiments.subprocess_run import (
    SubprocessRun,
    check_runs,
    plan_run,
    print_resume_command,
    read_metrics,
    run_subprocess,
    run_with_log,
    sigterm_as_keyboard_interrupt,
)
from mmkeras.files import check_table
from mmkeras.reports.score_text import (
    EXACT_MATCH,
    R2,
    ScoreText,
    format_score,
    score_text,
)
from mmkeras.schema import MANIFEST_FILE, PREDICTIONS_FILE
from mmkeras.training import run_folder

ALL = "all"
_FLAGS = ("--data", "--presets", "--seeds", "--output")


@dataclass(frozen=True, kw_only=True)
class ComparisonArgs:
    """Parsed arguments of a comparison.

    `argv` is without --output; a `table` of None is the demo data set; `flags` are
    the settings of all models; `is_all` is whether the presets are not named.
    """

    program: str
    argv: tuple[str, ...]
    table: Path | None
    presets: tuple[str, ...]
    seeds: tuple[int, ...]
    folder: Path
    flags: tuple[str, ...]
    is_all: bool = False


@dataclass(kw_only=True)
class ModelRuns:
    """The runs of one model, and their results.

    Attributes:
        runs: Seed -> planned run; {} if the settings do not fit the preset.
        finished: Seed -> folder of the finished run.
        seconds: Time of each finished run, from start to report.
        measures_cost: Whether `mmkeras.cost` measures the first finished run.
        error: First error in one line, or "".
    """

    name: str
    runs: dict[int, SubprocessRun]
    finished: dict[int, Path] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    measures_cost: bool = True
    cost: dict[str, float] = field(default_factory=dict)
    error: str = ""

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples."""
        return next(iter(self.runs.values())).config.evaluate.bootstrap_resamples

    @property
    def score(self) -> ScoreText:
        """Score of the task of the runs."""
        return score_text(next((r.config.task for r in self.runs.values()), ""))

    def row(self) -> dict:
        """Returns the model's row of a table; None for an unknown value."""
        paths = [folder / PREDICTIONS_FILE for folder in self.finished.values()]
        measure, read = accuracy, read_predictions
        if self.score is R2:
            measure, read = r2, read_values
        elif self.score is EXACT_MATCH:
            read = read_matches
        value = measure(list(map(read, paths)), self.resamples) if paths else None
        return {
            "name": self.name,
            self.score.key: value,
            "seeds": {
                seed: read_metrics(folder)["metrics"][self.score.key]["value"]
                for seed, folder in self.finished.items()
            },
            "parameters": self.cost.get("parameters"),
            "seconds": mean(self.seconds) if self.seconds else None,
            "peak_mb": max(self.peak_mb, default=None),
            "row_ms": self.cost.get("row_ms"),
            "row_of_batch_ms": self.cost.get("row_of_batch_ms"),
            "error": self.error,
        }


def build_parser(program: str, description: str) -> Parser:
    """Builds a parser of --presets, --data, --seeds, --output and all settings."""
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
        help=f"Names of presets, separated by commas, or {ALL}.",
    )
    parser.add_argument(
        "--data", metavar="FILE.csv", help="Table of rows; else the demo data set."
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="Train seeds 0 to N - 1."
    )
    parser.add_argument(
        "--output", metavar="DIR", help="Folder of all runs; else a new one in runs/."
    )
    add_settings(parser, Config())
    return parser


def parse_args(
    parser: Parser, argv: Sequence[str], extra_flags: Sequence[str] = ()
) -> ComparisonArgs:
    """Parses a command line; `extra_flags` of the program are not settings.

    Raises:
        UserError: A preset, flag or file does not exist, or a value is not allowed.
    """
    parsed = parser.parse_args(argv)
    presets = preset_names(parsed.presets)
    flags = drop_flags(argv, *_FLAGS, *extra_flags)
    for word in flags:
        if word.partition("=")[0] in ("--preset", "--seed"):
            raise UserError(f"{word} is for one model; give --presets and --seeds.")
    if parsed.seeds < 1:
        raise UserError(f"--seeds {parsed.seeds} is not possible; give 1 or more.")
    table = None
    if parsed.data is not None:
        table = check_table(parsed.data)
    program = parser.prog.removeprefix("python -m ")
    return ComparisonArgs(
        program=program,
        argv=tuple(drop_flags(argv, "--output")),
        table=table,
        presets=presets,
        seeds=tuple(range(parsed.seeds)),
        folder=Path(parsed.output or run_folder.new_folder(program.rpartition(".")[2])),
        flags=tuple(flags),
        is_all=parsed.presets == ALL,
    )


def preset_names(names: str) -> tuple[str, ...]:
    """Returns the presets that --presets names; "all" are those without downloads.

    Those that write texts are not among them.

    Raises:
        UserError: There is no such preset, or one is named twice.
    """
    if names == ALL:
        return tuple(n for n in PRESETS if n not in (*PRETRAINED, CAPTIONS))
    presets = [name.strip() for name in names.split(",") if name.strip()]
    for name in presets:
        if name not in PRESETS:
            raise UserError(
                f"There is no preset '{name}'.{did_you_mean(name, list(PRESETS))}"
            )
    if not presets or len(set(presets)) < len(presets):
        raise UserError(f"--presets '{names}' must name presets, each once.")
    return tuple(presets)


def plan_runs(args: ComparisonArgs, preset: str, kind: str = "", flags=()) -> ModelRuns:
    """Plans one run per seed of a preset.

    `kind` is a suffix of the model name, if `flags` make it another model.

    Raises:
        UserError: The settings are not possible with this preset.
    """
    name, runs = f"{preset} {kind}".strip(), {}
    for seed in args.seeds:
        settings = [*args.flags, *flags, "--preset", preset, "--seed", str(seed)]
        folder = args.folder / f"{name.replace(' ', '-')}-seed{seed}"
        runs[seed] = plan_run(f"{name}, seed {seed}", folder, args.table, settings)
    return ModelRuns(name=name, runs=runs)


def plan_models(args: ComparisonArgs) -> list[ModelRuns]:
    """Plans the runs of all presets.

    With --presets all, a preset that the settings do not fit has an error and no runs.

    Raises:
        UserError: The settings do not fit a preset that is named, or fit none.
    """
    models = []
    for preset in args.presets:
        try:
            models.append(plan_runs(args, preset))
        except UserError as error:
            if not args.is_all:
                raise
            models.append(ModelRuns(name=preset, runs={}, error=one_line(error)))
    if not any(model.runs for model in models):
        raise UserError(models[0].error)
    return models


@contextmanager
def locked_folder(args: ComparisonArgs, models: Sequence[ModelRuns]) -> Iterator[None]:
    """Locks the output folder; after Ctrl-C prints how to resume, and exits.

    Raises:
        UserError: The folder holds something else, or runs with other settings.
    """
    with run_folder.locked_folder(args.folder):
        check_no_folds(args.folder)
        if (args.folder / MANIFEST_FILE).exists():
            raise UserError(
                f"'{args.folder}' holds a single run. Give another --output."
            )
        check_runs([run for model in models for run in model.runs.values()])
        sigterm_as_keyboard_interrupt()
        try:
            yield
        except KeyboardInterrupt:
            argv = [*args.argv, "--output", str(args.folder)]
            print_resume_command(args.program, argv)
            sys.exit(INTERRUPTED)


def train_all(models: Sequence[ModelRuns]) -> None:
    """Trains all unfinished runs; prints one line per run.

    A failure is stored in `ModelRuns.error`, and the other runs go on.

    Raises:
        KeyboardInterrupt: After the active run has ended.
    """
    total, number = sum(len(model.runs) for model in models), 0
    for model in models:
        for seed, run in model.runs.items():
            number += 1
            progress = f"[{number:>{len(str(total))}}/{total}]"
            print(f"{progress} {run.name}: ", end="", flush=True)
            print(_train(model, seed, run), flush=True)


def _train(model, seed, run) -> str:
    outcome = run_subprocess(run)
    if outcome.error:
        model.error = model.error or outcome.error.splitlines()[0]
        return f"failed; see {run.log}"
    model.finished[seed] = run.folder
    model.seconds.append(outcome.seconds)
    model.peak_mb.append(outcome.peak_mb)
    if model.measures_cost and not model.cost:
        _measure_cost(model, run)
    time = f" in {outcome.seconds:.0f} s"
    if outcome.was_finished:
        time = ", finished before"
    return f"{format_score(read_metrics(run.folder)['metrics'])}{time}"


def _measure_cost(model, run) -> None:
    path = run.folder.with_name(f"{run.folder.name}.cost.json")
    if not path.exists():
        command = [sys.executable, "-m", "mmkeras.cost", "--model", str(run.folder)]
        error = run_with_log([*command, "--output", str(path)], run.log)
        if error:
            model.error = model.error or error.splitlines()[0]
            return
    model.cost = json.loads(path.read_text())


def baseline_rows(models: Sequence[ModelRuns]) -> list[dict]:
    """Returns rows, as of `ModelRuns.row`, of the baselines.

    They are those of the model with the most finished runs. Each number is a mean over
    seeds, also the ends of the interval.
    """
    model = max(models, key=lambda model: len(model.finished))
    results = {s: read_metrics(path)["baselines"] for s, path in model.finished.items()}
    names = dict.fromkeys(name for result in results.values() for name in result)
    rows = []
    for name in names:
        key = model.score.key
        values = {s: b[name][key] for s, b in results.items() if name in b}
        values = {s: v for s, v in values.items() if v["value"] is not None}
        if not values:  # R² of equal labels
            continue
        interval = {
            key: mean(value[key] for value in values.values())
            for key in ("value", "low", "high")
        }
        rows.append(
            {
                "name": name.replace("_", " "),
                key: interval,
                "seeds": {seed: value["value"] for seed, value in values.items()},
                "of": model.name,
            }
        )
    return rows
