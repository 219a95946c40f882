import math

import numpy as np
import pytest
import tensorflow as tf
from sklearn.preprocessing import QuantileTransformer

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.column import Content
from mmkeras.modalities.tabular.branch import Tabular
from mmkeras.modalities.tabular.category import Category
from mmkeras.modalities.tabular.column import TabularColumn
from mmkeras.modalities.tabular.numeric import Numeric

QUANTILE = TabularConfig(scale="quantile")
PRICE, COLOR = Numeric("price", TabularConfig()), Category("color", TabularConfig())


class Geo(TabularColumn):
    """A column of a stranger: "latitude,longitude" in degrees to a unit vector."""

    type, width = "geo", 3

    @classmethod
    def recognise(cls, cells, files):
        return "places" if all(str(cell).count(",") == 1 for cell in cells) else ""

    def read(self, cell, files):
        data = str(cell).encode()
        return Content(data=data, digest=data)

    def numbers(self, values):
        is_place = tf.strings.regex_full_match(values, "[0-9.-]+,[0-9.-]+")
        parts = tf.strings.split(tf.where(is_place, values, "0,0"), ",").to_tensor()
        degrees = tf.strings.to_number(parts)
        lat, lon = tf.unstack(degrees * math.pi / 180, axis=1)
        x, y, z = tf.cos(lat) * tf.cos(lon), tf.cos(lat) * tf.sin(lon), tf.sin(lat)
        return tf.where(is_place[:, None], tf.stack([x, y, z], 1), float("nan"))


def test_a_new_type_of_numbers_needs_four_methods():
    settings = TabularConfig()
    column = Geo("shop", settings)
    assert Geo.recognise(["52.5,13.4"], None) == "places"
    moments = column.statistics()
    pole, equator = (moments.vector(tf.constant(x)) for x in ("90,0", "0,90"))
    np.testing.assert_allclose([pole, equator], [[0, 0, 1], [0, 1, 0]], atol=1e-6)
    state = column.fit((np.zeros(moments.width), np.full(moments.width, 0.5)))
    graph = Tabular([column], settings).graph({"shop": state})
    x, usable = graph({"shop": tf.constant(["90,0", "", "north"])})
    expected = [[0, 0, 2, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    np.testing.assert_allclose(x, expected, atol=1e-6)
    np.testing.assert_array_equal(usable["shop"], [[1, 0, 0], [1, 0, 1]])
    assert column.corrupt(b"90,0", 1.0, [0, 0]) == b""
    assert column.preview(b"90,0")["content"] == "90,0"
    assert column.explain(b"90,0", lambda hidden: np.array([0.5])) == {
        "value": "90,0",
        "effect": 0.5,
    }


def test_numbers_are_standardised_and_outliers_limited():
    state = PRICE.fit((np.array([10.0]), np.array([2.0])))
    z = PRICE.scale(tf.constant([[10.0], [13.0], [1e9], [-1e9]]), state)
    np.testing.assert_allclose(z[:, 0], [0, 1.5, 5, -5])


@pytest.mark.parametrize("mean", [0.0, 1e6])
def test_a_constant_number_is_centred_only(mean):
    state = PRICE.fit((np.array([mean]), np.array([mean * 1e-8])))
    assert state == {"mean": [mean], "deviation": [1.0]}


def test_tiny_numbers_are_standardised_too():
    state = PRICE.fit((np.array([0.0]), np.array([1e-9])))
    z = PRICE.scale(tf.constant([[2e-9]]), state)
    np.testing.assert_allclose(z, [[2]], rtol=1e-5)


def test_quantiles_give_the_normal_scores_of_scikit_learn():
    x = np.random.default_rng(0).lognormal(size=(500, 2)).astype(np.float32)
    x[:150, 1] = 1.0  # duplicates
    column = Numeric("price", QUANTILE)
    count = column.statistics().count
    quantiles = np.quantile(x, np.linspace(0, 1, count), axis=0)
    state = column.fit(quantiles)
    scores = column.scale(tf.constant(x), state).numpy()
    reference = QuantileTransformer(
        n_quantiles=count, output_distribution="normal", subsample=None
    )
    expected = reference.fit_transform(x)
    inner = abs(expected) < 2.8
    assert inner.mean() > 0.98
    np.testing.assert_allclose(scores[inner], expected[inner], atol=2e-3)
    assert 2.8 < scores.max() < 3
    outside = column.scale(
        tf.constant([[-1e9, -1e9], [1e9, 1e9]]), column.fit(quantiles)
    )
    np.testing.assert_allclose(outside, [[-2.886] * 2, [2.886] * 2], atol=1e-3)


@pytest.mark.parametrize("settings", [TabularConfig(), QUANTILE])
def test_a_column_that_training_rows_lack_is_not_scaled(settings):
    column = Numeric("price", settings)
    assert column.scale(tf.constant([[2.0]]), column.fit(None))[0, 0] == 2


def test_higher_noise_hides_more_values_and_keeps_those_hidden():
    hidden = [
        [math.isnan(PRICE.corrupt(1.0, level, [0, row])) for row in range(400)]
        for level in PRICE.noise_levels
    ]
    shares = np.mean(hidden, axis=1)
    np.testing.assert_allclose(shares, PRICE.noise_levels, atol=0.06)
    assert all((np.diff(np.int32(hidden), axis=0) >= 0).ravel())


@pytest.mark.parametrize(
    ("column", "data", "text", "absent"),
    [(PRICE, 1234567.0, "1234567", math.nan), (COLOR, "rot ü".encode(), "rot ü", b"")],
)
def test_the_effect_of_a_value_is_that_of_hiding_it(column, data, text, absent):
    contents = []

    def effects(hidden):
        contents.extend(hidden)
        return np.float32([0.25])

    explained = column.explain(data, effects)
    np.testing.assert_equal(contents, [absent])
    assert explained == {"value": text, "effect": 0.25}
    assert column.draw(data, explained) == {"kind": "value", **explained}
    assert column.preview(data) == {"kind": "value", "content": text}
