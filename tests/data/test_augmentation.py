import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AugmentConfig
from mmkeras.modalities.audio.augmentation import mask_frames
from mmkeras.modalities.image.augmentation import augment_images
from mmkeras.modalities.text.augmentation import drop_tokens

OFF = {"crop": 0, "colour": 0, "spec_bands": 0, "spec_frames": 0, "word_dropout": 0}
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (8, 32, 32, 3), np.uint8)
FRAMES = RNG.normal(size=(50, 16)).astype(np.float32)
TOKENS = tf.ragged.constant([[f"{i}-{j}" for j in range(20 * i)] for i in range(6)])


def seed(number=0):
    return tf.constant([7, number])


def augment(images=IMAGES, **settings):
    config = AugmentConfig(**{**OFF, **settings})
    images = tf.constant(np.broadcast_to(np.uint8(images), IMAGES.shape))
    return augment_images(images, seed(), config).numpy().astype(int)


def mask(number=0, **settings):
    config = AugmentConfig(**{**OFF, **settings})
    return mask_frames(tf.constant(FRAMES), seed(number), config).numpy()


def drop(number=0, share=0.5):
    config = AugmentConfig(word_dropout=share)
    return drop_tokens(TOKENS, seed(number), config).to_list()


def test_everything_off_leaves_rows_unchanged():
    np.testing.assert_array_equal(augment(), IMAGES)
    np.testing.assert_array_equal(mask(), FRAMES)
    assert drop(share=0.0) == TOKENS.to_list()


@pytest.mark.parametrize(
    "change",
    [
        lambda s: augment_images(tf.constant(IMAGES), s, AugmentConfig(flip=True)),
        lambda s: mask_frames(tf.constant(FRAMES), s, AugmentConfig()),
        lambda s: drop_tokens(TOKENS, s, AugmentConfig()).flat_values,
    ],
)
def test_the_same_seed_gives_the_same_change_and_another_seed_another(change):
    one, again, other = (change(seed(n)).numpy().tolist() for n in (1, 1, 2))
    assert one == again != other


def test_images_are_mirrored_or_not():
    pairs = list(zip(augment(flip=True), IMAGES, strict=True))
    mirrored = [(result == image[:, ::-1]).all() for result, image in pairs]
    same = [(result == image).all() for result, image in pairs]
    assert all(np.logical_xor(mirrored, same))
    assert any(mirrored) and any(same)


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_enlarges_a_part_of_the_image(flip):
    result = augment(np.arange(32)[:, None] * 8, crop=0.25, flip=flip)
    ramps = result[:, 0, 1:-1, 0]  # left to right
    steps = np.abs(np.diff(ramps, axis=1)).mean(axis=1)
    assert (steps >= 0.7 * 8).all() and (steps < 1.01 * 8).all()
    assert result.min() >= 0 and result.max() <= 31 * 8
    assert (np.diff(ramps[:, [0, -1]]) < 0).any() == flip


def test_a_crop_shows_nothing_from_outside():
    assert (augment(255, crop=0.5, flip=True) == 255).all()


def test_colours_change_by_no_more_than_their_share():
    result = augment(100, colour=0.1)
    assert (result == result[..., :1]).all()  # gray stays gray
    assert np.abs(result - 100).max() <= 26
    assert len(np.unique(result)) > 1


def test_bright_and_dark_pixels_do_not_wrap_around():
    edges = np.zeros(IMAGES.shape)
    edges[:, 16:] = 255
    result = augment(edges, colour=0.3)
    assert (result[:, :16] < 128).all() and (result[:, 16:] > 128).all()


@pytest.mark.parametrize("number", range(5))
def test_one_run_of_bands_and_one_of_frames_become_the_mean(number):
    result = mask(number, spec_bands=4, spec_frames=0.2)
    hidden = result != FRAMES
    bands, frames = hidden.all(axis=0), hidden.all(axis=1)
    assert (hidden == bands[None] | frames[:, None]).all()
    assert bands.sum() <= 4 and frames.sum() <= 10
    for run in (bands, frames):
        assert np.abs(np.diff(np.r_[0, run, 0])).sum() in (0, 2)  # in one piece
    np.testing.assert_allclose(result[hidden], FRAMES.mean(), rtol=1e-5)


def test_every_width_and_position_of_a_mask_occurs():
    hidden = np.array([(mask(n, spec_bands=4) != FRAMES)[0] for n in range(200)])
    assert hidden.any(axis=0).all()
    assert set(hidden.sum(axis=1)) == {0, 1, 2, 3, 4}


def test_a_mask_wider_than_the_audio_is_no_error():
    assert mask(spec_bands=99, spec_frames=0.9).shape == FRAMES.shape
    one = mask_frames(tf.constant(FRAMES[:1]), seed(), AugmentConfig())
    assert one.shape == (1, 16)


def test_remaining_tokens_keep_their_row_and_order():
    for before, after in zip(TOKENS.to_list(), drop(), strict=True):
        indices = [before.index(token) for token in after]
        assert indices == sorted(indices)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_about_the_given_share_of_tokens_is_dropped(share):
    counts = [sum(map(len, drop(n, share))) for n in range(20)]
    total = TOKENS.flat_values.shape[0]
    assert np.mean(counts) / total == pytest.approx(1 - share, abs=0.03)
