import io

import numpy as np
import pytest
from PIL import Image

from mmkeras.modalities.image.encoding import thumbnail


@pytest.mark.parametrize("size", [(40, 30), (900, 700)])
def test_a_picture_of_16_bits_is_shown_as_the_model_sees_it(size):
    gray = np.full(size[::-1], 30_000, np.uint16)
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG")
    shown = np.asarray(Image.open(io.BytesIO(thumbnail(file.getvalue()))))
    assert np.abs(shown.astype(int) - (30_000 >> 8)).max() <= 1
