"""Checks of manifests for Kubernetes and KServe."""

import subprocess

import kubernetes_validate
import yaml

from tests.serving.deploy.files import find_program

VERSION = "1.32"


def check_schema(document):
    kubernetes_validate.validate(document, VERSION, strict=True)


def of_kind(documents, kind):
    return [document for document in documents if document["kind"] == kind]


def kustomize(folder):
    """Returns all documents of a folder, built by kustomize."""
    kubectl = find_program("kubectl", "whose kustomize builds the manifests")
    process = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, timeout=60
    )
    assert process.returncode == 0, process.stderr.decode()
    return list(yaml.safe_load_all(process.stdout))


def check_restricted(pod):
    """Checks the standard "restricted" of Kubernetes' Pod Security Standards."""
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = pod.get("securityContext", {}) | container.get("securityContext", {})
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] != 0  # the default of the images
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
