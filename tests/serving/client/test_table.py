"""Prediction of tables: the rows of mmkeras.predict, in bounded memory."""

import csv
import io
import json
import os
import signal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmkeras.config import ImageConfig, TableConfig
from mmkeras.errors import UserError
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.image.column import Image
from serving.client import Client
from serving.client import table as table_module
from serving.client.inputs import prepare_row
from serving.client.model_info import ModelInfo
from serving.client.output_writer import CSV, OutputWriter
from serving.client.settings import Settings
from serving.client.table import Table, Totals, predict_table
from tests import table_factory


def predict(target, path, **fields):
    """Returns the CSV, and the totals."""
    file, totals = io.StringIO(newline=""), Totals()
    table = Table(path=path, **fields)
    with Client(target) as client:
        writer = OutputWriter(file, CSV, client.describe().classes, target)
        predict_table(client, table, writer.write, totals, in_flight=4, batch=4)
    return file.getvalue(), totals


def test_predictions_equal_those_of_mmkeras_predict(
    serve, trained_server, local_csv, tmp_path
):
    image, tone = table_factory.image, table_factory.tone
    rows = [
        {"text": "warm fire", "image": image(), "audio": tone()},
        {"text": "", "image": "gone.png", "audio": tone(kind="FLAC")},
        {"text": "", "image": "", "audio": ""},
        {"text": "caf\udce9", "image": image(kind="TIFF"), "audio": ""},
        {"text": "hi", "image": b"", "audio": b"RIFF"},
        {"text": "hi", "image": table_factory.bomb(), "audio": tone(rate_hz=44_100)},
        {"text": "hi", "image": image()[:60], "audio": "."},
    ]
    path = table_factory.write_table(tmp_path / "data.csv", rows)
    with path.open("a") as file:
        file.write("too,few\n")
    text, totals = predict(serve(trained_server), path)
    rows, expected = (
        list(csv.reader(io.StringIO(content))) for content in (text, local_csv(path))
    )
    assert rows[0] == expected[0]
    for row, other in zip(rows[1:], expected[1:], strict=True):
        assert row[:3] == other[:3] and row[4] == other[4]
        numbers, others = (list(map(float, [r[3], *r[5:]])) for r in (row, other))
        assert numbers == pytest.approx(others, abs=2e-6)
    assert totals.rows == 8 and totals.unreadable == 6
    assert trained_server.batch_sizes == [4, 4]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_lists_and_embedded_content_are_sent_as_mmkeras_predict_reads_them(
    suffix, serve, trained_server, local_csv, tmp_path
):
    image, tone = table_factory.image(), table_factory.tone()
    (tmp_path / "a.png").write_bytes(image)
    table = {
        "text": [["warm", "fire"], ["hi"], []],
        "image": [["a.png"], ["a.png", "a.png"], ["gone.png"]],
    }
    if suffix == "parquet":
        table["audio"] = [tone, b"RIFF", None]
        pq.write_table(pa.table(table), tmp_path / "data.parquet")
    else:
        table["audio"] = ["", "", [0.5, 2]]
        rows = [
            dict(zip(table, row, strict=True))
            for row in zip(*table.values(), strict=True)
        ]
        (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / f"data.{suffix}"
    text, totals = predict(serve(trained_server), path)
    rows, expected = (
        list(csv.reader(io.StringIO(content))) for content in (text, local_csv(path))
    )
    assert totals.rows == 3 and "ok" not in rows[2][4]
    for row, other in zip(rows, expected, strict=True):
        assert row[:3] == other[:3] and row[4] == other[4]


def test_several_files_of_a_cell_are_sent_as_training_reads_them(tmp_path):
    contents = [table_factory.image(), table_factory.image(kind="WEBP")]
    for name, content in zip("ab", contents, strict=True):
        (tmp_path / f"{name}.png").write_bytes(content)
    cells = ["a.png; b.png", "a.png", ""], [contents, contents[:1], None]
    column = Image("photos", ImageConfig())
    column.items = 2
    paths = ("a.png", "b.png")
    expected = [column.read(x, FileReader(tmp_path)).data for x in (paths, paths[:1])]
    model = ModelInfo(version=1, columns={"photos": "image"}, absent={"photos": b""})
    settings = Settings(target="localhost:1", model="m")
    for i, column in enumerate(cells):
        path = tmp_path / f"{i}.parquet"
        pq.write_table(pa.table({"photos": column}), path)
        table = Table(path=path)
        rows = [table.inputs(row, model) for row in table.rows(model)]
        rows = [prepare_row(row, model, settings, strict=True).data for row in rows]
        assert rows == [*({"photos": x} for x in expected), {}]


def test_columns_that_the_model_has_not_are_not_read(serve, text_server, tmp_path):
    rows = [{"id": "x", "text": "a", "image": "gone.png", "label": "b"}]
    path = table_factory.write_table(tmp_path / "data.csv", rows)
    target = serve(text_server)
    text, _ = predict(target, path)
    assert text.splitlines()[1] == "x,b,a,0.900000,ok,0.900000,0.100000"
    path = table_factory.write_table(tmp_path / "none.csv", [{"words": "a"}])
    with Client(target) as client:
        with pytest.raises(UserError, match="lacks the column 'text'.*--rename COLUMN"):
            Table(path=path).check(client.describe())


def test_columns_may_have_other_names(serve, text_server, tmp_path):
    path = table_factory.write_table(tmp_path / "d.csv", [{"words": "a", "key": "k"}])
    fields = {"roles": TableConfig(id_column="key"), "names": {"text": "words"}}
    text, _ = predict(serve(text_server), path, **fields)
    assert text.splitlines()[1].startswith("k,,a,")
    table = Table(
        path=path, roles=TableConfig(id_column="kex"), names={"text": "words"}
    )
    with Client(serve(text_server)) as client:
        with pytest.raises(UserError, match="no column 'kex'.*set --id-column"):
            table.check(client.describe())


def test_text_may_be_in_files(serve, text_server, tmp_path):
    (tmp_path / "a.txt").write_text("from a file")
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a.txt"}])
    texts = []
    text_server.before = lambda r: texts.append(r.inputs["text"].string_val[0])
    target = serve(text_server)
    predict(target, path)
    predict(target, path, text_files=True)
    assert texts == [b"a.txt", b"from a file"]


def test_a_long_table_is_read_in_small_parts(serve, text_server, tmp_path, monkeypatch):
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 500)
    rows_read, max_ahead, totals = 0, 0, Totals()
    iter_rows = table_module.iter_rows

    def count_rows(*arguments, **options):
        nonlocal rows_read, max_ahead
        for row in iter_rows(*arguments, **options):
            rows_read += 1
            max_ahead = max(max_ahead, rows_read - totals.rows)
            yield row

    monkeypatch.setattr(table_module, "iter_rows", count_rows)
    table = Table(path=path)
    with Client(serve(text_server)) as client:
        limits = {"in_flight": 3, "batch": 5}
        predict_table(client, table, lambda row, prediction: None, totals, **limits)
    assert totals.rows == rows_read == 500 and max_ahead <= 2 * 3 * 5 + 5


def test_ctrl_c_does_not_interrupt_the_writing_of_a_row(serve, text_server, tmp_path):
    path = table_factory.write_table(tmp_path / "d.csv", [{"text": "a"}] * 50)
    ids, totals = [], Totals()

    def write(row, prediction):
        if len(ids) == 7:
            os.kill(os.getpid(), signal.SIGINT)
        ids.append(row.id)  # not interrupted

    table = Table(path=path)
    with Client(serve(text_server)) as client, pytest.raises(KeyboardInterrupt):
        predict_table(client, table, write, totals, in_flight=2, batch=1)
    assert ids == [str(i) for i in range(8)] and totals.rows == 8
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
