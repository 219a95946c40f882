"""Commands of docs/deploy.md and docs/kubeflow.md: their files and flags exist."""

import re

import pytest

from serving.deploy.release import ACTIONS
from tests.serving.deploy.files import DEPLOY

ROOT = DEPLOY.parents[1]
PAGES = {
    name: (ROOT / "docs" / name).read_text() for name in ("deploy.md", "kubeflow.md")
}


def commands(page):
    """Returns the commands in the code blocks of a page, one string each."""
    fences = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    blocks = [text for language, text in fences.findall(PAGES[page]) if not language]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ").split("#")[0].strip() for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_kustomizations_exist(page):
    folders = [c.split()[3] for c in commands(page) if "apply --kustomize" in c]
    assert folders
    for folder in folders:
        assert (ROOT / folder / "kustomization.yaml").is_file(), folder


@pytest.mark.parametrize("page", PAGES)
def test_no_port_is_open_on_all_addresses(page):
    assert commands(page)
    for command in commands(page):
        assert not re.search(r"(-p|--publish)[ =]\d+:", command), command
        assert "--address" not in command


def test_pods_are_called_in_a_way_that_the_network_policy_allows():
    # It allows mmkeras-client pods and the namespace "monitoring", but not the API
    # server, which makes the calls of its proxy.
    kubectl = [c for c in commands("deploy.md") if c.startswith("kubectl")]
    assert not any("/proxy/" in command for command in kubectl)
    assert any("port-forward pod/" in command for command in kubectl)


def test_releases_have_actions_and_flags_of_the_program():
    name = "python -m serving.deploy.release"
    releases = [c.split() for c in commands("deploy.md") if c.startswith(name)]
    assert releases
    for _, _, _, action, *words in releases:
        assert action in ACTIONS
        assert {w for w in words if w.startswith("-")} <= {"--target", "--config"}
