import re
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
    path = tmp_path_factory.mktemp("table") / "data.csv"
    return str(table_factory.write_table(path, table_factory.make_rows()))


@pytest.fixture
def args_of(table, tmp_path):
    def make(**changes):
        args = CompileArgs(
            data=table,
            root=str(tmp_path / "root"),
            image="image",
            output=tmp_path / "pipeline.yaml",
            config=PipelineConfig(),
        )
        return replace(args, **changes)

    return make


@pytest.fixture
def unreachable(monkeypatch):
    """Makes all files of gs:// unreadable."""

    exists = tf.io.gfile.exists

    def refuse(path):
        if str(path).startswith("gs://"):
            raise tf.errors.FailedPreconditionError(None, None, "no network.\nAt all")
        return exists(path)

    monkeypatch.setattr(tf.io.gfile, "exists", refuse)
    monkeypatch.setattr(tf.io.gfile, "listdir", refuse)

    def unreadable(path):
        raise OSError(5, "no network", path)

    monkeypatch.setattr(compile_request, "read_remote", unreadable)


def test_a_readable_table_has_its_fingerprint(args_of, table, capsys):
    request = make_compile_request(args_of(unlabeled=table))
    assert request.source.table == request.unlabeled.table == table
    plan = plan_ingest(table, PipelineConfig())
    assert request.source.fingerprint == plan.fingerprint
    assert request.unlabeled.fingerprint != request.source.fingerprint
    assert request.uncached == frozenset()
    assert capsys.readouterr().err == ""


def test_a_table_to_predict_needs_the_columns_of_the_table(args_of, tmp_path):
    rows = [{"text": "a", "img": "a.png", "audio": ""}]
    other = table_factory.write_table(tmp_path / "new" / "new.csv", rows)
    with pytest.raises(UserError, match="lacks the column 'image'"):
        make_compile_request(args_of(unlabeled=str(other)))


def test_paths_are_below_the_root(args_of, tmp_path):
    root = tmp_path / "root"
    request = make_compile_request(args_of())
    assert request.paths.schema_file == str(root / "schema" / "schema.pbtxt")
    assert request.paths.serving_dir == str(root / "serving" / "mmkeras")
    assert request.pipeline_root == str(root / "artifacts")
    request = make_compile_request(args_of(schema="/s.pbtxt"))
    assert request.paths.schema_file == "/s.pbtxt"


def test_the_baseline_is_the_latest_pushed_version(args_of, tmp_path):
    serving = tmp_path / "root" / "serving" / "mmkeras"
    assert make_compile_request(args_of()).baseline is None
    for name in ("9", "10", ".11.partial", "notes"):
        (serving / name).mkdir(parents=True)
    assert make_compile_request(args_of()).baseline == str(serving / "10")
    assert make_compile_request(args_of(baseline="none")).baseline is None
    assert make_compile_request(args_of(baseline="gs://b/m/3")).baseline == "gs://b/m/3"


def test_components_with_unreadable_inputs_are_uncached(args_of, unreachable, capsys):
    uris = {"data": "gs://b/data.csv", "unlabeled": "gs://b/new.csv"}
    request = make_compile_request(args_of(**uris, root="gs://b/root"))
    assert request.source.fingerprint == request.unlabeled.fingerprint == ""
    assert request.uncached == {"ExampleGen", "UnlabeledExampleGen", "SchemaGen"}
    assert request.baseline is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and all(line.startswith("note: ") for line in lines)
    assert "--baseline" in lines[0]
    assert re.search("ExampleGen runs each time.*gs://b/data.csv.*no network", lines[1])


def test_remote_files_in_settings_are_hashed(args_of, capsys):
    def files(vocab_file, content=None):
        if content:
            with tf.io.gfile.GFile(vocab_file, "w") as file:
                file.write(content)
        text = TextConfig(encoder="bert", tokens="wordpiece", vocab_file=vocab_file)
        request = make_compile_request(args_of(config=PipelineConfig(text=text)))
        return request.source.files, request.uncached

    assert files("/in/the/image.txt") == ("", frozenset())
    first, uncached = files("ram://job/vocab.txt", "[PAD]\n[UNK]\na\n")
    assert first and not uncached
    second, _ = files("ram://job/vocab.txt", "[PAD]\n[UNK]\nb\n")
    assert second not in ("", first)
    assert capsys.readouterr().err == ""
    assert files("ram://job/gone.txt") == ("", {"Tuner", "Trainer"})
    note = "note: Trainer runs each time.*ram://job/gone.txt"
    assert re.match(note, capsys.readouterr().err)


def test_a_remote_table_is_read_and_checked(args_of, table):
    def put(uri, content):
        with tf.io.gfile.GFile(uri, "w") as file:
            file.write(content)
        return uri

    content = Path(table).read_text()
    request = make_compile_request(args_of(data=put("ram://job/1.csv", content)))
    assert request.source.fingerprint and request.uncached == frozenset()
    changed = content.replace("number 3", "number 4")
    again = make_compile_request(args_of(data=put("ram://job/2.csv", changed)))
    assert again.source.fingerprint != request.source.fingerprint
    wrong = content.replace(",label,", ",lable,")
    with pytest.raises(UserError, match="no column 'label'"):
        make_compile_request(args_of(data=put("ram://job/3.csv", wrong)))
    with pytest.raises(UserError, match="'ram://none.csv'. Check the URI"):
        make_compile_request(args_of(data="ram://none.csv"))
