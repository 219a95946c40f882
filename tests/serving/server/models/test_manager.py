"""The manager over real folders; servables only know whether they are closed."""

import shutil
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
from grpc import StatusCode
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.server.deadline import Deadline
from serving.server.errors import ServingError, failed_precondition
from serving.server.models.manager import Manager
from serving.server.models.version_states import AVAILABLE, END, LOADING, UNLOADING

WAIT_S = 30.0


class Fake:
    """A servable that can be closed once."""

    def __init__(self, name, number):
        self.name, self.number, self.closings = name, number, 0

    def close(self):
        self.closings += 1


class Loader:
    """Loads folders; by name it holds loads back or lets them fail."""

    def __init__(self):
        self.made, self.tries = [], Counter()
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
        self.made.append(Fake(name, number))
        return self.made[-1]

    @property
    def open(self):
        return sorted((s.name, s.number) for s in self.made if not s.closings)


def until(condition):
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)


def push(folder, name, number):
    """Lets a version appear at once, as a pusher does."""
    hidden = folder / name / f"{number}.tmp"
    hidden.mkdir(parents=True)
    hidden.rename(folder / name / str(number))


def config(folder, *names, policy="", labels=None):
    """A list of models; `policy` and `labels` go to each."""
    made = ModelServerConfig()
    made.model_config_list.SetInParent()
    for name in names:
        model = made.model_config_list.config.add(
            name=name, base_path=str(folder / name), model_platform="tensorflow"
        )
        model.version_labels.update(labels or {})
        if policy == "all":
            model.model_version_policy.all.SetInParent()
        elif policy:
            model.model_version_policy.specific.versions.extend(policy)
    return made


def spec(name="m", version=None, label=None):
    made = ModelSpec(name=name)
    if version is not None:
        made.version.value = version
    if label is not None:
        made.version_label = label
    return made


def served(manager, **kwargs):
    with manager.use(spec(**kwargs)) as held:
        assert held.servable.number == held.version and not held.servable.closings
        return held.version


def states(manager, name="m"):
    return [
        (s.version, s.state) for s in manager.status(spec(name)).model_version_status
    ]


def refusal(call, *args):
    with pytest.raises(ServingError) as caught:
        call(*args)
    return caught.value.code, caught.value.message


@contextmanager
def polled(manager):
    """Is over when each base path has been looked at anew and that was acted on."""
    yield
    looks, seen = manager._look, []

    def look(model):
        looks(model)
        seen.append(model.name)

    manager._look = look
    until(lambda: all(seen.count(name) > 1 for name in manager.available()))
    manager._look = looks


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def said():
    return []


@pytest.fixture
def make(loader, said):
    """Makes managers that are closed in the end, with all that they have loaded."""
    made = []

    def make(**kwargs):
        kwargs = {"load_retries": 0} | kwargs
        made.append(Manager(loader, poll_s=0.005, say=said.append, **kwargs))
        return made[-1]

    yield make
    for gate in loader.gates.values():
        gate.set()
    for manager in made:
        manager.close(WAIT_S)
    assert [s.closings for s in loader.made] == [1] * len(loader.made)


@pytest.fixture
def manager(make):
    return make()


def test_the_latest_version_is_served_when_apply_returns(manager, loader, tmp_path):
    push(tmp_path, "m", 1)
    push(tmp_path, "m", 2)
    manager.apply(config(tmp_path, "m"))
    assert served(manager) == served(manager, version=2) == 2
    assert manager.available() == {"m": (2,)}
    assert states(manager) == [(2, AVAILABLE)]
    assert loader.open == [("m", 2)]


def test_requests_that_name_nothing_there_is_are_told_so(manager, tmp_path):
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    not_found, invalid = StatusCode.NOT_FOUND, StatusCode.INVALID_ARGUMENT
    for asked, answer in [
        (ModelSpec(), (invalid, "ModelSpec has no name specified.")),
        (spec("x"), (not_found, "Servable not found for request: Latest(x)")),
        (spec("m", 7), (not_found, "Servable not found for request: Specific(m, 7)")),
        (spec("m", 0), (not_found, "Servable not found for request: Specific(m, 0)")),
        (
            spec("m", label="canary"),
            (invalid, "Unrecognized servable version label: canary"),
        ),
        (
            spec("x", label="canary"),
            (invalid, "Unrecognized servable version label: canary"),
        ),
    ]:
        assert refusal(lambda asked=asked: manager.use(asked).__enter__()) == answer
    for asked, answer in [
        (spec("x"), "Could not find any versions of model x"),
        (spec("x", 7), "Could not find version 7 of model x"),
        (spec("m", 7), "Could not find version 7 of model m"),
    ]:
        assert refusal(manager.status, asked) == (not_found, answer)


def test_a_new_version_is_loaded_before_the_old_one_is_let_go(
    manager, loader, tmp_path
):
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    gate = loader.hold("m", 2)
    push(tmp_path, "m", 2)
    until(lambda: states(manager) == [(2, LOADING), (1, AVAILABLE)])
    assert served(manager) == 1
    gate.set()
    until(lambda: states(manager) == [(2, AVAILABLE), (1, END)])
    assert served(manager) == 2 and loader.open == [("m", 2)]


def test_a_version_that_is_used_is_closed_when_its_last_user_goes(
    manager, loader, tmp_path
):
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    with manager.use(spec()) as first, manager.use(spec(version=1)):
        push(tmp_path, "m", 2)
        until(lambda: states(manager) == [(2, AVAILABLE), (1, UNLOADING)])
        assert served(manager) == 2 and not first.servable.closings
        assert refusal(manager.use(spec(version=1)).__enter__)[0] == (
            StatusCode.NOT_FOUND
        )
    until(lambda: first.servable.closings)


def test_a_request_that_fails_lets_its_version_go(manager, loader, tmp_path):
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    with pytest.raises(ZeroDivisionError), manager.use(spec()):
        raise ZeroDivisionError
    push(tmp_path, "m", 2)
    until(lambda: loader.open == [("m", 2)])


def test_loading_one_model_holds_up_neither_another_nor_its_versions(
    manager, loader, tmp_path
):
    push(tmp_path, "m", 1)
    push(tmp_path, "n", 1)
    manager.apply(config(tmp_path, "m", "n"))
    gate = loader.hold("m", 2)
    push(tmp_path, "m", 2)
    until(lambda: loader.tries["m", 2])
    push(tmp_path, "n", 2)
    until(lambda: served(manager, name="n") == 2)
    assert states(manager) == [(2, LOADING), (1, AVAILABLE)]
    gate.set()


def test_a_version_that_does_not_load_leaves_the_old_one_and_says_why_once(
    make, loader, said, tmp_path
):
    manager = make(load_retries=3, retry_s=0.001)
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    loader.errors["m", 2] = failed_precondition("no tag 'serve'")
    push(tmp_path, "m", 2)
    until(lambda: states(manager) == [(2, END), (1, AVAILABLE)])
    status = manager.status(spec(version=2)).model_version_status[0].status
    assert (status.error_code, status.error_message) == (9, "no tag 'serve'")
    with polled(manager):
        pass
    assert served(manager) == 1 and loader.tries["m", 2] == 4
    until(lambda: said[-1].endswith("did not load 4 times, and is given up."))
    assert [line for line in said if "no tag" in line] == [
        "Version 2 of model m does not load: no tag 'serve' It is tried again every "
        "0.001 s, at most 3 times."
    ]


def test_a_version_that_loads_at_last_is_served(make, loader, tmp_path):
    manager = make(load_retries=1000, retry_s=0.001)
    push(tmp_path, "m", 1)
    loader.errors["m", 1] = OSError(5, "flaky disk")
    outcome = threading.Thread(target=manager.apply, args=[config(tmp_path, "m")])
    outcome.start()
    until(lambda: loader.tries["m", 1] > 2)
    (waiting,) = manager.status(spec()).model_version_status
    assert waiting.state == LOADING and not waiting.status.error_message
    del loader.errors["m", 1]
    outcome.join(WAIT_S)
    assert served(manager) == 1
    status = manager.status(spec()).model_version_status[0].status
    assert (status.error_code, status.error_message) == (0, "")


def test_a_failed_version_is_tried_again_when_it_comes_again(manager, loader, tmp_path):
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    loader.errors["m", 2] = ValueError("half a file")
    push(tmp_path, "m", 2)
    until(lambda: states(manager)[0] == (2, END))
    with polled(manager):
        shutil.rmtree(tmp_path / "m" / "2")
    del loader.errors["m", 2]
    push(tmp_path, "m", 2)
    until(lambda: served(manager) == 2)
    assert loader.tries["m", 2] == 2


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
def test_whatever_a_load_raises_is_in_the_status(
    manager, loader, said, tmp_path, error, code, message
):
    push(tmp_path, "m", 1)
    loader.errors["m", 1] = error
    refused, text = refusal(manager.apply, config(tmp_path, "m"))
    assert refused == StatusCode.UNKNOWN
    assert text.startswith(
        "1 servable(s) did not become available: {{{name: m version: 1} due to error: "
    )
    assert message in text and text.endswith("}, }")
    status = manager.status(spec()).model_version_status[0].status
    assert status.error_code == code and message in status.error_message
    # Only what is our own mistake comes with its traceback.
    assert any("Traceback" in line for line in said) == (code == 13)


def test_a_version_taken_from_the_disk_is_unloaded_and_the_one_before_comes_back(
    manager, loader, tmp_path
):
    push(tmp_path, "m", 1)
    push(tmp_path, "m", 2)
    manager.apply(config(tmp_path, "m"))
    shutil.rmtree(tmp_path / "m" / "2")
    until(lambda: states(manager) == [(2, END), (1, AVAILABLE)])
    shutil.rmtree(tmp_path / "m" / "1")
    until(lambda: states(manager) == [(2, END), (1, END)])
    assert manager.available() == {"m": ()} and loader.open == []


def test_a_base_path_that_is_away_changes_nothing(manager, loader, said, tmp_path):
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    with polled(manager):
        (tmp_path / "m").rename(tmp_path / "away")
    assert served(manager) == 1
    assert sum("Could not find base path" in line for line in said) == 1


def test_all_versions_or_those_named_are_served_side_by_side(manager, tmp_path):
    for number in (1, 2, 3):
        push(tmp_path, "m", number)
        push(tmp_path, "n", number)
    both = config(tmp_path, "m", policy="all")
    both.MergeFrom(config(tmp_path, "n", policy=[1, 3]))
    manager.apply(both)
    until(lambda: manager.available() == {"m": (1, 2, 3), "n": (1, 3)})
    assert [served(manager, version=n) for n in (1, 2, 3)] == [1, 2, 3]
    assert served(manager, name="n") == 3


def test_a_reload_replaces_the_list_and_follows_policies_and_base_paths(
    manager, loader, said, tmp_path
):
    for name in ("m", "n", "moved/n"):
        push(tmp_path, name, 1)
        push(tmp_path, name, 2)
    push(tmp_path, "moved/n", 3)
    manager.apply(config(tmp_path, "m", "n"))
    after = config(tmp_path, "n", "o", policy=[1, 3])
    after.model_config_list.config[0].base_path = str(tmp_path / "moved/n")
    push(tmp_path, "o", 1)
    manager.apply(after)
    assert served(manager, name="o") == 1  # it was waited for
    until(lambda: manager.available() == {"n": (1, 3), "o": (1,)})
    assert states(manager, "m") == [(2, END)]
    assert refusal(manager.use(spec("m")).__enter__)[1].endswith("Latest(m)")
    assert any("Model n has another base path." in line for line in said)
    manager.apply(config(tmp_path))
    until(lambda: not loader.open)


def test_a_model_that_comes_back_is_waited_for_and_loaded_anew(
    manager, loader, tmp_path
):
    push(tmp_path, "m", 1)
    for _ in range(3):
        manager.apply(config(tmp_path, "m"))
        assert served(manager) == 1
        manager.apply(config(tmp_path))
    assert loader.tries["m", 1] == 3


def test_a_look_that_a_config_overtakes_is_forgotten(manager, loader, tmp_path):
    push(tmp_path, "m", 1)
    push(tmp_path, "n", 1)
    manager.apply(config(tmp_path, "m"))
    looked, replaced = threading.Event(), threading.Event()
    look = manager._watcher.look

    def slow(model):
        found = look(model)
        if model.name == "m":
            looked.set()
            assert replaced.wait(WAIT_S)
        return found

    manager._watcher.look = slow
    assert looked.wait(WAIT_S)
    manager.apply(config(tmp_path))
    until(lambda: states(manager) == [(1, END)])
    replaced.set()
    manager.apply(config(tmp_path, "n"))
    assert states(manager) == [(1, END)] and loader.tries["m", 1] == 1


def test_a_refused_config_changes_nothing(manager, loader, tmp_path):
    push(tmp_path, "m", 1)
    push(tmp_path, "other", 2)
    good = config(tmp_path, "m")
    manager.apply(good)
    relative = config(tmp_path, "n")
    relative.model_config_list.config[0].base_path = "n"
    for bad, code in [
        (relative, StatusCode.INVALID_ARGUMENT),
        (config(tmp_path, "n", "n"), StatusCode.INVALID_ARGUMENT),
        (ModelServerConfig(), StatusCode.FAILED_PRECONDITION),
        (config(tmp_path, "m", labels={"stable": 9}), StatusCode.FAILED_PRECONDITION),
    ]:
        assert refusal(manager.apply, bad)[0] == code
    with polled(manager):
        # The manager has a copy of its own.
        good.model_config_list.config[0].base_path = str(tmp_path / "other")
    assert served(manager) == 1 and manager.available() == {"m": (1,)}


def test_a_reload_says_which_new_model_does_not_load_and_keeps_the_others(
    manager, loader, tmp_path
):
    for name in ("m", "n", "o"):
        push(tmp_path, name, 1)
    manager.apply(config(tmp_path, "m"))
    loader.errors["n", 1] = failed_precondition("broken")
    assert refusal(manager.apply, config(tmp_path, "m", "n", "o")) == (
        StatusCode.UNKNOWN,
        "1 model(s) did not become available: {{{name: n version: 1} due to error: "
        "FAILED_PRECONDITION: broken}, }",
    )
    assert manager.available() == {"m": (1,), "n": (), "o": (1,)}


def test_a_model_without_versions_is_waited_for(manager, tmp_path, said):
    (tmp_path / "m").mkdir()
    waiting = threading.Thread(target=manager.apply, args=[config(tmp_path, "m")])
    waiting.start()
    until(lambda: any("No versions of servable m found" in line for line in said))
    assert waiting.is_alive()
    push(tmp_path, "m", 1)
    waiting.join(WAIT_S)
    assert served(manager) == 1
    assert sum("No versions of servable" in line for line in said) == 1


def test_waiting_for_a_model_ends_with_the_deadline_a_later_config_or_the_manager(
    manager, tmp_path
):
    (tmp_path / "m").mkdir()
    assert refusal(manager.apply, config(tmp_path, "m"), Deadline(0.01)) == (
        StatusCode.DEADLINE_EXCEEDED,
        "The time was over while waiting for: m",
    )
    answers = []

    def wait(name, deadline=None):
        with pytest.raises(ServingError) as caught:
            manager.apply(config(tmp_path, "m", name), deadline)
        answers.append(caught.value.code)

    def start(*args):
        thread = threading.Thread(target=wait, args=args)
        thread.start()
        until(lambda: args[0] in manager.available())
        return thread

    first = start("n")
    second = start("o")
    first.join(WAIT_S)
    deadline = Deadline()
    manager.apply(config(tmp_path, "m"))
    second.join(WAIT_S)
    third = start("p", deadline)
    deadline.cancel()  # the client has gone
    third.join(WAIT_S)
    fourth = start("q")
    manager.close()
    fourth.join(WAIT_S)
    assert answers == [
        StatusCode.ABORTED,
        StatusCode.ABORTED,
        StatusCode.DEADLINE_EXCEEDED,
        StatusCode.UNAVAILABLE,
    ]


def test_labels_are_given_to_available_versions_and_moved_by_a_reload(
    manager, tmp_path
):
    push(tmp_path, "m", 1)
    push(tmp_path, "m", 2)
    labels = {"stable": 1, "canary": 2}
    labelled = config(tmp_path, "m", policy="all", labels=labels)
    assert refusal(manager.apply, labelled) == (
        StatusCode.FAILED_PRECONDITION,
        "Request to assign label to version 2 of model m, which is not currently "
        "available for inference",
    )
    manager.apply(config(tmp_path, "m", policy="all"))
    until(lambda: manager.available() == {"m": (1, 2)})
    manager.apply(labelled)
    assert [served(manager, label=n) for n in ("stable", "canary")] == [1, 2]
    manager.apply(config(tmp_path, "m", policy="all", labels={"stable": 2}))
    assert served(manager, label="stable") == 2
    assert refusal(manager.use(spec(label="canary")).__enter__)[1] == (
        "Unrecognized servable version label: canary"
    )
    shutil.rmtree(tmp_path / "m" / "2")
    until(lambda: manager.available() == {"m": (1,)})
    assert refusal(manager.use(spec(label="stable")).__enter__)[1] == (
        "Servable not found for request: Specific(m, 2)"
    )


def test_early_labels_may_be_given_at_once_but_not_moved_to_what_is_not_there(
    make, tmp_path
):
    manager = make(early_labels=True)
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m", labels={"stable": 1}))
    assert served(manager, label="stable") == 1
    manager.apply(config(tmp_path, "m", labels={"stable": 1, "canary": 2}))
    moved = config(tmp_path, "m", labels={"stable": 2})
    assert refusal(manager.apply, moved)[0] == StatusCode.FAILED_PRECONDITION


def test_close_waits_for_users_and_then_for_nobody(make, loader, said, tmp_path):
    manager = make()
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    with manager.use(spec()) as held:
        closing = threading.Thread(target=manager.close)
        closing.start()
        until(lambda: states(manager) == [(1, UNLOADING)])
        assert not held.servable.closings
    closing.join(WAIT_S)
    assert held.servable.closings == 1
    assert refusal(manager.apply, config(tmp_path, "m"))[0] == StatusCode.UNAVAILABLE
    assert refusal(manager.use(spec()).__enter__)[0] == StatusCode.NOT_FOUND


def test_what_is_used_to_the_end_is_left_and_never_closed_under_its_users(
    loader, said, tmp_path
):
    push(tmp_path, "m", 1)
    impatient = Manager(loader, poll_s=0.005, load_retries=0, say=said.append)
    impatient.apply(config(tmp_path, "m"))
    with impatient.use(spec()) as held:
        assert not impatient.close(0.01)
        assert held.servable.closings == 0
    assert any("is left: 1 requests still use it" in line for line in said)


def test_what_is_loaded_while_the_manager_closes_is_closed_too(
    manager, loader, tmp_path
):
    push(tmp_path, "m", 1)
    gate = loader.hold("m", 1)
    with pytest.raises(ServingError, match="The time was over"):
        manager.apply(config(tmp_path, "m"), Deadline(0.01))
    until(lambda: loader.tries["m", 1])
    closing = threading.Thread(target=manager.close)
    closing.start()
    gate.set()
    closing.join(WAIT_S)
    assert states(manager) == [(1, END)] and [s.closings for s in loader.made] == [1]


def test_a_servable_that_does_not_close_well_is_gone_all_the_same(
    manager, loader, said, tmp_path
):
    def close():
        loader.made[0].closings = 1
        raise OSError("stuck")

    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    loader.made[0].close = close
    push(tmp_path, "m", 2)
    until(lambda: states(manager) == [(2, AVAILABLE), (1, END)])
    assert any("did not close well" in line and "stuck" in line for line in said)


def test_a_log_that_nobody_reads_stops_nothing(loader, tmp_path):
    def say(line):
        raise BrokenPipeError

    manager = Manager(loader, poll_s=0.005, load_retries=0, say=say)
    push(tmp_path, "m", 1)
    manager.apply(config(tmp_path, "m"))
    push(tmp_path, "m", 2)
    until(lambda: served(manager) == 2)
    manager.close()
    assert loader.open == []


def test_requests_go_on_while_versions_appear_fail_and_vanish(make, loader, tmp_path):
    manager, names = make(), ("m", "n")
    stop, errors, uses = threading.Event(), [], Counter()

    def request(name, worker):
        try:
            while not stop.is_set():
                with manager.use(spec(name)) as held:
                    assert held.name == held.servable.name == name
                    assert not held.servable.closings, "given a closed one"
                    if worker % 2:
                        time.sleep(0.001)
                    assert not held.servable.closings, "closed under a user"
                uses[name, worker] += 1
        except Exception as error:
            errors.append(error)

    for name in names:
        push(tmp_path, name, 1)
    manager.apply(config(tmp_path, *names))
    workers = [
        threading.Thread(target=request, args=(names[i % 2], i // 2)) for i in range(6)
    ]
    for worker in workers:
        worker.start()
    good = 1
    for number in range(2, 32):
        breaks = number % 5 == 0
        for name in names:
            if breaks:
                loader.errors[name, number] = OSError("broken")
            push(tmp_path, name, number)
        expected = number, END if breaks else AVAILABLE
        for name in names:
            until(lambda n=name, e=expected: states(manager, n)[0] == e)
            shutil.rmtree(tmp_path / name / str(number if breaks else good))
        good = good if breaks else number
    stop.set()
    for worker in workers:
        worker.join(WAIT_S)
    assert errors == [] and len(uses) == len(workers)
    until(lambda: loader.open == [(name, good) for name in names])
