import json
import shutil
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkeras.data import demo_dataset
from mmkeras.data.demo_dataset import DTMF_HZ, STAMP_FILE, dial_tone, make_dataset
from mmkeras.errors import UserError
from tests.program_harness import read_csv

ROWS = 60
MODALITIES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("demo") / "data", rows=ROWS, seed=3)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The default number of rows, whose media are cheap and all the same."""
    with pytest.MonkeyPatch.context() as patch:
        pixels, samples = np.zeros((32, 32), "uint8"), np.zeros(1)
        patch.setattr(demo_dataset, "draw_digit", lambda *_: pixels)
        patch.setattr(demo_dataset, "dial_tone", lambda *_: (samples, 8_000))
        return make_dataset(tmp_path_factory.mktemp("demo") / "data")


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def wave_params(path):
    with wave.open(str(path)) as file:
        return file.getparams()


def test_every_cell_has_a_file_as_described(folder):
    rows = read_csv(folder / "data.csv")
    assert len(rows) == ROWS and tuple(rows[0]) == demo_dataset.COLUMNS
    files = {row[m] for row in rows for m in ("image", "audio")} - {""}
    assert set(contents(folder)) == files | {"data.csv", STAMP_FILE}
    for row in rows:
        if row["image"]:
            with Image.open(folder / row["image"]) as image:
                assert (image.size, image.mode) == ((32, 32), "L")
        if row["audio"]:
            params = wave_params(folder / row["audio"])
            assert params.nchannels == 1 and params.sampwidth == 2
            assert params.framerate in (8_000, 16_000)
            assert 0.19 < params.nframes / params.framerate <= 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    again = make_dataset(tmp_path / "again", rows=ROWS, seed=3)
    assert contents(again) == contents(folder)
    other = contents(make_dataset(tmp_path / "other", rows=ROWS, seed=4))
    for name in ("data.csv", "images/0000.png", "audio/0000.wav"):
        assert other[name] != contents(folder)[name]


def test_every_row_of_every_seed_has_different_noise(tmp_path):
    lengths = []  # drawn first, and independent of the label
    for seed in (0, 1):
        made = make_dataset(tmp_path / str(seed), rows=20, seed=seed)
        lengths += [wave_params(path)[2:4] for path in made.glob("audio/*")]
    assert len(set(lengths)) == len(lengths) > 30


@pytest.mark.parametrize("seed", range(5))
def test_the_two_tones_of_key_5_dominate_its_spectrum(seed):
    samples, rate_hz = dial_tone(5, np.random.default_rng(seed), clean=True)
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / rate_hz)
    near = [np.abs(hz - tone) < 15 for tone in (770, 1336)]
    assert power[near[0] | near[1]].sum() > 0.99 * power.sum()
    low, high = (power[band].sum() for band in near)
    assert 0.5 < low / high < 2


def test_every_key_has_a_different_pair_of_tones():
    assert sorted(DTMF_HZ) == list(range(10)) and len(set(DTMF_HZ.values())) == 10
    assert DTMF_HZ[0] == (941, 1336)


def test_every_class_has_the_same_shares_of_the_splits(complete, folder):
    rows = read_csv(complete / "data.csv")
    counts = Counter((row["label"], row["split"]) for row in rows)
    splits = Counter(row["split"] for row in rows)
    assert splits == {"train": 1200, "val": 200, "test": 397}
    for digit in "0123456789":
        rows = sum(counts[digit, split] for split in splits)
        assert abs(counts[digit, "test"] - rows * 397 / 1797) < 2
        assert abs(counts[digit, "val"] - rows * 200 / 1797) < 2
    splits = Counter(row["split"] for row in read_csv(folder / "data.csv"))
    assert abs(splits["test"] - ROWS * 397 / 1797) < 2
    assert abs(splits["val"] - ROWS * 200 / 1797) < 2


def test_a_few_cells_are_absent_and_never_two_of_a_row(complete):
    rows = read_csv(complete / "data.csv")
    absent = [[m for m in MODALITIES if not row[m]] for row in rows]
    assert max(map(len, absent)) == 1
    for modality in MODALITIES:  # 3 % of 1,797 are 54, with a deviation of 7
        assert 26 <= absent.count([modality]) <= 82


def test_an_empty_folder_is_filled_and_a_complete_one_is_not_written_again(tmp_path):
    assert len(read_csv(make_dataset(tmp_path, rows=10) / "data.csv")) == 10
    before = (tmp_path / "data.csv").stat().st_mtime_ns
    assert make_dataset(tmp_path, rows=10) == tmp_path
    assert (tmp_path / "data.csv").stat().st_mtime_ns == before


def make_older(folder):
    stamp = json.loads((folder / STAMP_FILE).read_text())
    (folder / STAMP_FILE).write_text(json.dumps({**stamp, "version": 0}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / STAMP_FILE).unlink(), "is not a complete"),
        (lambda folder: (folder / "data.csv").unlink(), "is not a complete"),
        (lambda folder: shutil.rmtree(folder / "images"), "is not a complete"),
        (lambda folder: (folder / "thesis.txt").touch(), "is not a complete"),
        (make_older, "holds the data set"),
    ],
)
def test_a_folder_with_anything_else_is_left_alone(folder, change, message, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    change(tmp_path / "copy")
    before = contents(tmp_path / "copy")
    with pytest.raises(UserError, match=f"copy {message}.*Remove it"):
        make_dataset(tmp_path / "copy", rows=ROWS, seed=3)
    assert contents(tmp_path / "copy") == before


def test_a_data_set_of_another_seed_is_refused(folder):
    with pytest.raises(UserError, match=f"rows={ROWS}, seed=3. Remove it"):
        make_dataset(folder, rows=ROWS, seed=5)


def test_an_interrupted_run_leaves_no_folder(tmp_path, monkeypatch):
    phrases = []

    def interrupt(label, rng):
        phrases.append("phrase")
        if len(phrases) == 5:
            raise KeyboardInterrupt
        return phrases[-1]

    monkeypatch.setattr(demo_dataset, "noisy_phrase", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_dataset(tmp_path / "data", rows=10)
    assert not any(tmp_path.iterdir())


def test_a_folder_that_another_process_completes_first_is_kept(tmp_path, monkeypatch):
    write, phrase = make_dataset, demo_dataset.noisy_phrase

    def complete_first(label, rng):
        monkeypatch.setattr(demo_dataset, "noisy_phrase", phrase)
        write(tmp_path / "data", rows=10)
        return phrase(label, rng)

    monkeypatch.setattr(demo_dataset, "noisy_phrase", complete_first)
    folder = make_dataset(tmp_path / "data", rows=10)
    assert len(read_csv(folder / "data.csv")) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/data: Not a dir.*XDG_CACHE_HOME"):
        make_dataset(tmp_path / "file" / "data", rows=10)


@pytest.mark.parametrize("rows", [9, 1798])
def test_an_impossible_number_of_rows_is_refused(tmp_path, rows):
    with pytest.raises(UserError, match=f"rows={rows} .*10 to 1797"):
        make_dataset(tmp_path / "data", rows=rows)


def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    name = f"mmkeras/embedded-{demo_dataset.VERSION}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo_dataset.default_folder() == tmp_path / name
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert demo_dataset.default_folder() == Path(tmp_path, "home/.cache", name)
