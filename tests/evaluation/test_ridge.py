"""Ridge regression: exact where the data are linear, careful where they are noise."""

import numpy as np
import pytest

from mmkeras.evaluation.ridge import fit_ridge


def blocks(n, seed=0):
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(5, 3, (n, 4)), "b": rng.normal(0, 100, (n, 30))}


def test_a_linear_target_is_found_in_blocks_of_any_scale():
    train, test = blocks(200), blocks(50, seed=1)
    targets = [x["a"][:, :1] * 2 + x["b"][:, 3:4] / 50 + 1000 for x in (train, test)]
    model = fit_ridge(train, targets[0], seed=0)
    assert model.predict(test, "regression") == pytest.approx(targets[1], abs=0.1)


def test_noise_gives_about_the_mean():
    train, test = blocks(40), blocks(40, seed=1)
    targets = np.random.default_rng(2).normal(10, 1, (40, 1))
    predicted = fit_ridge(train, targets, seed=0).predict(test, "regression")
    assert np.abs(predicted - targets.mean()).max() < 1


def test_no_more_than_the_given_rows_are_fitted():
    train = blocks(100)
    targets = train["a"][:, :1].copy()
    few = fit_ridge(train, targets, seed=0, max_rows=10)
    order = np.random.default_rng(0).choice(100, 10, replace=False)
    same = fit_ridge({k: x[order] for k, x in train.items()}, targets[order], seed=0)
    np.testing.assert_allclose(few.kernel, same.kernel)
