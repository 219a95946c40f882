import csv
import json
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmkeras.data import demo_dataset
from mmkeras.errors import UserError

ROWS = 60


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return demo_dataset.make_dataset(
        tmp_path_factory.mktemp("made") / "data", rows=ROWS, seed=3
    )


def table(folder):
    with (folder / "data.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# The data ---------------------------------------------------------------------


def test_every_cell_names_a_file_that_is_there_and_is_as_described(made):
    rows = table(made)
    assert len(rows) == ROWS and tuple(rows[0]) == demo_dataset.COLUMNS
    named = {row[m] for row in rows for m in ("image", "audio")} - {""}
    assert set(contents(made)) == named | {"data.csv", demo_dataset.STAMP_FILE}
    for row in rows:
        if row["image"]:
            with Image.open(made / row["image"]) as image:
                assert (image.size, image.mode) == ((32, 32), "L")
        if row["audio"]:
            with wave.open(str(made / row["audio"])) as sound:
                assert sound.getnchannels() == 1 and sound.getsampwidth() == 2
                assert sound.getframerate() in (8_000, 16_000)
                assert 0.19 < sound.getnframes() / sound.getframerate() <= 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(made, tmp_path):
    again = demo_dataset.make_dataset(tmp_path / "again", rows=ROWS, seed=3)
    assert contents(again) == contents(made)
    other = contents(demo_dataset.make_dataset(tmp_path / "other", rows=ROWS, seed=4))
    for name in ("data.csv", "images/0000.png", "audio/0000.wav"):
        assert other[name] != contents(made)[name]


def test_every_row_of_every_seed_has_noise_of_its_own(tmp_path, monkeypatch):
    def lot(folder, name, digit, label, rng):
        return str(rng.random()), "", ""

    monkeypatch.setattr(demo_dataset, "_write_row", lot)
    tables = [
        table(demo_dataset.make_dataset(tmp_path / s, rows=10, seed=int(s)))
        for s in "01"
    ]
    assert len({row["text"] for rows in tables for row in rows}) == 20


@pytest.mark.parametrize("seed", range(5))
def test_the_two_tones_of_key_5_dominate_its_spectrum(seed):
    sound, rate_hz = demo_dataset.dial_tone(5, np.random.default_rng(seed), clean=True)
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hz = np.fft.rfftfreq(len(sound), 1 / rate_hz)
    near = [np.abs(hz - tone) < 15 for tone in (770, 1336)]
    assert power[near[0] | near[1]].sum() > 0.99 * power.sum()
    low, high = (power[band].sum() for band in near)
    assert 0.5 < low / high < 2


def test_every_key_has_a_pair_of_tones_of_its_own():
    assert sorted(demo_dataset.DTMF_HZ) == list(range(10))
    assert len(set(demo_dataset.DTMF_HZ.values())) == 10
    assert demo_dataset.DTMF_HZ[0] == (941, 1336)


def test_every_class_has_the_same_shares_of_the_splits():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 180))[:1797]
    splits = demo_dataset._splits(labels)
    assert Counter(splits) == {"train": 1200, "val": 200, "test": 397}
    for digit in range(10):
        of_class = Counter(splits[labels == digit])
        assert abs(of_class["test"] - 397 / 10) < 2
        assert abs(of_class["val"] - 200 / 10) < 2


def test_a_small_table_has_every_split_in_its_share(made):
    splits = Counter(row["split"] for row in table(made))
    assert set(splits) == {"train", "val", "test"}
    assert abs(splits["test"] - ROWS * 397 / 1797) < 2
    assert abs(splits["val"] - ROWS * 200 / 1797) < 2


def test_a_few_cells_are_absent_and_never_two_of_a_row(tmp_path):
    rows = table(demo_dataset.make_dataset(tmp_path / "data", rows=300))
    absent = [[m for m in ("text", "image", "audio") if not row[m]] for row in rows]
    assert max(map(len, absent)) == 1
    # 3% of each: 9 of 300, deviation 3
    for modality in ("text", "image", "audio"):
        assert 1 <= absent.count([modality]) <= 20


# The folder -------------------------------------------------------------------


def test_a_whole_folder_is_kept_as_it_is(made):
    before = (made / "data.csv").stat().st_mtime_ns
    assert demo_dataset.make_dataset(made, rows=ROWS, seed=3) == made
    assert (made / "data.csv").stat().st_mtime_ns == before


def test_an_empty_folder_is_filled(tmp_path):
    assert len(table(demo_dataset.make_dataset(tmp_path, rows=10))) == 10


@pytest.mark.parametrize("lost", [demo_dataset.STAMP_FILE, "data.csv", "images"])
def test_a_half_made_folder_is_not_taken_for_whole(tmp_path, lost):
    folder = demo_dataset.make_dataset(tmp_path / "data", rows=10)
    for path in (folder / lost).glob("*") if lost == "images" else [folder / lost]:
        path.unlink()
    with pytest.raises(UserError, match="is not a whole embedded data set. Remove it"):
        demo_dataset.make_dataset(folder, rows=10)


def test_a_run_that_is_killed_leaves_no_folder(tmp_path, monkeypatch):
    calls = []

    def killed(name, *args):
        calls.append(name)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return write_row(name, *args)

    write_row = demo_dataset._write_row
    monkeypatch.setattr(demo_dataset, "_write_row", killed)
    with pytest.raises(KeyboardInterrupt):
        demo_dataset.make_dataset(tmp_path / "data", rows=10)
    assert not any(tmp_path.iterdir())


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="is not a whole embedded data set"):
        demo_dataset.make_dataset(tmp_path, rows=10)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_data_set_of_another_seed_is_refused_by_name(made):
    with pytest.raises(UserError, match=f"rows={ROWS}, seed=3. Remove it"):
        demo_dataset.make_dataset(made, rows=ROWS, seed=5)


def test_a_data_set_of_an_older_recipe_is_refused(tmp_path):
    folder = demo_dataset.make_dataset(tmp_path / "data", rows=10)
    stamp = json.loads((folder / demo_dataset.STAMP_FILE).read_text())
    stamp["version"] -= 1
    (folder / demo_dataset.STAMP_FILE).write_text(json.dumps(stamp))
    with pytest.raises(UserError, match="Remove it"):
        demo_dataset.make_dataset(folder, rows=10)


def test_a_folder_that_cannot_be_written_is_a_users_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written.*XDG_CACHE_HOME"):
        demo_dataset.make_dataset(tmp_path / "file" / "data", rows=10)


@pytest.mark.parametrize("rows", [9, 1798])
def test_an_impossible_number_of_rows_is_refused(tmp_path, rows):
    with pytest.raises(UserError, match=f"rows={rows} is not possible.*10 to 1797"):
        demo_dataset.make_dataset(tmp_path / "data", rows=rows)


def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    name = f"mmkeras/embedded-{demo_dataset.VERSION}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert demo_dataset.default_folder() == tmp_path / name
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert demo_dataset.default_folder() == Path(tmp_path, "home/.cache", name)
