"""Batch size and number of epochs that follow the number of training rows."""

from dataclasses import replace

from mmkeras.config.config import Config
from mmkeras.config.train import AUTO

# For tables with enough rows.
BATCH_ROWS, EPOCHS = 32, 30
# Smaller tables have smaller batches and more epochs, until they have as many steps.
STEPS_PER_EPOCH = 20
STEPS = STEPS_PER_EPOCH * EPOCHS
# The statistics of batch normalization need several rows. In cross-validation on iris,
# 2, 4 and 8 were equally accurate, and 600 steps more than 300; larger batches have
# more epochs for the same steps, and each epoch writes a checkpoint.
MIN_BATCH_ROWS = 4


def with_schedule(config: Config, rows: int, devices: int = 1) -> Config:
    """Returns the settings with a number in the place of each "auto".

    Args:
        rows: Number of training rows.
        devices: Number of devices that share a batch; the batch size is a multiple.

    Example:
        >>> config = with_schedule(Config(), rows=100)
        >>> config.train.batch_size, config.epochs
        (5, 30)
    """
    size, epochs = config.train.batch_size, config.epochs
    if size == AUTO:
        size = min(BATCH_ROWS, max(MIN_BATCH_ROWS, rows // STEPS_PER_EPOCH))
        size = max(devices, size // devices * devices)
    if epochs == AUTO:
        epochs = max(EPOCHS, -(-STEPS // steps_per_epoch(rows, size)))
    return replace(config, epochs=epochs, train=replace(config.train, batch_size=size))


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch, at least one."""
    return max(1, -(-rows // batch_size))


def describe_schedule(requested: Config, config: Config, rows: int) -> str:
    """Returns a line on the steps of a run, with the reason if they are few.

    `config` is `requested` with the numbers of `with_schedule`.
    """
    size, steps = (
        config.train.batch_size,
        steps_per_epoch(rows, config.train.batch_size),
    )
    line = (
        f"Schedule: batches of {min(size, rows):,} rows, {steps:,} per epoch, "
        f"{config.epochs:,} epochs."
    )
    if steps < STEPS_PER_EPOCH and requested.train.batch_size == AUTO:
        return (
            f"{line} Fewer than {STEPS_PER_EPOCH} steps per epoch: batches of fewer "
            f"than {size} rows would disturb the batch normalization."
        )
    return line
