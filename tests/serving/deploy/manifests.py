"""What the manifests of Kubernetes and of KServe are both held to."""

import subprocess

import kubernetes_validate
import yaml

from tests.serving.deploy.files import program

VERSION = "1.32"


def valid(document):
    kubernetes_validate.validate(document, VERSION, strict=True)


def of_kind(found, kind):
    return [document for document in found if document["kind"] == kind]


def kustomized(folder):
    """All documents of a folder as kustomize puts them together."""
    kubectl = program("kubectl", "whose kustomize puts the manifests together")
    done = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    return list(yaml.safe_load_all(done.stdout))


def restricted(pod):
    """Source: Pod Security Standards of Kubernetes; a container's word is the last."""
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        context = pod.get("securityContext", {}) | container.get("securityContext", {})
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] != 0  # that of the images is, where none is named
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
