import numpy as np

from tests.modalities.tabular.tables import MONDAY, ROWS, STATE, make_branch


def test_the_linear_baseline_sees_numbers_flags_and_one_column_per_category():
    branch = make_branch()
    x = branch.graph(STATE)(ROWS)[0].numpy()
    features = branch.linear_features(x, STATE)
    expected = [
        [1.5, *MONDAY, 0, 0, 0, 0, 0, 1, 0, 0, 1],
        [0, *[0] * 8, 1, 1, 1, 0, 0, 0, 1, 0, 0],
        [0, *[0] * 8, 1, 1, 0, 1, 0, 0, 0, 1, 0],
    ]
    np.testing.assert_allclose(features, expected, atol=1e-4)
    assert features.dtype == np.float32


def test_a_branch_of_numbers_alone_or_of_categories_alone_works():
    for names, width in (("price", 2), ("color size", 2), ("sold", 9)):
        branch = make_branch(names)
        x = branch.graph(STATE)(ROWS)[0].numpy()
        assert x.shape == (3, width) == (3, branch.width)
        assert len(branch.linear_features(x, STATE)) == 3
