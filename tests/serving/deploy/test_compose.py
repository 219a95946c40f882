"""compose.yaml: schema, ports, limits, mounts, and its health check."""

import http.server
import subprocess
import threading

import pytest
import yaml
from compose_viz.spec.compose_spec import ComposeSpecification

from mmkeras.reports.summary import SERVING_RELEASES
from tests.serving.deploy.files import DEPLOY, flags, interpolate

TEXT = (DEPLOY / "compose.yaml").read_text()
VARIABLES = {"MODEL_DIR": "/srv/mmkeras", "GRAFANA_PASSWORD": "secret"}


def parse(text, variables=VARIABLES):
    return interpolate(yaml.safe_load(text), variables)


@pytest.fixture(scope="module")
def services():
    content = parse(TEXT)
    ComposeSpecification.model_validate(content)
    return content["services"]


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_without_a_default_is_required(name):
    with pytest.raises(KeyError, match=name):
        parse(TEXT, {n: v for n, v in VARIABLES.items() if n != name})


def test_images_have_versions_and_services_have_limits(services):
    for service in services.values():
        assert service["image"].rpartition(":")[2].strip("v")[0].isdigit()
        assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
        assert service["restart"] == "unless-stopped"
    image = services["tf-serving"]["image"]
    assert image == f"tensorflow/serving:{SERVING_RELEASES['2.21']}"


def test_ports_are_open_on_loopback_only(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_models_and_config_are_read_only_folders(services):
    volumes = services["tf-serving"]["volumes"]
    assert {v["target"]: v["source"] for v in volumes} == {
        "/models/mmkeras": VARIABLES["MODEL_DIR"],
        "/config": "./config",
    }
    assert all(volume["read_only"] for volume in volumes)


def test_mounted_files_exist(services):
    values = flags(services["tf-serving"]["command"])
    for name in ("model_config_file", "batching_parameters_file"):
        assert (DEPLOY / values[name].replace("/config/", "config/")).is_file()
    assert (DEPLOY / values["monitoring_config_file"][1:]).is_file()
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else None
            assert not str(source).startswith("./") or (DEPLOY / source).is_dir()


@pytest.mark.parametrize(("status", "is_healthy"), [(200, True), (404, False)])
def test_the_health_check_needs_a_usable_version(services, status, is_healthy):
    class RestPort(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path.endswith("/metadata") else 400)
            self.end_headers()
            self.wfile.write(b'{"model_spec": {}}')

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), RestPort) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        first, *command = services["tf-serving"]["healthcheck"]["test"]
        port = f"127.0.0.1/{server.server_port}"
        command[-1] = command[-1].replace("127.0.0.1/8501", port)
        code = subprocess.run(command, capture_output=True, timeout=30).returncode
        server.shutdown()
    assert first == "CMD" and (code == 0) == is_healthy
