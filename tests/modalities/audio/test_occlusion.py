import io

import numpy as np
import pytest
from PIL import Image

from mmkeras.modalities.audio.occlusion import (
    compute_spectrum,
    draw_effects,
    draw_weights,
    hide_bands,
    spectrogram_image,
)

RATE_HZ = 8000


def tone(hz, seconds=0.5):
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def mask_of(grid, *index):
    """A window of one cell, row or column, (1, *grid)."""
    mask = np.zeros((1, *grid), bool)
    mask[0][index] = True
    return mask


def hidden_wave(spectrum, mask):
    (data,) = hide_bands(spectrum, mask)
    return np.frombuffer(data[44:], "<f4")


def test_nothing_hidden_keeps_the_audio():
    wave = tone(440)
    spectrum = compute_spectrum(wave, RATE_HZ)
    same = hidden_wave(spectrum, np.zeros((1, *spectrum.grid), bool))
    np.testing.assert_allclose(same, wave, atol=1e-5)


@pytest.mark.parametrize("hz", [150, 440, 1000, 3000])
def test_only_its_own_band_silences_a_tone(hz):
    spectrum = compute_spectrum(tone(hz), RATE_HZ)
    levels = [
        hidden_wave(spectrum, mask_of(spectrum.grid, row)).std() / tone(hz).std()
        for row in range(spectrum.grid[0])
    ]
    band = int(np.searchsorted(spectrum.edges_hz, hz) - 1)
    assert np.argmin(levels) == band and levels[band] < 0.35
    assert all(x > 0.9 for i, x in enumerate(levels) if abs(i - band) > 1)


def test_only_its_own_time_silences_a_burst():
    wave = np.zeros(RATE_HZ, np.float32)
    wave[4000:4400] = tone(500, 0.05)
    spectrum = compute_spectrum(wave, RATE_HZ)
    levels = [
        hidden_wave(spectrum, mask_of(spectrum.grid, slice(None), column)).std()
        / wave.std()
        for column in range(spectrum.grid[1])
    ]
    assert np.argmin(levels) == 6 and levels[6] < 0.4  # of 12: 0.5 s of 1 s
    assert min(levels[:4] + levels[9:]) > 0.99


@pytest.mark.parametrize("samples", [64, 65, 100, 333, 4001])
def test_short_audio_keeps_its_length(samples):
    spectrum = compute_spectrum(np.ones(samples, np.float32), RATE_HZ)
    for mask in (np.zeros(spectrum.grid, bool), np.ones(spectrum.grid, bool)):
        wave = hidden_wave(spectrum, mask[None])
        assert len(wave) == samples and np.isfinite(wave).all()


def test_a_click_has_no_parts():
    assert compute_spectrum(np.ones(63, np.float32), RATE_HZ) is None


@pytest.mark.parametrize("hz, rows", [(100, range(141, 160)), (7000, range(20))])
def test_a_low_tone_is_drawn_at_the_bottom_and_a_high_one_at_the_top(hz, rows):
    wave = np.sin(2 * np.pi * hz * np.arange(8000) / 16_000)
    image = spectrogram_image(compute_spectrum(wave, 16_000))[..., 0]
    assert image.mean(axis=1).argmin() in rows


def test_silence_is_drawn_without_a_warning():
    spectrum = compute_spectrum(np.zeros(8000), 16_000)
    assert spectrogram_image(spectrum).shape == (160, 320, 3)


def test_effects_of_low_bands_are_drawn_at_the_bottom():
    wave = tone(440)
    spectrum = compute_spectrum(wave, RATE_HZ)
    effects = np.zeros(spectrum.grid)
    effects[0], effects[-1] = 0.5, -0.5
    explained = {"effects": effects.tolist(), "seconds": 0.5}
    explained["band_edges_hz"] = list(spectrum.edges_hz)

    picture = draw_effects(wave, RATE_HZ, explained)

    assert (picture["scale"], picture["seconds"]) == (0.5, 0.5)
    assert picture["top_hz"] == pytest.approx(RATE_HZ / 2)
    image = np.asarray(Image.open(io.BytesIO(picture["heatmap"]))).astype(int)
    assert image.shape == (160, 320, 3)
    red_over_blue = (image[..., 0] - image[..., 2]).mean(axis=1)
    assert red_over_blue[-1] > 40 and red_over_blue[0] < -40


def draw(seconds, weights, clip_s=1.0):
    wave = np.float32(np.random.default_rng(0).normal(size=int(RATE_HZ * seconds)))
    png = draw_weights(wave, RATE_HZ, np.array(weights), clip_s=clip_s, scale=1.0)
    return None if png is None else np.asarray(Image.open(io.BytesIO(png))).astype(int)


@pytest.mark.parametrize(
    ("seconds", "first", "last"), [(1.0, 80, 160), (0.3, 267, 320), (0.2, 320, 320)]
)
def test_weights_of_stretches_are_drawn_at_their_times(seconds, first, last):
    """The second of four stretches of a second, from .25 to .5 s."""
    pixels = draw(seconds, [0.0, 1.0, 0.0, 0.0])
    orange = (pixels[..., 0] - pixels[..., 2]).mean(axis=0) > 30  # (320,)
    expected = np.arange(320)[first:last]
    np.testing.assert_allclose(np.flatnonzero(orange), expected, atol=1)


def test_one_token_and_a_click_have_no_places():
    assert draw(1.0, [1.0]) is None
    assert draw(0.001, [1.0, 1.0]) is None
