import io
import sys

import numpy as np
import PIL
import pytest
from PIL import Image

from mmkeras.config import ImageConfig
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image import heif
from mmkeras.modalities.image.heif import AVIF, HEIC, heif_kind
from mmkeras.modalities.image.metadata import measure_image
from mmkeras.modalities.image.reading import prepare_image
from tests.modalities.phone_media import SMOOTH, encode_heif


def pixels_of(png):
    assert png.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("kind", [HEIC, AVIF])
def test_the_pixels_become_a_png(kind):
    data = encode_heif(kind)
    assert heif_kind(data) == kind
    pixels = pixels_of(prepare_image(data, ImageConfig()))
    np.testing.assert_allclose(pixels, SMOOTH, atol=6)
    size = {"width_px": 64, "height_px": 48, "channels": 3}
    assert measure_image(data) == size


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", [HEIC, AVIF])
def test_the_image_is_upright(kind, orientation):
    pixels = pixels_of(prepare_image(encode_heif(kind, orientation), ImageConfig()))
    turns = {
        2: (0, 1),
        3: (2, 0),
        4: (2, 1),
        5: (1, 2),
        6: (3, 0),
        7: (3, 2),
        8: (1, 0),
    }
    quarters, flips = turns[orientation]
    expected = np.rot90(SMOOTH, quarters)
    expected = {0: expected, 1: expected[:, ::-1], 2: expected[::-1]}[flips]
    # Old encoders blur the colours at two edges.
    assert np.abs(pixels - expected).mean() < 8


@pytest.mark.parametrize("kind", [HEIC, AVIF])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_image_is_unreadable(kind, share):
    data = encode_heif(kind)
    with pytest.raises(Unreadable, match=kind):
        prepare_image(data[: int(len(data) * share)], ImageConfig())


def test_a_missing_decoder_is_named_with_its_extra(monkeypatch):
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    monkeypatch.setattr(heif, "find_spec", lambda _: None)
    with pytest.raises(Unreadable, match=r"HEIC needs pillow_heif.*\[media\]"):
        prepare_image(data, ImageConfig())


def test_an_old_pillow_is_named(monkeypatch):
    data = b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif" + bytes(40)
    monkeypatch.setitem(sys.modules, "PIL.AvifImagePlugin", None)
    monkeypatch.delattr(PIL, "AvifImagePlugin", raising=False)
    with pytest.raises(Unreadable, match="AVIF needs Pillow 11.3"):
        prepare_image(data, ImageConfig())


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", ""),
        (b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42", ""),
        (b"\0\0\0\x18ftypmsf1\0\0\0\0hevcmif1", HEIC),
        (b"\0\0\0\x18ftypavis\0\0\0\0msf1avif", AVIF),
        (b"\0\0\0\x18ftyp", ""),
        (b"\xff\xff\xff\xffftyp", ""),
        (b"", ""),
    ],
)
def test_the_brands_tell_images_from_videos(data, kind):
    assert heif_kind(data) == kind
