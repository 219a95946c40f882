"""A branch with a column of each type, its state and rows."""

import numpy as np
import tensorflow as tf

from mmkeras.config.tabular import TabularConfig
from mmkeras.modalities.tabular.branch import Tabular
from mmkeras.modalities.tabular.category import Category
from mmkeras.modalities.tabular.date import Date
from mmkeras.modalities.tabular.numeric import Numeric

STATE = {
    "price": {"mean": [10.0], "deviation": [2.0]},
    "color": {"categories": ["red", "blue"]},
    "sold": {"mean": [2024.0] + [0.0] * 7, "deviation": [1.0] * 8},
    "size": {"categories": ["S"]},
}
# First of July, a Monday, at midnight: half a year, half a turn of the months.
MONDAY = [0.5, 1, 0, -1, 0, 1, 0, 1]
# All there, all absent, all unusable or unseen.
ROWS = {
    "price": tf.constant([13.0, np.nan, np.inf]),
    "color": tf.constant(["blue", "", "pink"]),
    "sold": tf.constant(["2024-07-01", "", "soon"]),
    "size": tf.constant(["S", " ", "XXL"]),
}


def make_branch(columns="price color sold size", **settings) -> Tabular:
    """Returns the branch of some of the columns, at its smallest."""
    config = TabularConfig(**{"units": 8, "layers": 1, "heads": 2} | settings)
    kinds = {"price": Numeric, "color": Category, "sold": Date, "size": Category}
    return Tabular([kinds[name](name, config) for name in columns.split()], config)
