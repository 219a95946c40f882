import numpy as np
import pytest

from mmkeras.modalities.audio import mel


def test_mel_and_hertz_are_inverse():
    hz = np.array([0, 100, 1000, 8000])
    np.testing.assert_allclose(mel.mel_to_hz(mel.hz_to_mel(hz)), hz)
    assert mel.hz_to_mel(1000) == pytest.approx(1000, abs=1)
