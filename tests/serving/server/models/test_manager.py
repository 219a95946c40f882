"""Tests of the manager with real folders and fake servables."""

import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import SimpleNamespace

import pytest
from google.protobuf import text_format
from grpc import StatusCode
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server.deadline import Deadline
from serving.server.errors import failed_precondition
from serving.server.models import manager as manager_module
from serving.server.models.lifecycle import AVAILABLE, END, LOADING, UNLOADING
from serving.server.models.manager import Manager
from tests.serving.server.assertions import WAIT_S, serving_error, wait_until

NOT_FOUND, INVALID = StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT
REFUSED, UNAVAILABLE = StatusCode.FAILED_PRECONDITION, StatusCode.UNAVAILABLE


class Loader:
    """Loads folders; `errors` and `gates` make single versions fail or wait."""

    def __init__(self):
        self.servables, self.tries, self.errors, self.gates = [], Counter(), {}, {}

    def __call__(self, name, number, location):
        self.tries[name, number] += 1
        if (name, number) in self.gates:
            assert self.gates[name, number].wait(WAIT_S)
        if (name, number) in self.errors:
            raise self.errors[name, number]
        assert location.is_dir()
        servable = SimpleNamespace(key=(name, number), closings=0)
        servable.close = lambda: setattr(servable, "closings", servable.closings + 1)
        self.servables.append(servable)
        return servable

    def hold(self, *key):
        return self.gates.setdefault(key, threading.Event())

    @property
    def open(self):
        return sorted(s.key for s in self.servables if not s.closings)


class Polls:
    count, gate, is_held = 0, None, False

    def wait(self):
        limit = self.count + 3
        wait_until(lambda: self.count > limit)


def config(folder, *names, policy=None, labels=None):
    """Returns a list of models with the same `policy` and `labels`."""
    result = ModelServerConfig()
    result.model_config_list.SetInParent()
    for name in names:
        result.model_config_list.config.add(
            name=name,
            base_path=str(folder / name),
            model_platform="tensorflow",
            model_version_policy=policy,
            version_labels=labels,
        )
    return result


def spec(name="m", version=None, label=None):
    version = None if version is None else {"value": version}
    return ModelSpec(name=name, version=version, version_label=label)


def use(manager, *args, **kwargs):
    """Returns the version that a request gets."""
    with manager.use(spec(*args, **kwargs)) as handle:
        assert handle.servable.key == (handle.name, handle.version)
        assert not handle.servable.closings
        return handle.version


def states(manager, name="m"):
    versions = manager.status(spec(name)).model_version_status
    return [(version.version, version.state) for version in versions]


def refusal(call, *args, **kwargs):
    error = serving_error(call, *args, **kwargs)
    return error.code, error.message


@pytest.fixture
def push(tmp_path):
    def push(name, *numbers):
        for number in numbers:
            (tmp_path / name / f"{number}").mkdir(parents=True)

    return push


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def lines():
    """Lines of the log."""
    return []


@pytest.fixture
def polls(monkeypatch):
    """Checks of the base paths: `wait` awaits some, `gate` holds the result of one."""
    polls, find = Polls(), manager_module.find_versions

    def find_versions(model):
        polls.count += 1
        result = find(model)
        if polls.gate and model.name == "m":
            polls.is_held = True
            assert polls.gate.wait(WAIT_S)
        return result

    monkeypatch.setattr(manager_module, "find_versions", find_versions)
    return polls


@pytest.fixture
def make_manager(loader, lines, polls):
    """Creates managers; at the end, all that they loaded must be closed once."""
    managers = []

    def make(**kwargs):
        kwargs = {"load_retries": 0, "poll_s": 0.005, "log": lines.append, **kwargs}
        managers.append(Manager(loader, **kwargs))
        return managers[-1]

    yield make
    for gate in loader.gates.values():
        gate.set()
    for manager in managers:
        manager.close(WAIT_S)
    assert [s.closings for s in loader.servables] == [1] * len(loader.servables)


@pytest.fixture
def manager(make_manager):
    return make_manager()


@pytest.fixture
def served(manager, push, tmp_path):
    """A manager that serves version 1 of "m"."""
    push("m", 1)
    manager.apply(config(tmp_path, "m"))
    return manager


@pytest.mark.parametrize(
    ("request_spec", "code", "message"),
    [
        (ModelSpec(), INVALID, "ModelSpec has no name specified."),
        (spec("x"), NOT_FOUND, "Servable not found for request: Latest(x)"),
        (spec("m", 0), NOT_FOUND, "Servable not found for request: Specific(m, 0)"),
        (spec("x", label="A"), INVALID, "Unrecognized servable version label: A"),
    ],
)
def test_a_request_for_an_unknown_version_is_refused(
    served, request_spec, code, message
):
    assert refusal(served.use(request_spec).__enter__) == (code, message)


@pytest.mark.parametrize(
    ("request_spec", "target"),
    [(spec("x"), "any versions of model x"), (spec("m", 7), "version 7 of model m")],
)
def test_the_status_of_an_unknown_version_is_refused(served, request_spec, target):
    assert refusal(served.status, request_spec) == (
        NOT_FOUND,
        f"Could not find {target}",
    )


def test_a_new_version_replaces_the_old_one_without_a_gap(served, loader, push):
    gate = loader.hold("m", 2)
    push("m", 2)
    wait_until(lambda: states(served) == [(2, LOADING), (1, AVAILABLE)])
    assert use(served) == 1
    gate.set()
    wait_until(lambda: states(served) == [(2, AVAILABLE), (1, END)])
    assert use(served) == use(served, version=2) == 2 and loader.open == [("m", 2)]
    assert served.available() == {"m": (2,)}


def test_a_version_is_closed_after_its_last_user_even_if_that_fails(served, push):
    with suppress(ZeroDivisionError), served.use(spec()) as first, served.use(spec()):
        push("m", 2)
        wait_until(lambda: states(served) == [(2, AVAILABLE), (1, UNLOADING)])
        assert use(served) == 2 and not first.servable.closings
        assert refusal(served.use(spec(version=1)).__enter__)[0] == NOT_FOUND
        raise ZeroDivisionError
    wait_until(lambda: first.servable.closings)


def test_a_loading_model_does_not_delay_another(served, loader, push, tmp_path):
    loader.hold("m", 2)
    push("m", 2)
    push("n", 1)
    wait_until(lambda: loader.tries["m", 2])
    served.apply(config(tmp_path, "m", "n"))
    assert use(served, "n") == 1


def test_a_version_is_retried_and_its_failure_logged_once(
    make_manager, loader, lines, push, polls, tmp_path
):
    push("m", 1)
    manager = make_manager(load_retries=3, retry_s=0.001)
    manager.apply(config(tmp_path, "m"))
    loader.errors["m", 2] = failed_precondition("no tag\n  'serve'")
    push("m", 2)
    wait_until(lambda: states(manager) == [(2, END), (1, AVAILABLE)])
    status = manager.status(spec()).model_version_status[0].status
    assert (status.error_code, status.error_message) == (9, "no tag\n  'serve'")
    polls.wait()
    assert use(manager) == 1 and loader.tries["m", 2] == 4
    wait_until(lambda: lines[-1].endswith("did not load 4 times, and is given up."))
    (line,) = [line for line in lines if "no tag 'serve'" in line]
    assert "every 0.001 s, at most 3 times" in line


def test_a_version_that_loads_at_a_retry_is_available(
    make_manager, pool, loader, push, tmp_path
):
    push("m", 1)
    manager = make_manager(load_retries=1000, retry_s=0.001)
    loader.errors["m", 1] = OSError(5, "flaky disk")
    apply = pool.submit(manager.apply, config(tmp_path, "m"))
    wait_until(lambda: loader.tries["m", 1] > 2)
    assert states(manager) == [(1, LOADING)]
    del loader.errors["m", 1]
    apply.result(WAIT_S)
    assert use(manager) == 1


@pytest.mark.parametrize(
    ("error", "reason", "is_bug"),
    [
        (failed_precondition("broken"), "FAILED_PRECONDITION: broken", False),
        (KeyError("bug"), "INTERNAL: KeyError: 'bug'", True),
    ],
)
def test_apply_reports_models_that_do_not_load_and_keeps_the_others(
    served, loader, lines, push, tmp_path, error, reason, is_bug
):
    push("n", 2)
    push("o", 1)
    loader.errors["n", 2] = error
    code, text = refusal(served.apply, config(tmp_path, "m", "n", "o"))
    assert code == StatusCode.UNKNOWN
    failure = f"{{{{{{name: n version: 2}} due to error: {reason}}}, }}"
    assert text == f"1 model(s) did not become available: {failure}"
    assert served.available() == {"m": (1,), "n": (), "o": (1,)}
    # Only bugs of the server have a traceback, in one line.
    assert any("Traceback" in line for line in lines) == is_bug
    assert not any("\n" in line for line in lines)


def test_removed_versions_are_unloaded(served, loader, push, tmp_path):
    push("m", 2)
    wait_until(lambda: states(served) == [(2, AVAILABLE), (1, END)])
    shutil.rmtree(tmp_path / "m" / "2")
    wait_until(lambda: states(served) == [(2, END), (1, AVAILABLE)])
    shutil.rmtree(tmp_path / "m" / "1")
    wait_until(lambda: states(served) == [(2, END), (1, END)])
    assert served.available() == {"m": ()} and loader.open == []


def test_a_missing_base_path_changes_nothing(served, lines, polls, tmp_path):
    (tmp_path / "m").rename(tmp_path / "away")
    wait_until(lambda: any("Could not find base path" in line for line in lines))
    polls.wait()
    assert use(served) == 1 and len(lines) == 2


def test_a_reload_replaces_the_list_and_follows_policies_and_base_paths(
    served, lines, push, tmp_path
):
    push("n", 1, 2)
    push("moved/n", 1, 2, 3)
    push("o", 1)
    served.apply(config(tmp_path, "m", "n"))
    reload = config(tmp_path, "n", "o", policy={"specific": {"versions": [1, 3]}})
    reload.model_config_list.config[0].base_path = str(tmp_path / "moved/n")
    served.apply(reload)
    assert use(served, "o") == 1  # apply has waited for the new model
    wait_until(lambda: served.available() == {"n": (1, 3), "o": (1,)})
    wait_until(lambda: states(served, "m") == [(1, END)])
    assert refusal(served.use(spec("m")).__enter__)[1].endswith("Latest(m)")
    assert any("Model n has another base path." in line for line in lines)


def test_a_model_that_returns_is_awaited_and_loaded_anew(served, loader, tmp_path):
    for _ in range(2):
        served.apply(config(tmp_path))
        served.apply(config(tmp_path, "m"))
        assert use(served) == 1
    assert loader.tries["m", 1] == 3


def test_a_check_that_a_config_overtakes_has_no_effect(
    served, loader, push, polls, tmp_path
):
    push("n", 1)
    polls.gate = gate = threading.Event()
    wait_until(lambda: polls.is_held)
    served.apply(config(tmp_path))
    wait_until(lambda: states(served) == [(1, END)])
    gate.set()
    served.apply(config(tmp_path, "n"))
    assert states(served) == [(1, END)] and loader.tries["m", 1] == 1


def test_a_refused_config_changes_nothing(served, push, polls, tmp_path):
    good, relative = config(tmp_path, "m"), config(tmp_path, "n")
    served.apply(good)
    relative.model_config_list.config[0].base_path = "n"
    for bad, code in [
        (relative, INVALID),
        (ModelServerConfig(), REFUSED),
        (config(tmp_path, "m", labels={"stable": 9}), REFUSED),
    ]:
        assert refusal(served.apply, bad)[0] == code
    # The manager has a copy of the config.
    good.model_config_list.config[0].base_path = str(tmp_path / "other")
    push("other", 2)
    polls.wait()
    assert use(served) == 1 and served.available() == {"m": (1,)}


def test_apply_waits_for_the_first_version_of_a_model(
    manager, pool, push, lines, tmp_path
):
    push("m")
    apply = pool.submit(manager.apply, config(tmp_path, "m"))
    wait_until(lambda: lines)
    assert not apply.done()
    push("m", 1)
    apply.result(WAIT_S)
    assert use(manager) == 1


def test_apply_stops_waiting_at_a_deadline_a_later_config_or_the_end(
    manager, pool, push, tmp_path
):
    push("m")
    code, text = refusal(manager.apply, config(tmp_path, "m"), Deadline(0.01))
    assert code == StatusCode.DEADLINE_EXCEEDED and text.endswith("waiting for: m")

    def start(name, deadline=None):
        models = config(tmp_path, "m", name)
        future = pool.submit(refusal, manager.apply, models, deadline)
        wait_until(lambda: name in manager.available())
        return lambda: future.result(WAIT_S)[0]

    overtaken = start("n")
    manager.apply(config(tmp_path, "m"))
    assert overtaken() == StatusCode.ABORTED
    cancelled = start("p", deadline := Deadline())
    deadline.cancel()
    assert cancelled() == StatusCode.DEADLINE_EXCEEDED
    ended = start("q")
    manager.close()
    assert ended() == UNAVAILABLE


def test_labels_are_assigned_to_available_versions_and_moved_by_a_reload(
    manager, push, tmp_path
):
    push("m", 1, 2)
    policy, labels = {"all": {}}, {"stable": 1, "canary": 2}
    with_labels = config(tmp_path, "m", policy=policy, labels=labels)
    code, text = refusal(manager.apply, with_labels)
    assert code == REFUSED
    assert "label to version 2 of model m, which is not currently available" in text
    manager.apply(config(tmp_path, "m", policy=policy))
    wait_until(lambda: manager.available() == {"m": (1, 2)})
    manager.apply(with_labels)
    assert [use(manager, label=label) for label in labels] == [1, 2]
    manager.apply(config(tmp_path, "m", policy=policy, labels={"stable": 2}))
    assert use(manager, label="stable") == 2
    assert refusal(manager.use(spec(label="canary")).__enter__)[0] == INVALID
    shutil.rmtree(tmp_path / "m" / "2")
    wait_until(lambda: manager.available() == {"m": (1,)})
    _, text = refusal(manager.use(spec(label="stable")).__enter__)
    assert text.endswith("Specific(m, 2)")


def test_new_labels_of_unavailable_versions_can_be_allowed_but_not_moved(
    make_manager, push, tmp_path
):
    push("m", 1)
    manager = make_manager(allow_unavailable_labels=True)
    manager.apply(config(tmp_path, "m", labels={"stable": 1}))
    manager.apply(config(tmp_path, "m", labels={"stable": 1, "canary": 2}))
    moved = config(tmp_path, "m", labels={"stable": 2})
    assert refusal(manager.apply, moved)[0] == REFUSED


def test_close_waits_for_users_and_ends_all(served, pool, tmp_path):
    with served.use(spec()) as handle:
        closing = pool.submit(served.close)
        wait_until(lambda: states(served) == [(1, UNLOADING)])
        assert not handle.servable.closings
    assert closing.result(WAIT_S) and handle.servable.closings == 1
    assert refusal(served.apply, config(tmp_path, "m"))[0] == UNAVAILABLE
    assert refusal(served.use(spec()).__enter__)[0] == NOT_FOUND


def test_a_version_in_use_is_never_closed(lines, loader, push, tmp_path):
    push("m", 1)
    manager = Manager(loader, log=lines.append)
    manager.apply(config(tmp_path, "m"))
    with manager.use(spec()) as handle:
        assert not manager.close(0.01) and not handle.servable.closings
    assert any("is left: 1 requests still use it" in line for line in lines)


def test_a_version_that_loads_during_close_is_closed_too(
    manager, pool, loader, push, tmp_path
):
    push("m", 1)
    gate = loader.hold("m", 1)
    refusal(manager.apply, config(tmp_path, "m"), Deadline(0.01))
    wait_until(lambda: loader.tries["m", 1])
    closing = pool.submit(manager.close)
    gate.set()
    assert closing.result(WAIT_S) and states(manager) == [(1, END)]


def test_a_version_whose_close_fails_counts_as_ended(served, loader, lines, push):
    def close():
        loader.servables[0].closings = 1
        raise OSError("stuck")

    loader.servables[0].close = close
    push("m", 2)
    wait_until(lambda: states(served) == [(2, AVAILABLE), (1, END)])
    (line,) = [line for line in lines if "did not close well" in line]
    assert "stuck" in line and "\n" not in line


def test_a_broken_pipe_of_the_log_stops_nothing(make_manager, push, tmp_path):
    def log(line):
        raise BrokenPipeError

    push("m", 1)
    manager = make_manager(log=log)
    manager.apply(config(tmp_path, "m"))
    push("m", 2)
    wait_until(lambda: use(manager) == 2)


def test_requests_continue_while_versions_appear_fail_and_vanish(
    served, pool, loader, push, tmp_path
):
    stop, uses = threading.Event(), Counter()

    def request(pause_s):
        while not stop.is_set():
            with served.use(spec()) as handle:
                assert not handle.servable.closings, "closed before its use"
                stop.wait(pause_s)
                assert not handle.servable.closings, "closed during its use"
            uses[pause_s] += 1

    workers = [pool.submit(request, pause_s) for pause_s in (0, 0.001, 0.002)]
    good = 1
    for number in range(2, 32):
        breaks = number % 5 == 0
        if breaks:
            loader.errors["m", number] = OSError("broken")
        push("m", number)
        expected = number, END if breaks else AVAILABLE
        wait_until(lambda e=expected: states(served)[0] == e)
        shutil.rmtree(tmp_path / "m" / str(number if breaks else good))
        good = good if breaks else number
    stop.set()
    for worker in workers:
        worker.result(WAIT_S)
    assert len(uses) == len(workers)
    wait_until(lambda: loader.open == [("m", good)])


@pytest.fixture
def write_config(tmp_path):
    """Writes a config to the file that `watched` polls, at once."""

    def write(*names, **kwargs):
        text = text_format.MessageToString(config(tmp_path, *names, **kwargs))
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(tmp_path / "models.config")

    return write


@pytest.fixture
def watched(served, write_config, tmp_path):
    """A manager that serves "m" and polls its config file."""
    write_config("m")
    served.watch_config_file(str(tmp_path / "models.config"), 0.001)
    return served


def test_a_changed_config_file_is_applied_without_a_wait_for_its_models(
    watched, lines, push, write_config
):
    write_config("m", "n")  # "n" has no versions
    wait_until(lambda: watched.available() == {"m": (1,), "n": ()})
    write_config("m", "o")
    push("o", 1)
    wait_until(lambda: watched.available() == {"m": (1,), "o": (1,)})
    assert sum("models.config' is applied." in line for line in lines) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read: No such file"),
        ("", "Cannot transition to requested config"),
        ("model_config_list {\n config {", "Expected"),
        ("model_config_list { config { name: 'm' base_path: 'm' } }", "absolute path"),
    ],
)
def test_a_config_file_with_a_problem_is_logged_once_and_the_models_stay(
    watched, lines, write_config, tmp_path, text, problem
):
    path = tmp_path / "models.config"
    if text is None:
        path.unlink()
    else:
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(path)
    wait_until(lambda: any(problem in line for line in lines))
    time.sleep(0.05)  # many checks
    (line,) = [line for line in lines if "The served models stay." in line]
    assert "\n" not in line and watched.available() == {"m": (1,)}
    write_config("m", "n")
    wait_until(lambda: "n" in watched.available())


def test_a_config_file_is_tried_again_until_its_label_has_its_version(
    watched, lines, push, write_config
):
    write_config("m", labels={"canary": 2})
    wait_until(lambda: any("label to version 2" in line for line in lines))
    push("m", 2)
    wait_until(lambda: any("models.config' is applied." in line for line in lines))
    assert use(watched, label="canary") == 2


def test_a_reload_stays_until_the_config_file_has_other_models(
    watched, pool, push, write_config, tmp_path
):
    push("n")
    reload = pool.submit(watched.apply, config(tmp_path, "m", "n"))
    wait_until(lambda: "n" in watched.available())
    write_config("m")  # again
    write_config("m", "n")  # as the reload, which goes on waiting
    push("n", 1)
    reload.result(WAIT_S)
    write_config("m")
    wait_until(lambda: watched.available() == {"m": (1,)})
