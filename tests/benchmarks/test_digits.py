import csv

import numpy as np
import pytest
import soundfile
from PIL import Image

from benchmarks import digits

ROWS = {"train": 40, "val": 10, "test": 20}
SPEAKERS = {"ann": 300, "ben": 500, digits.HELD_OUT: 1500}  # each with a tone of theirs
NOISE_HZ = {"1": 2500, "4": 3000, "5": 3500}  # each fold too


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A source made up so that one can hear where a row comes from, and its table."""
    source = tmp_path_factory.mktemp("source")
    rng = np.random.default_rng(0)
    content = {}
    for part, count in (("train", 200), ("test", 50)):
        labels = np.arange(count) % 10
        images = rng.integers(0, 40, (count, 28, 28))
        half = slice(0, 14) if part == "train" else slice(14, 28)
        images[:, :, half] += 20 * labels[:, None, None]
        content[f"x_{part}"] = images.astype(np.uint8)
        content[f"y_{part}"] = labels.astype(np.uint8)
    np.savez(source / "mnist.npz", **content)
    (source / "fsdd").mkdir()
    for speaker, hz in SPEAKERS.items():
        for digit in range(10):
            for take in (0, 7):
                wave = tone(hz + 100 * (take > 4), 8000)
                name = f"{digit}_{speaker}_{take}.wav"
                soundfile.write(source / "fsdd" / name, wave, 8000)
    for fold, hz in NOISE_HZ.items():
        (source / "esc10" / "dog").mkdir(parents=True, exist_ok=True)
        path = source / "esc10" / "dog" / f"{fold}-100.ogg"
        soundfile.write(path, tone(hz, 44_100, 1.0), 44_100)
    table = digits.build(source, tmp_path_factory.mktemp("digits"), 0, ROWS)
    return source, table.parent, read(table)


def read(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def tone(hz, rate_hz, seconds=0.25):
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * hz * t)


def loudest(folder, row):
    """The two loudest tones of a row's sound, as Hz: the lower is the voice's."""
    sound, rate_hz = soundfile.read(folder / row["audio"])
    size = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 8000))
    low, high = size[:2000].argmax(), 2000 + size[2000:].argmax()
    return int(low), int(high)


def test_each_split_has_its_rows_and_its_own_speakers_takes_and_noises(built):
    _, folder, rows = built
    count = {s: sum(row["split"] == s for row in rows) for s in ROWS}
    assert count == ROWS
    voices = {"train": {400, 600}, "val": {300, 500}, "test": {1500, 1600}}
    noises = {"train": 2500, "val": 3000, "test": 3500}
    for row in rows:
        voice, noise = loudest(folder, row)
        assert min(abs(voice - hz) for hz in voices[row["split"]]) <= 12, row
        assert abs(noise - noises[row["split"]]) <= 12, row


def test_of_test_pictures_only_what_training_ones_have_is_left(built):
    _, folder, rows = built
    of = {"train": [], "test": []}
    for row in rows:
        if row["split"] in of:
            image = np.asarray(Image.open(folder / row["image"]), float)
            of[row["split"]].append(image)
    train, test = (np.stack(images).std(axis=0) for images in of.values())
    assert train[:, :14].mean() > 20, "training pictures differ in their left half"
    # Test ones differ in the right half, which has no part in what was fitted.
    assert test[:, 14:].mean() < 3


def test_a_seed_gives_the_same_table_again(built, tmp_path):
    source, folder, rows = built
    again = digits.build(source, tmp_path, 0, ROWS)
    assert read(again) == rows
    for row in rows[:3]:
        for name in ("image", "audio"):
            assert (tmp_path / row[name]).read_bytes() == (
                folder / row[name]
            ).read_bytes()
