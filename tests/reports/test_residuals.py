"""Charts of residuals: positions that mean something."""

from mmkeras.reports import charts
from mmkeras.reports.residuals import POINTS, residual_charts

BOX = charts.BOX


def test_exact_predictions_are_on_the_diagonal_and_in_the_middle_bins():
    result = residual_charts([(v, v) for v in (0.0, 5.0, 10.0)])
    (x0, y0), middle, (x1, y1) = result["scatter"]["points"]
    assert (x0, y0) == (BOX["x0"], BOX["y1"]) and (x1, y1) == (BOX["x1"], BOX["y0"])
    assert middle == ((x0 + x1) / 2, (y0 + y1) / 2)
    rows = [b["rows"] for b in result["histogram"]["bins"]]
    assert sum(rows) == 3 and sum(rows[9:11]) == 3


def test_predictions_above_the_label_are_above_the_diagonal_and_right_of_zero():
    result = residual_charts([(0.0, 4.0), (10.0, 10.0)])
    (x, y), _ = result["scatter"]["points"]
    assert x == BOX["x0"] and y < BOX["y1"]
    last = result["histogram"]["bins"][-1]
    assert last["rows"] == 1 and last["x"] > result["histogram"]["zero"]
    assert last["label"] == "3.6 to 4"


def test_many_rows_are_thinned_in_the_cloud_only():
    result = residual_charts([(float(i), float(i)) for i in range(3 * POINTS)])
    assert result["scatter"]["rows"] == len(result["scatter"]["points"]) == POINTS
    assert sum(b["rows"] for b in result["histogram"]["bins"]) == 3 * POINTS
    assert residual_charts([]) is None
