"""Paired timing of a function and a baseline, and timing of Keras' `fit`."""

import statistics
import time
from collections.abc import Callable


def compare(
    name: str, ours: Callable[[], float], baseline: Callable[[], float], pairs: int = 7
) -> float:
    """Runs both in turn and prints the median ratio, ours to baseline.

    Each callable returns a rate (more is better).
    """
    ours(), baseline()  # traces graphs, fills file caches
    rates = [(ours(), baseline()) for _ in range(pairs)]
    ratios = sorted(a / b for a, b in rates)
    a, b = (statistics.median(x) for x in zip(*rates, strict=True))
    ratio = statistics.median(ratios)
    print(
        f"{name}: {a:,.1f} against {b:,.1f} per second, ratio {ratio:.2f} "
        f"({ratios[0]:.2f} to {ratios[-1]:.2f} in {pairs} pairs)"
    )
    return ratio


def rate(count: int, work: Callable[[], object]) -> float:
    """Returns `count` divided by the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def end_times(model, event: str, batches, **settings) -> list[float]:
    """Runs `model.fit`; returns the time of each `event`, as "on_epoch_end"."""
    import keras

    ends_s = []
    callback = keras.callbacks.LambdaCallback(
        **{event: lambda index, logs: ends_s.append(time.perf_counter())}
    )
    model.fit(batches, verbose=0, shuffle=False, callbacks=[callback], **settings)
    return ends_s
