"""Command line `mmkeras PROGRAM ...`, which runs `mmkeras.PROGRAM`."""

from collections.abc import Sequence
from importlib import import_module

from mmkeras import __version__
from mmkeras.cli import run_program
from mmkeras.errors import UserError, did_you_mean

PROGRAMS = {
    "train": "Train a classifier on a table and export it for TF Serving.",
    "evaluate": "Evaluate a run on another table.",
    "predict": "Predict each row of a table.",
    "compare": "Train several presets and seeds on one table.",
    "tune": "Search settings for a table, and export an ensemble of the best.",
    "explain": "Show the effect of each modality and its parts on a prediction.",
    "retrieve": "Find the rows nearest to an image, a text or an audio file.",
    "cost": "Measure parameters and latency of a run's export.",
    "prove": "Compare an export with the trained model it comes from.",
    "doctor": "Check this installation.",
}


def main(argv: Sequence[str]) -> int:
    """Runs the program of the first word with the other words as its arguments.

    Example: `main(["predict", "--model", "runs/a", "--data", "rows.csv", ...])`.

    Raises:
        UserError: There is no such program.
    """
    name, *rest = argv or ["--help"]
    if name in ("-h", "--help"):
        print(_help())
        return 0
    if name == "--version":
        print(f"mmkeras {__version__}")
        return 0
    if name.startswith("-"):
        raise UserError(f"There is no flag '{name}'; see mmkeras --help.")
    if name not in PROGRAMS:
        hint = did_you_mean(name, list(PROGRAMS))
        raise UserError(f"There is no program '{name}'.{hint}")
    return import_module(f"mmkeras.{name}").main(rest)


def _help() -> str:
    width = max(map(len, PROGRAMS))
    lines = (f"  {name:{width}}  {text}" for name, text in PROGRAMS.items())
    return "\n".join(
        [
            "usage: mmkeras PROGRAM [--FLAG VALUE ...]",
            "       mmkeras PROGRAM --help",
            "       mmkeras --version",
            "",
            *lines,
        ]
    )


def run() -> None:
    """Runs the console script `mmkeras`."""
    run_program(main)


if __name__ == "__main__":
    run()
