"""A table through a served model: the same lines as mmkeras.predict, as they come."""

import csv
import io
import os
import signal

import pytest

from mmkeras.config import TableConfig
from mmkeras.errors import UserError
from serving.client import Client
from serving.client import table as tabling
from serving.client.output_writer import CSV, OutputWriter
from serving.client.table import Table, Totals, predict_table
from tests import table_factory


def asked(target, path, in_flight=4, batch=4, text_files=False, columns=None):
    """Returns what is written, and the totals."""
    file, totals = io.StringIO(newline=""), Totals()
    table = Table(path=path, columns=columns or TableConfig(), text_files=text_files)
    with Client(target) as client:
        writer = OutputWriter(file, CSV, client.describe().classes, target)
        flow = {"in_flight": in_flight, "batch": batch}
        predict_table(client, table, writer, totals, **flow)
    return file.getvalue(), totals


def assert_the_same(ours, theirs):
    """The same rows, but for the last digit of a probability."""
    ours, theirs = (list(csv.reader(io.StringIO(text))) for text in (ours, theirs))
    assert ours[0] == theirs[0] and len(ours) == len(theirs)
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert one[:3] == other[:3] and one[4] == other[4]
        numbers = [float(x) for x in (one[3], *one[5:])]
        expected = [float(x) for x in (other[3], *other[5:])]
        assert numbers == pytest.approx(expected, abs=2e-6)


def test_answers_are_those_of_mmkeras_predict(door, stand, run, offline):
    text, totals = asked(door(stand), run[1])
    assert_the_same(text, offline(run[1]))
    assert (totals.rows, totals.unreadable) == (40, 1)
    assert sum(stand.batches) == 40 and set(stand.batches) == {4}


def test_so_are_those_to_all_that_may_be_wrong(door, stand, offline, tmp_path):
    rows = [
        {
            "text": "warm fire",
            "image": table_factory.image(),
            "audio": table_factory.tone(),
        },
        {"text": "", "image": "gone.png", "audio": table_factory.tone(kind="FLAC")},
        {"text": "", "image": "", "audio": ""},
        {"text": "caf\udce9", "image": table_factory.image(kind="TIFF"), "audio": ""},
        {"text": "hi", "image": b"", "audio": b"RIFF"},
        {
            "text": "hi",
            "image": table_factory.bomb(),
            "audio": table_factory.tone(rate_hz=44_100),
        },
        {"text": "hi", "image": table_factory.image()[:60], "audio": "."},
    ]
    path = table_factory.write_table(tmp_path / "data.csv", rows)
    with path.open("a") as file:
        file.write("too,few\n")
    text, totals = asked(door(stand), path)
    assert_the_same(text, offline(path))
    assert totals.rows == 8 and totals.unreadable == 6


def test_only_what_the_model_takes_is_read(door, plain, tmp_path):
    rows = [{"id": "x", "text": "a", "image": "gone.png", "label": "b"}]
    path = table_factory.write_table(tmp_path / "data.csv", rows)
    text, _ = asked(door(plain), path)
    assert text.splitlines()[1] == "x,b,a,0.900000,ok,0.900000,0.100000"
    path = table_factory.write_table(tmp_path / "none.csv", [{"words": "a"}])
    with pytest.raises(UserError, match="no column 'text'.*or set --text-column"):
        asked(door(plain), path)


def test_columns_have_the_names_that_they_are_given(door, plain, tmp_path):
    path = table_factory.write_table(tmp_path / "d.csv", [{"words": "a", "key": "k"}])
    columns = TableConfig(text_column="words", id_column="key")
    text, _ = asked(door(plain), path, columns=columns)
    assert text.splitlines()[1].startswith("k,,a,")


def test_text_may_stand_in_files(door, plain, tmp_path):
    (tmp_path / "a.txt").write_text("from a file")
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a.txt"}])
    seen = []
    plain.before = lambda request: seen.append(request.inputs["text"].string_val[0])
    target = door(plain)
    asked(target, path)
    asked(target, path, text_files=True)
    assert seen == [b"a.txt", b"from a file"]


def test_a_long_table_is_read_a_few_rows_at_a_time(door, plain, tmp_path, monkeypatch):
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 500)
    read, most, totals = 0, 0, Totals()
    iter_rows = tabling.iter_rows

    def counted(*arguments, **options):
        nonlocal read, most
        for row in iter_rows(*arguments, **options):
            read += 1
            most = max(most, read - totals.rows)
            yield row

    monkeypatch.setattr(tabling, "iter_rows", counted)
    table = Table(path=path, columns=TableConfig())
    with Client(door(plain)) as client:
        flow = {"in_flight": 3, "batch": 5}
        predict_table(client, table, lambda row, answer: None, totals, **flow)
    assert totals.rows == read == 500 and most <= 2 * 3 * 5 + 5


def test_ctrl_c_waits_for_a_line_to_be_whole(door, plain, tmp_path):
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 50)
    lines, totals = [], Totals()

    def write(row, answer):
        if len(lines) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        lines.append(row.id)  # reached in spite of it

    table = Table(path=path, columns=TableConfig())
    with Client(door(plain)) as client, pytest.raises(KeyboardInterrupt):
        predict_table(client, table, write, totals, in_flight=2, batch=1)
    assert lines == [str(i) for i in range(8)] and totals.rows == 8
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
