"""Our client against our server, as two programs, on a real export."""

import csv
import subprocess
import sys

import pytest

from mmkeras.predict import predict
from tests.serving.twin import ROOT, serving
from tests.table_factory import trained_run

pytestmark = pytest.mark.e2e


def client(*flags):
    return subprocess.run(
        [sys.executable, "-m", "serving.client", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def doors(run, tmp_path_factory):
    """The export behind a server with batches."""
    folder, _ = run
    scratch = tmp_path_factory.mktemp("twin")
    batching = scratch / "batching"
    batching.write_text(
        "max_batch_size { value: 16 } batch_timeout_micros { value: 2000 }"
    )
    flags = ("--batching-parameters-file", str(batching))
    with serving({"mmkeras": folder / "export"}, scratch / "log", *flags) as found:
        yield found


@pytest.mark.parametrize("door", ["gRPC", "REST"])
def test_a_table_through_the_wire_is_the_table_predicted(run, doors, tmp_path, door):
    folder, table = run
    target = doors.grpc if door == "gRPC" else f"http://{doors.rest}"
    flags = ("--target", target, "--data", table, "--output", tmp_path / "served.csv")
    done = client(*flags, "--in-flight", 4, "--batch", 3)
    assert done.returncode == 0, done.stderr
    predict(folder, table, tmp_path / "predicted.csv")
    served, predicted = (
        list(csv.DictReader((tmp_path / f"{name}.csv").read_text().splitlines()))
        for name in ("served", "predicted")
    )
    assert len(served) == 40
    for one, other in zip(served, predicted, strict=True):
        for column in ("id", "label", "predicted", "status"):
            assert one[column] == other[column]
        for column in ("score", "red", "green"):
            assert float(one[column]) == pytest.approx(float(other[column]), abs=2e-6)


def test_what_the_server_has_not_is_one_line_that_says_what_it_has(doors):
    done = client("--target", doors.grpc, "--version", 7, "--text", "warm fire")
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == (
        f"error: {doors.grpc} answered NOT_FOUND: Servable not found for request: "
        "Specific(mmkeras, 7). Versions that are there: 1.\n"
    )
