import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

from mmkeras.errors import UserError
from pipeline.compiler import kfp_client
from pipeline.compiler.compile_args import CompileArgs
from pipeline.compiler.kfp_client import submit
from pipeline.settings import KubeflowConfig, PipelineConfig
from tests.pipeline.compiler.test_kfp_compiler import GOLDEN

# What the API refuses a pipeline with.
REFUSAL = {"error": "Invalid", "message": "the spec\nis bad", "code": 3}

RUNS = "/apis/v2beta1/runs"

# Of kfp 2.5 itself: it says which servers it works with, and uses an old urllib3.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This client only works:FutureWarning"),
    pytest.mark.filterwarnings("ignore:HTTPResponse.getheader:DeprecationWarning"),
]


@contextmanager
def api(refuses=False):
    """A small Kubeflow Pipelines API; gives its URL and the requests it has seen."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(("GET", self.path, None))
            found = {} if "experiments" in self.path else {"multi_user": False}
            self.answer(200, found)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(("POST", self.path, body))
            if "experiments" in self.path:
                self.answer(200, {"experiment_id": "e1", "display_name": "mmkeras"})
            elif refuses:
                self.answer(400, REFUSAL)
            else:
                self.answer(200, {"run_id": "r1"})

        def answer(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *given):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def request_for(tmp_path):
    """A request whose pipeline is compiled already."""
    output = tmp_path / "pipeline.yaml"
    output.write_text(GOLDEN.read_text())

    def make(host, **settings):
        return CompileArgs(
            data="gs://bucket/data.csv",
            root="gs://bucket/mmkeras",
            image="image",
            output=output,
            unlabeled=None,
            schema=None,
            baseline=None,
            host=host,
            experiment="animals",
            namespace=None,
            config=PipelineConfig(kubeflow=KubeflowConfig(**settings)),
        )

    return make


def test_a_run_is_started_with_spec_service_account_and_root(request_for, capsys):
    with api() as (host, seen):
        request = request_for(host, service_account="trainer")
        assert submit(request) == f"{host}/#/runs/details/r1"
    assert capsys.readouterr().out == ""
    (run,) = [body for way, path, body in seen if path.startswith(RUNS)]
    assert run["pipeline_spec"] == yaml.safe_load(request.output.read_text())
    assert run["service_account"] == "trainer"
    assert run["runtime_config"]["pipeline_root"] == "gs://bucket/mmkeras/artifacts"
    assert run["experiment_id"] == "e1"
    (experiment,) = [b for way, path, b in seen if way == "POST" and "exper" in path]
    assert experiment["display_name"] == "animals"


def test_without_a_service_account_the_cluster_chooses(request_for):
    with api() as (host, seen):
        submit(request_for(host))
    (run,) = [body for way, path, body in seen if path.startswith(RUNS)]
    assert run.get("service_account") is None


def test_a_refusal_is_one_line_with_its_reason(request_for):
    with api(refuses=True) as (host, _), pytest.raises(UserError) as refused:
        submit(request_for(host))
    assert str(refused.value) == f"{host} refuses the pipeline: 400 the spec is bad"


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", "http://no such host"])
def test_a_host_that_is_not_there_is_one_line(request_for, host):
    with pytest.raises(UserError) as refused:
        submit(request_for(host))
    message = str(refused.value)
    assert message.startswith(f"Kubeflow Pipelines at {host} cannot be reached: ")
    assert "Check --host" in message and "\n" not in message


def test_a_host_that_says_nothing_is_not_waited_for(request_for, monkeypatch):
    monkeypatch.setattr(kfp_client, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="cannot be reached: .*[Tt]imed out"):
            submit(request_for(host))
