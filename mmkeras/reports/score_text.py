"""The score that models are compared by, as text: accuracy, R² or exact match."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ScoreText:
    """Name and number format of a score.

    Attributes:
        key: Name in metrics.json.
        name: Name in sentences.
        is_share: Whether it is shown in percent, and differences in points.
        constant: Baseline that knows no row, as in "than always predicting ...".
        linear: Name of the linear baseline.
    """

    key: str
    name: str
    is_share: bool
    constant: str
    linear: str

    def value(self, value: float) -> str:
        """Returns "81.2 %" or "0.812"."""
        return f"{100 * value:.1f} %" if self.is_share else f"{value:.3f}"

    def difference(self, value: float, sign: str = "") -> str:
        """Returns "3.1 points" or "0.031"; with a `sign` of "+" also "+3.1 points"."""
        text = self._number(value, sign)
        return f"{text} points" if self.is_share else text

    def interval(self, difference: Mapping[str, float]) -> str:
        """Returns "95 % interval +1.0 to +5.2" of a difference."""
        low, high = (self._number(difference[key], "+") for key in ("low", "high"))
        return f"95 % interval {low} to {high}"

    def _number(self, value: float, sign: str) -> str:
        return f"{100 * value:{sign}.1f}" if self.is_share else f"{value:{sign}.3f}"


ACCURACY = ScoreText(
    key="accuracy",
    name="accuracy",
    is_share=True,
    constant="the most frequent class",
    linear="logistic regression",
)
R2 = ScoreText(
    key="r2", name="R²", is_share=False, constant="the mean", linear="ridge regression"
)
EXACT_MATCH = ScoreText(
    key="exact_match",
    name="exact match",
    is_share=True,
    constant="the most frequent text",
    linear="the text of the nearest training row",
)
_OF_TASK = {"regression": R2, "generate": EXACT_MATCH}


def format_score(metrics: Mapping) -> str:
    """Returns "accuracy 0.812" or "R² 0.812" of `measure(...)["metrics"]`."""
    score = score_text_of(metrics)
    value = metrics[score.key]["value"]
    return f"{score.name} {'unknown' if value is None else f'{value:.3f}'}"


def score_text(task: str) -> ScoreText:
    """Returns the score of a task."""
    return _OF_TASK.get(task, ACCURACY)


def score_text_of(metrics: Mapping) -> ScoreText:
    """Returns the score that `measure(...)["metrics"]` has."""
    return next(
        (score for score in _OF_TASK.values() if score.key in metrics), ACCURACY
    )
