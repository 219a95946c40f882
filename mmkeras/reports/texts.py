"""Generated texts in a report: rows with their words, and the chart of lengths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmkeras.reports.charts import BOTTOM, HEIGHT, TOP, scaled_x, scaled_y, ticks

_LABELS = 8  # ticks that fit below the chart
_MAX_BAR = 28  # width, for few bins
_KINDS = ("predictions", "references")


@dataclass(frozen=True, kw_only=True)
class WordAttention:
    """Attention of one word of a generated text.

    Attributes:
        shares: Branch -> share of the attention that it has; they sum to 1.
        heatmaps: Column -> PNG of its content and the attention to each place, for the
            columns that have places. The strongest of all words has the full colour.
    """

    word: str
    shares: Mapping[str, float]
    heatmaps: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TextRow:
    """Row with its references, the text that a model generated, and its content.

    Attributes:
        score: Mean log probability of the text's tokens.
        chrf: Similarity to the nearest reference, in [0, 1].
        is_correct: Whether the text is equal to a reference.
        status: "ok", or which columns were absent or unreadable.
        previews: As those of `WorstError`.
        words: Words of the text, of rows whose attention is shown.
    """

    id: str
    references: Sequence[str]
    text: str
    score: float
    chrf: float
    is_correct: bool = False
    status: str = "ok"
    previews: Mapping[str, Mapping] = field(default_factory=dict)
    words: Sequence[WordAttention] = ()


@dataclass(frozen=True, kw_only=True)
class TextExamples:
    """Rows of the texts that are the least and the most like their references."""

    worst: Sequence[TextRow] = ()
    best: Sequence[TextRow] = ()

    @property
    def attentive(self) -> list[TextRow]:
        """Rows whose words have attention."""
        return [row for row in (*self.best, *self.worst) if row.words]


def length_chart(lengths: Sequence[Mapping]) -> dict | None:
    """Returns bars of the shares of predictions and references by number of words.

    `lengths` are bins, each {"low", "high", "predictions", "references"}: numbers of
    words, and of texts that have them. None without texts.
    """
    totals = {kind: sum(b[kind] for b in lengths) for kind in _KINDS}
    if not all(totals.values()):
        return None
    shares = [{k: b[k] / totals[k] for k in _KINDS} for b in lengths]
    levels = ticks(0, max(max(share.values()) for share in shares))
    edges = [0, len(lengths)]
    step = -(-len(lengths) // _LABELS)
    # Two bars, and a gap of half one at least.
    width = min(scaled_x(0.4, edges) - scaled_x(0, edges), _MAX_BAR)
    return {
        "levels": [(scaled_y(v, levels), f"{100 * v:g} %") for v in levels],
        "ticks": [
            (scaled_x(i + 0.5, edges), _label(b))
            for i, b in enumerate(lengths)
            if i % step == 0
        ],
        "bars": [
            {
                "kind": kind,
                "x": round(scaled_x(i + 0.5, edges) + (k - 1) * width, 1),
                "width": round(width, 1),
                "height": round((HEIGHT - TOP - BOTTOM) * share[kind] / levels[-1], 1),
                "label": f"{_label(b)} word(s): {b[kind]} {kind}",
            }
            for i, (b, share) in enumerate(zip(lengths, shares, strict=True))
            for k, kind in enumerate(_KINDS)
        ],
    }


def _label(length_bin) -> str:
    low, high = length_bin["low"], length_bin["high"]
    return f"{low}" if low == high else f"{low} to {high}"
