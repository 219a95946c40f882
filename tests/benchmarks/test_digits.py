import csv

import numpy as np
import pytest
import soundfile
from PIL import Image

from benchmarks import digits

ROWS = {"train": 40, "val": 10, "test": 20}
SPEAKERS = {"ann": 300, "ben": 500, digits.TEST_SPEAKER: 1500}  # Hz of each voice
NOISE_HZ = {"1": 2500, "4": 3000, "5": 3500}  # Hz of each fold


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    """Sources with tones that identify speaker and fold, and the data set's rows."""
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
    (source / "esc10" / "dog").mkdir(parents=True)
    for fold, hz in NOISE_HZ.items():
        path = source / "esc10" / "dog" / f"{fold}-100.ogg"
        soundfile.write(path, tone(hz, 44_100, 1.0), 44_100)
    table = digits.build_table(source, tmp_path_factory.mktemp("digits"), 0, ROWS)
    return source, table.parent, read(table)


def read(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def tone(hz, rate_hz, seconds=0.25):
    t = np.arange(round(seconds * rate_hz)) / rate_hz
    return 0.5 * np.sin(2 * np.pi * hz * t)


def loudest_tones(folder, row):
    """Returns the two loudest tones of a row's audio in Hz: voice and noise."""
    audio, _ = soundfile.read(folder / row["audio"])
    size = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 8000))
    return int(size[:2000].argmax()), int(2000 + size[2000:].argmax())


def test_each_split_has_its_rows_speakers_takes_and_noise(data_set):
    _, folder, rows = data_set
    assert {s: sum(row["split"] == s for row in rows) for s in ROWS} == ROWS
    voices = {"train": {400, 600}, "val": {300, 500}, "test": {1500, 1600}}
    noise_hz = {"train": 2500, "val": 3000, "test": 3500}
    for row in rows:
        voice, noise = loudest_tones(folder, row)
        assert min(abs(voice - hz) for hz in voices[row["split"]]) <= 12, row
        assert abs(noise - noise_hz[row["split"]]) <= 12, row


def test_images_are_projected_on_components_of_the_training_images(data_set):
    _, folder, rows = data_set

    def spread(split):
        images = [
            np.asarray(Image.open(folder / row["image"]), float)
            for row in rows
            if row["split"] == split
        ]
        return np.stack(images).std(axis=0)

    # Training images differ in the left half, test images in the right one.
    assert spread("train")[:, :14].mean() > 20
    assert spread("test")[:, 14:].mean() < 3


def test_a_seed_reproduces_the_table(data_set, tmp_path):
    source, folder, rows = data_set
    assert read(digits.build_table(source, tmp_path, 0, ROWS)) == rows
    for name in (row[m] for row in rows[:3] for m in ("image", "audio")):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
