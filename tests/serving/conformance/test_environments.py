import subprocess
import sys

import pytest

from tests.serving.conformance import environments
from tests.serving.conformance.environments import Unavailable, made


def test_an_environment_is_made_once_and_anew_when_its_pins_change(tmp_path):
    calls = []

    def make(folder):
        assert list(folder.iterdir()) == []
        (folder / "package").write_text(f"made {len(calls)}")
        calls.append(folder)

    first = made("client", "a==1", make, tmp_path)
    assert made("client", "a==1", make, tmp_path) == first
    assert (first / "package").read_text() == "made 0"
    second = made("client", "a==2", make, tmp_path)
    assert (second / "package").read_text() == "made 1"
    assert sorted(tmp_path.iterdir()) == sorted([first, second])


def test_what_was_left_unfinished_is_no_environment(tmp_path):
    def fail(folder):
        (folder / "half").touch()
        raise Unavailable("no network")

    with pytest.raises(Unavailable):
        made("client", "a==1", fail, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_of_two_that_make_the_same_the_first_one_stays(tmp_path):
    def make(folder):
        if not list(tmp_path.glob("client-*")):
            made("client", "a==1", make_first, tmp_path)
        (folder / "package").write_text("second")

    def make_first(folder):
        (folder / "package").write_text("first")

    assert (made("client", "a==1", make, tmp_path) / "package").read_text() == "first"


def test_without_the_registries_one_line_says_what_failed(tmp_path, monkeypatch):
    def refuse(command, **kwargs):
        text = "error: failed to fetch:\n  dns error\n"
        return subprocess.CompletedProcess(command, 2, stdout="", stderr=text)

    monkeypatch.setattr(environments.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(environments.subprocess, "run", refuse)
    with pytest.raises(Unavailable) as caught:
        environments.python_with("ovmsclient", tmp_path)
    assert str(caught.value).endswith("uv venv: error: failed to fetch: dns error")
    assert "-m 'not e2e'" in str(caught.value)


def test_a_program_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(environments.shutil, "which", lambda name: None)
    with pytest.raises(Unavailable, match="There is no program 'npm'"):
        environments.node_modules(tmp_path)


@pytest.mark.e2e
def test_a_client_has_its_own_packages_and_not_this_repository():
    try:
        python = environments.python_with("ovmsclient")
    except Unavailable as error:
        pytest.fail(str(error), pytrace=False)
    code = "import google.protobuf as p, sys; print(p.__version__, *sys.path)"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True)
    version, *paths = done.stdout.split()
    assert version == "5.29.5"  # that of the tests is 3.20.3
    ours = (sys.prefix, str(environments.ROOT))
    assert [p for p in paths if p in ours or p.startswith(sys.prefix)] == []
