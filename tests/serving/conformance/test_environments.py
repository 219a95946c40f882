"""Environments are created once, completely or not at all."""

import subprocess
import sys

import pytest

from tests.serving.conformance import environments
from tests.serving.conformance.environments import UnavailableError, create_once


def test_an_environment_is_created_once_for_its_pins(tmp_path):
    calls = []

    def create(folder):
        assert list(folder.iterdir()) == []
        (folder / "package").write_text(f"number {len(calls)}")
        calls.append(folder)

    first = create_once("client", "a==1", create, tmp_path)
    assert create_once("client", "a==1", create, tmp_path) == first
    assert (first / "package").read_text() == "number 0"
    second = create_once("client", "a==2", create, tmp_path)
    assert (second / "package").read_text() == "number 1"
    assert sorted(tmp_path.iterdir()) == sorted([first, second])


def test_an_incomplete_environment_is_removed(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise UnavailableError("no network")

    with pytest.raises(UnavailableError):
        create_once("client", "a==1", fail, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_concurrent_environments_is_kept(tmp_path):
    def create(folder):
        if not list(tmp_path.glob("client-*")):
            create_once("client", "a==1", create_first, tmp_path)
        (folder / "package").write_text("second")

    def create_first(folder):
        (folder / "package").write_text("first")

    assert (
        create_once("client", "a==1", create, tmp_path) / "package"
    ).read_text() == "first"


def test_a_failed_installation_is_one_line(tmp_path, monkeypatch):
    def refuse(command, **kwargs):
        text = "error: failed to fetch:\n  dns error\n"
        return subprocess.CompletedProcess(command, 2, stdout="", stderr=text)

    monkeypatch.setattr(environments.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(environments.subprocess, "run", refuse)
    with pytest.raises(UnavailableError) as caught:
        environments.python_with("ovmsclient", tmp_path)
    assert str(caught.value).endswith("uv venv: error: failed to fetch: dns error")
    assert "-m 'not slow'" in str(caught.value)


def test_a_missing_program_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    with pytest.raises(UnavailableError, match="There is no program 'npm'"):
        environments.node_modules(tmp_path)


@pytest.mark.e2e
@pytest.mark.slow
def test_a_client_cannot_import_this_repository():
    try:
        python = environments.python_with("ovmsclient")
    except UnavailableError as error:
        pytest.fail(str(error), pytrace=False)
    code = "import google.protobuf as p, sys; print(p.__version__, *sys.path)"
    process = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    version, *paths = process.stdout.split()
    assert version == "5.29.5"  # that of the tests is 3.20.3
    ours = (sys.prefix, str(environments.ROOT))
    assert [p for p in paths if p in ours or p.startswith(sys.prefix)] == []
