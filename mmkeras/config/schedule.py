"""Batch size and number of epochs that follow the number of training rows."""

from dataclasses import replace

from mmkeras.config.config import Config
from mmkeras.config.validation import AUTO

# For tables with enough rows.
BATCH_ROWS, EPOCHS, PATIENCE = 32, 30, 10
# Smaller tables have smaller batches and more epochs, until they have as many steps.
STEPS_PER_EPOCH = 20
STEPS, PATIENCE_STEPS = STEPS_PER_EPOCH * EPOCHS, STEPS_PER_EPOCH * PATIENCE
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
        >>> config.train.batch_size, config.epochs, config.train.patience
        (5, 30, 10)
    """
    train, epochs = config.train, config.epochs
    if train.batch_size == AUTO:
        size = min(BATCH_ROWS, max(MIN_BATCH_ROWS, rows // STEPS_PER_EPOCH))
        train = replace(train, batch_size=max(devices, size // devices * devices))
    steps = steps_per_epoch(rows, train.batch_size)
    if epochs == AUTO:
        epochs = max(EPOCHS, -(-STEPS // steps))
    if train.patience == AUTO:
        train = replace(train, patience=max(PATIENCE, -(-PATIENCE_STEPS // steps)))
    return replace(config, epochs=epochs, train=train)


def steps_per_epoch(rows: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch, at least one."""
    return max(1, -(-rows // batch_size))


def batch_rows(rows: int, batch_size: int, devices: int = 1) -> int:
    """Returns the size of all batches of an epoch, at most `batch_size`.

    The rows are spread evenly over as many batches as `batch_size` needs, so that on
    one device fewer slots than batches are left over. The size is a multiple of
    `devices` if `batch_size` is one.

    Example:
        >>> batch_rows(33, batch_size=32)
        17
    """
    size = -(-rows // steps_per_epoch(rows, batch_size))
    return max(1, min(batch_size, -(-size // devices) * devices))


def describe_schedule(
    requested: Config, config: Config, rows: int, devices: int = 1
) -> str:
    """Returns a line on the steps of a run, with the reason if they are few.

    `config` is `requested` with the numbers of `with_schedule`.
    """
    size = config.train.batch_size
    steps = steps_per_epoch(rows, size)
    line = (
        f"Schedule: batches of {batch_rows(rows, size, devices):,} rows, {steps:,} per "
        f"epoch, {config.epochs:,} epochs."
    )
    if steps >= STEPS_PER_EPOCH or requested.train.batch_size != AUTO:
        return line
    reason = f"batches of fewer than {size} rows would disturb the batch normalization"
    if devices > MIN_BATCH_ROWS:
        reason = f"each of {devices} devices needs a row of a batch"
    return f"{line} Fewer than {STEPS_PER_EPOCH} steps per epoch: {reason}."
