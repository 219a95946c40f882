"""Progress of a training: a bar on a terminal, else one line per epoch."""

import sys
import time

import keras

from mmkeras.console import progress, say


class Progress(keras.callbacks.Callback):
    """One bar of all epochs with the time left, or a line per epoch in a log.

    Example:
        progress = Progress(range(30), steps=20)
        model.fit(batches, epochs=30, verbose=0, callbacks=[progress])
        progress.close()
    """

    def __init__(self, epochs: range, steps: int, name: str = "Training"):
        """Starts the bar at the first of `epochs`, of `steps` each."""
        super().__init__()
        self._epochs, self._steps, self._epoch = epochs, steps, epochs[0]
        self._start_s = 0.0
        self._bar = progress(
            desc=name,
            initial=epochs[0] * steps,
            total=(epochs[-1] + 1) * steps,
            unit="step",
            file=sys.stdout,
        )

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch, self._start_s = epoch, time.perf_counter()

    # At the begin, since Keras waits for the device before it calls the end.
    def on_train_batch_begin(self, batch, logs=None):
        self._move(self._epoch * self._steps + batch)

    def on_epoch_end(self, epoch, logs=None):
        self._move((epoch + 1) * self._steps)
        values = {name: float(value) for name, value in (logs or {}).items()}
        values.pop("learning_rate", None)
        number = f"{epoch + 1}/{self._epochs[-1] + 1}"
        if self._bar.disable:
            metrics = ", ".join(f"{name} {x:.4g}" for name, x in values.items())
            seconds = time.perf_counter() - self._start_s
            say(f"Epoch {number}: {metrics} ({seconds:.1f} s)", flush=True)
        else:
            shown = {k: v for k, v in values.items() if k == "val_loss"}
            self._bar.set_postfix({"epoch": number, **shown})

    def on_train_end(self, logs=None):
        self._bar.total = self._bar.n  # fewer epochs if training stopped early
        self._bar.refresh()

    def _move(self, step: int) -> None:
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Ends the bar's line."""
        self._bar.close()
