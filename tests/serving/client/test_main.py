"""Program serving.client: flags, output, exit codes, and one line per error."""

import csv
import io
import json
import signal
import subprocess
import sys
import threading

import grpc
import pytest

from mmkeras.cli import run_program
from serving.client.__main__ import main
from tests import table_factory
from tests.program_harness import error_of
from tests.serving.client.certificates import grpc_credentials
from tests.serving.client.fake_server import (
    FakeServer,
    Fault,
    make_generator,
    make_model,
    serve_grpc,
)
from tests.serving.client.network import LOCAL, free_port


@pytest.fixture
def write_texts(tmp_path):
    """write_texts(count) -> CSV with the texts "0", "1", ..."""

    def write_texts(count):
        rows = [{"text": str(i)} for i in range(count)]
        return str(table_factory.write_table(tmp_path / "d.csv", rows))

    return write_texts


def read_csv(path):
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode())))


def test_one_row_is_one_line_of_json(serve, trained_server, tmp_path, capsys):
    path = tmp_path / "cat.webp"
    path.write_bytes(table_factory.image(kind="WEBP"))
    target = serve(trained_server)
    argv = ["--target", target, "--image", str(path), "--text", "warm fire"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    fields = json.loads(out)
    assert fields["status"] == "audio absent" and err == ""
    assert fields["predicted"] in ("red", "green")
    assert sum(fields["probabilities"].values()) == pytest.approx(1, abs=2e-6)


def test_the_suffix_of_the_output_selects_the_format(
    serve, text_server, write_texts, tmp_path, capsys
):
    target, out = ["--target", serve(text_server)], tmp_path / "out.csv"
    assert main([*target, "--text", "[1]", "--output", str(out)]) == 0
    (fields,) = read_csv(out)
    assert fields["predicted"] == "a" and fields["b"] == "0.100000"
    argv, out = [*target, "--data", write_texts(3)], tmp_path / "out.jsonl"
    assert main([*argv, "--output", str(out)]) == 0
    totals = "3 rows predicted, 0 of them with something unreadable.\n"
    assert capsys.readouterr() == (f"{totals}Predictions: {out}\n", "")
    lines = out.read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["0", "1", "2"]
    assert main([*argv, "--format", "jsonl"]) == 0
    assert capsys.readouterr() == (out.read_text(), totals)


def test_a_missing_column_is_refused_with_those_of_the_table(
    serve, trained_server, tmp_path, monkeypatch, capsys
):
    rows = [{"text": "warm", "img": "", "audio": ""}] * 3
    path = table_factory.write_table(tmp_path / "d.csv", rows)
    argv = ["--target", serve(trained_server), "--data", str(path)]
    line = error_of(main, argv, monkeypatch, capsys)
    assert "lacks the column 'image' that the model was trained on" in line
    assert "Did you mean 'img'?" in line and "--rename COLUMN=NAME" in line
    for flags in (["--image-column", "img"], ["--rename", "image=img"]):
        assert main([*argv, *flags]) == 0
        warnings = [x for x in capsys.readouterr().err.splitlines() if "Warning" in x]
        assert [("'img'" in x, "'audio'" in x) for x in warnings] == [(1, 0), (0, 1)]


def test_a_column_for_a_modality_that_the_model_lacks_is_refused(
    serve, text_server, write_texts, monkeypatch, capsys
):
    argv = ["--target", serve(text_server), "--data", write_texts(1)]
    line = error_of(main, [*argv, "--audio-column", "wav"], monkeypatch, capsys)
    assert "--audio-column: The model 'mmkeras' has no column 'audio'; it " in line
    line = error_of(main, [*argv, "--rename", "txt=wav"], monkeypatch, capsys)
    assert "--rename txt: " in line and "Did you mean 'text'?" in line
    assert main([*argv, "--audio-column", "audio"]) == 0  # the default


@pytest.fixture
def shop(serve):
    """Flags of the target of a model of title, photo and price; and its requests."""
    columns = {"title": "text", "photo": "image", "price": "numeric"}
    server, requests = FakeServer(make_model(columns=columns)), []
    server.before = requests.append
    return ["--target", serve(server)], requests


def test_any_column_has_a_value_by_its_name(shop, tmp_path, capsys):
    (target, requests), png = shop, table_factory.image()
    (tmp_path / "a=b.png").write_bytes(png)
    photo = str(tmp_path / "a=b.png")
    flags = ["--column", "price=3.5", "--column", "title=a cat"]
    assert main([*target, *flags, "--column", f"photo={photo}"]) == 0
    assert (
        main([*target, "--column", "price=3.5", "--text", "a cat", "--image", photo])
        == 0
    )
    for request in requests:
        assert list(request.inputs["title"].string_val) == [b"a cat"]
        assert list(request.inputs["photo"].string_val) == [png]
        assert list(request.inputs["price"].float_val) == [3.5]
    out, err = capsys.readouterr()
    assert [json.loads(line)["status"] for line in out.splitlines()] == ["ok"] * 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--audio", "a.wav"], "--audio: The model 'mmkeras' has no column 'audio'"),
        (["--column", "prce=3"], "--column prce: The model"),
        (["--column", "price=x"], "Cannot use price 'x': not a number"),
        (
            ["--text", "a", "--column", "title=b"],
            "--column title: column 'title' has a",
        ),
    ],
)
def test_a_flag_without_a_column_is_named(shop, flags, message, monkeypatch, capsys):
    line = error_of(main, [*shop[0], *flags], monkeypatch, capsys)
    assert message in line and not shop[1]


def test_a_table_has_the_columns_of_the_model(shop, tmp_path, capsys):
    target, requests = shop
    rows = [{"name": "a", "photo": table_factory.image(), "price": "2"}]
    rows += [{"name": "", "photo": "", "price": ""}]
    path = table_factory.write_table(tmp_path / "d.csv", rows)
    assert main([*target, "--data", str(path), "--rename", "title=name"]) == 0
    statuses = [
        x["status"] for x in csv.DictReader(io.StringIO(capsys.readouterr().out))
    ]
    assert statuses == ["ok", "title absent; photo absent; price absent"]
    assert list(requests[0].inputs["title"].string_val) == [b"a", b""]


def test_faulty_files_that_are_read_whole_are_one_line(
    serve, trained_server, tmp_path, capsys
):
    row = {"text": "a", "image": table_factory.image()}
    rows = [row | {"audio": table_factory.faulty_tone()}] * 4
    path = table_factory.write_table(tmp_path / "d.csv", rows)
    target = ["--target", serve(trained_server)]
    assert main([*target, "--data", str(path), "--output", str(tmp_path / "o")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: Files with faults were read whole: line 2: audio")
    assert "line 3: audio '" in line and line.endswith(", and 2 more.")
    assert main([*target, "--audio", str(tmp_path / "000-audio.bin")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: Files with faults were read whole: audio '")


def test_a_version_or_a_label_selects_the_model(serve, text_server, capsys):
    text_server.labels["stable"] = 3
    argv = ["--target", serve(text_server), "--text", "a"]
    for flags in (["--version", "3"], ["--label", "stable"]):
        assert main([*argv, *flags]) == 0
    assert main([*argv, "--version", "8"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {argv[1]} ") and "NOT_FOUND" in line
    assert "Specific(mmkeras, 8)" in line and line.endswith("versions: 3.")


def test_an_error_within_a_table_keeps_the_rows_before_it(
    serve, text_server, write_texts, tmp_path, capsys
):
    def fail(request):
        if request.inputs["text"].string_val[0] == b"7":
            raise Fault(grpc.StatusCode.INTERNAL, "seven")

    text_server.before, out = fail, tmp_path / "out.csv"
    argv = ["--target", serve(text_server), "--data", write_texts(20), "--batch", "1"]
    assert main([*argv, "--output", str(out)]) == 1
    assert [fields["id"] for fields in read_csv(out)] == [str(i) for i in range(7)]
    captured = capsys.readouterr()
    assert captured.out.startswith("7 rows predicted")
    assert captured.err.endswith("INTERNAL: seven\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Give --column, --image, --text, --audio, or a --data table"),
        (["--column", "a"], "--column 'a' must be NAME=VALUE"),
        (["--data", "d.csv", "--rename", "=a"], "--rename '=a' must be NAME=VALUE"),
        (["--data", "d.csv", "--column", "a=b"], "--data or --column a, not both"),
        (["--column", "a=d.csv", "--output", "d.csv"], "is the file of --column a"),
        (["--text", "a", "--data", "d.csv"], "--data or --text, not both"),
        (["--data", "gone.csv"], "--data 'gone.csv' is no file"),
        (["--data", "d.csv", "--output", "d.csv"], "--output is the file of --data"),
        (["--data", "d.csv", "--output", "."], "--output '.' must be a file"),
        (["--data", "d.csv", "--output", "x/y"], "--output 'x/y' must be a file"),
        (["--text", "a", "--format", "jsnl"], "format 'jsnl'. Did you mean 'jsonl'?"),
        (["--text", "a", "--timeout", "0"], "timeout_s=0.0"),
        (["--text", "a", "--target", ""], "Give --target HOST:PORT"),
        (["--text", "a", "--version", "x"], "version needs int, received 'x'"),
        (["--text", "a", "--ca", "gone.pem"], "--ca 'gone.pem' cannot be used"),
        (["--txt", "a"], "'--txt'. Did you mean '--text'?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    argv, message, write_texts, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_texts(1)
    before = (tmp_path / "d.csv").read_text()
    monkeypatch.setattr(sys, "argv", ["client", "--target", "localhost:1", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert end.value.code == 2 and (tmp_path / "d.csv").read_text() == before


# In a new process -----------------------------------------------------------------


def start(*argv):
    return subprocess.Popen(
        [sys.executable, "-m", "serving.client", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_error_is_one_line_without_the_log_of_grpc(text_server, certificates):
    ca, text = ["--ca", certificates["other"]], ["--text", "a"]
    with serve_grpc(text_server, grpc_credentials(certificates)) as port:
        for flags, message in [
            (["--target", f"localhost:{port}", *ca], "--ca FILE"),
            (["--target", f"{LOCAL}:{free_port()}", "--retries", 1], "refused"),
            (["--target", "no-such-host.invalid:1"], "no such host"),
        ]:
            process = start(*flags, *text)
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out, len(err.splitlines())) == (1, "", 1)
            assert message in err


def test_ctrl_c_leaves_complete_lines_and_does_not_wait_for_a_silent_server(
    serve, text_server, write_texts, tmp_path
):
    silent, end, out = threading.Event(), threading.Event(), tmp_path / "out.csv"
    text_server.before = lambda _: text_server.calls["Predict"] > 40 and (
        silent.set() or end.wait(300)
    )
    flags = ["--data", write_texts(500), "--output", out, "--timeout", 600]
    process = start("--target", serve(text_server), *flags, "--in-flight", 4)
    assert silent.wait(60)
    try:
        process.send_signal(signal.SIGINT)
        stdout, err = process.communicate(timeout=60)  # far less than the deadline
    finally:
        end.set()
        process.kill()
    assert process.returncode == 130 and err.splitlines()[-1] == "Interrupted."
    assert out.read_bytes().endswith(b"\r\n")
    ids = [fields["id"] for fields in read_csv(out)]
    assert ids == [str(i) for i in range(len(ids))] and ids
    assert stdout.startswith(f"{len(ids)} rows predicted")


def test_a_closed_pipe_ends_the_program_quietly(text_server, write_texts):
    with serve_grpc(text_server) as port:
        process = start("--target", f"{LOCAL}:{port}", "--data", write_texts(3000))
        assert process.stdout.readline().startswith("id,label,predicted")
        process.stdout.close()
        assert process.wait(60) == 1
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        ("--output /dev/full", "/dev/full: No space left"),
        (">/dev/full", "the standard output: No space left"),
        (">&-", "no standard output; give --output FILE"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(
    text_server, redirection, message
):
    with serve_grpc(text_server) as port:
        argv = f"-m serving.client --target {LOCAL}:{port} --text a {redirection}"
        result = subprocess.run(
            f"{sys.executable} {argv}",
            shell=True,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    (line,) = result.stderr.splitlines()
    assert result.returncode == (1 if "full" in redirection else 2)
    assert message in line


def test_the_texts_of_a_generator_are_json_with_the_n_best(serve, write_texts, capsys):
    target = ["--target", serve(FakeServer(make_generator()))]
    assert main([*target, "--text", "hi", "--n-best"]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["predicted"] == fields["text"] == "hi hi"
    assert (fields["score"], fields["status"]) == (-1, "ok")
    assert fields["probabilities"] == {}
    assert fields["n_best"] == ["hi hi", "hi hi."]
    assert fields["n_best_score"] == [-1, -2]
    table = ["--data", write_texts(2)]
    assert main([*target, *table, "--n-best", "--format", "jsonl"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["n_best"][1] for line in lines] == ["0 0.", "1 1."]
    assert main([*target, *table]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "id,label,predicted,score,status",
        "0,,0 0,-1.000000,ok",
        "1,,1 1,-1.000000,ok",
    ]


def test_n_best_texts_that_cannot_be_had_are_refused_in_words(
    serve, text_server, write_texts, monkeypatch, capsys
):
    one = ["--target", serve(FakeServer(make_generator(n_best=0)))]
    assert main([*one, "--text", "hi"]) == 0
    assert "n_best" not in capsys.readouterr().out
    line = error_of(main, [*one, "--text", "hi", "--n-best"], monkeypatch, capsys)
    assert "'mmkeras' gives one text per row. Train it with --export.n_best" in line
    argv = [*one, "--data", write_texts(1), "--n-best"]
    line = error_of(main, argv, monkeypatch, capsys)
    assert "--n-best takes --format jsonl" in line
    argv = ["--target", serve(text_server), "--text", "hi", "--n-best"]
    line = error_of(main, argv, monkeypatch, capsys)
    assert "'mmkeras' has no n best texts, as it is no generator" in line
