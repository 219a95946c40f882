"""Client against the TF Serving-compatible server, on an export and on columns."""

import csv

import pytest

from mmkeras.predict import predict
from serving.client import Client
from serving.client.__main__ import main
from tests import table_factory
from tests.serving.models import Shop, save_shop
from tests.serving.server_process import start_server
from tests.table_factory import trained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def server(run, tmp_path_factory):
    """Server of the export, with batching."""
    folder = tmp_path_factory.mktemp("server")
    batching = folder / "batching"
    batching.write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 2000 }"
    )
    models = {"mmkeras": run[0] / "export", "shop": save_shop(folder / "shop")}
    flags = ("--batching-parameters-file",)
    with start_server(models, folder / "log", *flags, str(batching)) as server:
        yield server


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "predicted.csv"
    predict(*run, path)
    return read_rows(path)


@pytest.fixture(params=["grpc", "rest"])
def target(request, server):
    return server.grpc if request.param == "grpc" else f"http://{server.rest}"


def test_an_export_describes_its_columns(target):
    with Client(target) as client:
        model = client.describe()
    assert list(model.columns.items()) == [(m, m) for m in ("text", "image", "audio")]
    assert model.classes == ("green", "red")


def test_columns_of_any_name_and_of_numbers_arrive(target):
    rows = [
        {"title": "a", "photo": table_factory.image(kind="WEBP"), "price": 3.5},
        {"title": "b", "photo": table_factory.image(), "price": 1},
        {"price": float("nan")},
        {"price": 2**25 + 2},
    ]
    with Client(target, model="shop") as client:
        model = client.describe()
        assert model.columns == Shop.COLUMNS
        assert list(model.columns) == list(Shop.COLUMNS)
        predictions = client.predict_rows(rows)
        assert list(client.stream(rows)) == predictions
    assert [p.label for p in predictions] == ["dear", "cheap", "cheap", "dear"]
    assert predictions[0].probabilities == {"cheap": 0.25, "dear": 0.75}
    absent = "title absent; photo absent"
    statuses = [p.status for p in predictions]
    assert statuses == ["a", "b", f"price absent; {absent}", absent]


def test_a_table_has_the_predictions_of_mmkeras_predict(
    run, target, expected, tmp_path
):
    argv = ["--target", target, "--data", run[1], "--output", tmp_path / "served.csv"]
    assert main([*map(str, argv), "--in-flight", "4", "--batch", "3"]) == 0
    rows = read_rows(tmp_path / "served.csv")
    assert len(rows) == 40
    for row, other in zip(rows, expected, strict=True):
        for column in ("id", "label", "predicted", "status"):
            assert row[column] == other[column]
        for column in ("score", "red", "green"):
            assert float(row[column]) == pytest.approx(float(other[column]), abs=2e-6)
