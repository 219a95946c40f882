"""Comparison of a benchmark on two Python environments.

    python -m benchmarks.stacks --other .venv-3.10/bin/python NAME [FLAGS]

`--other` is the Python of the other environment. NAME is a benchmark that prints lines
as "METRIC: FIGURE UNIT ..."; FLAGS go to it. Runs alternate; a ratio above 1 means that
this Python is better.
"""

import argparse
import re
import statistics
import subprocess
import sys
from collections import defaultdict

_LINE = re.compile(r"(.+?): ([\d,]+\.?\d*)( ms| s\b)?")


def figures(python: str, name: str, flags: list[str]) -> dict[str, tuple[float, bool]]:
    """Runs the benchmark; returns metric -> (figure, whether less is better)."""
    command = [python, "-m", f"benchmarks.{name}", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    matches = (_LINE.match(line) for line in done.stdout.splitlines())
    return {m[1]: (float(m[2].replace(",", "")), bool(m[3])) for m in matches if m}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--other", required=True, metavar="PYTHON")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("name")
    parser.add_argument("flags", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    pairs, is_time = defaultdict(list), {}
    for _ in range(arguments.runs):
        ours = figures(sys.executable, arguments.name, arguments.flags)
        others = figures(arguments.other, arguments.name, arguments.flags)
        for metric, (figure, less_is_better) in ours.items():
            if metric in others:  # else a line of Keras with a time in it
                pairs[metric].append((figure, others[metric][0]))
                is_time[metric] = less_is_better
    for metric, values in pairs.items():
        ratios = [b / a if is_time[metric] else a / b for a, b in values]
        ours, others = (statistics.median(x) for x in zip(*values, strict=True))
        print(
            f"{metric}: {ours:,.2f} on this Python, {others:,.2f} on the other, ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} "
            f"in {len(ratios)} pairs)",
            flush=True,
        )


if __name__ == "__main__":
    main()
