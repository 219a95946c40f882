"""Batch size, passes over the rows per epoch, and epochs of a training run."""

from dataclasses import replace

from mmkeras.config.config import Config
from mmkeras.config.train import BATCH_ROWS
from mmkeras.config.validation import AUTO

# Small tables have several passes over the rows per epoch, so that it has enough steps.
# `benchmarks.schedule_rules` cross-validates the numbers.
EPOCHS, STEPS_PER_EPOCH, STEPS = 30, 20, 600
# On vectors in memory a small step costs little less than a large one. Batches are
# larger there, as long as a pass has enough of them.
MAX_BATCH_ROWS, BATCHES_PER_PASS = 256, 40


def with_schedule(
    config: Config, rows: int, devices: int = 1, *, min_steps: int = STEPS
) -> Config:
    """Returns the settings with a number in the place of each "auto".

    Args:
        rows: Number of training rows.
        devices: Number of devices that share a batch; the batch size is a multiple.
        min_steps: Smallest number of steps of a run.

    Example:
        >>> config = with_schedule(Config(), rows=100)
        >>> config.train.batch_size, config.train.passes, config.epochs
        (32, 5, 30)
    """
    train, epochs = config.train, config.epochs
    if train.batch_size == AUTO:
        limit = BATCH_ROWS
        if config.trains_on_vectors:
            limit = min(max(limit, rows // BATCHES_PER_PASS), MAX_BATCH_ROWS)
        size = max(devices, limit // devices * devices)
        train = replace(train, batch_size=size)
    if train.passes == AUTO:
        steps = steps_per_pass(rows, train.batch_size)
        passes = -(-STEPS_PER_EPOCH // steps) if epochs == AUTO else 1
        train = replace(train, passes=passes)
    if epochs == AUTO:
        steps = train.passes * steps_per_pass(rows, train.batch_size)
        epochs = max(EPOCHS, -(-min_steps // steps))
    return replace(config, epochs=epochs, train=train)


def steps_per_pass(rows: int, batch_size: int) -> int:
    """Returns the number of batches of a pass over the rows, at least one."""
    return max(1, -(-rows // batch_size))


def batch_rows(rows: int, batch_size: int, devices: int = 1) -> int:
    """Returns the size of all batches, at most `batch_size`.

    The rows are spread evenly over as many batches as `batch_size` needs, so that on
    one device fewer slots than batches are left over. The size is a multiple of
    `devices` if `batch_size` is one.

    Example:
        >>> batch_rows(33, batch_size=32)
        17
    """
    size = -(-rows // steps_per_pass(rows, batch_size))
    return max(1, min(batch_size, -(-size // devices) * devices))


def describe_schedule(config: Config, rows: int, devices: int = 1) -> str:
    """Returns a line on the steps of a run, whose settings have no "auto"."""
    size, passes = config.train.batch_size, config.train.passes
    several = f" ({passes} passes over the rows)" if passes > 1 else ""
    return (
        f"Schedule: batches of {batch_rows(rows, size, devices):,} rows, "
        f"{passes * steps_per_pass(rows, size):,} per epoch{several}, "
        f"{config.epochs:,} epochs."
    )
