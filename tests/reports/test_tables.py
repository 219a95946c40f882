from mmkeras.reports.tables import (
    format_interval,
    format_share,
    markdown_table,
)


def test_a_markdown_table_is_aligned():
    text = markdown_table(["model", "s"], [["gated", "12"], ["low-rank", "7"]])
    assert text.splitlines() == [
        "| model    |   s |",
        "|----------|----:|",
        "| gated    |  12 |",
        "| low-rank |   7 |",
    ]


def test_shares_are_written_without_a_leading_zero():
    shares = {0.5: ".500", 1.0: "1.000", -0.125: "-.125", 0.0: ".000"}
    assert {x: format_share(x) for x in shares} == shares
    interval = {"value": 0.5, "low": 0.25, "high": 1}
    assert format_interval(interval) == ".500 (.250 to 1.000)"
    assert format_interval(None) == format_interval({"value": None}) == ""
