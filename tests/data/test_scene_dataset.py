import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mmkeras.data import scene_dataset
from mmkeras.data.scene_dataset import QUESTIONS_FILE, TABLE_FILE, make_dataset
from mmkeras.data.scenes import COLOURS, SIZES_PX, plan_scenes
from mmkeras.errors import UserError
from tests.program_harness import read_csv

ROWS = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("scenes") / "data", rows=ROWS, seed=3)


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def colour_of(pixels):
    """Returns the colour of the brightest pixels, whatever the brightness."""
    ink = np.sort(pixels.max(axis=2), axis=None)[-8]
    mean = pixels[pixels.max(axis=2) >= ink].mean(axis=0)
    cosines = {
        name: mean @ np.array(value) / np.linalg.norm(value)
        for name, value in COLOURS.items()
    }
    return max(cosines, key=cosines.get)


def spans(pixels, scene):
    """Returns the (start, end) of both objects along the relation, or of more."""
    axis = 1 if scene.relation == "above" else 0
    ink = (pixels.max(axis=2) > 110).any(axis=axis)
    return np.flatnonzero(np.diff(np.r_[0, ink, 0].astype(int))).reshape(-1, 2)


def test_every_row_has_an_image_a_caption_and_ten_questions(folder):
    rows, questions = read_csv(folder / TABLE_FILE), read_csv(folder / QUESTIONS_FILE)
    assert len(rows) == ROWS and tuple(rows[0]) == scene_dataset.COLUMNS
    assert tuple(questions[0]) == scene_dataset.QUESTION_COLUMNS
    assert len({row["id"] for row in questions}) == len(questions) == 10 * ROWS
    images = {row["image"] for row in rows}
    files = {TABLE_FILE, QUESTIONS_FILE, scene_dataset.STAMP_FILE}
    assert len(images) == ROWS and set(contents(folder)) == images | files
    for name in images:
        with Image.open(folder / name) as image:
            assert (image.size, image.mode) == ((48, 48), "RGB")


def test_the_questions_of_an_image_are_in_its_split(folder):
    split = {row["image"]: row["split"] for row in read_csv(folder / TABLE_FILE)}
    questions = read_csv(folder / QUESTIONS_FILE)
    assert all(split[row["image"]] == row["split"] for row in questions)
    assert set(Counter(row["image"] for row in questions).values()) == {10}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder, tmp_path):
    again = make_dataset(tmp_path / "again", rows=ROWS, seed=3)
    assert contents(again) == contents(folder)
    other = contents(make_dataset(tmp_path / "other", rows=ROWS, seed=4))
    for name in (TABLE_FILE, QUESTIONS_FILE, "images/0000.png"):
        assert other[name] != contents(folder)[name]


def test_no_caption_of_the_test_is_in_training(folder):
    rows = read_csv(folder / TABLE_FILE)
    captions = {
        split: {row["label"] for row in rows if row["split"] == split}
        for split in ("train", "val", "test")
    }
    assert not captions["train"] & (captions["val"] | captions["test"])
    assert not captions["val"] & captions["test"]


def test_the_table_has_the_planned_scenes(folder, digits):
    plan = plan_scenes(digits.target, ROWS, 3)
    rows = read_csv(folder / TABLE_FILE)
    assert [row["label"] for row in rows] == [scene.caption for scene in plan]
    assert [row["split"] for row in rows] == [scene.split for scene in plan]


@pytest.mark.parametrize("seed", range(3))
def test_colours_sizes_and_places_are_read_back_from_the_pixels(digits, seed):
    squares = np.full_like(digits.images, 16)  # so that the objects have sharp edges
    for row, scene in enumerate(plan_scenes(digits.target, 100, seed)):
        pixels, digit = (
            scene_dataset.draw_scene(scene, images, np.random.default_rng(row))
            for images in (squares, digits.images)
        )
        glyphs = (scene.first, scene.second)
        sides = [SIZES_PX[glyph.size] for glyph in glyphs]
        ends = spans(pixels, scene)
        assert list(np.diff(ends)[:, 0]) == sides  # two, in this order, with a gap
        ink = pixels.max(axis=2) > 110
        assert ink.sum() == sides[0] ** 2 + sides[1] ** 2  # all inside the canvas
        for (start, end), glyph in zip(ends, glyphs, strict=True):
            lines = np.arange(start, end)
            part = digit.take(lines, axis=0 if scene.relation == "above" else 1)
            assert colour_of(part.astype(float)) == glyph.colour


@pytest.mark.parametrize("size", SIZES_PX)
def test_the_handwriting_is_that_of_the_sample(digits, size):
    black, white = (np.full_like(digits.images, v) for v in (0, 16))
    for scene in plan_scenes(digits.target, 100, 0):
        drawings = [
            scene_dataset.draw_scene(scene, images, np.random.default_rng(1))
            for images in (black, digits.images, white)
        ]
        low, pixels, high = (x.max(axis=2).astype(float) for x in drawings)
        ink = (pixels - low).clip(0) / np.maximum(high - low, 1)
        if scene.first.size == size:
            (top, _), *_ = spans(drawings[2], scene)
            side = SIZES_PX[size]
            area = ink.take(
                np.arange(top, top + side), axis=0 if scene.relation == "above" else 1
            )
            expected = digits.images[scene.first.sample].mean() / 16
            assert abs(area.sum() / side**2 - expected) < 0.05


def test_the_default_number_of_scenes_is_made_in_seconds(tmp_path):
    start = time.perf_counter()
    rows = read_csv(make_dataset(tmp_path / "data") / TABLE_FILE)
    assert time.perf_counter() - start < 15
    splits = Counter(row["split"] for row in rows)
    assert splits == {"train": 2400, "val": 200, "test": 400}


def test_a_complete_folder_is_kept_and_another_seed_refused(folder):
    before = contents(folder)
    assert make_dataset(folder, rows=ROWS, seed=3) == folder
    with pytest.raises(UserError, match=f"rows={ROWS}, seed=3. Remove it"):
        make_dataset(folder, rows=ROWS, seed=5)
    assert contents(folder) == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not a complete data set of scenes"):
        make_dataset(tmp_path, rows=ROWS)


@pytest.mark.parametrize("rows", [29, 10_000])
def test_an_impossible_number_of_rows_is_refused(tmp_path, rows):
    with pytest.raises(UserError, match=f"rows={rows} .*30 to 9999"):
        make_dataset(tmp_path / "data", rows=rows)


def test_the_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = f"mmkeras/scenes-{scene_dataset.VERSION}"
    assert scene_dataset.default_folder() == tmp_path / name
