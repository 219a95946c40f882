from dataclasses import replace
from pathlib import Path

import pytest
import tensorflow as tf

from mmkeras.config import TextConfig
from mmkeras.data.ingest_plan import plan_ingest
from mmkeras.errors import UserError
from pipeline.compiler import compile_request
from pipeline.compiler.compile_args import CompileArgs
from pipeline.compiler.compile_request import make_compile_request
from pipeline.settings import PipelineConfig
from tests import table_factory


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    return str(
        table_factory.write_table(folder / "data.csv", table_factory.make_rows())
    )


@pytest.fixture
def request_of(table, tmp_path):
    def make(**changes):
        request = CompileArgs(
            data=table,
            root=str(tmp_path / "root"),
            image="image",
            output=tmp_path / "pipeline.yaml",
            unlabeled=None,
            schema=None,
            baseline=None,
            host=None,
            experiment="mmkeras",
            namespace=None,
            config=PipelineConfig(),
        )
        return replace(request, **changes)

    return make


@pytest.fixture
def out_of_reach(monkeypatch):
    """No file behind a URI can be read from here."""

    def refuse(path):
        if str(path).startswith("gs://"):
            raise tf.errors.FailedPreconditionError(None, None, "no network.\nAt all")
        return real_exists(path)

    real_exists = compile_request.tf.io.gfile.exists
    monkeypatch.setattr(tf.io.gfile, "exists", refuse)
    monkeypatch.setattr(tf.io.gfile, "listdir", refuse)

    def unreadable(path):
        raise OSError(5, "no network", path)

    monkeypatch.setattr(compile_request, "read_remote", unreadable)


def test_a_table_that_is_there_has_its_own_fingerprint(request_of, table, capsys):
    made = make_compile_request(request_of(unlabeled=table))
    assert made.source.table == made.unlabeled.table == table
    assert made.source.fingerprint == plan_ingest(table, PipelineConfig()).fingerprint
    assert made.unlabeled.fingerprint != made.source.fingerprint
    assert made.uncached == frozenset()
    assert capsys.readouterr().err == ""


def test_places_lie_below_the_root(request_of, tmp_path):
    root = tmp_path / "root"
    made = make_compile_request(request_of())
    assert made.places.schema_file == str(root / "schema" / "schema.pbtxt")
    assert made.places.serving_dir == str(root / "serving" / "mmkeras")
    assert made.pipeline_root == str(root / "artifacts")
    assert (
        make_compile_request(request_of(schema="/s.pbtxt")).places.schema_file
        == "/s.pbtxt"
    )


def test_the_baseline_is_the_newest_pushed_version(request_of, tmp_path):
    serving = tmp_path / "root" / "serving" / "mmkeras"
    assert make_compile_request(request_of()).baseline is None
    for name in ("9", "10", ".11.partial", "notes"):
        (serving / name).mkdir(parents=True)
    assert make_compile_request(request_of()).baseline == str(serving / "10")
    assert make_compile_request(request_of(baseline="none")).baseline is None
    assert (
        make_compile_request(request_of(baseline="gs://b/m/3")).baseline == "gs://b/m/3"
    )


def test_what_cannot_be_read_from_here_is_said_and_runs_each_time(
    request_of, out_of_reach, capsys
):
    uris = {"data": "gs://b/data.csv", "unlabeled": "gs://b/new.csv"}
    made = make_compile_request(request_of(**uris, root="gs://b/root"))
    assert made.source.fingerprint == made.unlabeled.fingerprint == ""
    assert made.uncached == {"ExampleGen", "UnlabeledExampleGen", "SchemaGen"}
    assert made.baseline is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("note: ") for line in lines)
    assert lines[1] == (
        "note: ExampleGen runs each time, as 'gs://b/data.csv' cannot be read from "
        "here (no network)."
    )
    assert "no baseline: name one by --baseline" in lines[0]


def test_files_behind_uris_that_settings_name_are_read(request_of, capsys):
    def files(vocab_file, content=None):
        if content:
            with tf.io.gfile.GFile(vocab_file, "w") as file:
                file.write(content)
        text = TextConfig(encoder="bert", tokens="wordpiece", vocab_file=vocab_file)
        made = make_compile_request(request_of(config=PipelineConfig(text=text)))
        return made.source.files, made.uncached

    assert files("/in/the/image.txt") == ("", frozenset())
    first, uncached = files("ram://job/vocab.txt", "[PAD]\n[UNK]\na\n")
    assert first and not uncached
    second, _ = files("ram://job/vocab.txt", "[PAD]\n[UNK]\nb\n")
    assert second not in ("", first)
    assert capsys.readouterr().err == ""
    assert files("ram://job/gone.txt") == ("", {"Tuner", "Trainer"})
    assert "note: Trainer runs each time, as 'ram://job/gone.txt'" in (
        capsys.readouterr().err
    )


def test_a_missing_table_is_not_taken_for_one_that_only_the_cluster_reads(request_of):
    with pytest.raises(UserError, match="'ram://none.csv' is not there"):
        make_compile_request(request_of(data="ram://none.csv"))


def test_a_table_behind_a_uri_is_read(request_of, table):
    def put(uri, content):
        with tf.io.gfile.GFile(uri, "w") as file:
            file.write(content)
        return uri

    content = Path(table).read_text()
    made = make_compile_request(request_of(data=put("ram://job/1.csv", content)))
    assert made.source.fingerprint and made.uncached == frozenset()
    changed = content.replace("number 3", "number 4")
    again = make_compile_request(request_of(data=put("ram://job/2.csv", changed)))
    assert again.source.fingerprint != made.source.fingerprint
    wrong = content.replace(",label,", ",lable,")
    with pytest.raises(UserError, match="no column 'label'"):
        make_compile_request(request_of(data=put("ram://job/3.csv", wrong)))
