from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mmkeras.config import Config
from mmkeras.config.schedule import describe_schedule, steps_per_epoch, with_schedule

AUTO = Config()


def fixed(config=AUTO, epochs="auto", batch_size="auto"):
    train = replace(config.train, batch_size=batch_size)
    return replace(config, epochs=epochs, train=train)


def numbers(config):
    return config.train.batch_size, config.epochs


@pytest.mark.parametrize("rows", [640, 1200, 5500, 10**8])
def test_tables_with_enough_rows_have_batches_of_32_and_30_epochs(rows):
    assert numbers(with_schedule(AUTO, rows)) == (32, 30)


@given(st.integers(1, 100_000), st.sampled_from([1, 2, 3, 8]))
def test_small_tables_have_300_steps_and_20_per_epoch_or_a_reason(rows, devices):
    config = with_schedule(AUTO, rows, devices)
    size, epochs = numbers(config)
    steps = steps_per_epoch(rows, size)
    assert (steps - 1) * size < rows and 1 <= size <= 32 and size % devices == 0
    assert steps * epochs >= 300 and epochs >= 30
    assert steps >= 20 or "Fewer than 20" in describe_schedule(AUTO, config, rows)


@given(st.integers(1, 10_000), st.integers(1, 500), st.integers(1, 500))
def test_explicit_numbers_win(rows, batch_size, epochs):
    config = fixed(batch_size=batch_size, epochs=epochs)
    assert with_schedule(config, rows, devices=8) == config
    assert "Fewer than" not in describe_schedule(config, config, rows)
    one = with_schedule(fixed(batch_size=batch_size), rows)
    assert one.train.batch_size == batch_size
    assert one.epochs * steps_per_epoch(rows, batch_size) >= 300
    assert with_schedule(fixed(epochs=epochs), rows).epochs == epochs


def test_the_line_has_the_rows_of_a_batch_and_the_steps():
    config = fixed(batch_size=99, epochs=1000)
    line = "Schedule: batches of 24 rows, 1 per epoch, 1,000 epochs."
    assert describe_schedule(config, config, 24) == line
