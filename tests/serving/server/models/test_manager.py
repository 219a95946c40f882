"""Tests of the manager with fake servables, and with base paths in memory."""

import threading
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


class Disk:
    """Base paths; `errors` and `gates` make the load or list of a path fail or wait."""

    def __init__(self):
        self.versions, self.errors, self.gates = {"/m": [1]}, {}, {}
        self.tries, self.servables, self.lines = Counter(), [], []

    def find_versions(self, model):
        path = model.base_path
        numbers = self.versions.get(path)
        paths = None if numbers is None else {n: f"{path}/{n}" for n in numbers}
        self.pass_gate(path)
        return paths, [] if numbers else [f"No versions in {path}"]

    def load(self, name, version, path):
        self.pass_gate(path)
        if path in self.errors:
            raise self.errors[path]
        servable = SimpleNamespace(path=path, closings=0)
        servable.close = lambda: setattr(servable, "closings", servable.closings + 1)
        self.servables.append(servable)
        return servable

    def pass_gate(self, path):
        self.tries[path] += 1
        assert path not in self.gates or self.gates[path].wait(WAIT_S)

    def hold(self, path):
        self.gates[path] = threading.Event()
        limit = self.tries[path]
        wait_until(lambda: self.tries[path] > limit)
        return self.gates[path]

    def wait(self):
        """Waits for some checks of the base path of "m"."""
        limit = self.tries["/m"] + 3
        wait_until(lambda: self.tries["/m"] > limit)


def config(*names, base_path=None, **fields):
    result = ModelServerConfig(model_config_list={})
    for name in names:
        model = result.model_config_list.config.add(name=name, **fields)
        model.base_path, model.model_platform = base_path or f"/{name}", "tensorflow"
    return result


def spec(name="m", version=None, label=None):
    version = None if version is None else {"value": version}
    return ModelSpec(name=name, version=version, version_label=label)


def use(manager, *args, **kwargs):
    """Returns the path of the version that a request gets."""
    with manager.use(spec(*args, **kwargs)) as handle:
        assert not handle.servable.closings
        return handle.servable.path


def states(manager, name="m"):
    versions = manager.status(spec(name)).model_version_status
    return [(version.version, version.state) for version in versions]


def refusal(call, *args, **kwargs):
    error = serving_error(call, *args, **kwargs)
    return error.code, error.message


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(manager_module, "find_versions", disk.find_versions)
    return disk


@pytest.fixture
def make(disk):
    """Creates managers; at the end, all that they loaded must be closed once."""
    managers = []

    def make(*names, **kwargs):
        kwargs = {"load_retries": 0, "poll_s": 0.005, "log": disk.lines.append} | kwargs
        managers.append(Manager(disk.load, **kwargs))
        managers[-1].apply(config(*names))
        return managers[-1]

    yield make
    assert all(manager.close(WAIT_S) for manager in managers)
    assert {servable.closings for servable in disk.servables} <= {1}


@pytest.fixture
def manager(make):
    """A manager that serves version 1 of "m"."""
    return make("m")


@pytest.mark.parametrize(
    ("request_spec", "code", "message"),
    [
        (ModelSpec(), INVALID, "ModelSpec has no name specified."),
        (spec("x"), NOT_FOUND, "Servable not found for request: Latest(x)"),
        (spec("m", 0), NOT_FOUND, "Servable not found for request: Specific(m, 0)"),
        (spec(label="A"), INVALID, "Unrecognized servable version label: A"),
    ],
)
def test_an_unknown_version_is_refused(manager, request_spec, code, message):
    assert refusal(manager.use(request_spec).__enter__) == (code, message)


def test_the_status_of_an_unknown_version_is_refused(manager):
    text = "Could not find any versions of model x"
    assert refusal(manager.status, spec("x")) == (NOT_FOUND, text)
    text = "Could not find version 7 of model m"
    assert refusal(manager.status, spec("m", 7)) == (NOT_FOUND, text)


def test_a_new_version_replaces_the_old_one_without_a_gap(manager, disk):
    disk.versions["/m"] = [2]
    gate = disk.hold("/m/2")
    assert states(manager) == [(2, LOADING), (1, AVAILABLE)] and use(manager) == "/m/1"
    gate.set()
    wait_until(lambda: states(manager) == [(2, AVAILABLE), (1, END)])
    assert use(manager) == use(manager, version=2) == "/m/2"
    assert manager.available() == {"m": (2,)}


def test_a_version_that_fails_is_retried_and_given_up(make, disk):
    manager = make("m", load_retries=3, retry_s=0.001)
    disk.errors["/m/2"] = failed_precondition("no tag\n  'serve'")
    disk.versions["/m"] = [2]
    wait_until(lambda: states(manager) == [(2, END), (1, AVAILABLE)])
    status = manager.status(spec()).model_version_status[0].status
    assert (status.error_code, status.error_message) == (9, "no tag\n  'serve'")
    disk.wait()
    assert use(manager) == "/m/1" and disk.tries["/m/2"] == 4
    retried, given_up = [line for line in disk.lines if line.endswith("no tag 'serve'")]
    assert "at most 3 retries, every 0.001 s" in retried and "given up" in given_up


@pytest.mark.parametrize(
    ("error", "reason", "is_bug"),
    [
        (failed_precondition("broken"), "FAILED_PRECONDITION: broken", False),
        (KeyError("bug"), "INTERNAL: KeyError: 'bug'", True),
    ],
)
def test_apply_reports_models_that_do_not_load_and_keeps_the_others(
    manager, disk, error, reason, is_bug
):
    disk.versions |= {"/n": [2], "/o": [1]}
    disk.errors["/n/2"] = error
    failure = f"{{{{{{name: n version: 2}} due to error: {reason}}}, }}"
    text = f"1 model(s) did not become available: {failure}"
    assert refusal(manager.apply, config("m", "n", "o")) == (StatusCode.UNKNOWN, text)
    manager.apply(config("m", "n", "o"))  # only new models are awaited
    assert manager.available() == {"m": (1,), "n": (), "o": (1,)}
    # Only bugs of the server have a traceback, in one line.
    assert any("Traceback" in line for line in disk.lines) == is_bug
    assert not any("\n" in line for line in disk.lines)


def test_removed_versions_are_unloaded_but_not_if_the_base_path_is_missing(
    manager, disk
):
    disk.versions["/m"] = None
    disk.wait()
    assert use(manager) == "/m/1" and disk.lines[1:] == ["No versions in /m"]
    disk.versions["/m"] = []
    wait_until(lambda: states(manager) == [(1, END)])
    assert manager.available() == {"m": ()}


def test_a_reload_replaces_the_list_and_follows_base_paths(manager, disk):
    disk.versions |= {"/moved": [1, 3], "/o": [1]}
    reload = config("m", base_path="/moved")
    manager.apply(reload)
    wait_until(lambda: manager.available() == {"m": (1, 3)})
    assert [use(manager, version=n) for n in (1, 3)] == ["/m/1", "/moved/3"]
    manager.apply(reload)  # not moved again
    assert sum("Model m has another base path." in line for line in disk.lines) == 1
    for count in (1, 2):  # a model that returns is awaited, and loaded anew
        manager.apply(config("o"))
        assert use(manager, "o") == "/o/1" and disk.tries["/o/1"] == count
        manager.apply(config())
        wait_until(lambda: states(manager, "o") == [(1, END)])


def test_a_check_that_a_config_overtakes_has_no_effect(manager, disk):
    disk.versions["/n"] = [1]
    gate = disk.hold("/m")
    manager.apply(config())
    wait_until(lambda: states(manager) == [(1, END)])
    gate.set()
    manager.apply(config("n"))
    assert states(manager) == [(1, END)] and disk.tries["/m/1"] == 1


def test_a_refused_config_changes_nothing(manager, disk):
    good = config("m")
    manager.apply(good)
    for bad, code in [
        (config("n", base_path="n"), INVALID),
        (ModelServerConfig(), REFUSED),
        (config("m", version_labels={"stable": 9}), REFUSED),
    ]:
        assert refusal(manager.apply, bad)[0] == code
    good.model_config_list.config[0].base_path = "/other"  # the manager has a copy
    disk.wait()
    assert use(manager) == "/m/1" and manager.available() == {"m": (1,)}


def test_apply_waits_for_versions_a_deadline_a_later_config_or_the_end(
    manager, disk, pool
):
    def start(name, deadline=None):
        future = pool.submit(refusal, manager.apply, config("m", name), deadline)
        wait_until(lambda: name in manager.available())
        return lambda: future.result(WAIT_S)

    apply = pool.submit(manager.apply, config("m", "n"))
    wait_until(lambda: "No versions in /n" in disk.lines)
    assert not apply.done()
    disk.versions["/n"] = [1]
    apply.result(WAIT_S)
    late = "The time was over while waiting for: o"
    assert start("o", Deadline(0.01))() == (StatusCode.DEADLINE_EXCEEDED, late)
    cancelled = start("p", deadline := Deadline())
    deadline.cancel()
    assert cancelled()[0] == StatusCode.DEADLINE_EXCEEDED
    overtaken = start("q")
    manager.apply(config("m"))
    text = "A later config came while waiting for: q"
    assert overtaken() == (StatusCode.ABORTED, text)
    ended = start("r")
    manager.close()
    assert ended() == (UNAVAILABLE, "The server has stopped")


def test_labels_are_assigned_to_available_versions_and_moved(manager, disk):
    both = config("m", version_labels={"stable": 1, "canary": 2})
    code, text = refusal(manager.apply, both)
    assert code == REFUSED
    assert "label to version 2 of model m, which is not currently available" in text
    disk.versions["/m"] = [1, 2]
    wait_until(lambda: manager.available() == {"m": (1, 2)})
    manager.apply(both)
    labels = ("stable", "canary")
    assert [use(manager, label=label) for label in labels] == ["/m/1", "/m/2"]
    manager.apply(config("m", version_labels={"stable": 2}))
    assert use(manager, label="stable") == "/m/2"
    assert refusal(use, manager, label="canary")[0] == INVALID
    disk.versions["/m"] = [1]
    wait_until(lambda: manager.available() == {"m": (1,)})
    assert refusal(use, manager, label="stable")[1].endswith("Specific(m, 2)")


def test_new_labels_of_unavailable_versions_can_be_allowed_but_not_moved(make):
    manager = make("m", allow_unavailable_labels=True)
    manager.apply(config("m", version_labels={"stable": 1}))
    manager.apply(config("m", version_labels={"stable": 1, "canary": 2}))
    moved = config("m", version_labels={"stable": 2})
    assert refusal(manager.apply, moved)[0] == REFUSED


def test_close_waits_for_users_until_the_drain_time(manager, disk, pool):
    with manager.use(spec()) as handle:
        assert not manager.close(0.01) and not handle.servable.closings
        assert any("Requests that use it: 1." in line for line in disk.lines)
        closing = pool.submit(manager.close)
        wait_until(lambda: states(manager) == [(1, UNLOADING)])
        assert not closing.done()
    assert closing.result(WAIT_S) and disk.servables[0].closings == 1
    assert refusal(manager.apply, config("m"))[0] == UNAVAILABLE
    assert refusal(use, manager)[0] == NOT_FOUND


def test_a_version_that_loads_during_close_is_closed_too(manager, disk, pool):
    disk.versions["/m"] = [2]
    gate = disk.hold("/m/2")
    closing = pool.submit(manager.close)
    wait_until(lambda: states(manager) == [(2, LOADING), (1, END)])
    gate.set()
    assert closing.result(WAIT_S) and states(manager) == [(2, END), (1, END)]
    status = manager.status(spec()).model_version_status[0].status
    assert (status.error_code, status.error_message[-9:]) == (1, "cancelled")


def test_a_version_whose_close_fails_counts_as_ended(manager, disk):
    disk.servables.pop().close = lambda: 1 / 0
    disk.versions["/m"] = [2]
    wait_until(lambda: states(manager) == [(2, AVAILABLE), (1, END)])
    (line,) = [line for line in disk.lines if "did not close well" in line]
    assert "ZeroDivisionError" in line and "\n" not in line


def test_a_broken_pipe_of_the_log_stops_nothing(make, disk):
    def log(line):
        raise BrokenPipeError

    manager = make("m", log=log)
    disk.versions["/m"] = [2]
    wait_until(lambda: use(manager) == "/m/2")


def test_requests_continue_while_versions_appear_fail_and_vanish(manager, disk, pool):
    stop, uses = threading.Event(), Counter()

    def request(pause_s):
        while not stop.is_set():
            with suppress(KeyError), manager.use(spec()) as handle:
                assert not handle.servable.closings, "closed before its use"
                stop.wait(pause_s)
                assert not handle.servable.closings, "closed during its use"
                uses[pause_s] += 1
                raise KeyError("as a request that fails")

    workers = [pool.submit(request, pause_s) for pause_s in (0, 0.001, 0.002)]
    for number in range(2, 32):
        state = AVAILABLE if number % 5 else END
        if state == END:
            disk.errors[f"/m/{number}"] = OSError("broken")
        disk.versions["/m"] = [number]
        wait_until(lambda e=(number, state): states(manager)[0] == e)
    stop.set()
    for worker in workers:
        worker.result(WAIT_S)
    assert len(uses) == len(workers)
    wait_until(lambda: [s.path for s in disk.servables if not s.closings] == ["/m/31"])


@pytest.fixture
def write(manager, tmp_path):
    """Writes models to the config file that `manager` polls, at once."""

    def write(*names, text=None, **fields):
        text = text or text_format.MessageToString(config(*names, **fields))
        (tmp_path / "new").write_text(text)
        (tmp_path / "new").rename(tmp_path / "models.config")

    write("m")
    manager.watch_config_file(str(tmp_path / "models.config"), 0.001)
    return write


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read: No such file"),
        ("#", "Cannot transition to requested config"),
        ("model_config_list {\n config {", "Expected"),
        ("model_config_list { config { name: 'm' base_path: 'm' } }", "absolute path"),
    ],
)
def test_a_config_file_with_a_problem_is_logged_once_and_the_models_stay(
    manager, write, disk, tmp_path, text, problem
):
    write(text=text) if text else (tmp_path / "models.config").unlink()
    wait_until(lambda: any(problem in line for line in disk.lines))
    disk.wait()
    (line,) = [line for line in disk.lines if "The served models stay" in line]
    assert "\n" not in line and manager.available() == {"m": (1,)}
    write("m", "n")  # a model without versions is not awaited
    wait_until(lambda: manager.available() == {"m": (1,), "n": ()})


def test_a_config_file_is_tried_again_until_its_label_has_its_version(
    manager, write, disk
):
    write("m", version_labels={"canary": 2})
    wait_until(lambda: any("label to version 2" in line for line in disk.lines))
    disk.versions["/m"] = [2]
    wait_until(lambda: any("models.config' is applied." in line for line in disk.lines))
    assert use(manager, label="canary") == "/m/2"


def test_a_reload_stays_until_the_config_file_has_other_models(
    manager, write, disk, pool
):
    reload = pool.submit(manager.apply, config("m", "n"))
    wait_until(lambda: "n" in manager.available())
    write("m")  # again
    write("m", "n")  # as the reload, which goes on waiting
    disk.versions["/n"] = [1]
    reload.result(WAIT_S)
    write("m")
    wait_until(lambda: manager.available() == {"m": (1,)})
