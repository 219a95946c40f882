import numpy as np
import pytest

from mmkeras.modalities.windows import average_over_windows, windows


@pytest.mark.parametrize("grid", [(8, 8), (8, 12), (8, 1), (1, 3), (2, 2)])
def test_windows_cover_every_cell_and_none_is_empty(grid):
    masks = windows(grid)
    assert masks.any(axis=0).all() and masks.any(axis=(1, 2)).all()
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_the_effect_of_a_window_is_averaged_over_its_cells():
    masks = windows((8, 8))
    same = average_over_windows(np.full(len(masks), 0.3), masks)
    np.testing.assert_allclose(same, 0.3)
    first = average_over_windows(np.eye(len(masks))[0], masks)
    assert first[0, 0] == 1 > first[1, 1] > 0 and not first[2:].any()
