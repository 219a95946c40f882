"""Tests of ingest and Transform on worker processes of Beam's portable runner."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmkeras.data.dataset import load_dataset, with_columns
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from tests import table_factory
from tests.pipeline import executor_harness
from tests.pipeline.executor_harness import stored_records, transformed

ROOT = Path(__file__).parents[2]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture(scope="module")
def portable(tmp_path_factory):
    """Beam arguments of a job service that starts its own workers."""
    folder, port = tmp_path_factory.mktemp("beam"), free_port()
    module = "apache_beam.runners.portability.local_job_service_main"
    command = [sys.executable, "-m", module, "--port", str(port)]
    command += ["--staging_dir", str(folder / "staging")]
    with (folder / "jobs.log").open("w") as log:
        server = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        wait_for(port)
        worker = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
        yield (
            "--runner=PortableRunner",
            f"--job_endpoint=localhost:{port}",
            "--environment_type=beam:env:harness_subprocess_python:v1",
            f"--environment_config={worker}",
            "--sdk_container_image=unused",  # else TFX packs its own sources
            "--job_server_timeout=240",
        )
    finally:
        server.terminate()
        server.wait(30)


@pytest.mark.slow
def test_workers_write_the_same_records_and_find_the_same_state(portable, tmp_path):
    rows = table_factory.make_rows()
    rows[3]["audio"], rows[4]["text"] = "", ""
    table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path / "cache", table={"rows_per_shard": 10})

    examples, _ = executor_harness.examples_of(
        table, config, tmp_path, beam_args=portable
    )

    piped, plain = load_dataset(examples.uri), ingest(table, config)
    assert len(piped.shards["train"]) == 3
    assert stored_records(piped) == stored_records(plain)
    _, state = transformed(examples, config, tmp_path, portable)
    assert state == fit_preprocessing(plain, with_columns(config, plain))
