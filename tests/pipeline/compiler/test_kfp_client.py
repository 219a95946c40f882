import socket
from pathlib import Path

import pytest
import yaml

from mmkeras.errors import UserError
from pipeline.compiler import kfp_client
from pipeline.compiler.compile_args import CompileArgs
from pipeline.compiler.kfp_client import submit
from pipeline.settings import KubeflowConfig, PipelineConfig
from tests.pipeline.kfp_api import RUNS, kfp_api

GOLDEN = Path(__file__).parents[2] / "golden" / "pipeline.yaml"

# kfp 2.5 warns about versions of servers and uses an old urllib3.
pytestmark = [
    pytest.mark.filterwarnings("ignore:This client only works:FutureWarning"),
    pytest.mark.filterwarnings("ignore:HTTPResponse.getheader:DeprecationWarning"),
]


@pytest.fixture
def request_for(tmp_path):
    """Builds arguments whose pipeline is compiled already."""
    output = tmp_path / "pipeline.yaml"
    output.write_text(GOLDEN.read_text())

    def make(host, **settings):
        return CompileArgs(
            data="gs://bucket/data.csv",
            root="gs://bucket/mmkeras",
            image="image",
            output=output,
            host=host,
            experiment="animals",
            config=PipelineConfig(kubeflow=KubeflowConfig(**settings)),
        )

    return make


def test_a_run_is_started_with_spec_service_account_and_root(request_for, capsys):
    with kfp_api() as (host, requests):
        request = request_for(host, service_account="trainer")
        assert submit(request) == f"{host}/#/runs/details/r1"
    assert capsys.readouterr().out == ""
    (run,) = [body for _, path, body in requests if path.startswith(RUNS)]
    assert run["pipeline_spec"] == yaml.safe_load(request.output.read_text())
    assert run["service_account"] == "trainer"
    assert run["runtime_config"]["pipeline_root"] == "gs://bucket/mmkeras/artifacts"
    assert run["experiment_id"] == "e1"
    experiments = [b for m, path, b in requests if m == "POST" and "exper" in path]
    assert [item["display_name"] for item in experiments] == ["animals"]


def test_without_a_service_account_the_cluster_chooses(request_for):
    with kfp_api() as (host, requests):
        submit(request_for(host))
    (run,) = [body for _, path, body in requests if path.startswith(RUNS)]
    assert run.get("service_account") is None


def test_a_rejected_pipeline_is_one_line_with_its_reason(request_for):
    with kfp_api(refuses=True) as (host, _), pytest.raises(UserError) as error:
        submit(request_for(host))
    assert str(error.value) == f"{host} refuses the pipeline: 400 the spec is bad"


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", "http://no such host"])
def test_an_unreachable_host_is_an_error(request_for, host):
    with pytest.raises(UserError) as error:
        submit(request_for(host))
    message = str(error.value)
    assert message.startswith(f"Kubeflow Pipelines at {host} cannot be reached: ")
    assert "Check --host" in message and "\n" not in message


def test_a_silent_host_times_out(request_for, monkeypatch):
    monkeypatch.setattr(kfp_client, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="cannot be reached: .*[Tt]imed out"):
            submit(request_for(host))
