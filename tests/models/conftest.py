import numpy as np
import pytest


@pytest.fixture(scope="session")
def batch(tiny, state) -> dict[str, np.ndarray]:
    """Inputs of eight rows for a model of `tiny`; rows 1 to 3 lack one modality."""
    rng = np.random.default_rng(0)
    size = tiny.image.size_px
    inputs = {"image": rng.integers(0, 256, (8, size, size, 3), np.uint8)}
    for name, width in ((n, c.get("width")) for n, c in state.columns.items()):
        if width:
            inputs[name] = rng.normal(size=(8, width)).astype("float32")
    present = np.ones((8, 3), "float32")
    present[1:4] -= np.eye(3)
    return {**inputs, "present": present}
