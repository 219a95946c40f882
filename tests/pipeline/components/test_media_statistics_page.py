import re

import pytest

from mmkeras.config import Config
from mmkeras.modalities.columns import build_columns
from pipeline.components.media_statistics import describe_columns
from pipeline.components.media_statistics_page import render

COLUMNS = describe_columns(build_columns(Config()))  # text, image and audio


def split_of(rows=18, numbers=None, values=None, faults=None, classes=(), number=0):
    """One split of media_statistics.json: text is present in two of 18 rows."""
    states = {"present": 2, "absent": rows - 2, "unreadable": 0}
    largest = [
        {"name": name, "rows": count, "missing": {"text": lost, "image": 0, "audio": 0}}
        for name, count, lost in classes
    ]
    return {
        "rows": rows,
        "columns": dict.fromkeys(COLUMNS, states),
        "numbers": numbers or {},
        "values": values or {},
        "faults": faults or {},
        "classes": {"number": number or len(largest), "largest": largest},
    }


def number(low, high, scale=1.0):
    content = {"rows": 16, "min": low, "max": high, "median": 2, "p05": 1, "p95": 7}
    content |= {"mean": 3.25, "deviation": 2.05}
    content = {k: v if k == "rows" else v * scale for k, v in content.items()}
    edges = [low * scale, 4 * scale, 6 * scale, high * scale]
    return content | {"histogram": {"edges": edges, "rows": [9, 0, 7]}}


def page_of(**splits):
    return render({"columns": COLUMNS, "splits": splits})


def visible_text(page):
    body = re.sub(r"<style>.*</style>", "", page, flags=re.S)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@pytest.fixture(scope="module")
def page():
    numbers = {"audio_seconds": number(1, 8), "image_width_px": number(300, 300)}
    numbers["audio_silent"] = number(0, 10, 0.1)
    faults = {"audio_silent": {"rows": 16, "share": 0.5}}
    faults["audio_clipped"] = {"rows": 16, "share": 0}
    rates = {"audio_rate_hz": {"16000": 12, "8000": 4}}
    train = split_of(
        numbers=numbers, values=rates, faults=faults, classes=[("cat", 90, 45)]
    )
    return page_of(train=train, test=split_of(rows=2))


def test_a_page_has_no_external_resources(page):
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|https?://", page)


@pytest.mark.parametrize(
    "text",
    [
        "18 train rows · 2 test rows",
        "text train 2 16 88.9 % 0 test 2 0 0",
        "silent throughout 50.0 % – clipped 0 % –",
        "train · median 2 · mean 3.25 ± 2.05 90 % 1 to 7 · all 1 to 8",
        "all 300 px train none test",
        "16,000 Hz 75.0 % 0 % 8,000 Hz 25.0 % 0 %",
        "median 20 · mean 32.5 ± 20.5 90 % 10 to 70 ",
        "cat 90 0 50.0 % – –",
    ],
)
def test_a_page_shows_numbers_shares_and_classes(page, text):
    assert text in visible_text(page)


def test_bars_have_a_height_and_their_rows(page):
    assert 'title="1 to 4 s: 9 rows (56.2 %)"' in page
    heights = re.findall(r"<i style=\"height: ([\d.]+)%\"", page)
    assert heights[-6:-3] == ["100.0", "0.0", "77.8"]


def test_text_from_the_table_is_escaped():
    page = page_of(train=split_of(classes=[("<script>x</script>", 1, 0)]))
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_the_rows_of_a_class_outside_the_largest_are_unknown():
    page = page_of(
        train=split_of(classes=[("cat", 9, 0), ("dog", 7, 0)]),
        val=split_of(classes=[("cat", 4, 0)], number=2),
        test=split_of(classes=[("cat", 3, 0)]),
    )
    text = visible_text(page)
    assert "cat 9 4 3 – – – dog 7 – 0 – – –" in text
    assert "Of 2 classes in val the 1 largest are shown" in text


def test_rare_values_are_counted_and_named():
    values = {"audio_rate_hz": {str(rate): 1 for rate in range(8_000, 8_020)}}
    page = page_of(train=split_of(values=values))
    assert "and 12 more, in media_statistics.json" in visible_text(page)
