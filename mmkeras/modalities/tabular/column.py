"""What columns of numbers, categories and dates have in common."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mmkeras.modalities.column import Column, Effects, Moments, Quantiles, State
from mmkeras.modalities.preprocessing_state import scale_state

if TYPE_CHECKING:
    import tensorflow as tf

_QUANTILES = 256


def cell_text(cell: Any) -> str:
    """Returns a cell as text without blanks at the ends."""
    if isinstance(cell, bytes):
        cell = cell.decode("utf-8", "replace")
    return str(cell).strip()


class TabularColumn(Column):
    """Column whose cells become `width` numbers each, or the index of a category.

    A type of numbers has `width`, `recognise`, `read` and `numbers`. A category has
    width 0 and `indices` instead, and its own statistics. `settings` is the
    `TabularConfig`.

    Example:
        class Share(TabularColumn):  # "12 %" to 0.12
            type, width = "share", 1

            @classmethod
            def recognise(cls, cells, files):
                return "shares" if all(str(c).endswith("%") for c in cells) else ""

            def read(self, cell, files):
                data = str(cell).encode()
                return Content(data=data, digest=data)

            def numbers(self, values):
                digits = tf.strings.regex_replace(values, " *%$", "")
                return tf.strings.to_number(digits)[:, None] / 100
    """

    section = "tabular"
    encoder_settings = ("encoder", "embedding", "units", "layers", "heads", "dropout")
    width: ClassVar[int] = 0
    noise_levels = (0.0, 0.25, 0.5, 0.75, 1.0)
    noise_heading, noise_unit, noise_factor = "Hidden values", "% of the values", 100

    def numbers(self, values: "tf.Tensor") -> "tf.Tensor":
        """Returns (B, K) float32 of (B,) values; NaN where absent or unusable."""
        raise NotImplementedError

    def indices(self, values: "tf.Tensor", state: State) -> "tf.Tensor":
        """Returns (B,) int32 of (B,) values: 0 absent, 1 unseen in training, 2..."""
        raise NotImplementedError

    def exists(self, values: "tf.Tensor") -> "tf.Tensor":
        """Returns (B,) bool: whether the values are present."""
        import tensorflow as tf

        if self.takes_strings:
            return tf.strings.strip(values) != ""
        return ~tf.math.is_nan(values)

    def statistics(self):
        def vector(value):
            return self.numbers(value[None])[0]

        if self.settings.scale == "quantile":
            return Quantiles(vector=vector, width=self.width, count=_QUANTILES)
        return Moments(vector=vector, width=self.width)

    def fit(self, result):
        if result is not None and self.settings.scale == "quantile":
            return {"quantiles": np.asarray(result, np.float32).tolist()}
        return scale_state(result, self.width)

    def scale(self, numbers: "tf.Tensor", state: State) -> "tf.Tensor":
        """Scales (B, K) numbers by the training rows, to at most 5 deviations."""
        import tensorflow as tf

        from mmkeras.modalities.row_graph import standardize

        if "quantiles" in state:
            return normal_scores(numbers, tf.constant(state["quantiles"], tf.float32))
        return standardize(numbers, state)

    def corrupt(self, data: Any, level: float, seed: Sequence[int]) -> Any:
        """Returns the value, or absence with probability `level`."""
        is_hidden = np.random.default_rng(seed).random() < level
        return self.absent if is_hidden else data

    def explain(self, data: Any, effects: Effects) -> dict[str, Any]:
        """Returns the effect of the value: that of hiding it."""
        (effect,) = effects([self.absent])
        return {"value": self.text(data), "effect": float(effect)}

    def draw(self, data: Any, explained: Mapping[str, Any]) -> dict[str, Any]:
        return {"kind": "value", **explained}

    def preview(self, data: Any) -> dict[str, Any]:
        return {"kind": "value", "content": self.text(data)}

    def text(self, data: bytes | float) -> str:
        """Returns a value as text."""
        return data.decode("utf-8", "replace") if self.takes_strings else f"{data:.7g}"


def normal_scores(numbers: "tf.Tensor", quantiles: "tf.Tensor") -> "tf.Tensor":
    """Maps numbers to a normal distribution: (B, K), (Q, K) quantiles to (B, K).

    Source: scikit-learn's QuantileTransformer(output_distribution="normal"). There the
    lowest and the highest training rows get scores of ±5.2, here those of the
    probabilities 1 / 2Q and 1 - 1 / 2Q.
    """
    import tensorflow as tf

    count = quantiles.shape[0]
    knots, x = tf.transpose(quantiles), tf.transpose(numbers)  # (K, Q), (K, B)
    smaller = tf.searchsorted(knots, x, side="left")  # quantiles, in number
    not_larger = tf.searchsorted(knots, x, side="right")
    last = tf.clip_by_value(smaller, 1, count - 1)
    low = tf.gather(knots, last - 1, batch_dims=1)
    high = tf.gather(knots, last, batch_dims=1)
    share = tf.clip_by_value(tf.math.divide_no_nan(x - low, high - low), 0.0, 1.0)
    between = tf.cast(last - 1, tf.float32) + share
    equal = (
        tf.cast(smaller + not_larger - 1, tf.float32) / 2
    )  # mean place of equal quantiles
    place = tf.where(not_larger > smaller, equal, between)
    probability = place / (count - 1)
    edge = 0.5 / count
    return tf.transpose(tf.math.ndtri(tf.clip_by_value(probability, edge, 1 - edge)))
