"""Manifests of Kubernetes: strict schemas, references, probes, and kustomizations."""

import copy

import pytest
import yaml

from tests.serving.deploy.files import DEPLOY, documents, flags
from tests.serving.deploy.manifests import (
    check_restricted,
    check_schema,
    kustomize,
    of_kind,
)

ROOT = DEPLOY / "kubernetes"
FOLDERS = (ROOT / "namespace", ROOT / "base")


def manifests_of(folder):
    paths = sorted(folder.glob("*.yaml"))
    return [path for path in paths if path.stem != "kustomization"]


FILES = [path for folder in FOLDERS for path in manifests_of(folder)]


@pytest.fixture(scope="module")
def base():
    return [document for path in FILES for document in documents(path)]


@pytest.fixture(scope="module")
def deployment(base):
    (document,) = of_kind(base, "Deployment")
    return document


@pytest.fixture(scope="module")
def container(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_manifests_have_known_fields(path):
    for document in documents(path):
        check_schema(document)


@pytest.mark.parametrize(
    "folder", [*FOLDERS, DEPLOY / "kserve"], ids=lambda path: path.name
)
def test_every_file_is_in_the_kustomization(folder):
    (kustomization,) = documents(folder / "kustomization.yaml")
    names = {name for name in kustomization["resources"] if name.endswith(".yaml")}
    assert names == {path.name for path in manifests_of(folder)}


def test_all_selectors_match_the_pods(base, deployment):
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [service["spec"]["selector"] for service in of_kind(base, "Service")]
    # A version would change with a new image and cut off the old pods.
    assert not any("app.kubernetes.io/version" in selector for selector in selectors)
    (budget,) = of_kind(base, "PodDisruptionBudget")
    (policy,) = of_kind(base, "NetworkPolicy")
    selectors += [d["spec"]["selector"]["matchLabels"] for d in (deployment, budget)]
    for selector in (*selectors, policy["spec"]["podSelector"]["matchLabels"]):
        assert selector and selector.items() <= labels
    (scaler,) = of_kind(base, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]


def test_ports_are_named_alike(base, container):
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    for service in of_kind(base, "Service"):
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]
    values = flags(container["args"])
    assert ports == {"grpc": int(values["port"]), "rest": int(values["rest_api_port"])}


def test_readiness_needs_a_version_and_liveness_does_not(container):
    assert container["readinessProbe"]["httpGet"]["path"].endswith("mmkeras/metadata")
    assert container["livenessProbe"]["httpGet"]["path"] == "/v1/models/mmkeras"


def test_pods_end_after_their_requests(deployment, container):
    update = deployment["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    longest_s = int(flags(container["args"])["rest_api_timeout_in_ms"]) / 1000
    assert command == "sleep" and longest_s + 5 <= int(seconds) <= grace - 10


def test_threads_are_as_many_as_cpus(container):
    values, limit = flags(container["args"]), container["resources"]["limits"]["cpu"]
    assert values["tensorflow_intra_op_parallelism"] == limit
    assert values["tensorflow_inter_op_parallelism"] == limit


def test_compose_and_kubernetes_run_the_same_server(container):
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service = compose["services"]["tf-serving"]
    values, others = flags(container["args"]), flags(service["command"])
    assert service["image"] == container["image"]
    assert service["entrypoint"] == container["command"]
    del values["grpc_channel_arguments"]  # compose has one server
    assert values.keys() == others.keys()
    threads = {"tensorflow_intra_op_parallelism", "tensorflow_inter_op_parallelism"}
    for name in values.keys() - threads:
        assert values[name] == others[name]


@pytest.mark.parametrize("folder", ["base", "overlays/gcs", "overlays/s3"])
def test_kustomizations_are_valid_and_complete(folder):
    built = kustomize(ROOT / folder)
    for document in built:
        check_schema(document)
        assert document["metadata"].get("namespace", "mmkeras") == "mmkeras"
    (deployment,) = of_kind(built, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    check_restricted(pod)
    maps = {d["metadata"]["name"]: d["data"] for d in of_kind(built, "ConfigMap")}
    claims = {d["metadata"]["name"] for d in of_kind(built, "PersistentVolumeClaim")}
    volumes = {volume.pop("name"): volume for volume in copy.deepcopy(pod["volumes"])}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    for volume in volumes.values():
        (source,) = volume.values()  # more than one is refused by the API alone
    names = {s["configMap"]["name"] for s in volumes["config"]["projected"]["sources"]}
    assert names <= set(maps)
    assert "mmkeras-models" in names  # without a hash: the server polls it
    files = {file for name in names for file in maps[name]}
    assert files == {"models.config", "batching.config", "monitoring.config"}
    assert ("models" in volumes) != (folder == "overlays/gcs")
    bucket = 'base_path: "gs://BUCKET/mmkeras/serving/mmkeras"'
    models = maps["mmkeras-models"]["models.config"]
    assert (bucket in models) == (folder == "overlays/gcs")
    assert claims == ({"mmkeras-models"} if folder == "base" else set())


def test_versions_from_s3_are_copied_to_the_base_path():
    (deployment,) = of_kind(kustomize(ROOT / "overlays/s3"), "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    (sync,) = pod["initContainers"]
    environment = {e["name"]: e["value"] for e in sync["env"]}
    models = (DEPLOY / "config" / "models.config").read_text()
    assert f'base_path: "{environment["MODELS"]}"' in models
    writable = {m["mountPath"] for m in sync["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/models", "/tmp"}
    assert sync["restartPolicy"] == "Always"


def test_monitors_match_the_jobs_of_prometheus():
    monitor, probe = (
        of_kind(kustomize(ROOT / "monitoring"), kind)[0]
        for kind in ("ServiceMonitor", "Probe")
    )
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["path"] == jobs["tf-serving"]["metrics_path"]
    assert probe["spec"]["jobName"] in jobs
    assert monitor["metadata"]["name"] in jobs  # name of the Service, and so of the job


def test_the_monitor_selects_the_service_with_the_rest_port(base):
    (monitor,) = documents(ROOT / "monitoring" / "servicemonitor.yaml")
    selector = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [
        service
        for service in of_kind(base, "Service")
        if selector <= service["metadata"].get("labels", {}).items()
    ]
    assert service["metadata"]["name"] == "tf-serving"
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert monitor["spec"]["endpoints"][0]["port"] in ports
