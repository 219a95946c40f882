"""compose.yaml, by the Compose Specification; the health check by running it."""

import http.server
import subprocess
import threading

import pytest
import yaml
from compose_viz.spec.compose_spec import ComposeSpecification
from pydantic import ValidationError

from mmkeras.reports.summary import SERVING_RELEASES
from tests.serving.deploy.files import DEPLOY, flags, interpolated

TEXT = (DEPLOY / "compose.yaml").read_text()
NEEDED = {"MODEL_DIR": "/srv/mmkeras", "GRAFANA_PASSWORD": "secret"}


def parsed(text, variables=NEEDED):
    return interpolated(yaml.safe_load(text), variables)


@pytest.fixture(scope="module")
def services():
    content = parsed(TEXT)
    ComposeSpecification.model_validate(content)
    return content["services"]


@pytest.mark.parametrize("name", NEEDED)
def test_what_has_no_default_is_asked_for(name):
    with pytest.raises(KeyError, match=name):
        parsed(TEXT, {n: v for n, v in NEEDED.items() if n != name})


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("    healthcheck:", "    healthchecks:"),
        ("      interval: 10s", "      intervall: 10s"),
        ("restart: unless-stopped", "restart: [unless-stopped]"),
        ("services:", "service:"),
    ],
)
def test_a_broken_file_is_refused(right, wrong):
    assert right in TEXT
    with pytest.raises(ValidationError):
        ComposeSpecification.model_validate(parsed(TEXT.replace(right, wrong)))


def test_every_image_has_a_version(services):
    for service in services.values():
        assert service["image"].rpartition(":")[2].strip("v")[0].isdigit()
    image = services["tf-serving"]["image"]
    assert image == f"tensorflow/serving:{SERVING_RELEASES['2.21']}"


def test_no_port_is_open_but_on_loopback(services):
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_service_is_limited_and_starts_again(services):
    for service in services.values():
        assert {"cpus", "memory"} == set(service["deploy"]["resources"]["limits"])
        assert service["restart"] == "unless-stopped"


def test_models_and_config_are_folders_and_read_only(services):
    volumes = services["tf-serving"]["volumes"]
    assert {v["target"]: v["source"] for v in volumes} == {
        "/models/mmkeras": NEEDED["MODEL_DIR"],
        "/config": "./config",
    }
    assert all(volume["read_only"] for volume in volumes)


def test_files_that_are_mounted_and_named_are_there(services):
    found = flags(services["tf-serving"]["command"])
    for name in ("model_config_file", "batching_parameters_file"):
        assert (DEPLOY / found[name].replace("/config/", "config/")).is_file()
    assert (DEPLOY / found["monitoring_config_file"][1:]).is_file()
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0] if isinstance(volume, str) else None
            assert not str(source).startswith("./") or (DEPLOY / source).is_dir()


class Door(http.server.BaseHTTPRequestHandler):
    """What the REST port would say about a model."""

    status = 200

    def do_GET(self):
        self.send_response(self.status if self.path.endswith("/metadata") else 400)
        self.end_headers()
        self.wfile.write(b'{"model_spec": {}}')

    def log_message(self, *arguments):
        pass


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (404, False)])
def test_the_health_check_wants_a_version_that_answers(services, status, healthy):
    door = type("Door", (Door,), {"status": status})
    with http.server.HTTPServer(("127.0.0.1", 0), door) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code = run_check(services, server.server_port)
        server.shutdown()
    assert (code == 0) == healthy


def test_the_health_check_fails_where_nobody_listens(services):
    assert run_check(services, 1) != 0


def run_check(services, port):
    first, *command = services["tf-serving"]["healthcheck"]["test"]
    assert first == "CMD"
    command[-1] = command[-1].replace("127.0.0.1/8501", f"127.0.0.1/{port}")
    return subprocess.run(command, capture_output=True, timeout=30).returncode
