"""What the pages tell people to type, by what is there."""

import re

import pytest

from serving.deploy.release import ACTIONS
from tests.serving.deploy.files import DEPLOY

ROOT = DEPLOY.parents[1]
PAGES = {
    name: (ROOT / "docs" / name).read_text() for name in ("deploy.md", "kubeflow.md")
}


def commands(page):
    """Lines of a page's blocks, each whole."""
    fences = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    blocks = fences.findall(PAGES[page])
    lines = (
        "".join(text for language, text in blocks if not language)
        .replace("\\\n", " ")
        .splitlines()
    )
    return [line.removeprefix("$ ").split("#")[0].strip() for line in lines]


@pytest.mark.parametrize("page", PAGES)
def test_what_is_applied_is_there(page):
    folders = [c.split()[3] for c in commands(page) if "apply --kustomize" in c]
    assert folders
    for folder in folders:
        assert (ROOT / folder / "kustomization.yaml").is_file(), folder


@pytest.mark.parametrize("page", PAGES)
def test_no_port_is_opened_to_all(page):
    for command in commands(page):
        assert not re.search(r"(-p|--publish)[ =]\d+:", command), command
        assert "--address" not in command


def test_pods_are_asked_by_a_way_that_the_network_policy_admits():
    # Only mmkeras-client pods and the namespace "monitoring", and neither is the API
    # server, which makes the calls of its proxy itself.
    found = [c for c in commands("deploy.md") if c.startswith("kubectl")]
    assert not any("/proxy/" in command for command in found)
    assert any("port-forward pod/" in command for command in found)


def test_the_fifth_step_of_kubeflow_tells_no_story_of_its_own():
    step = PAGES["kubeflow.md"].partition("## 5.")[2].partition("\n## ")[0]
    assert "(deploy.md#kubernetes)" in step
    assert "docker" not in step and "again until" not in step


def test_releases_are_spelled_as_the_program_takes_them():
    name = "python -m serving.deploy.release"
    found = [c.split() for c in commands("deploy.md") if c.startswith(name)]
    assert found
    for _, _, _, action, *others in found:
        assert action in ACTIONS
        assert {o for o in others if o.startswith("-")} <= {"--target", "--config"}
