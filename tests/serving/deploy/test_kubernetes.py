"""Kubernetes' manifests by its strict schemas, and as kustomize puts them together."""

import copy

import kubernetes_validate
import pytest
import yaml

from tests.serving.deploy.files import DEPLOY, documents, flags, program
from tests.serving.deploy.manifests import kustomized, of_kind, restricted, valid

ROOT = DEPLOY / "kubernetes"
FOLDERS = (ROOT / "namespace", ROOT / "base")
FILES = [
    path
    for folder in FOLDERS
    for path in sorted(folder.glob("*.yaml"))
    if path.stem != "kustomization"
]
GONE = object()


@pytest.fixture(scope="module")
def base():
    return [document for path in FILES for document in documents(path)]


@pytest.fixture(scope="module")
def deployment(base):
    (found,) = of_kind(base, "Deployment")
    return found


@pytest.fixture(scope="module")
def container(deployment):
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return found


@pytest.mark.parametrize(
    ("variable", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_a_missing_program_is_no_silent_pass_in_ci(monkeypatch, variable, outcome):
    monkeypatch.setenv("CI", variable)
    with pytest.raises(outcome, match="no kubectl-of-nobody here, which"):
        program("kubectl-of-nobody", "which is nowhere")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifests_are_valid_to_the_last_field(path):
    for document in documents(path):
        valid(document)


@pytest.mark.parametrize(
    "folder", [*FOLDERS, DEPLOY / "kserve"], ids=lambda path: path.name
)
def test_every_file_is_in_the_kustomization(folder):
    (kustomization,) = documents(folder / "kustomization.yaml")
    named = {name for name in kustomization["resources"] if name.endswith(".yaml")}
    there = {path.name for path in folder.glob("*.yaml")}
    assert named == there - {"kustomization.yaml"}


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "replica"), 1),
        (("spec", "template", "spec", "containers", 0, "imag"), "x"),
        (("spec", "template", "spec", "terminationGracePeriodSeconds"), "x"),
        (("spec", "selector"), GONE),
        (("spec", "template", "spec", "containers", 0, "resources", "limit"), {}),
    ],
)
def test_a_broken_manifest_is_refused(deployment, place, value):
    broken = copy.deepcopy(deployment)
    *way, last = place
    inner = broken
    for step in way:
        inner = inner[step]
    inner[last] = value
    if value is GONE:
        del inner[last]
    with pytest.raises(kubernetes_validate.ValidationError):
        valid(broken)


def test_everything_selects_the_pods(base, deployment):
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in of_kind(base, "Service")]
    (budget,) = of_kind(base, "PodDisruptionBudget")
    (policy,) = of_kind(base, "NetworkPolicy")
    selectors.append(budget["spec"]["selector"]["matchLabels"])
    selectors.append(policy["spec"]["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector and selector.items() <= labels
    (scaler,) = of_kind(base, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]


def test_a_service_selects_by_no_version(base):
    # A label that a new image changes would take the Service from the old pods.
    for service in of_kind(base, "Service"):
        assert "app.kubernetes.io/version" not in service["spec"]["selector"]


def test_ports_have_names_that_are_there(base, container):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    for service in of_kind(base, "Service"):
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    found = flags(container["args"])
    assert ports == {"grpc": int(found["port"]), "rest": int(found["rest_api_port"])}


def test_readiness_needs_a_version_and_liveness_does_not(container):
    assert container["readinessProbe"]["httpGet"]["path"].endswith("mmkeras/metadata")
    assert container["livenessProbe"]["httpGet"]["path"] == "/v1/models/mmkeras"


def test_no_request_is_lost_while_pods_change(deployment, container):
    update = deployment["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    longest_s = int(flags(container["args"])["rest_api_timeout_in_ms"]) / 1000
    assert command == "sleep" and longest_s + 5 <= int(seconds) <= grace - 10


def test_threads_are_as_many_as_cpus(container):
    found, limit = flags(container["args"]), container["resources"]["limits"]["cpu"]
    assert found["tensorflow_intra_op_parallelism"] == limit
    assert found["tensorflow_inter_op_parallelism"] == limit


def test_compose_and_kubernetes_run_the_same_server(container):
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["tf-serving"]
    ours, theirs = flags(container["args"]), flags(service["command"])
    assert service["image"] == container["image"]
    assert service["entrypoint"] == container["command"]
    del ours["grpc_channel_arguments"]  # there is one server only
    assert ours.keys() == theirs.keys()
    threads = {"tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"}
    for name in ours.keys() - threads:
        assert ours[name] == theirs[name]


def test_pods_are_as_the_restricted_standard_wants_them(base, deployment, container):
    (namespace,) = of_kind(base, "Namespace")
    enforced = namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"
    restricted(deployment["spec"]["template"]["spec"])


@pytest.mark.parametrize("folder", ["base", "overlays/gcs", "overlays/s3"])
def test_what_kustomize_makes_is_valid_and_refers_to_what_is_there(folder):
    found = kustomized(ROOT / folder)
    for document in found:
        valid(document)
        assert document["metadata"].get("namespace", "mmkeras") == "mmkeras"
    (deployment,) = of_kind(found, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    restricted(pod)
    maps = {d["metadata"]["name"]: d["data"] for d in of_kind(found, "ConfigMap")}
    claims = {d["metadata"]["name"] for d in of_kind(found, "PersistentVolumeClaim")}
    volumes = {volume.pop("name"): volume for volume in copy.deepcopy(pod["volumes"])}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    for volume in volumes.values():
        (source,) = volume.values()  # more than one is refused by the API alone
    named = {s["configMap"]["name"] for s in volumes["config"]["projected"]["sources"]}
    assert named <= set(maps)
    assert "mmkeras-models" in named  # without a hash: read again while it is mounted
    files = {name for each in named for name in maps[each]}
    assert files == {"models.config", "batching.config", "monitoring.config"}
    assert ("models" in volumes) != (folder == "overlays/gcs")
    assert claims == ({"mmkeras-models"} if folder == "base" else set())


def test_the_bucket_is_in_the_config_of_its_overlay():
    (models,) = [
        d["data"]["models.config"]
        for d in of_kind(kustomized(ROOT / "overlays/gcs"), "ConfigMap")
        if d["metadata"]["name"] == "mmkeras-models"
    ]
    assert 'base_path: "gs://BUCKET/mmkeras/serving/mmkeras"' in models


def test_versions_from_s3_land_where_the_server_looks():
    (deployment,) = of_kind(kustomized(ROOT / "overlays/s3"), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (sync,) = pod["initContainers"]
    environment = {e["name"]: e["value"] for e in sync["env"]}
    models = (DEPLOY / "config" / "models.config").read_text()
    assert f'base_path: "{environment["MODELS"]}"' in models
    writable = {m["mountPath"] for m in sync["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/models", "/tmp"}
    assert sync["restartPolicy"] == "Always"


def test_monitors_are_put_together():
    monitor, probe = (
        of_kind(kustomized(ROOT / "monitoring"), kind)[0]
        for kind in ("ServiceMonitor", "Probe")
    )
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == jobs["tf-serving"]["metrics_path"]
    assert probe["spec"]["jobName"] in jobs
    assert monitor["metadata"]["name"] in jobs  # that of the Service, and so the job


def test_the_monitor_finds_the_service_with_the_rest_port(base):
    (monitor,) = documents(ROOT / "monitoring" / "servicemonitor.yaml")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    found = [
        service
        for service in of_kind(base, "Service")
        if wanted <= service["metadata"].get("labels", {}).items()
    ]
    assert [service["metadata"]["name"] for service in found] == ["tf-serving"]
    ports = {port["name"] for port in found[0]["spec"]["ports"]}
    assert monitor["spec"]["endpoints"][0]["port"] in ports
