"""The program: flags, output, exit codes, and one clear line for each mistake."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading

import grpc
import pytest

from mmkeras.cli import run_program
from mmkeras.errors import UserError
from serving.client.__main__ import main
from tests import table_factory
from tests.serving.client.fake_server import LOCAL, Fault, grpc_door
from tests.serving.client.test_grpc_transport import credentials, free_port
from tests.serving.client.test_table import assert_the_same


def test_one_row_is_one_line_of_json(door, stand, tmp_path, capsys):
    (tmp_path / "cat.webp").write_bytes(table_factory.image(kind="WEBP"))
    argv = ["--target", door(stand), "--image", str(tmp_path / "cat.webp")]
    assert main([*argv, "--text", "warm fire"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["status"] == "audio absent" and err == ""
    assert found["predicted"] in ("red", "green")
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=2e-6)


def test_one_row_may_be_csv_in_a_file(door, plain, tmp_path):
    out = tmp_path / "out.csv"
    argv = ["--target", door(plain), "--text", "[1]", "--output", str(out)]
    assert main(argv) == 0
    (found,) = csv.DictReader(io.StringIO(out.read_text()))
    assert found["predicted"] == "a" and found["b"] == "0.100000"


@pytest.mark.parametrize("output", [True, False])
def test_a_table_is_answered_as_mmkeras_predict_answers_it(
    door, stand, run, offline, tmp_path, capsys, output
):
    out, target = tmp_path / "out.csv", door(stand)
    argv = ["--target", target, "--data", str(run[1]), "--in-flight", "3"]
    argv += ["--output", str(out)] * output
    assert main(argv) == 0
    captured = capsys.readouterr()
    said = "40 rows predicted, 1 of them with something unreadable.\n"
    if output:
        text = out.read_bytes().decode()
        assert captured.out == f"{said}Predictions: {out}\n" and captured.err == ""
    else:
        text = captured.out
        assert captured.err == said
    assert_the_same(text, offline(run[1]))


def test_the_name_of_the_output_says_its_format(door, plain, tmp_path, capsys):
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 3)
    argv = ["--target", door(plain), "--data", str(path)]
    assert main([*argv, "--output", str(tmp_path / "o.jsonl")]) == 0
    lines = (tmp_path / "o.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["0", "1", "2"]
    assert main([*argv, "--format", "jsonl"]) == 0
    assert "\n".join(lines) in capsys.readouterr().out


def test_a_column_that_is_missing_is_said_once(door, stand, tmp_path, capsys):
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 3)
    assert main(["--target", door(stand), "--data", str(path)]) == 0
    said = "The table has no column for image, audio: absent in every row."
    assert capsys.readouterr().err.splitlines()[0] == said


def test_a_version_or_a_label_is_asked_for(door, plain, capsys):
    plain.labels["stable"] = 3
    target = door(plain)
    for flags in (["--version", "3"], ["--label", "stable"]):
        assert main(["--target", target, "--text", "a", *flags]) == 0
    assert main(["--target", target, "--text", "a", "--version", "8"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    expected = "Servable not found for request: Specific(mmkeras, 8). Versions that"
    assert line == f"error: {target} answered NOT_FOUND: {expected} are there: 3."


def test_an_error_in_the_middle_of_a_table_keeps_what_was_answered(
    door, plain, tmp_path, capsys
):
    def fail(request):
        if request.inputs["text"].string_val[0] == b"7":
            raise Fault(grpc.StatusCode.INTERNAL, "seven")

    plain.before, out = fail, tmp_path / "out.csv"
    rows = [{"text": str(i)} for i in range(20)]
    path = table_factory.write_table(tmp_path / "d.csv", rows)
    argv = ["--target", door(plain), "--data", str(path), "--batch", "1"]
    assert main([*argv, "--output", str(out)]) == 1
    ids = [row["id"] for row in csv.DictReader(io.StringIO(out.read_text()))]
    assert ids == [str(i) for i in range(7)]
    captured = capsys.readouterr()
    assert captured.out.startswith("7 rows predicted")
    assert captured.err.endswith("answered INTERNAL: seven\n")


BAD = [
    ([], "Give --image, --text, --audio, or a table by --data."),
    (["--text", "a", "--data", "d.csv"], "Give --data or --text, not both."),
    (["--data", "gone.csv"], "--data 'gone.csv' is no file"),
    (["--data", "d.csv", "--output", "d.csv"], "--output is the file of --data"),
    (["--data", "d.csv", "--output", "."], "must be a file in a folder that exists"),
    (["--data", "d.csv", "--output", "x/y"], "must be a file in a folder that"),
    (["--text", "a", "--format", "jsnl"], "no format 'jsnl'. Did you mean 'jsonl'?"),
    (["--text", "a", "--in-flight", "0"], "in_flight=0 is not possible"),
    (["--text", "a", "--timeout", "0"], "timeout=0.0 is not possible"),
    (["--text", "a", "--timeout", "1e10"], "timeout=10000000000.0 is not possible"),
    (["--text", "a", "--target", ""], "Give --target HOST:PORT (gRPC) or http://HOST"),
    (["--text", "a", "--version", "x"], "version needs int, received 'x'"),
    (["--text", "a", "--ca", "gone.pem"], "--ca 'gone.pem' cannot be used: No such"),
    (["--text", "a", "--cert", "d.csv"], "go together: --cert and --key"),
    (["--txt", "a"], "There is no flag '--txt'. Did you mean '--text'?"),
    (["--text", "a", "--target", "nowhere"], "The target 'nowhere' must be HOST:PORT"),
]


@pytest.mark.parametrize(("argv", "message"), BAD)
def test_a_mistake_is_one_line_and_exit_code_2(
    argv, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}])
    before = (tmp_path / "d.csv").read_text()
    monkeypatch.setattr(sys, "argv", ["client", "--target", "localhost:1", *argv])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line
    assert end.value.code == 2 and (tmp_path / "d.csv").read_text() == before


def test_a_picture_that_cannot_be_read_is_a_mistake(door, stand, capsys):
    with pytest.raises(UserError, match="image 'gone.png': file not found"):
        main(["--target", door(stand), "--image", "gone.png"])


# As a process of its own ----------------------------------------------------------


def started(*argv, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "serving.client", *map(str, argv)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def ended(*argv):
    process = started(*argv)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_what_fails_is_one_line_without_the_libraries_own_log(plain, certificates):
    with grpc_door(plain, credentials(certificates, False)) as port:
        target = ["--target", f"localhost:{port}", "--text", "a"]
        code, out, err = ended(*target, "--ca", certificates["other"])
        assert (code, out, len(err.splitlines())) == (1, "", 1)
        assert "Give the certificate of its authority by --ca FILE" in err
        code, out, err = ended(*target, "--ca", certificates["ca"])
        assert code == 0 and json.loads(out)["predicted"] == "a" and err == ""
    nobody = ["--target", f"{LOCAL}:{free_port()}", "--text", "a", "--retries", 1]
    code, out, err = ended(*nobody)
    assert code == 1 and len(err.splitlines()) == 1 and "refused the conn" in err
    code, _, err = ended("--target", "no-such-host.invalid:1", "--text", "a")
    assert code == 1 and len(err.splitlines()) == 1 and "no such host" in err


def test_ctrl_c_leaves_whole_lines_and_says_130(door, plain, tmp_path):
    plain.delay_s, many = 0.02, 5000
    rows = [{"text": str(i)} for i in range(many)]
    path, out = (
        table_factory.write_table(tmp_path / "d.csv", rows),
        tmp_path / "out.csv",
    )
    seen = threading.Event()
    plain.before = lambda _: plain.calls["Predict"] > 40 and seen.set()
    process = started(
        *("--target", door(plain), "--data", path, "--output", out),
        *("--batch", 2, "--in-flight", 4),
    )
    assert seen.wait(60)
    process.send_signal(signal.SIGINT)
    said, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines()[-1] == "Interrupted."
    text = out.read_bytes().decode()
    assert text.endswith("\r\n")
    written = list(csv.DictReader(io.StringIO(text)))
    assert [row["id"] for row in written] == [str(i) for i in range(len(written))]
    assert 40 <= len(written) < many
    assert said.startswith(f"{len(written)} rows predicted")


def test_a_reader_that_goes_away_ends_it_quietly(plain, tmp_path):
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 3000)
    with grpc_door(plain) as port:
        process = started("--target", f"{LOCAL}:{port}", "--data", path)
        assert process.stdout.readline().startswith("id,label,predicted")
        process.stdout.close()
        assert process.wait(60) == 1
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()


def test_ctrl_c_ends_it_at_once_where_the_server_is_silent(door, plain, tmp_path):
    silent, gone = threading.Event(), threading.Event()
    plain.before = lambda _: plain.calls["Predict"] > 2 and (
        silent.set() or gone.wait(300)
    )
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 100)
    process = started("--target", door(plain), "--data", path, "--timeout", 600)
    assert silent.wait(60)
    try:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)  # far less than the deadline
    finally:
        gone.set()
        process.kill()
        process.communicate()
    assert process.returncode == 130 and err.splitlines()[-1] == "Interrupted."


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("--output /dev/full", "error: /dev/full: No space left on device."),
        (">/dev/full", "error: the standard output: No space left on device."),
        (">&-", "error: There is no standard output; give --output FILE."),
    ],
)
def test_answers_that_cannot_be_written_are_one_line(plain, ending, message):
    with grpc_door(plain) as port:
        argv = f"-m serving.client --target {LOCAL}:{port} --text a {ending}"
        done = subprocess.run(
            f"{sys.executable} {argv}",
            shell=True,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stderr) == (2, f"{message}\n")


def test_help_and_mistakes_load_neither_tensorflow_nor_grpc():
    code = """
import sys
from mmkeras.errors import UserError
from serving.client.__main__ import main
for argv in (["--help"], ["--no-such-flag"], ["--target", "x", "--text", "a"]):
    try:
        main(argv)
    except (SystemExit, UserError):
        continue
    raise AssertionError(argv)
print(*{"tensorflow", "keras", "grpc", "httpx", "numpy"} & set(sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env=dict(os.environ),
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].split() == []
