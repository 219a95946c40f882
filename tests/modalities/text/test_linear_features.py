import numpy as np
import pytest

from mmkeras.modalities.text.linear_features import count_tokens


def test_tokens_are_counted_without_padding():
    features = count_tokens(np.array([[2, 1, 2, 0], [0, 0, 0, 0]]), vocabulary_size=3)
    assert features == pytest.approx(np.log1p([[1, 2, 0], [0, 0, 0]]))
