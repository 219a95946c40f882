import io

import numpy as np
import pytest
from PIL import Image

from mmkeras.explanation import heatmap
from mmkeras.explanation.occlusion import spectrum

GRAY = np.full((64, 48, 3), 128, np.uint8)


def pixels(data):
    return np.asarray(Image.open(io.BytesIO(data))).astype(int)


def test_what_speaks_for_the_answer_is_orange_and_against_it_blue():
    effects = np.zeros((4, 4))
    effects[0, 0], effects[3, 3] = 0.2, -0.2
    drawn = pixels(heatmap.overlay(GRAY, effects))
    assert drawn.shape == GRAY.shape
    red, _, blue = drawn[0, 0]
    assert red > blue + 80
    red, _, blue = drawn[-1, -1]
    assert blue > red + 80
    assert np.ptp(drawn[32, 24]) <= 30  # hardly any colour in the middle


def test_effects_that_are_nothing_stay_pale_however_they_compare():
    drawn = pixels(heatmap.overlay(GRAY, np.array([[1e-4, -1e-4], [0, 0]])))
    assert np.ptp(drawn, axis=-1).max() <= 3
    assert heatmap.scale_of(np.zeros((2, 2))) == heatmap.LEAST_SCALE
    assert heatmap.scale_of(np.array([])) == heatmap.LEAST_SCALE


@pytest.mark.parametrize("hz, place", [(100, "low"), (7000, "high")])
def test_a_low_tone_is_drawn_below_and_a_high_one_above(hz, place):
    wave = np.sin(2 * np.pi * hz * np.arange(8000) / 16000)
    image = heatmap.spectrogram_image(spectrum(wave, 16000))[..., 0]
    darkest = image.mean(axis=1).argmin()
    assert (darkest > 140) if place == "low" else (darkest < 20)


def test_silence_is_drawn_without_a_warning():
    assert heatmap.spectrogram_image(spectrum(np.zeros(8000), 16000)).shape == (
        160,
        320,
        3,
    )
