import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.tabular.geo import Geo

FILES = FileReader(".")
COLUMN = Geo("place", TabularConfig())


def in_graph(*values):
    return COLUMN.numbers(tf.constant(values)).numpy()


def test_a_place_is_its_point_on_the_unit_sphere():
    equator, pole, east = in_graph("0, 0", "90,0", " 0 ; 90.0")
    np.testing.assert_allclose(equator, [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(pole, [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(east, [0, 1, 0], atol=1e-6)


def test_both_sides_of_the_date_line_are_near_to_each_other():
    west, east = in_graph("-17.7,179.9", "-17.7,-179.9")
    assert np.linalg.norm(west - east) < 0.01


def test_what_is_read_is_served_and_no_place_is_nan():
    data = COLUMN.read(" 52.52 , 13.40 ", FILES).data
    assert data == b"52.52,13.40"
    np.testing.assert_allclose(np.linalg.norm(in_graph(data.decode())), 1, rtol=1e-6)
    assert np.isnan(in_graph("", "Berlin", "52.52")).all()


@pytest.mark.parametrize(
    "cell", ["Berlin", "91,0", "-90.0000001,0", "0,181", "95,200", "52.52", "1,2,3"]
)
def test_what_is_no_place_is_unreadable_and_nan_in_the_graph(cell):
    with pytest.raises(Unreadable, match="latitude and longitude"):
        COLUMN.read(cell, FILES)
    assert np.isnan(in_graph(cell, "0,0")[0]).all()


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["52.52, 13.40", "-1 2", "-17.7;179.9"], "places"),
        (["52.52, 13.40", "3"], ""),
        (["12,50", "3,99", "7,00"], ""),  # prices
        (["1.234,50", "2.345,75", "1.000,00"], ""),
        (["1 000", "2 500"], ""),
        (["3 7", "1 2"], ""),
        (["52.5,13.4", "95.1,13.4"], ""),  # beyond the pole
        ([], ""),
    ],
)
def test_pairs_of_degrees_with_a_point_are_recognised(cells, reason):
    assert Geo.recognise(cells, FILES) == reason
