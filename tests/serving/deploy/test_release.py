"""Canaries and rollbacks, against a fake server with TF Serving's rule for labels."""

from functools import partial
from types import SimpleNamespace

import grpc
import pytest

from mmkeras.errors import UserError
from serving.deploy import models_file, rollout
from serving.deploy.release import main, release
from serving.deploy.servers import Servers
from tests.serving.deploy.model_service import AVAILABLE, ModelService, serve

LATEST = """# Kept at the top.
model_config_list {
  config {
    name: "mmkeras" base_path: "/models/mmkeras" model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 1 } }
  }
}
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "models.config"
    path.write_text(LATEST)
    return path


@pytest.fixture
def service():
    """Server of versions 1 to 3, where 3 is loaded."""
    service = ModelService(versions={1, 2, 3})
    service.states = {3: AVAILABLE}
    return service


@pytest.fixture
def target(service):
    with serve(service) as target:
        yield target


def servers(*targets, **changes):
    settings = {"wait_s": 5.0, "poll_s": 0.01, "stale_s": 0.1}
    return Servers(targets=targets, **settings | changes)


@pytest.fixture
def run(path, target):
    """run(action, version) changes the file and the server."""
    return lambda action, version=None, targets=(target,): release(
        path, "mmkeras", action, version, servers(*targets)
    )


def read_model(path, name="mmkeras"):
    return models_file.find_model(models_file.read_models(path), name)


def read_labels(path):
    return dict(read_model(path).version_labels)


def state_of(path):
    return path.read_text(), models_file.list_backups(path)


def loaded_versions(service):
    return {version for version, state in service.states.items() if state == AVAILABLE}


def test_canary_and_rollback_are_one_command_each(path, service, target, capsys):
    options = ["--config", str(path), "--target", target, "--wait-s", "5"]
    main(["stable", "2", *options])
    before = path.read_text()
    path.chmod(0o640)
    with path.open() as old:
        main(["canary", "3", *options])
        assert old.read() == before  # the new file has another inode
    assert path.stat().st_mode & 0o777 == 0o640
    assert service.labels == read_labels(path) == {"stable": 2, "canary": 3}
    assert loaded_versions(service) == {2, 3}
    main(["rollback", *options])
    assert service.labels == {"stable": 2} and loaded_versions(service) == {2}
    assert path.read_text() == before
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert lines[1].startswith("mmkeras: stable 2, canary 3; versions served: 2, 3 (")
    assert lines[2].endswith("version 3, the newest.")
    assert lines[3] == f"mmkeras: stable 2; versions served: 2 (file, {target})."


def test_a_version_is_labeled_after_it_is_available(run, service):
    service.lookups = 3
    run("stable", 2)
    first, second = (c.model_config_list.config[0] for c in service.configs)
    assert rollout.versions(first) == rollout.versions(second) == [2]
    assert dict(first.version_labels) == {}
    assert dict(second.version_labels) == {"stable": 2}


def test_a_promoted_version_leaves_the_old_one_loaded_for_a_rollback(run, service):
    for action, version in (("stable", 1), ("stable", 2), ("canary", 3), ("stable", 3)):
        run(action, version)
    assert service.labels == {"stable": 3} and loaded_versions(service) == {2, 3}
    for labels in ({"stable": 2, "canary": 3}, {"stable": 2}, {"stable": 1}):
        run("rollback")
        assert service.labels == labels
    assert loaded_versions(service) == {1}  # which was unloaded before


def test_all_changes_can_be_rolled_back(path, run, service):
    run("stable", 2)
    run("canary", 3)
    run("rollback")
    run("rollback")
    assert read_model(path).model_version_policy.latest.num_versions == 1
    assert read_labels(path) == service.labels == {}
    with pytest.raises(UserError, match="no backup"):
        run("rollback")


@pytest.mark.parametrize(
    ("version", "cause", "message"),
    [
        (3, {"broken": {3: "no variables"}}, "version 3 of 'mmkeras' does not load: n"),
        (7, {}, "No server has found version 7 of 'mmkeras' after 0.2 s"),
        (3, {"lookups": 10_000}, "Not AVAILABLE after 0.3 s: .*version 3 \\(START\\)"),
    ],
)
def test_a_version_that_does_not_load_changes_nothing(
    path, run, service, target, version, cause, message
):
    run("stable", 2)
    before = state_of(path)
    vars(service).update(cause)
    limits = {"wait_s": 0.3 if "lookups" in cause else 5.0, "find_s": 0.2}
    with pytest.raises(UserError, match=message) as error:
        release(path, "mmkeras", "canary", version, servers(target, **limits))
    service.lookups = 0
    assert "All is as it was." in str(error.value)
    assert state_of(path) == before
    assert service.configs[-1] == models_file.read_models(path)
    assert service.labels == {"stable": 2} and loaded_versions(service) == {2}


def test_an_interrupted_wait_changes_nothing(path, run, service, monkeypatch, capsys):
    run("stable", 2)
    before = state_of(path)

    def interrupt(seconds):
        assert state_of(path) != before
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("canary", 7)
    assert state_of(path) == before
    assert service.configs[-1] == models_file.read_models(path)
    assert capsys.readouterr().err == "All is as it was.\n"


def test_a_long_wait_prints_progress(path, target, monkeypatch, capsys):
    now_s = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: now_s[0],
        sleep=lambda seconds: now_s.append(now_s.pop() + seconds),
    )
    monkeypatch.setattr("serving.deploy.servers.time", clock)
    with pytest.raises(UserError, match="No server has found version 7 .* after 30 s"):
        release(path, "mmkeras", "stable", 7, Servers(targets=[target], poll_s=1.0))
    assert now_s == [31.0]
    line = f"{target}: waiting for version 7 (not found) ..."
    assert capsys.readouterr().out.splitlines() == [line, line]  # after 4 and 20 s


def test_a_version_that_one_server_has_found_is_waited_for(path, target):
    late = ModelService(versions={1})  # a pod that still copies the version
    with serve(late) as other:
        limits = {"wait_s": 0.4, "find_s": 0.1}
        with pytest.raises(UserError, match=r"after 0.4 s: .*version 2 \(not found\)"):
            release(path, "mmkeras", "stable", 2, servers(other, target, **limits))


class FailingService(ModelService):
    """Takes one config, then fails."""

    def HandleReloadConfigRequest(self, request, context):
        if self.configs:
            context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        return super().HandleReloadConfigRequest(request, context)

    def GetModelStatus(self, request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "down")


def test_other_servers_are_restored_if_one_is_down(path, service, target):
    with serve(FailingService(versions={2})) as down, pytest.raises(UserError) as error:
        release(path, "mmkeras", "stable", 2, servers(down, target))
    assert len(service.configs) == 2
    assert service.configs[-1] == models_file.read_models(path)
    assert path.read_text() == LATEST
    _, _, names = str(error.value).partition("servers that may have the new config")
    assert down in names and target not in names


def test_all_servers_have_a_version_before_one_labels_it(path, service, target):
    slow = ModelService(versions={2}, lookups=5)
    with serve(slow) as other:
        release(path, "mmkeras", "stable", 2, servers(target, other))
    assert service.labels == slow.labels == {"stable": 2}
    assert slow.lookups == 0


def test_without_a_server_the_same_command_is_needed_twice(path, run, capsys):
    run_file = partial(run, targets=())
    run_file("stable", 2)
    assert read_labels(path) == {}
    assert "run this command again" in capsys.readouterr().out
    run_file("stable", 2)
    assert read_labels(path) == {"stable": 2}
    assert "again" not in capsys.readouterr().out
    run_file("stable", 2)
    assert "Nothing to change" in capsys.readouterr().out
    with pytest.raises(UserError, match="Version 2 of 'mmkeras' is stable already."):
        run_file("canary", 2)
    for _ in range(2):
        run_file("canary", 3)
    assert read_labels(path) == {"stable": 2, "canary": 3}
    run_file("rollback")
    assert read_labels(path) == {"stable": 2}
    assert rollout.versions(read_model(path)) == [2]


def test_other_models_and_comments_at_the_top_stay(path):
    text = LATEST.rstrip()[:-1]
    config = text[text.index("config {") :]
    path.write_text(f"{text}{config.replace('mmkeras', 'other')}}}\n")
    for name in ("mmkeras", "other"):
        for _ in range(2):
            release(path, name, "stable", 2, servers())
    assert path.read_text().startswith("# Kept at the top.\nmodel_config_list {")
    release(path, "mmkeras", "rollback", None, servers())
    assert not read_model(path).version_labels
    other = read_model(path, "other")
    assert other.version_labels["stable"] == 2 and other.base_path == "/models/other"
    release(path, "other", "rollback", None, servers())
    assert not read_model(path, "other").version_labels
    assert models_file.list_backups(path) == []


def test_ten_backups_are_kept(path):
    for number in range(1, 13):
        models_file.back_up(path, f"{number}")
    backups = models_file.list_backups(path)
    assert [backup.read_text() for backup in backups] == [str(n) for n in range(3, 13)]
    assert backups[-1].name == "models.config.12"


def test_a_file_with_a_name_like_a_pattern_has_backups_too(tmp_path):
    backup = models_file.back_up(tmp_path / "models[1].config", "text")
    assert models_file.list_backups(tmp_path / "models[1].config") == [backup]
    assert models_file.list_backups(tmp_path / "models*.config") == []


def test_status_prints_the_file_and_each_server(path, target, capsys):
    main(["status", "--config", str(path), "--target", target])
    assert capsys.readouterr().out.splitlines() == [
        "mmkeras: no labels; versions served: the latest 1 (file).",
        f"{target}: 3 AVAILABLE.",
    ]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["canery", "3"], "action 'canery'. Did you mean 'canary'?"),
        (["canary"], "'canary' needs a VERSION."),
        (["rollback", "3"], "'rollback' takes no VERSION."),
        (["stable", "0"], "above 0, received 0."),
        (["canary", "3"], "'stable VERSION'"),
        (["rollback"], "no backup of "),
        (["stable", "2", "--model", "mmkera"], "model 'mmkera'. Did you"),
        (["stable", "2", "--config", "/none"], "'/none' cannot be read: "),
        (["status", "--target", "127.0.0.1:1"], "127.0.0.1:1 returned UNAVAILABLE: "),
        (["status", "--target", "a:1", "--ca", "/none"], "--ca '/none' cannot be read"),
    ],
)
def test_a_mistake_of_the_user_is_one_line(path, argv, message):
    with pytest.raises(UserError) as error:
        main(["--config", str(path), *argv])
    assert message in str(error.value) and "\n" not in str(error.value)
    assert path.read_text() == LATEST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list { name: 3 }", ": Error parsing text-format"),
        ("", " lists no models"),
        ("\xff", " is not text in UTF-8"),
    ],
)
def test_a_file_without_models_is_named(path, text, message):
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"file.* '.*models.config'{message}"):
        main(["status", "--config", str(path)])
