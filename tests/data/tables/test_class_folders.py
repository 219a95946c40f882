import pytest

from mmkeras.data.tables import open_table
from mmkeras.errors import UserError


@pytest.fixture
def folder(tmp_path):
    def create(*paths):
        for path in paths:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("x")
        return tmp_path

    return create


def test_a_subfolder_is_a_class_and_files_are_sorted(folder):
    paths = ["dog/2.PNG", "dog/1.jpg", "cat/b/3.png", "dog/.x.png", ".git/a.png"]
    root = folder(*paths, "dog/notes.txt", "a.png")
    table = open_table(root)
    assert (table.columns, table.folder) == (("image", "label"), str(root))
    rows = [tuple(row.values()) for _, row in table.records()]
    assert rows == [("cat/b/3.png", "cat"), ("dog/1.jpg", "dog"), ("dog/2.PNG", "dog")]
    assert [number for number, _ in table.records()] == [0, 1, 2]
    assert table.note == (
        "skipped files that are no images or audio: 1; "
        "skipped files outside of the folders of classes: 1"
    )


def test_folders_of_splits_are_a_column(folder):
    table = open_table(folder("Train/cat/1.wav", "val/cat/2.wav", "test/dog/3.mp3"))
    assert table.columns == ("audio", "label", "split")
    rows = [tuple(row.values()) for _, row in table.records()]
    assert rows == [
        ("Train/cat/1.wav", "cat", "Train"),
        ("test/dog/3.mp3", "dog", "test"),
        ("val/cat/2.wav", "cat", "val"),
    ]
    assert [row for _, row in table.records(["label"])][1] == {"label": "dog"}


def test_classes_named_like_splits_are_classes(folder):
    table = open_table(folder("train/1.png", "test/2.png"))
    assert [row["label"] for _, row in table.records()] == ["test", "train"]
    assert table.note == "folders named like splits are classes: 'test', 'train'"


@pytest.mark.parametrize("path", ["test/3.png", "extra/3.png", "extra/a/3.png"])
def test_splits_beside_other_folders_are_refused(folder, path):
    root = folder("train/cat/1.png", "val/dog/2.png", path)
    name = path.partition("/")[0]
    message = f"'train', 'val'.*beside them '{name}'.*a subfolder per class"
    with pytest.raises(UserError, match=message):
        open_table(root)


@pytest.mark.parametrize(
    "path", ["val", "extra/deep", "__MACOSX/cat/._1.png", "extra/notes.txt"]
)
def test_folders_without_media_change_no_splits(folder, path):
    root = folder("train/cat/1.png", "test/dog/2.png", "test/3.png")
    if path.endswith(("g", "t")):
        folder(path)
    else:
        (root / path).mkdir(parents=True)
    table = open_table(root)
    assert [row["split"] for _, row in table.records()] == ["test", "train"]
    assert "outside of the folders of classes: 1" in table.note


def test_a_link_to_a_folder_above_is_not_followed(folder):
    root = folder("cat/a/1.png", "dog/2.png")
    for link, target in (("up", ".."), ("cat/up", ".."), ("cat/a/root", "../../..")):
        (root / link).symlink_to(target)
    (root / "cat/other").symlink_to("../dog")
    (root / "dog/other").symlink_to("../cat")
    paths = [row["image"] for _, row in open_table(root).records()]
    assert paths == [
        "cat/a/1.png",
        "cat/other/2.png",
        "dog/2.png",
        "dog/other/a/1.png",
    ]


def test_folders_below_classes_are_no_classes(folder):
    table = open_table(folder("cat/a/1.png", "dog/b/2.png"))
    assert [tuple(row.values()) for _, row in table.records()] == [
        ("cat/a/1.png", "cat"),
        ("dog/b/2.png", "dog"),
    ]


def test_the_fingerprint_depends_on_names_and_sizes(folder):
    first = open_table(folder("cat/1.png")).fingerprint()
    assert open_table(folder()).fingerprint() == first
    assert open_table(folder("cat/2.png")).fingerprint() != first


def test_images_and_audio_are_refused(folder):
    with pytest.raises(UserError, match="image .'cat/1.png'. and audio .'dog/2.wav'"):
        open_table(folder("cat/1.png", "dog/2.wav"))


@pytest.mark.parametrize("paths", [[], ["a.png"], ["cat/a.txt"]])
def test_a_folder_without_classes_is_refused(folder, paths):
    with pytest.raises(UserError, match="is a folder without .* Give the path"):
        open_table(folder(*paths))


def test_a_separator_of_classes_in_the_name_of_a_folder_is_refused(folder):
    with pytest.raises(UserError, match=r"folder 'cat\|dog' .* separates classes"):
        open_table(folder("cat|dog/1.png", "cow/2.png"))
