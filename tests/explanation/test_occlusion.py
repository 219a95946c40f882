import numpy as np
import pytest
import tensorflow as tf

from mmkeras.explanation import occlusion
from mmkeras.explanation.occlusion import (
    compute_spectrum,
    find_words,
    hide_bands,
    hide_regions,
    remove_words,
)
from mmkeras.modalities.audio import mel

RATE_HZ = 8000


def tone(hz, seconds=0.5):
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def mask_of(grid, *index):
    """A window of one cell, row or column, (1, *grid)."""
    mask = np.zeros((1, *grid), bool)
    mask[0][index] = True
    return mask


def hidden_image(pixels, mask):
    (data,) = hide_regions(pixels, mask)
    return tf.io.decode_png(data).numpy()


def hidden_wave(spectrum, mask):
    (data,) = hide_bands(spectrum, mask)
    return np.frombuffer(data[44:], "<f4")


@pytest.mark.parametrize("grid", [(8, 8), (8, 12), (8, 1), (1, 3), (2, 2)])
def test_windows_cover_every_cell_and_none_is_empty(grid):
    masks = occlusion.windows(grid)
    assert masks.any(axis=0).all() and masks.any(axis=(1, 2)).all()
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_the_effect_of_a_window_is_averaged_over_its_cells():
    masks = occlusion.windows((8, 8))
    same = occlusion.average_over_windows(np.full(len(masks), 0.3), masks)
    np.testing.assert_allclose(same, 0.3)
    first = occlusion.average_over_windows(np.eye(len(masks))[0], masks)
    assert first[0, 0] == 1 > first[1, 1] > 0 and not first[2:].any()


def test_a_hidden_region_has_the_colour_of_the_edge_and_the_rest_is_unchanged():
    pixels = np.full((32, 32, 3), (250, 240, 230), np.uint8)
    pixels[8:16, 16:24] = (200, 0, 0)
    assert (hidden_image(pixels, mask_of((4, 4), 1, 2)) == (250, 240, 230)).all()
    np.testing.assert_array_equal(hidden_image(pixels, mask_of((4, 4), 2, 2)), pixels)


def test_a_grid_that_does_not_divide_the_side_hides_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 255, (37, 37, 3), np.uint8)
    image = hidden_image(pixels, np.ones((1, 8, 8), bool))
    assert np.ptp(image, axis=(0, 1)).max() == 0


@pytest.mark.parametrize(
    "text, words",
    [("Ein Löwe,  zwei", ["Ein", "Löwe,", "zwei"]), ("青い空 sky", [*"青い空", "sky"])],
)
def test_words_end_at_spaces_and_after_each_character_without_spaces(text, words):
    assert [text[a:b] for a, b in find_words(text)] == words


def test_each_word_is_removed_once():
    text = "Ein Löwe,  zwei"
    texts = [data.decode() for data in remove_words(text, find_words(text))]
    assert texts == ["Löwe,  zwei", "Ein   zwei", "Ein Löwe,"]


def test_the_number_of_words_is_limited():
    assert len(find_words("la " * 5000)) == occlusion.MAX_WORDS
    assert find_words(" \n ") == []


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


def test_mel_and_hertz_are_inverse():
    hz = np.array([0, 100, 1000, 8000])
    np.testing.assert_allclose(mel.mel_to_hz(mel.hz_to_mel(hz)), hz)
    assert mel.hz_to_mel(1000) == pytest.approx(1000, abs=1)
