import numpy as np
import pytest
import tensorflow as tf

from mmkeras.explanation import occlusion
from mmkeras.explanation.occlusion import (
    hidden_regions,
    hidden_sounds,
    spectrum,
    without_word,
    words,
)
from mmkeras.modalities.audio import mel
from mmkeras.modalities.decoders import MediaDecoders
from tests import table_factory

RATE_HZ = 8000


def wave_of(data):
    """The samples of a WAV of floats, as `hidden_sounds` writes it."""
    return np.frombuffer(data[44:], "<f4")


def tone(hz, seconds=0.5):
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.3 * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def one(grid, row, column):
    """A window of one cell."""
    mask = np.zeros((1, *grid), bool)
    mask[0, row, column] = True
    return mask


@pytest.mark.parametrize("grid", [(8, 8), (8, 12), (8, 1), (1, 3), (2, 2)])
def test_windows_cover_every_cell_and_none_is_empty(grid):
    masks = occlusion.windows(grid)
    assert masks.any(axis=0).all() and masks.any(axis=(1, 2)).all()
    assert len({mask.tobytes() for mask in masks}) == len(masks)


def test_an_effect_is_spread_over_the_windows_cells_and_a_common_one_is_everywhere():
    masks = occlusion.windows((8, 8))
    np.testing.assert_allclose(
        occlusion.average_over_windows(np.full(len(masks), 0.3), masks), 0.3
    )
    only = occlusion.average_over_windows(np.eye(len(masks))[0], masks)
    assert only[0, 0] == 1 > only[1, 1] > 0 and not only[2:].any()


def test_a_hidden_region_has_the_colour_of_the_edge_and_the_rest_stays(tmp_path):
    decoders = MediaDecoders(table_factory.tiny_config(tmp_path))
    pixels = np.full((32, 32, 3), (250, 240, 230), np.uint8)
    pixels[8:16, 16:24] = (200, 0, 0)
    (hidden,) = hidden_regions(pixels, one((4, 4), 1, 2))
    assert (decoders.pixels(hidden) == (250, 240, 230)).all()
    (other,) = hidden_regions(pixels, one((4, 4), 2, 2))
    np.testing.assert_array_equal(decoders.pixels(other), pixels)


def test_a_grid_that_does_not_divide_the_side_still_hides_every_pixel():
    pixels = np.random.default_rng(0).integers(0, 255, (37, 37, 3), np.uint8)
    everything = np.ones((1, 8, 8), bool)
    (hidden,) = hidden_regions(pixels, everything)
    assert np.ptp(tf.io.decode_png(hidden).numpy(), axis=(0, 1)).max() == 0


def test_each_word_is_left_out_once():
    text = "Ein Löwe,  zwei"
    assert [text[a:b] for a, b in words(text)] == ["Ein", "Löwe,", "zwei"]
    left = [data.decode() for data in without_word(text, words(text))]
    assert left == ["Löwe,  zwei", "Ein   zwei", "Ein Löwe,"]


def test_where_no_spaces_part_words_each_character_is_one():
    text = "青い空 sky"
    assert [text[a:b] for a, b in words(text)] == ["青", "い", "空", "sky"]


def test_a_long_text_is_tried_as_far_as_the_limit():
    assert len(words("la " * 5000)) == occlusion.MAX_WORDS
    assert words(" \n ") == []


def test_nothing_hidden_leaves_the_sound_as_it_was():
    wave = tone(440)
    found = spectrum(wave, RATE_HZ)
    (same,) = hidden_sounds(found, np.zeros((1, *found.grid), bool))
    np.testing.assert_allclose(wave_of(same), wave, atol=1e-5)


@pytest.mark.parametrize("hz", [150, 440, 1000, 3000])
def test_a_tone_is_silenced_by_its_own_band_alone(hz):
    wave = tone(hz)
    found = spectrum(wave, RATE_HZ)
    rows = [np.zeros((1, *found.grid), bool) for _ in range(found.grid[0])]
    for row, mask in enumerate(rows):
        mask[0, row] = True
    left = [wave_of(next(hidden_sounds(found, m))).std() / wave.std() for m in rows]
    band = int(np.searchsorted(found.edges_hz, hz) - 1)
    assert np.argmin(left) == band and left[band] < 0.35
    assert all(x > 0.9 for i, x in enumerate(left) if abs(i - band) > 1)


def test_a_burst_is_silenced_by_its_own_time_alone():
    wave = np.zeros(RATE_HZ, np.float32)
    wave[4000:4400] = tone(500, 0.05)
    found = spectrum(wave, RATE_HZ)
    left = []
    for column in range(found.grid[1]):
        mask = np.zeros((1, *found.grid), bool)
        mask[0, :, column] = True
        left.append(wave_of(next(hidden_sounds(found, mask))).std() / wave.std())
    assert np.argmin(left) == 6 and left[6] < 0.4  # of 12: 0.5 s of 1 s
    assert min(left[:4] + left[9:]) > 0.99


@pytest.mark.parametrize("samples", [64, 65, 100, 333, 4001])
def test_a_short_sound_keeps_its_length(samples):
    found = spectrum(np.ones(samples, np.float32), RATE_HZ)
    for mask in (np.zeros(found.grid, bool), np.ones(found.grid, bool)):
        (data,) = hidden_sounds(found, mask[None])
        assert len(wave_of(data)) == samples and np.isfinite(wave_of(data)).all()


def test_a_click_has_no_parts():
    assert spectrum(np.ones(63, np.float32), RATE_HZ) is None


def test_mel_and_hertz_are_each_others_inverse():
    hz = np.array([0, 100, 1000, 8000])
    np.testing.assert_allclose(mel.mel_to_hz(mel.hz_to_mel(hz)), hz)
    assert mel.hz_to_mel(1000) == pytest.approx(1000, abs=1)
