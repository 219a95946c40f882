import numpy as np
import pytest
import tensorflow as tf

from mmkeras.modalities.audio.column import Audio
from mmkeras.modalities.audio.corruption import add_noise
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.column import Image
from mmkeras.modalities.image.corruption import blur
from mmkeras.modalities.image.encoding import png_bytes
from mmkeras.modalities.text.corruption import drop_words
from tests import table_factory


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return table_factory.tiny_config(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pixels(config):
    """Decodes an image."""
    return Image("image", config.image).decoder


@pytest.fixture(scope="module")
def wave(config):
    """Decodes audio."""
    return Audio("audio", config.audio).decoder


@pytest.fixture(scope="module")
def noisy(config, wave):
    """Adds noise to a WAV."""
    return lambda data, snr_db, seed=1: add_noise(
        data, snr_db, config.audio.rate_hz, wave, [seed]
    )


def test_blur_removes_the_detail_and_keeps_the_brightness(pixels):
    board = np.indices((32, 32)).sum(0)[..., None] % 2 * np.full(3, 255, np.uint8)
    data = png_bytes(board.astype(np.uint8))
    before, after = pixels(data), pixels(blur(data, 0.05, pixels))
    assert before.std() > 100 and after.std() < 10
    assert after.mean() == pytest.approx(before.mean(), abs=2)


def test_a_wider_blur_makes_an_edge_flatter(pixels):
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 255
    blurred = [
        pixels(blur(png_bytes(half), share, pixels)).astype(int)
        for share in (0.01, 0.02, 0.05, 0.1, 0.2)
    ]
    steps = [np.abs(np.diff(image, axis=1)).max() for image in blurred]
    assert steps == sorted(steps, reverse=True) and steps[-1] < 0.2 * steps[0]


def test_no_blur_keeps_the_pixels_that_the_model_gets(pixels):
    data = table_factory.image(size=(50, 41), kind="JPEG")
    again = pixels(blur(data, 0, pixels))
    np.testing.assert_array_equal(again, pixels(data))


@pytest.mark.parametrize("snr_db", [20, 0, -10])
def test_noise_is_white_and_has_the_requested_power(wave, noisy, snr_db):
    data = table_factory.tone(440, seconds=0.5)
    tone = wave(data).astype("float64")
    noise = wave(noisy(data, snr_db)) - tone
    ratio = np.mean(tone**2) / np.mean(noise**2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.3)
    low, high = np.array_split(np.abs(np.fft.rfft(noise)) ** 2, 2)
    assert low.mean() == pytest.approx(high.mean(), rel=0.2)


def test_silence_stays_silent(wave, noisy):
    assert not wave(noisy(table_factory.tone(0), 0)).any()


def test_the_seed_decides_the_noise_and_the_graph_decodes_it(config, noisy):
    one, again, other = (noisy(table_factory.tone(), 10, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert decode_wave(tf.constant(one), config.audio).shape[0] > 1000


def test_a_higher_share_drops_more_words():
    text = " ".join(f"w{i}" for i in range(400))
    few, many = (
        drop_words(text.encode(), s, [7]).decode().split() for s in (0.25, 0.75)
    )
    assert set(many) < set(few) < set(text.split())
    assert len(few) == pytest.approx(300, abs=30)
    assert len(many) == pytest.approx(100, abs=30)


def test_the_limits_keep_all_words_or_none():
    assert drop_words("Füße im Gras".encode(), 0, [1]).decode() == "Füße im Gras"
    assert drop_words(b"some words", 1.0, [1]) == b""


@pytest.mark.parametrize("broken", [b"junk", table_factory.image()[:60]])
def test_broken_media_are_unreadable(pixels, noisy, broken):
    with pytest.raises(Unreadable, match="cannot be decoded"):
        blur(broken, 0.1, pixels)
    with pytest.raises(Unreadable, match="cannot be decoded"):
        noisy(broken, 0)
