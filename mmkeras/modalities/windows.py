"""Windows over the parts of an image or a spectrogram, which occlusion hides."""

import numpy as np

_WINDOW_CELLS = 2  # side of a window; windows overlap by one cell


def windows(grid: tuple[int, int]) -> np.ndarray:
    """Returns (W, rows, columns) bool: which cells each of W windows hides."""
    rows, columns = grid
    height, width = min(_WINDOW_CELLS, rows), min(_WINDOW_CELLS, columns)
    masks = []
    for top in range(rows - height + 1):
        for left in range(columns - width + 1):
            mask = np.zeros(grid, bool)
            mask[top : top + height, left : left + width] = True
            masks.append(mask)
    return np.stack(masks)


def average_over_windows(effects: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns (rows, columns): the mean effect (W,) of the windows over each cell."""
    return np.tensordot(effects, masks, 1) / masks.sum(axis=0)
