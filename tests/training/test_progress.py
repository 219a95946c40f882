import io
import re

import keras
import numpy as np
import pytest

from mmkeras.training.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def train(epochs, stdout, monkeypatch, stop_after=9, **settings):
    """Trains 3 steps per epoch; returns what is written to `stdout`."""
    monkeypatch.setattr("sys.stdout", stdout)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(loss="mse", metrics=["mae"])
    rows = np.ones((6, 2)), np.ones((6, 1))
    progress = Progress(epochs, steps=3, **settings)

    def stop(epoch, logs):
        model.stop_training = epoch + 1 == stop_after

    model.fit(
        *rows,
        batch_size=2,
        validation_data=rows,
        initial_epoch=epochs[0],
        epochs=epochs[-1] + 1,
        verbose=0,
        callbacks=[progress, keras.callbacks.LambdaCallback(on_epoch_end=stop)],
    )
    progress.close()
    return stdout.getvalue()


@pytest.mark.parametrize("epochs", [range(4), range(2, 4)])  # the second is resumed
def test_a_log_has_one_line_per_epoch(epochs, monkeypatch):
    lines = train(epochs, io.StringIO(), monkeypatch).splitlines()
    assert len(lines) == len(epochs)
    for epoch, line in zip(epochs, lines, strict=True):
        number, seconds = re.fullmatch(
            r"(Epoch \d/4): .* \((\d+\.\d) s\)", line
        ).groups()
        assert number == f"Epoch {epoch + 1}/4" and float(seconds) < 100
        names = sorted(re.findall(r"(\w+) [\d.]+", line.split(": ")[1]))
        assert names == ["loss", "mae", "val_loss", "val_mae"]


@pytest.mark.parametrize(("epochs", "first"), [(range(4), 0), (range(2, 4), 6)])
def test_a_terminal_has_one_bar_of_all_epochs_with_the_time_left(
    epochs, first, monkeypatch
):
    text = train(epochs, Terminal(), monkeypatch)
    assert text.count("\n") == 1 and not re.search(r"\b1/1\b", text)
    states = re.findall(r"\| (\d+)/12 \[(\S+)<(\S+), ", text)
    assert [int(done) for done, *_ in (states[0], states[-1])] == [first, 12]
    assert "epoch=4/4, val_loss=" in text


def test_a_bar_is_full_after_early_stopping_and_has_a_name(monkeypatch):
    text = train(range(4), Terminal(), monkeypatch, stop_after=2, name="Fine-tuning")
    last = text.rstrip().split("\r")[-1]
    assert last.startswith("Fine-tuning: 100%") and "| 6/6 [" in last
    assert "epoch=2/4" in last
