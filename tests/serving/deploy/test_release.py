"""Canary and rollback, against a server that has TF Serving's rule on labels."""

import subprocess
import sys
from types import SimpleNamespace

import grpc
import pytest

from mmkeras.errors import UserError
from serving.deploy import models_file, rollout
from serving.deploy.release import main, release
from serving.deploy.servers import Servers
from tests.serving.deploy.model_service import AVAILABLE, ModelService, running

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
    service = ModelService(there={1, 2, 3})
    service.states = {3: AVAILABLE}
    return service


@pytest.fixture
def target(service):
    with running(service) as target:
        yield target


def servers(*targets, **changes):
    return Servers(
        **{"targets": targets, "wait_s": 5.0, "poll_s": 0.01, "stale_s": 0.1} | changes
    )


def model_in(path):
    return models_file.find_model(models_file.read_models(path), "mmkeras")


def labels_in(path):
    return dict(model_in(path).version_labels)


def available(service):
    return {version for version, state in service.states.items() if state == AVAILABLE}


def test_canary_and_rollback_are_one_command_each(path, service, target, capsys):
    options = ["--config", str(path), "--target", target, "--wait-s", "5"]
    main(["stable", "2", *options])
    pinned = path.read_text()
    main(["canary", "3", *options])
    assert service.labels == labels_in(path) == {"stable": 2, "canary": 3}
    assert available(service) == {2, 3}
    main(["rollback", *options])
    assert service.labels == {"stable": 2}
    assert available(service) == {2}
    assert path.read_text() == pinned
    said = capsys.readouterr().out.splitlines()
    both = "versions served: 2, 3"
    assert said[-4:] == [
        f"mmkeras: stable 2; {both} (file, {target}).",
        f"mmkeras: stable 2, canary 3; {both} (file, {target}).",
        "Requests that name no label go to version 3, the newest.",
        f"mmkeras: stable 2; versions served: 2 (file, {target}).",
    ]


def test_a_version_is_labelled_only_after_it_is_available(path, service, target):
    service.looks = 3
    release(path, "mmkeras", "stable", 2, servers(target))
    first, second = (c.model_config_list.config[0] for c in service.configs)
    assert rollout.versions(first) == rollout.versions(second) == [2]
    assert dict(first.version_labels) == {}
    assert dict(second.version_labels) == {"stable": 2}


def test_the_server_of_these_tests_refuses_an_early_label(path, service, target):
    config = models_file.read_models(path)
    models_file.find_model(config, "mmkeras").version_labels["stable"] = 2
    with pytest.raises(UserError, match="FAILED_PRECONDITION: Request to assign label"):
        servers(target).reload(config)


def test_a_promoted_version_leaves_the_old_one_loaded(path, service, target):
    for action, version in (("stable", 2), ("canary", 3), ("stable", 3)):
        release(path, "mmkeras", action, version, servers(target))
    assert service.labels == {"stable": 3}
    assert available(service) == {2, 3}
    release(path, "mmkeras", "rollback", None, servers(target))
    assert service.labels == {"stable": 2, "canary": 3}
    release(path, "mmkeras", "rollback", None, servers(target))
    assert service.labels == {"stable": 2}


def test_a_rollback_loads_what_was_let_go_before_it_is_labelled(path, service, target):
    for action, version in (("stable", 1), ("stable", 2), ("canary", 3)):
        release(path, "mmkeras", action, version, servers(target))
    assert available(service) == {2, 3}  # 1 was kept while 2 was new
    for _ in range(2):
        release(path, "mmkeras", "rollback", None, servers(target))
    assert service.labels == {"stable": 1}
    assert available(service) == {1}


def test_rolling_back_everything_ends_where_it_began(path, service, target):
    release(path, "mmkeras", "stable", 2, servers(target))
    release(path, "mmkeras", "canary", 3, servers(target))
    release(path, "mmkeras", "rollback", None, servers(target))
    release(path, "mmkeras", "rollback", None, servers(target))
    assert model_in(path).model_version_policy.latest.num_versions == 1
    assert labels_in(path) == service.labels == {}
    with pytest.raises(UserError, match="nothing to roll back to"):
        release(path, "mmkeras", "rollback", None, servers(target))


@pytest.mark.parametrize("loss", ["broken", "not there", "late"])
def test_a_version_that_does_not_load_changes_nothing(path, service, target, loss):
    release(path, "mmkeras", "stable", 2, servers(target))
    before, kept = path.read_text(), models_file.list_backups(path)
    service.broken = {3: "no variables"} if loss == "broken" else {}
    version = 7 if loss == "not there" else 3
    service.looks = 10_000 if loss == "late" else 0
    found = servers(target, wait_s=0.3 if loss == "late" else 5.0, find_s=0.2)
    with pytest.raises(UserError) as caught:
        release(path, "mmkeras", "canary", version, found)
    service.looks = 0
    reason = {
        "broken": f"{target}: version 3 of 'mmkeras' does not load: no variables",
        "not there": "No server has found version 7 of 'mmkeras' after 0.2 s; is it",
        "late": f"Not AVAILABLE after 0.3 s: {target}: version 3 (START) of 'mmkeras'.",
    }
    assert str(caught.value).startswith(reason[loss])
    assert "All is as it was." in str(caught.value)
    assert path.read_text() == before
    assert models_file.list_backups(path) == kept
    assert service.configs[-1] == models_file.read_models(path)
    assert service.labels == {"stable": 2}
    assert available(service) == {2}


def test_an_interrupted_wait_changes_nothing(
    path, service, target, monkeypatch, capsys
):
    release(path, "mmkeras", "stable", 2, servers(target))
    before, kept = path.read_text(), models_file.list_backups(path)

    def interrupt(seconds):
        assert path.read_text() != before
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        release(path, "mmkeras", "canary", 7, servers(target))
    assert path.read_text() == before
    assert models_file.list_backups(path) == kept
    assert service.configs[-1] == models_file.read_models(path)
    assert capsys.readouterr().err == "All is as it was.\n"


def test_a_long_wait_says_now_and_again_what_for(path, target, monkeypatch, capsys):
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


def test_a_version_that_one_server_has_found_is_waited_for(path, service, target):
    late = ModelService(there={1})  # as a pod that copies it first
    with running(late) as other:
        found = servers(other, target, wait_s=0.4, find_s=0.1)
        with pytest.raises(UserError, match=r"after 0.4 s: .*version 2 \(not found\)"):
            release(path, "mmkeras", "stable", 2, found)


class Dying(ModelService):
    """Takes one config, and is not there from then on."""

    def HandleReloadConfigRequest(self, request, context):
        if self.configs:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return super().HandleReloadConfigRequest(request, context)

    def GetModelStatus(self, request, context):
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")


def test_a_dead_server_keeps_no_other_from_what_it_was(path, service, target):
    text = path.read_text()
    with running(Dying(there={2})) as dead, pytest.raises(UserError) as caught:
        release(path, "mmkeras", "stable", 2, servers(dead, target))
    assert len(service.configs) == 2
    assert service.configs[-1] == models_file.read_models(path)
    assert path.read_text() == text
    _, _, named = str(caught.value).partition("servers that may have the new config")
    assert dead in named and target not in named


def test_all_servers_have_a_version_before_one_labels_it(path, service, target):
    slow = ModelService(there={2}, looks=5)
    with running(slow) as other:
        release(path, "mmkeras", "stable", 2, servers(target, other))
    assert service.labels == slow.labels == {"stable": 2}
    assert slow.looks == 0


def test_without_a_server_the_same_command_is_given_twice(path, capsys):
    release(path, "mmkeras", "stable", 2, servers())
    assert labels_in(path) == {}
    assert "run this command again" in capsys.readouterr().out
    release(path, "mmkeras", "stable", 2, servers())
    assert labels_in(path) == {"stable": 2}
    assert "again" not in capsys.readouterr().out
    release(path, "mmkeras", "stable", 2, servers())
    assert "Nothing to change" in capsys.readouterr().out
    for _ in range(2):
        release(path, "mmkeras", "canary", 3, servers())
    assert labels_in(path) == {"stable": 2, "canary": 3}
    release(path, "mmkeras", "rollback", None, servers())
    assert labels_in(path) == {"stable": 2}
    assert rollout.versions(model_in(path)) == [2]


def test_comments_at_the_top_and_other_models_stay(path, service):
    other = 'config { name: "other" base_path: "/o" model_platform: "tensorflow" }'
    text = LATEST.rstrip()[:-1] + other + "\n}\n"
    path.write_text(text)
    release(path, "mmkeras", "stable", 2, servers())
    assert path.read_text().startswith("# Kept at the top.\nmodel_config_list {")
    config = models_file.read_models(path)
    assert models_file.find_model(config, "other").base_path == "/o"


def test_the_rollback_of_one_model_leaves_the_changes_of_another(path):
    text = path.read_text().rstrip()[:-1]
    other = text[text.index("config {") :].replace('"mmkeras"', '"other"')
    path.write_text(f"{text}{other}}}\n")
    for name in ("mmkeras", "other"):
        for _ in range(2):
            release(path, name, "stable", 2, servers())
    for name in ("mmkeras", "other"):
        release(path, name, "rollback", None, servers())
        model = models_file.find_model(models_file.read_models(path), name)
        assert not model.version_labels
    assert models_file.list_backups(path) == []


def test_no_more_than_ten_changes_are_kept_and_the_numbers_go_on(path):
    for number in range(1, 13):
        models_file.back_up(path, f"{number}")
    kept = models_file.list_backups(path)
    assert [file.read_text() for file in kept] == [str(n) for n in range(3, 13)]
    assert kept[-1].name == "models.config.12"


def test_a_file_is_replaced_and_never_half_written(path, monkeypatch):
    inode, names = path.stat().st_ino, list(path.parent.iterdir())
    monkeypatch.setattr("os.fsync", lambda handle: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        models_file.write_whole(path, "half")
    assert path.read_text() == LATEST
    assert list(path.parent.iterdir()) == names
    monkeypatch.undo()
    models_file.write_whole(path, "whole")
    assert path.read_text() == "whole"
    assert path.stat().st_ino != inode


def test_status_shows_the_file_and_each_server(path, service, target, capsys):
    main(["status", "--config", str(path), "--target", target])
    assert capsys.readouterr().out.splitlines() == [
        "mmkeras: no labels; versions served: the latest 1 (file).",
        f"{target}: 3 AVAILABLE.",
    ]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["canery", "3"], "There is no action 'canery'. Did you mean 'canary'?"),
        (["canary"], "'canary' needs a VERSION."),
        (["rollback", "3"], "'rollback' takes no VERSION."),
        (["stable", "0"], "A version is a number above 0, received 0."),
        (["canary", "3"], "No version of 'mmkeras' is labelled 'stable'; name the"),
        (["rollback"], "There is nothing to roll back to beside "),
        (["stable", "2", "--model", "mmkera"], "There is no model 'mmkera'. Did you"),
        (["stable", "2", "--config", "/none"], "The file '/none' cannot be read: "),
        (["status", "--target", "127.0.0.1:1"], "127.0.0.1:1 answers UNAVAILABLE: "),
        (["status", "--target", "a:1", "--ca", "/none"], "--ca '/none' cannot be read"),
    ],
)
def test_a_users_mistake_is_one_line(path, argv, said):
    with pytest.raises(UserError) as caught:
        main(["--config", str(path), *argv])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert path.read_text() == LATEST


def test_the_stable_version_cannot_be_its_own_canary(path):
    for _ in range(2):
        release(path, "mmkeras", "stable", 2, servers())
    with pytest.raises(UserError, match="Version 2 of 'mmkeras' is stable already."):
        release(path, "mmkeras", "canary", 2, servers())


@pytest.mark.parametrize("text", ["model_config_list { name: 3 }", "", "\xff"])
def test_a_file_that_lists_no_models_is_said(path, text):
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="^The file '.*models.config'"):
        main(["status", "--config", str(path)])


def test_help_needs_no_tensorflow():
    code = (
        "import sys\n"
        "from serving.deploy.release import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('tensorflow', 'grpc') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "--target HOST:PORT" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
