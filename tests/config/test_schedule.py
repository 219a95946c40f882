from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mmkeras.config import Config
from mmkeras.config.schedule import (
    batch_rows,
    describe_schedule,
    steps_per_epoch,
    with_schedule,
)

AUTO = Config()


def fixed(epochs="auto", batch_size="auto", patience="auto"):
    train = replace(AUTO.train, batch_size=batch_size, patience=patience)
    return replace(AUTO, epochs=epochs, train=train)


def numbers(config):
    return config.train.batch_size, config.epochs, config.train.patience


@pytest.mark.parametrize("rows", [640, 1200, 5500, 10**8])
def test_tables_with_enough_rows_have_batches_of_32_and_30_epochs(rows):
    assert numbers(with_schedule(AUTO, rows)) == (32, 30, 10)


@given(st.integers(1, 100_000), st.sampled_from([1, 2, 3, 8]))
def test_small_tables_have_600_steps_and_20_per_epoch_or_a_reason(rows, devices):
    config = with_schedule(AUTO, rows, devices)
    size, epochs, patience = numbers(config)
    steps = steps_per_epoch(rows, size)
    assert (steps - 1) * size < rows and 1 <= size <= 32 and size % devices == 0
    assert steps * epochs >= 600 and epochs >= 30
    # Early stopping waits for a third of them, as it does with 30 epochs.
    assert steps * patience >= 200 and 10 <= patience <= -(-epochs // 3)
    line = describe_schedule(AUTO, config, rows, devices)
    assert steps >= 20 or "Fewer than 20" in line
    assert steps >= 20 or ("each of 8 devices" in line) == (devices == 8)
    assert ("batch normalization" in line) == (steps < 20 and devices < 8)


@given(st.integers(1, 10_000), st.integers(1, 500), st.integers(1, 500))
def test_explicit_numbers_win(rows, batch_size, epochs):
    config = fixed(batch_size=batch_size, epochs=epochs, patience=3)
    assert with_schedule(config, rows, devices=8) == config
    assert "Fewer than" not in describe_schedule(config, config, rows)
    one = with_schedule(fixed(batch_size=batch_size), rows)
    assert one.train.batch_size == batch_size
    assert one.epochs * steps_per_epoch(rows, batch_size) >= 600
    assert with_schedule(fixed(epochs=epochs), rows).epochs == epochs


@given(st.integers(1, 10_000), st.integers(1, 500), st.sampled_from([1, 2, 8]))
def test_the_rows_are_spread_evenly_over_the_batches(rows, batch_size, devices):
    batch_size *= devices
    size, steps = (
        batch_rows(rows, batch_size, devices),
        steps_per_epoch(rows, batch_size),
    )
    fillers = size * steps - rows
    assert 0 <= fillers < devices * steps
    assert size <= batch_size and size % devices == 0


@pytest.mark.parametrize(
    ("rows", "batch_size", "printed"),
    [
        (24, 99, "batches of 24 rows, 1 per epoch"),
        (33, 32, "batches of 17 rows, 2 per epoch"),
    ],
)
def test_the_line_has_the_rows_of_a_batch_and_the_steps(rows, batch_size, printed):
    config = fixed(batch_size=batch_size, epochs=1000)
    line = f"Schedule: {printed}, 1,000 epochs."
    assert describe_schedule(config, config, rows) == line
