"""Timing in pairs: ours and the baseline in turn, so that noise falls on both."""

import statistics
import time
from collections.abc import Callable


def compare(
    name: str, ours: Callable[[], float], baseline: Callable[[], float], pairs: int = 7
) -> float:
    """Runs both in turn and prints the median of their ratios, ours to baseline.

    Each callable returns its rate (more is better) or its own measure of work a
    second.
    """
    ours(), baseline()  # traces graphs, fills file caches
    found = [(ours(), baseline()) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in found)
    a, b = (statistics.median(x) for x in zip(*found, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"{name}: {a:,.1f} against {b:,.1f} a second, ratio {ratio:.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {pairs} pairs)"
    )
    return ratio


def rate(count: int, work: Callable[[], object]) -> float:
    """Returns `count` divided by the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)
