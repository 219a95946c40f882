import pytest

from mmkeras.config.values import load_yaml


def test_a_name_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="'title' is there twice"):
        load_yaml("columns: {title: text, other: text, title: category}")
    assert load_yaml("a: &x {b: 1}\nc: {<<: *x, b: 2}")["c"] == {"b": 2}
