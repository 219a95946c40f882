"""Chart of the lengths of texts."""

import pytest

from mmkeras.reports import charts
from mmkeras.reports.texts import TextExamples, TextRow, WordAttention, length_chart

BOX = charts.BOX


def bins(*counts, width=1):
    return [
        {"low": i * width, "high": (i + 1) * width - 1}
        | {"predictions": a, "references": b}
        for i, (a, b) in enumerate(counts)
    ]


def test_bars_are_shares_of_predictions_and_of_references():
    chart = length_chart(bins((1, 0), (3, 20)))
    heights = [(b["kind"], b["height"]) for b in chart["bars"]]
    full = BOX["y1"] - BOX["y0"]
    assert heights[0] == ("predictions", pytest.approx(full / 4, abs=0.1))
    assert heights[1] == ("references", 0)
    assert heights[2] == ("predictions", pytest.approx(full * 3 / 4, abs=0.1))
    assert heights[3] == ("references", pytest.approx(full, abs=0.1))
    assert [label for _, label in chart["ticks"]] == ["0", "1"]
    assert chart["bars"][3]["label"] == "1 word(s): 20 references"


def test_bars_do_not_overlap_and_are_inside_the_chart():
    for lengths in (bins(*[(1, 1)] * 30, width=4), bins((1, 1))):
        chart = length_chart(lengths)
        edges = [(b["x"], b["x"] + b["width"]) for b in chart["bars"]]
        assert edges == sorted(edges)
        assert all(a[1] <= b[0] + 0.11 for a, b in zip(edges, edges[1:], strict=False))
        assert BOX["x0"] <= edges[0][0] and edges[-1][1] <= BOX["x1"]
        assert len(chart["ticks"]) <= 8
    assert length_chart(bins((1, 1), width=4))["ticks"][0][1] == "0 to 3"


def test_there_is_no_chart_without_texts():
    assert length_chart([]) is None


def test_only_rows_with_words_have_attention():
    row = {"id": "a", "references": ["a"], "text": "a", "score": -1.0, "chrf": 1.0}
    word = WordAttention(word="a", shares={"image": 1.0})
    shown, other = TextRow(**row, words=[word]), TextRow(**row)
    assert TextExamples(worst=[other], best=[other, shown]).attentive == [shown]
