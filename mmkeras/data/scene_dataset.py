"""Data set of captions and of questions about images, generated without a download.

Each image shows two handwritten digits, small or large, in one of six colours, one
above or left of the other. The test has only pairs of objects and handwriting samples
that are not in training: a model must read each object and compose the words.
"""

import csv
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from mmkeras.data.generated_folder import generate_folder
from mmkeras.data.scene_questions import ask_questions
from mmkeras.data.scenes import COLOURS, LEFT_OF, SIZES_PX, Glyph, Scene, plan_scenes
from mmkeras.errors import UserError
from mmkeras.files import default_cache_dir
from mmkeras.schema import ID, LABEL, SPLIT

# Increment whenever the same seed would give other bytes.
VERSION = 2
ROWS, MIN_ROWS, MAX_ROWS = 3000, 30, 9999
TABLE_FILE = "data.csv"
QUESTIONS_FILE = "questions.csv"
STAMP_FILE = "scenes.json"
COLUMNS = (ID, "image", LABEL, SPLIT)
QUESTION_COLUMNS = (ID, "image", "text", LABEL, SPLIT)

CANVAS_PX = 48
_MAX_GAP_PX = 5  # between the objects, in the direction of the relation
_SHIFT_PX = 3  # of each object, to both sides, across it
_NOISE = 9.0  # deviation, of 255
_BACKGROUND = (10, 50)
_BRIGHTNESS = (0.85, 1.0)


def default_folder() -> Path:
    """Returns the folder of the data set in the user's cache."""
    return default_cache_dir() / f"scenes-{VERSION}"


def make_dataset(folder: Path, rows: int = ROWS, seed: int = 0) -> Path:
    """Writes the data set atomically, unless `folder` already has it; returns `folder`.

    The same `rows` and `seed` give the same bytes. Each image has one caption, such as
    "a small red seven above a large blue two", and a question of each kind
    about each object.

    Args:
        folder: Folder of data.csv (captions), questions.csv and images/NNNN.png (48x48,
            RGB).
        rows: Number of images, from 30 to 9999: 80 % for training, 7 and 13 % for val
            and test.
        seed: Seed of the scenes, the splits and all noise; 0 or more.

    Raises:
        UserError: `folder` holds something else or cannot be written.

    Source: Alpaydin and Kaynak, 1998, https://doi.org/10.24432/C50P49, as scikit-learn
    ships the digits (8x8, 1,797 rows). 50 of them that are hard to read are left out:
    `mmkeras.data.scenes.ILLEGIBLE`.

    Example:
        captions = make_dataset(default_folder()) / TABLE_FILE
        questions = make_dataset(default_folder()) / QUESTIONS_FILE
    """
    if not MIN_ROWS <= rows <= MAX_ROWS:
        raise UserError(
            f"rows={rows} is not possible: it must be from {MIN_ROWS} to {MAX_ROWS}."
        )
    stamp = {"version": VERSION, "rows": rows, "seed": seed}
    return generate_folder(
        folder,
        stamp,
        partial(_write, rows=rows, seed=seed),
        name="data set of scenes",
        stamp_file=STAMP_FILE,
    )


def _write(folder: Path, rows: int, seed: int) -> None:
    from sklearn.datasets import load_digits  # a second; only when data is made

    (folder / "images").mkdir()
    digits = load_digits()
    captions, questions = [], []
    for row, scene in enumerate(plan_scenes(digits.target, rows, seed)):
        rng = np.random.default_rng([seed, row])
        name = f"{row:04}"
        image = f"images/{name}.png"
        Image.fromarray(draw_scene(scene, digits.images, rng)).save(folder / image)
        captions.append((name, image, scene.caption, scene.split))
        for i, question in enumerate(ask_questions(scene, rng), 1):
            cells = (f"{name}-{i}", image, question.text, question.answer, scene.split)
            questions.append(cells)
    _write_table(folder / TABLE_FILE, COLUMNS, captions)
    _write_table(folder / QUESTIONS_FILE, QUESTION_COLUMNS, questions)


def _write_table(path: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([columns, *rows])


def draw_scene(
    scene: Scene, images: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draws a scene as a noisy (48, 48, 3) uint8 image; the objects do not overlap.

    Args:
        scene: Scene.
        images: Handwriting samples, (N, 8, 8), 0 to 16.
        rng: Source of the positions, the brightness and the noise.
    """
    pixels = np.full((CANVAS_PX, CANVAS_PX, 3), rng.uniform(*_BACKGROUND))
    along, across = _place_glyphs(scene, rng)
    for i, glyph in enumerate((scene.first, scene.second)):
        top, left = along[i], across[i]
        if scene.relation == LEFT_OF:
            top, left = left, top
        side = SIZES_PX[glyph.size]
        area = pixels[top : top + side, left : left + side]
        ink = _draw_ink(glyph, images)[:, :, None]
        colour = np.array(COLOURS[glyph.colour]) * rng.uniform(*_BRIGHTNESS)
        area += ink * (colour - area)
    pixels += rng.normal(0, _NOISE, pixels.shape)
    return pixels.clip(0, 255).round().astype(np.uint8)


def _place_glyphs(scene: Scene, rng: np.random.Generator) -> tuple[list, list]:
    """Returns the first pixel of both objects along the relation, and across it."""
    sides = [SIZES_PX[glyph.size] for glyph in (scene.first, scene.second)]
    gap = int(rng.integers(1, min(_MAX_GAP_PX, CANVAS_PX - sum(sides)) + 1))
    start = int(rng.integers(CANVAS_PX - sum(sides) - gap + 1))
    shifts = rng.integers(-_SHIFT_PX, _SHIFT_PX + 1, 2)
    across = [
        (CANVAS_PX - side) // 2 + int(shift)
        for side, shift in zip(sides, shifts, strict=True)
    ]
    return [start, start + sides[0] + gap], across


def _draw_ink(glyph: Glyph, images: np.ndarray) -> np.ndarray:
    """Returns the ink of a handwriting sample in its size, (side, side), 0 to 1."""
    side = SIZES_PX[glyph.size]
    small = Image.fromarray((images[glyph.sample] * 255 / 16).astype(np.uint8))
    return np.asarray(small.resize((side, side), Image.Resampling.BICUBIC)) / 255
