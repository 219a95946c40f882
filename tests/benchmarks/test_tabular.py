import numpy as np
import pytest

from benchmarks import tabular
from mmkeras.config.tabular import TabularConfig


@pytest.mark.parametrize("kind", ["standard", "quantile"])
def test_classes_and_numbers_of_new_rows_are_predicted(monkeypatch, kind):
    monkeypatch.setattr(tabular, "EPOCHS", 5)
    monkeypatch.setattr(tabular, "STEPS", 100)
    x = np.random.default_rng(0).normal(5, 3, (120, 2))
    number, settings = x[:, 0] - x[:, 1], TabularConfig(scale=kind)
    for y in (number, (number > 0).astype(int)):
        out = tabular.predict(x[:80], y[:80], x[80:], settings, "concat", 0)
        assert np.corrcoef(out, y[80:])[0, 1] > 0.8
