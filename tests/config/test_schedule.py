from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mmkeras.config import Config
from mmkeras.config.schedule import (
    batch_rows,
    describe_schedule,
    steps_per_pass,
    with_schedule,
)

AUTO = Config()


def fixed(**train):
    epochs = train.pop("epochs", "auto")
    return replace(AUTO, epochs=epochs, train=replace(AUTO.train, **train))


def numbers(config):
    return config.train.batch_size, config.train.passes, config.epochs


@pytest.mark.parametrize("rows", [609, 5500, 10**8])
def test_tables_with_enough_rows_have_batches_of_32_and_30_epochs(rows):
    assert numbers(with_schedule(AUTO, rows)) == (32, 1, 30)


@pytest.mark.parametrize(
    ("rows", "devices", "size"),
    [(394, 1, 32), (5_500, 1, 137), (10_000, 3, 249), (10**6, 1, 256)],
)
def test_vectors_of_frozen_encoders_have_larger_batches(rows, devices, size):
    columns = {"photo": {"type": "image"}, "title": {"type": "text"}}
    frozen = replace(AUTO, columns=columns)
    assert numbers(with_schedule(frozen, rows, devices))[0] == size
    trained = replace(frozen, image=replace(AUTO.image, frozen="no"))
    with_words = replace(frozen, text=replace(AUTO.text, encoder="lstm"))
    tuned = replace(frozen, train=replace(AUTO.train, fine_tune_epochs=2))
    for config in (trained, with_words, tuned):
        assert numbers(with_schedule(config, rows))[0] == 32


@given(st.integers(1, 100_000), st.sampled_from([1, 2, 3, 8]))
def test_small_tables_have_600_steps_and_20_per_epoch(rows, devices):
    size, passes, epochs = numbers(with_schedule(AUTO, rows, devices))
    steps = passes * steps_per_pass(rows, size)
    assert 30 <= size <= 32 and size % devices == 0
    assert steps >= 20 and (passes == 1 or steps < 40)
    assert epochs == 30


@given(st.integers(1, 10_000), st.integers(1, 500), st.integers(1, 500))
def test_explicit_numbers_win(rows, batch_size, epochs):
    config = fixed(batch_size=batch_size, epochs=epochs, passes=3)
    assert with_schedule(config, rows, devices=8) == config
    size, passes, more = numbers(with_schedule(fixed(batch_size=batch_size), rows))
    assert size == batch_size
    assert more * passes * steps_per_pass(rows, batch_size) >= 600
    one_pass = with_schedule(fixed(passes=1), rows)
    assert one_pass.epochs * steps_per_pass(rows, 32) >= 600
    one = with_schedule(fixed(epochs=epochs), rows)
    assert (one.epochs, one.train.passes) == (epochs, 1)


@given(st.integers(1, 10_000), st.integers(1, 500), st.sampled_from([1, 2, 8]))
def test_the_rows_are_spread_evenly_over_the_batches(rows, batch_size, devices):
    batch_size *= devices
    size, steps = (
        batch_rows(rows, batch_size, devices),
        steps_per_pass(rows, batch_size),
    )
    fillers = size * steps - rows
    assert 0 <= fillers < devices * steps
    assert size <= batch_size and size % devices == 0


@pytest.mark.parametrize(
    ("rows", "batch_size", "passes", "printed"),
    [
        (24, 99, 1, "batches of 24 rows, 1 per epoch"),
        (33, 32, 1, "batches of 17 rows, 2 per epoch"),
        (33, 32, 9, "batches of 17 rows, 18 per epoch (9 passes over the rows)"),
    ],
)
def test_the_line_has_the_rows_of_a_batch_and_the_steps(
    rows, batch_size, passes, printed
):
    config = fixed(batch_size=batch_size, passes=passes, epochs=1000)
    line = f"Schedule: {printed}, 1,000 epochs."
    assert describe_schedule(config, rows) == line
