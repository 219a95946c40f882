import re

import pytest

from pipeline.components.media_statistics_accumulator import (
    MediaTotals,
    read_row,
    summarize,
)
from pipeline.components.media_statistics_page import render
from tests.pipeline.components.test_media_statistics_accumulator import SOUND, record

MODALITIES = ["text", "image", "audio"]
PICTURE = {"image": b"x", "image_width_px": 300, "image_channels": 3}


def page_of(classes=(), **splits):
    totals = {}
    for split, records in splits.items():
        totals[split] = MediaTotals()
        for one in records:
            totals[split].add(read_row(one, MODALITIES))
    counts = {split: (len(classes), list(classes)) for split in totals}
    return render(summarize(totals, counts, MODALITIES))


def words(page):
    """What a reader sees, without marks and doubled spaces."""
    body = re.sub(r"<style>.*</style>", "", page, flags=re.S)
    body = re.sub(r"<title>[^<]*</title>", "", body)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


@pytest.fixture(scope="module")
def page():
    sounds = [record(**SOUND | {"audio_seconds": float(i)}) for i in range(1, 9)]
    silent = [record(**SOUND | {"audio_silent": 1.0})] * 8
    images = [record(**PICTURE, text=b"x", text_characters=1200 * i) for i in (1, 9)]
    return page_of(
        [("cat", (90, 45, 0, 90))],
        train=[*sounds, *silent, *images],
        test=[record(status=b"audio unreadable"), record(**SOUND)],
    )


def test_a_page_needs_nothing_beside_it(page):
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|https?://", page)


def test_a_page_tells_who_has_what(page):
    text = words(page)
    assert "18 train rows · 2 test rows" in text
    assert "text train 2 16 88.9 % 0" in text
    assert "audio train 16 2 11.1 % 0 test 1 0 1 50.0 %" in text


def test_a_page_tells_what_sounds_are_like(page):
    text = words(page)
    assert "silent throughout 50.0 % 0 %" in text and "clipped 0 % 0 %" in text
    assert "train · median 2 · mean 3.25 ± 2.05 90 % 1 to 7 · all 1 to 8" in text
    assert "16,000 Hz 100 % 100 %" in text


def test_a_share_is_shown_in_percent(page):
    assert "median 25 · mean 62.5 ± 37.5 90 % 25 to 100 " in words(page)
    assert page.count("% of a sound") >= 2


def test_equal_numbers_need_no_chart_and_a_split_without_them_says_so(page):
    assert "all 300 px train none test" in words(page)


def test_bars_tell_their_rows(page):
    assert "<title>2 to 3 s: 9 rows (56.2 %)</title>" in page
    assert ": 0 rows" not in page
    heights = [float(h) for h in re.findall(r'<rect [^>]*height="([\d.]+)"', page)]
    assert heights and max(heights) == 78 and min(heights) > 0


def test_classes_show_what_they_lack(page):
    assert "cat 90 90 50.0 % – 100 %" in words(page)


def test_what_a_user_wrote_is_escaped():
    page = page_of([("<script>x</script>", (1, 0, 0, 0))], train=[record(text=b"x")])
    assert "<script>" not in page and "&lt;script&gt;" in page


def test_the_rows_of_a_class_that_is_not_among_the_largest_are_unknown():
    totals = {split: MediaTotals() for split in ("train", "val", "test")}
    classes = {
        "train": (2, [("cat", (9, 0)), ("dog", (7, 0))]),
        "val": (2, [("cat", (4, 0))]),  # one of two
        "test": (1, [("cat", (3, 0))]),
    }
    text = words(render(summarize(totals, classes, ["text"])))
    assert "cat 9 4 3 – dog 7 – 0 –" in text


def test_rare_values_are_counted_and_named():
    rates = range(8_000, 8_020)
    rows = [record(**SOUND | {"audio_rate_hz": rate}) for rate in rates]
    assert "and 12 more, in media_statistics.json" in words(page_of(train=rows))
