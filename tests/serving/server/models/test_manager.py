"""Tests of the manager with real folders and fake servables."""

import shutil
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from grpc import StatusCode
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server.deadline import Deadline
from serving.server.errors import failed_precondition
from serving.server.models.manager import Manager
from serving.server.models.version_states import AVAILABLE, END, LOADING, UNLOADING
from tests.serving.server.assertions import WAIT_S, serving_error, wait_until

NOT_FOUND, INVALID = StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT


@dataclass
class FakeServable:
    name: str
    number: int
    closings: int = 0

    def close(self):
        self.closings += 1


class FakeLoader:
    """Loads folders; `errors` and `hold` make single versions fail or wait."""

    def __init__(self):
        self.servables, self.tries = [], Counter()
        self.errors, self.gates = {}, {}

    def hold(self, *key):
        self.gates[key] = threading.Event()
        return self.gates[key]

    def __call__(self, name, number, location):
        self.tries[name, number] += 1
        if (name, number) in self.gates:
            assert self.gates[name, number].wait(WAIT_S)
        if (name, number) in self.errors:
            raise self.errors[name, number]
        assert location.is_dir()
        self.servables.append(FakeServable(name, number))
        return self.servables[-1]

    @property
    def open(self):
        return sorted((s.name, s.number) for s in self.servables if not s.closings)


def push(folder, name, *numbers):
    """Adds versions, each one at once."""
    for number in numbers:
        hidden = folder / name / f"{number}.tmp"
        hidden.mkdir(parents=True)
        hidden.rename(folder / name / str(number))


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


def use(manager, **kwargs):
    """Returns the version that a request gets."""
    with manager.use(spec(**kwargs)) as handle:
        assert handle.servable.number == handle.version
        assert not handle.servable.closings
        return handle.version


def states(manager, name="m"):
    versions = manager.status(spec(name)).model_version_status
    return [(version.version, version.state) for version in versions]


def last_status(manager):
    """Returns the error code and message of the highest version."""
    status = manager.status(spec()).model_version_status[0].status
    return status.error_code, status.error_message


def refusal(call, *args):
    error = serving_error(call, *args)
    return error.code, error.message


def use_refusal(manager, request):
    return refusal(manager.use(request).__enter__)


def wait_for_poll(manager):
    """Waits until each base path has been checked, and the result applied."""
    check, names = manager.watcher.check_base_path, []

    def record(model):
        names.append(model.name)
        return check(model)

    manager.watcher.check_base_path = record
    # A second check starts after the result of the first one was applied.
    wait_until(lambda: all(names.count(name) > 1 for name in manager.available()))
    manager.watcher.check_base_path = check


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def loader():
    return FakeLoader()


@pytest.fixture
def lines():
    """Lines of the log."""
    return []


@pytest.fixture
def make_manager(pool, loader, lines):
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
def served(manager, tmp_path):
    """A manager that serves version 1 of "m"."""
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    return manager


def test_the_latest_version_is_available_when_apply_returns(manager, loader, tmp_path):
    push(tmp_path, "m", 1, 2)
    manager.apply(config(tmp_path, "m"))
    assert use(manager) == use(manager, version=2) == 2
    assert manager.available() == {"m": (2,)}
    assert states(manager) == [(2, AVAILABLE)]
    assert loader.open == [("m", 2)]


@pytest.mark.parametrize(
    ("request_spec", "code", "message"),
    [
        (ModelSpec(), INVALID, "ModelSpec has no name specified."),
        (spec("x"), NOT_FOUND, "Servable not found for request: Latest(x)"),
        (spec("m", 0), NOT_FOUND, "Servable not found for request: Specific(m, 0)"),
        (spec("m", label="A"), INVALID, "Unrecognized servable version label: A"),
        (spec("x", label="A"), INVALID, "Unrecognized servable version label: A"),
    ],
)
def test_a_request_for_an_unknown_version_is_refused(
    served, request_spec, code, message
):
    assert use_refusal(served, request_spec) == (code, message)


@pytest.mark.parametrize(
    ("request_spec", "target"),
    [
        (spec("x"), "any versions of model x"),
        (spec("x", 7), "version 7 of model x"),
        (spec("m", 7), "version 7 of model m"),
    ],
)
def test_the_status_of_an_unknown_version_is_refused(served, request_spec, target):
    expected = (NOT_FOUND, f"Could not find {target}")
    assert refusal(served.status, request_spec) == expected


def test_a_new_version_is_loaded_before_the_old_one_is_unloaded(
    served, loader, tmp_path
):
    gate = loader.hold("m", 2)
    push(tmp_path, "m", 2)
    wait_until(lambda: states(served) == [(2, LOADING), (1, AVAILABLE)])
    assert use(served) == 1
    gate.set()
    wait_until(lambda: states(served) == [(2, AVAILABLE), (1, END)])
    assert use(served) == 2 and loader.open == [("m", 2)]


def test_a_version_is_closed_after_its_last_user(served, tmp_path):
    with served.use(spec()) as first, served.use(spec(version=1)):
        push(tmp_path, "m", 2)
        wait_until(lambda: states(served) == [(2, AVAILABLE), (1, UNLOADING)])
        assert use(served) == 2 and not first.servable.closings
        assert use_refusal(served, spec(version=1))[0] == NOT_FOUND
    wait_until(lambda: first.servable.closings)


def test_a_failing_request_releases_its_version(served, loader, tmp_path):
    with pytest.raises(ZeroDivisionError), served.use(spec()):
        raise ZeroDivisionError
    push(tmp_path, "m", 2)
    wait_until(lambda: loader.open == [("m", 2)])


def test_a_loading_model_delays_neither_another_nor_its_versions(
    served, loader, tmp_path
):
    loader.hold("m", 2)
    push(tmp_path, "m", 2)
    wait_until(lambda: loader.tries["m", 2])
    push(tmp_path, "n", 1)
    served.apply(config(tmp_path, "m", "n"))
    assert use(served, name="n") == 1
    assert states(served) == [(2, LOADING), (1, AVAILABLE)]


def test_a_failing_version_leaves_the_old_one_and_is_logged_once(
    make_manager, loader, lines, tmp_path
):
    manager = make_manager(load_retries=3, retry_s=0.001)
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    loader.errors["m", 2] = failed_precondition("no tag 'serve'")
    push(tmp_path, "m", 2)
    wait_until(lambda: states(manager) == [(2, END), (1, AVAILABLE)])
    assert last_status(manager) == (9, "no tag 'serve'")
    wait_for_poll(manager)
    assert use(manager) == 1 and loader.tries["m", 2] == 4
    wait_until(lambda: lines[-1].endswith("did not load 4 times, and is given up."))
    (line,) = [line for line in lines if "no tag" in line]
    assert "every 0.001 s, at most 3 times" in line


def test_a_version_that_loads_at_a_retry_is_available(
    make_manager, pool, loader, tmp_path
):
    manager = make_manager(load_retries=1000, retry_s=0.001)
    push(tmp_path, "m", 1)
    loader.errors["m", 1] = OSError(5, "flaky disk")
    apply = pool.submit(manager.apply, config(tmp_path, "m"))
    wait_until(lambda: loader.tries["m", 1] > 2)
    assert states(manager) == [(1, LOADING)] and last_status(manager) == (0, "")
    del loader.errors["m", 1]
    apply.result(WAIT_S)
    assert use(manager) == 1 and last_status(manager) == (0, "")


@pytest.mark.parametrize(
    "error, code, message",
    [
        (FileNotFoundError(2, "No such file", "/m/1/x"), 5, "[Errno 2] No such file"),
        (PermissionError(13, "Permission denied"), 7, "[Errno 13] Permission denied"),
        (OSError(28, "disk full"), 2, "[Errno 28] disk full"),
        (ValueError("not a graph"), 3, "not a graph"),
        (MemoryError(), 8, "MemoryError"),
        (KeyError("bug"), 13, "KeyError: 'bug'"),
    ],
)
def test_an_error_of_a_load_is_in_the_status(
    manager, loader, lines, tmp_path, error, code, message
):
    push(tmp_path, "m", 1)
    loader.errors["m", 1] = error
    refused, text = refusal(manager.apply, config(tmp_path, "m"))
    assert refused == StatusCode.UNKNOWN
    assert text.startswith("1 servable(s) did not become available: {{{name: m vers")
    assert message in text and text.endswith("}, }")
    status_code, status_message = last_status(manager)
    assert status_code == code and message in status_message
    # Only bugs of the server are logged with a traceback.
    assert any("Traceback" in line for line in lines) == (code == 13)


def test_a_removed_version_is_unloaded_and_the_previous_one_returns(
    manager, loader, tmp_path
):
    push(tmp_path, "m", 1, 2)
    manager.apply(config(tmp_path, "m"))
    shutil.rmtree(tmp_path / "m" / "2")
    wait_until(lambda: states(manager) == [(2, END), (1, AVAILABLE)])
    shutil.rmtree(tmp_path / "m" / "1")
    wait_until(lambda: states(manager) == [(2, END), (1, END)])
    assert manager.available() == {"m": ()} and loader.open == []


def test_a_missing_base_path_changes_nothing(served, lines, tmp_path):
    (tmp_path / "m").rename(tmp_path / "away")
    wait_for_poll(served)
    assert use(served) == 1
    assert sum("Could not find base path" in line for line in lines) == 1


def test_a_reload_replaces_the_list_and_follows_policies_and_base_paths(
    served, loader, lines, tmp_path
):
    push(tmp_path, "n", 1, 2)
    push(tmp_path, "moved/n", 1, 2, 3)
    push(tmp_path, "o", 1)
    served.apply(config(tmp_path, "m", "n"))
    reload = config(tmp_path, "n", "o", policy={"specific": {"versions": [1, 3]}})
    reload.model_config_list.config[0].base_path = str(tmp_path / "moved/n")
    served.apply(reload)
    assert use(served, name="o") == 1  # apply has waited for the new model
    wait_until(lambda: served.available() == {"n": (1, 3), "o": (1,)})
    wait_until(lambda: states(served, "m") == [(1, END)])
    assert use_refusal(served, spec("m"))[1].endswith("Latest(m)")
    assert any("Model n has another base path." in line for line in lines)


def test_a_model_that_returns_is_awaited_and_loaded_anew(served, loader, tmp_path):
    for _ in range(2):
        served.apply(config(tmp_path))
        served.apply(config(tmp_path, "m"))
        assert use(served) == 1
    assert loader.tries["m", 1] == 3


def test_a_check_that_a_config_overtakes_has_no_effect(served, loader, tmp_path):
    push(tmp_path, "n", 1)
    checked, replaced = threading.Event(), threading.Event()
    check = served.watcher.check_base_path

    def slow_check(model):
        locations = check(model)
        if model.name == "m":
            checked.set()
            assert replaced.wait(WAIT_S)
        return locations

    served.watcher.check_base_path = slow_check
    assert checked.wait(WAIT_S)
    served.apply(config(tmp_path))
    wait_until(lambda: states(served) == [(1, END)])
    replaced.set()
    served.apply(config(tmp_path, "n"))
    assert states(served) == [(1, END)] and loader.tries["m", 1] == 1


def test_a_refused_config_changes_nothing(manager, tmp_path):
    push(tmp_path, "m", 1)
    push(tmp_path, "other", 2)
    good, relative = config(tmp_path, "m"), config(tmp_path, "n")
    manager.apply(good)
    relative.model_config_list.config[0].base_path = "n"
    for bad, code in [
        (relative, INVALID),
        (config(tmp_path, "n", "n"), INVALID),
        (ModelServerConfig(), StatusCode.FAILED_PRECONDITION),
        (config(tmp_path, "m", labels={"stable": 9}), StatusCode.FAILED_PRECONDITION),
    ]:
        assert refusal(manager.apply, bad)[0] == code
    # The manager has a copy of the config.
    good.model_config_list.config[0].base_path = str(tmp_path / "other")
    wait_for_poll(manager)
    assert use(manager) == 1 and manager.available() == {"m": (1,)}


def test_a_reload_reports_failing_models_and_keeps_the_others(served, loader, tmp_path):
    push(tmp_path, "n", 1)
    push(tmp_path, "o", 1)
    loader.errors["n", 1] = failed_precondition("broken")
    assert refusal(served.apply, config(tmp_path, "m", "n", "o")) == (
        StatusCode.UNKNOWN,
        "1 model(s) did not become available: {{{name: n version: 1} due to error: "
        "FAILED_PRECONDITION: broken}, }",
    )
    assert served.available() == {"m": (1,), "n": (), "o": (1,)}


def test_apply_waits_for_the_first_version_of_a_model(manager, pool, tmp_path, lines):
    (tmp_path / "m").mkdir()
    apply = pool.submit(manager.apply, config(tmp_path, "m"))
    wait_until(lambda: any("No versions of servable m" in line for line in lines))
    assert not apply.done()
    push(tmp_path, "m", 1)
    apply.result(WAIT_S)
    assert use(manager) == 1
    assert sum("No versions of servable" in line for line in lines) == 1


def test_apply_stops_waiting_at_a_deadline_a_later_config_or_the_end(
    manager, pool, tmp_path
):
    (tmp_path / "m").mkdir()
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
    deadline = Deadline()
    cancelled = start("p", deadline)
    deadline.cancel()
    assert cancelled() == StatusCode.DEADLINE_EXCEEDED
    ended = start("q")
    manager.close()
    assert ended() == StatusCode.UNAVAILABLE


def test_labels_are_assigned_to_available_versions_and_moved_by_a_reload(
    manager, tmp_path
):
    push(tmp_path, "m", 1, 2)
    labels = {"stable": 1, "canary": 2}
    with_labels = config(tmp_path, "m", policy={"all": {}}, labels=labels)
    code, text = refusal(manager.apply, with_labels)
    assert code == StatusCode.FAILED_PRECONDITION
    assert "label to version 2 of model m, which is not currently available" in text
    manager.apply(config(tmp_path, "m", policy={"all": {}}))
    wait_until(lambda: manager.available() == {"m": (1, 2)})
    manager.apply(with_labels)
    assert [use(manager, label=n) for n in ("stable", "canary")] == [1, 2]
    manager.apply(config(tmp_path, "m", policy={"all": {}}, labels={"stable": 2}))
    assert use(manager, label="stable") == 2
    assert use_refusal(manager, spec(label="canary"))[0] == INVALID
    shutil.rmtree(tmp_path / "m" / "2")
    wait_until(lambda: manager.available() == {"m": (1,)})
    assert use_refusal(manager, spec(label="stable"))[1].endswith("Specific(m, 2)")


def test_new_labels_of_unavailable_versions_can_be_allowed_but_not_moved(
    make_manager, tmp_path
):
    manager = make_manager(allow_unavailable_labels=True)
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m", labels={"stable": 1}))
    assert use(manager, label="stable") == 1
    manager.apply(config(tmp_path, "m", labels={"stable": 1, "canary": 2}))
    moved = config(tmp_path, "m", labels={"stable": 2})
    assert refusal(manager.apply, moved)[0] == StatusCode.FAILED_PRECONDITION


def test_close_waits_for_users(served, pool, tmp_path):
    with served.use(spec()) as handle:
        closing = pool.submit(served.close)
        wait_until(lambda: states(served) == [(1, UNLOADING)])
        assert not handle.servable.closings
    assert closing.result(WAIT_S)
    assert handle.servable.closings == 1
    assert refusal(served.apply, config(tmp_path, "m"))[0] == StatusCode.UNAVAILABLE
    assert use_refusal(served, spec())[0] == NOT_FOUND


def test_a_version_in_use_is_never_closed(loader, lines, tmp_path):
    push(tmp_path, "m", 1)
    manager = Manager(loader, poll_s=0.005, load_retries=0, log=lines.append)
    manager.apply(config(tmp_path, "m"))
    with manager.use(spec()) as handle:
        assert not manager.close(0.01)
        assert handle.servable.closings == 0
    assert any("is left: 1 requests still use it" in line for line in lines)


def test_a_version_that_loads_during_close_is_closed_too(
    manager, pool, loader, tmp_path
):
    push(tmp_path, "m", 1)
    gate = loader.hold("m", 1)
    refusal(manager.apply, config(tmp_path, "m"), Deadline(0.01))
    wait_until(lambda: loader.tries["m", 1])
    closing = pool.submit(manager.close)
    gate.set()
    closing.result(WAIT_S)
    assert states(manager) == [(1, END)]
    assert [s.closings for s in loader.servables] == [1]


def test_a_version_whose_close_fails_counts_as_ended(served, loader, lines, tmp_path):
    def close():
        loader.servables[0].closings = 1
        raise OSError("stuck")

    loader.servables[0].close = close
    push(tmp_path, "m", 2)
    wait_until(lambda: states(served) == [(2, AVAILABLE), (1, END)])
    assert any("did not close well" in line and "stuck" in line for line in lines)


def test_a_broken_pipe_of_the_log_stops_nothing(make_manager, tmp_path):
    def log(line):
        raise BrokenPipeError

    manager = make_manager(log=log)
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    push(tmp_path, "m", 2)
    wait_until(lambda: use(manager) == 2)


def test_requests_continue_while_versions_appear_fail_and_vanish(
    manager, pool, loader, tmp_path
):
    names, stop, uses = ("m", "n"), threading.Event(), Counter()

    def request(name, pause_s):
        while not stop.is_set():
            with manager.use(spec(name)) as handle:
                assert handle.name == handle.servable.name == name
                assert not handle.servable.closings, "closed before its use"
                time.sleep(pause_s)
                assert not handle.servable.closings, "closed during its use"
            uses[name, pause_s] += 1

    for name in names:
        push(tmp_path, name, 1)
    manager.apply(config(tmp_path, *names))
    workers = [pool.submit(request, name, s) for name in names for s in (0, 0.001)]
    good = 1
    for number in range(2, 32):
        breaks = number % 5 == 0
        expected = number, END if breaks else AVAILABLE
        for name in names:
            if breaks:
                loader.errors[name, number] = OSError("broken")
            push(tmp_path, name, number)
        for name in names:
            wait_until(lambda n=name, e=expected: states(manager, n)[0] == e)
            shutil.rmtree(tmp_path / name / str(number if breaks else good))
        good = good if breaks else number
    stop.set()
    for worker in workers:
        worker.result(WAIT_S)
    assert len(uses) == len(workers)
    wait_until(lambda: loader.open == [(name, good) for name in names])
