import io

import numpy as np
import pytest
from PIL import Image as PillowImage

from mmkeras.config import ImageConfig
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.column import Image
from mmkeras.modalities.image.occlusion import GRID
from tests import table_factory

PHOTO = Image("photo", ImageConfig(size_px=32))
PNG, JPEG = table_factory.image(), table_factory.image(kind="JPEG")
TIFF = table_factory.image(kind="TIFF")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.tiff").write_bytes(TIFF)
    return FileReader(tmp_path)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["a.png", "b.tiff"], "paths of images"),
        ([PNG, JPEG, TIFF], "content of images"),
        (["a.wav", "b.wav"], ""),
        ([table_factory.tone()], ""),
        (["the cow"], ""),
    ],
)
def test_a_column_of_images_is_recognised(cells, reason, files):
    assert Image.recognise(cells, files) == reason


@pytest.mark.parametrize(
    ("cell", "data", "kind"), [("a.png", PNG, "png"), (JPEG, JPEG, "jpeg")]
)
def test_an_image_of_the_graph_is_kept_with_its_size_and_format(
    cell, data, kind, files
):
    content = PHOTO.read(cell, files)
    assert content.data == content.digest == data and content.formats == (kind,)
    assert content.metadata == {"width_px": 40, "height_px": 36, "channels": 3}
    assert not content.notes and not content.warning


def test_another_format_becomes_png_and_its_digest_is_of_the_file(files):
    content = PHOTO.read("b.tiff", files)
    assert content.digest == TIFF and content.formats == ("png",)
    assert content.data == PHOTO.prepare(TIFF)[0] != TIFF
    assert (PHOTO.decoder(content.data) == (220, 30, 40)).all()


@pytest.mark.parametrize("cell", [PNG[:60], b"moo", "gone.png", table_factory.bomb()])
def test_an_image_that_the_graph_would_refuse_is_unreadable(cell, files):
    with pytest.raises(Unreadable):
        PHOTO.read(cell, files)


def test_settings_that_change_the_stored_bytes_are_part_of_the_key():
    def key(**settings):
        return Image("photo", ImageConfig(**settings)).read_key()

    assert key(size_px=32) != key(size_px=64)
    assert key(max_megapixels=2) != key(max_megapixels=3)
    assert key(encoder="cnn") == key(encoder="vit")


def test_images_learn_nothing_from_the_training_rows():
    assert PHOTO.statistics() is None and PHOTO.fit(None) == {}
    assert PHOTO.fit_key() == Image("other", ImageConfig(size_px=64)).fit_key()
    assert PHOTO.input({"photo": {}}) == ((32, 32, 3), "uint8")


def test_regions_are_explained_and_drawn():
    def effects(contents):
        pixels = np.stack([PHOTO.decoder(data) for data in contents])
        return (pixels[:, 0, 0, 0] < 200).astype(float)  # the first corner is hidden

    board = np.full((32, 32, 3), 10, np.uint8)
    board[:4, :4] = 255
    file = io.BytesIO()
    PillowImage.fromarray(board).save(file, "PNG")
    explained = PHOTO.explain(file.getvalue(), effects)
    values = np.array(explained["effects"])
    assert values.shape == GRID and values[0, 0] == 1 and not values[2:].any()

    picture = PHOTO.draw(file.getvalue(), explained)
    assert picture["kind"] == "image" and picture["scale"] == 1
    assert PillowImage.open(io.BytesIO(picture["heatmap"])).size == (320, 320)


def test_the_preview_is_a_small_png():
    large = table_factory.image(size=(900, 600), kind="JPEG")
    preview = PHOTO.preview(large)
    assert preview["kind"] == "image"
    assert PillowImage.open(io.BytesIO(preview["content"])).size == (192, 128)


def test_noise_makes_an_image_blurred_and_its_first_level_nothing():
    first, *_, last = Image.noise_levels
    half = np.zeros((32, 32, 3), np.uint8)
    half[:, 16:] = 255
    file = io.BytesIO()
    PillowImage.fromarray(half).save(file, "PNG")
    same, blurred = (
        PHOTO.decoder(PHOTO.corrupt(file.getvalue(), level, [1]))
        for level in (first, last)
    )
    np.testing.assert_array_equal(same, half)
    assert blurred.std() < half.std() - 10


def test_a_frozen_encoder_is_part_of_the_settings():
    assert Image("photo", ImageConfig(weights="none", frozen="yes")).is_frozen
    assert not Image("photo", ImageConfig(weights="none")).is_frozen
