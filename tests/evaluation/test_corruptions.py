import io

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.modalities.audio.corruption import add_noise
from mmkeras.modalities.audio.features import decode_wave
from mmkeras.modalities.decoders import MediaDecoders
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.corruption import blur
from mmkeras.modalities.image.encoding import png_bytes
from mmkeras.modalities.text.corruption import drop_words
from tests import table_factory


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return table_factory.tiny_config(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def decoders(config):
    return MediaDecoders(config)


def board(size=32):
    """A chessboard of single pixels."""
    return np.indices((size, size)).sum(0)[..., None] % 2 * np.full(3, 255, np.uint8)


def test_blur_takes_the_detail_and_leaves_the_brightness(decoders):
    data = png_bytes(board().astype(np.uint8))
    before, after = decoders.pixels(data), decoders.pixels(blur(data, 0.05, decoders))
    assert before.std() > 100 and after.std() < 10
    assert after.mean() == pytest.approx(before.mean(), abs=2)


def test_the_wider_the_blur_the_less_is_left_of_an_edge(decoders):
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 255
    steps = [
        int(
            np.abs(
                np.diff(
                    decoders.pixels(blur(png_bytes(half), s, decoders)).astype(int),
                    axis=1,
                )
            ).max()
        )
        for s in (0.01, 0.02, 0.05, 0.1, 0.2)
    ]
    assert steps == sorted(steps, reverse=True) and steps[-1] < 0.2 * steps[0]


def test_no_blur_leaves_the_pixels_that_the_model_sees(decoders):
    data = table_factory.image(size=(50, 41), kind="JPEG")
    again = decoders.pixels(blur(data, 0, decoders))
    np.testing.assert_array_equal(again, decoders.pixels(data))


@pytest.mark.parametrize("snr_db", [20, 0, -10])
def test_noise_is_as_loud_as_it_says(config, decoders, snr_db):
    data = table_factory.tone(440, seconds=0.5)
    wave = decoders.wave(data).astype("float64")
    noisy = decoders.wave(add_noise(data, snr_db, config.audio.rate_hz, decoders, [1]))
    assert len(noisy) == len(wave)
    ratio = np.mean(wave**2) / np.mean((noisy - wave) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=0.3)


def test_noise_is_white(config, decoders):
    data = table_factory.tone(440, seconds=0.5)
    noisy = decoders.wave(add_noise(data, 0, config.audio.rate_hz, decoders, [1]))
    power = np.abs(np.fft.rfft(noisy - decoders.wave(data))) ** 2
    low, high = np.array_split(power, 2)
    assert low.mean() == pytest.approx(high.mean(), rel=0.2)


def test_silence_has_no_noise_to_be_heard_over(config, decoders):
    data = table_factory.tone(0)
    noisy = add_noise(data, 0, config.audio.rate_hz, decoders, [1])
    assert not decoders.wave(noisy).any()


def test_the_noise_is_the_seeds_and_the_graph_reads_it(config, decoders):
    one, again, other = (
        add_noise(table_factory.tone(), 10, config.audio.rate_hz, decoders, [seed])
        for seed in (1, 1, 2)
    )
    assert one == again != other
    assert decode_wave(tf.constant(one), config.audio).shape[0] > 1000


def test_words_are_dropped_whole_and_more_at_a_higher_share():
    text = " ".join(f"w{i}" for i in range(400))
    left = [drop_words(text.encode(), s, [7]).decode().split() for s in (0.25, 0.75)]
    assert set(left[1]) < set(left[0]) < set(text.split())
    assert len(left[0]) == pytest.approx(300, abs=30)
    assert len(left[1]) == pytest.approx(100, abs=30)


def test_all_words_or_none_are_the_ends():
    assert drop_words("Füße im Gras".encode(), 0, [1]).decode() == "Füße im Gras"
    assert drop_words(b"some words", 1.0, [1]) == b""


@pytest.mark.parametrize("broken", [b"junk", table_factory.image()[:60]])
def test_what_cannot_be_decoded_is_said(config, decoders, broken):
    with pytest.raises(Unreadable, match="cannot be decoded"):
        blur(broken, 0.1, decoders)
    with pytest.raises(Unreadable, match="cannot be decoded"):
        add_noise(broken, 0, config.audio.rate_hz, decoders, [1])


def test_png_keeps_every_pixel():
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    again = np.asarray(Image.open(io.BytesIO(png_bytes(pixels))))
    np.testing.assert_array_equal(again, pixels)
