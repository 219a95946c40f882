from pathlib import Path
from types import SimpleNamespace

import pytest

from mmkeras.environment import extras, model_hub
from mmkeras.environment.model_hub import find_model
from mmkeras.errors import UserError

hub = pytest.importorskip("huggingface_hub")
NAME = "hf://owner/name"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Makes the snapshots of the hub; returns its requests."""
    requests = []

    def snapshot_download(local_files_only=False, **request):
        requests.append({"local": local_files_only, **request})
        if local_files_only and not any(tmp_path.iterdir()):
            raise hub.errors.LocalEntryNotFoundError("nothing")
        for name in ("config.json", "model.safetensors") * (not local_files_only):
            (tmp_path / name).touch()
        return str(tmp_path)

    files = {"model.safetensors": 91_000_000, "pytorch_model.bin": 92_000_000}
    siblings = [SimpleNamespace(rfilename=n, size=size) for n, size in files.items()]
    info = SimpleNamespace(siblings=siblings)
    monkeypatch.setattr(hub, "model_info", lambda *_, **__: info)
    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    return requests


def test_a_folder_is_found_as_it_is(tmp_path):
    assert find_model("text.weights", str(tmp_path)) == tmp_path
    with pytest.raises(UserError, match="^image.weights='gone' is no folder here"):
        find_model("image.weights", "gone")


def test_a_model_of_the_hub_is_fetched_once(cached, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(model_hub, "download_problem", lambda url, wait_s: "")
    for _ in range(2):
        assert find_model("text.weights", f"{NAME}@v1") == tmp_path
    assert [request["local"] for request in cached] == [True, False, True]
    messages = capsys.readouterr().out
    assert messages.startswith("Fetching hf://owner/name, 91 MB, once into ")
    assert "--text.weights DIR" in messages and messages.count("\n") == 1
    assert {(r["repo_id"], r["revision"]) for r in cached} == {("owner/name", "v1")}


def test_what_was_fetched_in_part_is_fetched_again(cached, tmp_path, monkeypatch):
    monkeypatch.setattr(model_hub, "download_problem", lambda url, wait_s: "")
    (tmp_path / "config.json").touch()
    find_model("text.weights", NAME)
    assert [request["local"] for request in cached] == [True, False]


def test_without_network_the_flag_for_a_folder_is_named(cached, monkeypatch):
    monkeypatch.setattr(model_hub, "download_problem", lambda url, wait_s: "no network")
    message = f"^text.weights='{NAME}' is not in the cache.*no network.*weights DIR"
    with pytest.raises(UserError, match=message):
        find_model("text.weights", NAME)
    assert [request["local"] for request in cached] == [True]


def test_a_folder_of_a_package_is_found_if_it_is_installed():
    folder = find_model("text.weights", "package://mmkeras/config")
    assert folder == Path(extras.__file__).parents[1] / "config"
    with pytest.raises(UserError, match="needs the Python package gone, which is not"):
        find_model("text.weights", "package://gone/model")


def test_a_hub_needs_its_package(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs huggingface_hub.*extra 'bert'"):
        find_model("text.weights", NAME)
