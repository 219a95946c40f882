"""What many numbers are like, in bounded size; sketches of parts merge into one."""

import math
from collections import Counter
from dataclasses import dataclass, field

_GROWTH = 1.001  # of a bin over the one below it: quantiles are right to 0.1 %
_SMALLEST, _LARGEST = 1e-4, 1e12  # what is smaller counts as 0; at most 37,000 bins
_ZERO = -math.inf  # the bin whose top is 0
MAX_BARS = 20
_LOG_FROM = 30  # ratio of the largest to the smallest from where the scale is log


@dataclass
class QuantileSketch:
    """Count, extremes, mean, deviation and quantiles of numbers of 0 or more.

    Whole numbers up to 1,000 have exact quantiles.

    Source: Masson, Rim and Lee, "DDSketch", VLDB 2019,
    https://arxiv.org/abs/1908.10693; the range is fixed, so no bins are collapsed, and
    a bin stands for its top, which makes a share of 1 exact.
    Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances", 1979, for the mean and the deviation.
    """

    rows: int = 0
    low: float = math.inf
    high: float = -math.inf
    mean: float = 0.0
    squares: float = 0.0  # summed, of the differences from the mean
    is_whole: bool = True
    bins: Counter = field(default_factory=Counter)

    def add(self, value: float) -> None:
        self.rows += 1
        self.low, self.high = min(self.low, value), max(self.high, value)
        difference = value - self.mean
        self.mean += difference / self.rows
        self.squares += difference * (value - self.mean)
        self.is_whole = self.is_whole and float(value).is_integer()
        self.bins[_bin_of(value)] += 1

    def merge(self, other: "QuantileSketch") -> None:
        rows = self.rows + other.rows
        if not other.rows:
            return
        difference = other.mean - self.mean
        self.mean += difference * other.rows / rows
        self.squares += other.squares
        self.squares += difference**2 * self.rows * other.rows / rows
        self.rows = rows
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.is_whole = self.is_whole and other.is_whole
        self.bins.update(other.bins)

    @property
    def deviation(self) -> float:
        return math.sqrt(self.squares / self.rows) if self.rows else 0.0

    def quantile(self, share: float) -> float:
        """Returns the number that this share of the others is below, 0 for nothing."""
        rank, seen = math.floor(share * (self.rows - 1)), 0
        for key, rows in sorted(self.bins.items()):
            seen += rows
            if seen > rank:
                value = _GROWTH**key
                value = math.floor(value) if self.is_whole else value
                return min(max(value, self.low), self.high)
        return 0.0

    def counts(self, edges: list[float]) -> list[int]:
        """Counts the numbers between each two edges, the upper one left out.

        What lies outside goes to the first or the last pair. By the upper end of its
        bin: a number that is an edge is never counted below it.
        """
        counts = [0] * (len(edges) - 1)
        for key, rows in self.bins.items():
            place = sum(edge <= _GROWTH**key for edge in edges) - 1
            counts[min(max(place, 0), len(counts) - 1)] += rows
        return counts


def _bin_of(value):
    if value < _SMALLEST:
        return _ZERO
    return math.ceil(math.log(min(value, _LARGEST)) / math.log(_GROWTH))


def bar_edges(sketch: QuantileSketch, may_be_log: bool) -> tuple[list[float], bool]:
    """Returns round edges for at most 20 bars or so, and whether they grow by a factor.

    They do where they may and the numbers differ widely. No edges for no numbers; two
    equal ones where all numbers are equal.
    """
    low, high = sketch.low, sketch.high
    if not sketch.rows or low == high:
        return [low, high] if sketch.rows else [], False
    if may_be_log and low > 0 and high / low >= _LOG_FROM:
        return _log_edges(low, high, sketch.is_whole), True
    finest = max((high - low) / MAX_BARS, 4 * (_GROWTH - 1) * high)
    step = round_up(max(finest, 1) if sketch.is_whole else finest)
    first = math.floor(low / step + 1e-9)
    # A whole number begins a bar of its own; any other that is an edge ends the last.
    top = high / step
    last = math.floor(top) + 1 if sketch.is_whole else math.ceil(top - 1e-9)
    return [round(i * step, 9) for i in range(first, max(last, first + 1) + 1)], False


def _log_edges(low, high, is_whole):
    mantissas = (1, 2, 5) if math.log10(high / low) > 4 else (1, 1.5, 2, 3, 5, 7)
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 2)
    edges = [round(m * 10.0**e, 9) for e in powers for m in mantissas]
    if is_whole:
        edges = [e for e in edges if e.is_integer()]
    first = max(i for i, e in enumerate(edges) if e <= low)
    last = min(i for i, e in enumerate(edges) if e > high)
    return edges[first : last + 1]


def round_up(value: float) -> float:
    """Returns the next of 1, 2, 5, 10, ... times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return power * next(s for s in (1, 2, 5, 10) if s * power >= value * 0.999)
