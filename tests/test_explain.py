import json
import re

import pytest

from mmkeras.explain import explain, main
from mmkeras.export import inference
from tests import table_factory
from tests.program_harness import cached_model, error_of, output_of, to_argv
from tests.reports.html_page import Page

EMPTY = {"image": "", "audio": ""}
NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = table_factory.trained_run(tmp_path_factory)
    with cached_model(run[0]):
        yield run


@pytest.fixture(scope="module")
def output(run, tmp_path_factory):
    """Explanations of three rows: complete, without audio, with half an image file."""
    folder, _ = run
    data = tmp_path_factory.mktemp("explained")
    rows = [
        {m: row[m] for m in ("id", *NAMES)} for row in table_factory.make_rows()[:3]
    ]
    rows[1]["audio"] = ""
    rows[2]["image"] = rows[2]["image"][:60]
    table = table_factory.write_table(data / "rows.csv", rows)
    assert explain(folder, table, data / "out", 8) == 3
    return data / "out"


def test_the_file_has_the_effect_of_each_modality_and_part(output):
    content = json.loads((output / "explanations.json").read_text(encoding="utf-8"))
    assert [row["id"] for row in content] == ["r00", "r01", "r02"]
    statuses = [row["status"] for row in content]
    assert statuses == ["ok", "audio absent", "image unreadable"]
    for row in content:
        gain = row["probability"] - row["probability_of_nothing"]
        assert sum(row["shares"].values()) == pytest.approx(gain, abs=1e-9)
        assert row["label"] == ""
    parts = content[0]["where"]
    assert [len(effects) for effects in parts["image"]["effects"]] == [8] * 8
    assert [part["word"] for part in parts["text"]] == "warm fire number 0".split()
    assert len(parts["audio"]["band_edges_hz"]) == 9
    assert set(content[1]["where"]) == {"text", "image"}
    assert "cannot be decoded" in content[2]["problems"][0]


def test_the_page_needs_no_other_file_and_shows_all_rows(output):
    source = (output / "explain.html").read_text(encoding="utf-8")
    page = Page(source)
    assert page.all("script") == page.all("link") == []
    assert not re.search(r"url\(|@import|https?://", source)
    assert len(page.all("section")) == 3
    images = [a["src"] for a in page.all("img")]
    assert len(images) == 2 * 2 + 2  # two images and their heatmaps, two spectrograms
    assert all(src.startswith("data:image/png;base64,") for src in images)
    assert len(page.all("audio")) == 2
    assert "image unreadable" in page.text and "audio absent" in page.text
    marked = [a for a in page.all("mark") if "title" in a]
    assert len(marked) == 3 * 4 and all("rgb(" in a["style"] for a in marked)


def test_text_of_the_table_is_shown_and_never_run(run, tmp_path):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    rows = [{"id": evil, "text": evil, "label": evil, "image": evil, "audio": ""}]
    table = table_factory.write_table(tmp_path / "evil.csv", rows)
    explain(run[0], table, tmp_path / "out", 1)
    page = Page((tmp_path / "out" / "explain.html").read_text(encoding="utf-8"))
    assert page.all("script") == page.all("img") == []
    assert "alert(1)" in page.text


def test_the_first_rows_are_explained_in_new_folders(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    trained_model = inference.load_trained(run[0])
    monkeypatch.setattr(inference, "load_trained", lambda _: trained_model)
    argv = ["--model", folder, "--data", run[1], "--rows", "2"]
    for name in ("explain-data", "explain-data-2"):
        assert f"{name}/explain.html" in output_of(main, argv)
        content = json.loads((folder / name / "explanations.json").read_text())
        assert [row["label"] for row in content] == ["red", "green"]


def test_a_row_of_the_wrong_length_is_explained_as_empty(run, tmp_path):
    (tmp_path / "t.csv").write_text("id,text,image,audio\na,b,c\n")
    explain(run[0], tmp_path / "t.csv", tmp_path / "out", 8)
    (row,) = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert row["shares"] == dict.fromkeys(NAMES, 0.0)
    assert "3 cells where the header has 4" in row["problems"][0]


def test_a_modality_that_no_row_has_is_a_warning(run, tmp_path, capsys):
    rows = [{"text": "warm fire", **EMPTY}]
    table = table_factory.write_table(tmp_path / "t.csv", rows)
    explain(run[0], table, tmp_path / "out", 8)
    warnings = [x for x in capsys.readouterr().err.splitlines() if "Warning" in x]
    assert [("'image'" in x, "'audio'" in x) for x in warnings] == [(1, 0), (0, 1)]


def test_faulty_files_that_are_read_whole_are_one_warning(run, tmp_path, capsys):
    audio = table_factory.faulty_tone()
    rows = [{"text": "a", "image": table_factory.image(), "audio": audio}] * 4
    table = table_factory.write_table(tmp_path / "d.csv", rows)
    explain(run[0], table, tmp_path / "out", 8)
    (warning,) = (x for x in capsys.readouterr().err.splitlines() if "Warning" in x)
    assert "read whole: line 2: the WAV announces" in warning
    assert "line 3: the WAV" in warning and warning.endswith(", and 2 more.")


@pytest.mark.parametrize("name", ["build_card", "write_explanations"])
def test_ctrl_c_leaves_no_partial_output(name, run, tmp_path, monkeypatch):
    from mmkeras.explanation import page

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, name, interrupted)
    table = table_factory.write_table(
        tmp_path / "t.csv", [{"text": "warm fire", **EMPTY}]
    )
    with pytest.raises(KeyboardInterrupt):
        explain(run[0], table, tmp_path / "out", 8)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "gone.csv"}, "--data 'gone.csv' is no file"),
        ({"--output": "."}, "--output '.' exists already; give a new folder"),
        ({"--output": "d.csv/below"}, "cannot be made"),
        ({"--model": "."}, "'.' holds no config.yaml"),
        ({"--rows": "0"}, "--rows=0 is not possible"),
        ({"--data": "other.csv"}, "lacks the columns 'text', 'image' and 'audio' that"),
    ],
)
def test_a_mistake_is_one_line(changes, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    table_factory.write_table(tmp_path / "d.csv", [{"text": "hi", **EMPTY}])
    table_factory.write_table(tmp_path / "other.csv", [{"colour": "red"}])
    flags = {"--model": run[0], "--data": "d.csv", "--output": "new"}
    argv = to_argv({**flags, **changes})
    assert message in error_of(main, argv, monkeypatch, capsys)
    assert not (tmp_path / "new").exists()


def test_each_word_of_a_generated_text_is_explained(
    generator_run, generator_table, tmp_path
):
    assert explain(generator_run, generator_table, tmp_path / "out", 2) == 2
    rows = json.loads((tmp_path / "out" / "explanations.json").read_text("utf-8"))
    page = Page((tmp_path / "out" / "explain.html").read_text(encoding="utf-8"))
    assert page.text.count("Each word") == sum(bool(row["words"]) for row in rows)
    assert "probability per token" in page.text
    for row in rows:
        gain = row["probability"] - row["probability_of_nothing"]
        assert row["shares"]["image"] == pytest.approx(gain, abs=1e-9)
        assert row["label"].split("|")[0] in page.text
        assert row["predicted"] in page.text
        for word in row["words"]:
            assert word["word"] in row["predicted"]
            effects = word["parts"]["image"]["effects"]
            assert [len(line) for line in effects] == [8] * 8
    images = [a for a in page.all("img") if "effects on the word" in a["alt"]]
    assert len(images) == sum(len(row["words"]) for row in rows) > 0
