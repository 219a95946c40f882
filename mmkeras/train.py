"""`python -m mmkeras.train`: from a table of files to a proved SavedModel."""

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from mmkeras import run
from mmkeras.cli import Parser, add_settings, choose_preset, run_program, settings
from mmkeras.cluster import read_cluster
from mmkeras.errors import UserError
from mmkeras.schema import MODEL_FILE


def main(argv: Sequence[str]) -> int:
    """Parses the command line and trains; returns the exit code."""
    parser = Parser(
        prog="python -m mmkeras.train",
        usage="%(prog)s [--data FILE.csv] [--output DIR] [--preset NAME] "
        "[--config FILE.yaml] [--SETTING VALUE ...]",
        description="Train a multimodal classifier and export it for TF Serving. On "
        "several GPUs it trains on all. On several machines, start it on each with "
        "TF_CONFIG set and one --output and table that all can read.",
    )
    parser.add_argument(
        "--data", metavar="FILE.csv", help="Table of rows; else the embedded data set."
    )
    parser.add_argument(
        "--output", metavar="DIR", help="Run folder; else a new one under runs/."
    )
    add_settings(parser, choose_preset(argv))
    parsed = parser.parse_args(argv)
    config = settings(parser, parsed)
    if parsed.data is not None and not Path(parsed.data).is_file():
        raise UserError(f"--data '{parsed.data}' is no file; give the path of a CSV.")
    table = Path(parsed.data) if parsed.data else None
    cluster = read_cluster()
    if cluster.workers > 1 and not parsed.output:
        raise UserError(
            f"TF_CONFIG names {cluster.workers} workers, which need one --output: a "
            "run folder that all can read."
        )
    if cluster.workers > 1 and config.evaluate.trained_alone:
        raise UserError(
            "evaluate.trained_alone=true trains in one process, and TF_CONFIG names "
            f"{cluster.workers} workers. Unset one of the two."
        )
    folder = Path(parsed.output) if parsed.output else run.new_folder(config)
    if not cluster.is_chief:
        return _join(folder, config, table)
    with run.opened(folder):
        run.check_same(folder, config, run.data_name(table))
        if run.is_finished(folder):
            print(f"The run in '{folder}' is finished already; nothing was trained.")
            print(run.summary(folder))
            return 0
        return _train(folder, config, table, argv)


def _train(folder, config, table, argv) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        from mmkeras.training import train

        train(folder, config, table)
    except KeyboardInterrupt:
        resume = shlex.join(["python", "-m", "mmkeras.train", *_without_output(argv)])
        saved = folder / MODEL_FILE
        begun = run.has_begun(folder)
        best = "The best model so far" if begun else "A hardly trained model"
        what = f"{best} is in {saved}." if saved.exists() else ""
        print(f"\nInterrupted. {what}", file=sys.stderr)
        print(
            f"To go on: {resume} --output {shlex.quote(str(folder))}", file=sys.stderr
        )
        return 130
    print(run.summary(folder))
    return 0


def _join(folder, config, table) -> int:
    """Another worker's part: silent, and without a trace in the run folder."""
    run.check_same(folder, config, run.data_name(table))
    if run.is_finished(folder):
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    from mmkeras.training import join

    with TemporaryDirectory(prefix="mmkeras-worker-") as own:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
            join(folder, Path(own), config, table)
    return 0


def _without_output(argv: Sequence[str]) -> list[str]:
    """Returns the words of a command line but --output and its value."""
    pairs = zip(["", *argv], argv, strict=False)
    return [
        word
        for before, word in pairs
        if before != "--output" and word.partition("=")[0] != "--output"
    ]


if __name__ == "__main__":
    run_program(main)
