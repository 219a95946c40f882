import csv
import json
import re
import shutil
import sys

import pytest

from mmkeras.cli import run_program
from mmkeras.explain import explain, main
from tests import table_factory
from tests.reports.test_report import Page

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def explained(run, tmp_path_factory):
    """A complete row, one without sound, one with half a picture; without labels."""
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


@pytest.fixture(scope="module")
def content(explained):
    return json.loads((explained / "explanations.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def source(explained):
    return (explained / "explain.html").read_text(encoding="utf-8")


def test_the_file_says_what_each_modality_and_part_does(content):
    assert [row["id"] for row in content] == ["r00", "r01", "r02"]
    for row in content:
        gain = row["probability"] - row["probability_of_nothing"]
        assert sum(row["shares"].values()) == pytest.approx(gain, abs=1e-9)
        assert row["label"] == ""
    whole = content[0]["where"]
    assert [len(effects) for effects in whole["image"]["effects"]] == [8] * 8
    assert [part["word"] for part in whole["text"]] == "warm fire number 0".split()
    assert len(whole["audio"]["band_edges_hz"]) == 9
    assert content[0]["status"] == "ok"


def test_what_a_row_lacks_is_said_and_has_no_share(content):
    assert content[1]["status"] == "audio absent"
    assert content[1]["shares"]["audio"] == 0 and "audio" not in content[1]["where"]
    assert content[2]["status"] == "image unreadable"
    assert content[2]["shares"]["image"] == 0 and "image" not in content[2]["where"]
    assert "cannot be decoded" in content[2]["problems"][0]


def test_the_page_needs_nothing_beside_it_and_draws_all_rows(source):
    page = Page(source)
    assert page.all("script") == page.all("link") == []
    assert not re.search(r"url\(|@import|https?://", source)
    assert len(page.all("section")) == 3
    images = [a["src"] for a in page.all("img")]
    assert len(images) == 2 * 2 + 2  # plain and heat twice, two spectrograms
    assert all(src.startswith("data:image/png;base64,") for src in images)
    assert len(page.all("audio")) == 2
    assert "image unreadable" in page.text and "audio absent" in page.text
    marked = [a for a in page.all("mark") if "title" in a]
    assert len(marked) == 3 * 4 and all("rgb(" in a["style"] for a in marked)


def test_what_the_table_says_is_shown_and_never_run(run, tmp_path):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    rows = [{"id": evil, "text": evil, "label": evil, "image": evil}]
    table = table_factory.write_table(tmp_path / "evil.csv", rows)
    explain(run[0], table, tmp_path / "out", 1)
    page = Page((tmp_path / "out" / "explain.html").read_text(encoding="utf-8"))
    assert page.all("script") == page.all("img") == []
    assert "alert(1)" in page.text


def test_the_first_rows_of_a_table_are_explained_beside_the_model(
    run, tmp_path, capsys
):
    folder = shutil.copytree(run[0], tmp_path / "run")
    command = ["--model", str(folder), "--data", str(run[1]), "--rows", "2"]
    for name in ("explain-data", "explain-data-2"):  # the first stays as it was
        assert main(command) == 0
        assert f"{name}/explain.html" in capsys.readouterr().out
        content = json.loads((folder / name / "explanations.json").read_text())
        assert [row["label"] for row in content] == ["red", "green"]


def test_a_column_that_is_missing_is_said(run, tmp_path, capsys):
    table = table_factory.write_table(tmp_path / "t.csv", [{"text": "warm fire"}])
    explain(run[0], table, tmp_path / "out", 8)
    assert "no column for image, audio: absent in every row" in capsys.readouterr().err


def test_a_row_of_the_wrong_length_is_explained_as_empty(run, tmp_path):
    table = tmp_path / "t.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], ["a", "b", "c"]])
    explain(run[0], table, tmp_path / "out", 8)
    (row,) = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert row["shares"] == dict.fromkeys(NAMES, 0.0)
    assert "3 cells where the header has 2" in row["problems"][0]


@pytest.mark.parametrize("where", ["explaining", "writing"])
def test_after_ctrl_c_nothing_half_is_left(where, run, tmp_path, monkeypatch):
    from mmkeras.explanation import page

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    name = {"explaining": "card", "writing": "write_explanations"}[where]
    monkeypatch.setattr(page, name, interrupted)
    table = table_factory.write_table(tmp_path / "t.csv", [{"text": "warm fire"}])
    with pytest.raises(KeyboardInterrupt):
        explain(run[0], table, tmp_path / "out", 8)
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--data": "gone.csv"}, "--data 'gone.csv' is no file"),
        ({"--output": "."}, "--output '.' is there already; give a new folder"),
        ({"--output": "d.csv"}, "is there already"),
        ({"--output": "d.csv/below"}, "cannot be made"),
        ({"--model": "."}, "'.' holds no config.yaml"),
        ({"--rows": "0"}, "--rows=0 is not possible: it must be at least 1"),
        ({"--rows": "many"}, "rows"),
        ({"--data": None}, "data"),
        ({"--data": "other.csv"}, "has no column 'text' or 'image' or 'audio'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    changes, message, run, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    table_factory.write_table(tmp_path / "d.csv", [{"text": "hi"}])
    table_factory.write_table(tmp_path / "other.csv", [{"colour": "red"}])
    flags = {"--model": str(run[0]), "--data": "d.csv", "--output": "new"}
    flags = {k: v for k, v in {**flags, **changes}.items() if v}
    argv = [word for flag in flags.items() for word in flag]
    monkeypatch.setattr(sys, "argv", ["explain", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert not (tmp_path / "new").exists()
