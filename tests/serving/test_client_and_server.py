"""Client against the TF Serving-compatible server, on a real export."""

import csv

import pytest

from mmkeras.predict import predict
from serving.client.__main__ import main
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
    models, flags = {"mmkeras": run[0] / "export"}, ("--batching-parameters-file",)
    with start_server(models, folder / "log", *flags, str(batching)) as server:
        yield server


def read_rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.fixture(scope="module")
def expected(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "predicted.csv"
    predict(*run, path)
    return read_rows(path)


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_a_table_has_the_predictions_of_mmkeras_predict(
    run, server, expected, tmp_path, transport
):
    target = server.grpc if transport == "grpc" else f"http://{server.rest}"
    argv = ["--target", target, "--data", run[1], "--output", tmp_path / "served.csv"]
    assert main([*map(str, argv), "--in-flight", "4", "--batch", "3"]) == 0
    rows = read_rows(tmp_path / "served.csv")
    assert len(rows) == 40
    for row, other in zip(rows, expected, strict=True):
        for column in ("id", "label", "predicted", "status"):
            assert row[column] == other[column]
        for column in ("score", "red", "green"):
            assert float(row[column]) == pytest.approx(float(other[column]), abs=2e-6)
