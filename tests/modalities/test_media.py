import pytest

from mmkeras.modalities.column import FileReader
from mmkeras.modalities.media import count_media

SUFFIXES = (".png", ".jpg")


@pytest.fixture
def reason_of(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.png").write_bytes(b"png")

    def reason_of(*cells):
        is_kind = lambda data: data.startswith(b"png")  # noqa: E731
        return count_media(cells, FileReader(tmp_path), SUFFIXES, is_kind, "images")

    return reason_of


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["0.png", " 1.PNG ", "2.png"], "paths of images"),
        (["0.png", "1.png", "gone.png"], "paths of images"),
        (["0.png", "gone.png", "lost.jpg"], ""),
        (["0.png", "1.png", "a cow", "a cat", "a dog"], ""),
        (["s3://bucket/a.png", "https://host/b.jpg"], "paths of images"),
        (["a cow", "0.png"], ""),
        ([";", " ; ;", "a;b"], ""),
        ([b"png 1", b"png 2", b"gif"], "content of images"),
        ([b"png 1", b"gif"], ""),
        ([7, 8.5, None], ""),
        ([], ""),
    ],
)
def test_most_cells_decide(cells, reason, reason_of):
    assert reason_of(*cells) == reason


def test_only_the_first_files_are_looked_for(reason_of):
    assert reason_of(*["0.png"] * 20, *["gone.png"] * 100) == "paths of images"
