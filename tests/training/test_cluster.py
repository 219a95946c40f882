import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack

import numpy as np
import pytest

from mmkeras.cli import run_program
from mmkeras.errors import UserError
from mmkeras.train import main
from mmkeras.training.cluster import Cluster, read_cluster
from tests import table_factory
from tests.test_train import ROOT, command, contents

e2e = pytest.mark.e2e
PAIR = {"worker": ["a:1", "b:2"]}


def tf_config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def read(text):
    return read_cluster({"TF_CONFIG": text})


# TF_CONFIG --------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, {"TF_CONFIG": '{"task": {}}'}],
)
def test_without_a_cluster_a_process_is_alone_and_chief(environment):
    assert read_cluster(environment).workers == 1
    assert read_cluster(environment).is_chief


def test_worker_0_is_the_chief_of_the_workers():
    first, second = (read(tf_config(PAIR, index=i)) for i in (0, 1))
    assert first == Cluster(addresses=("a:1", "b:2"), place=0) and first.is_chief
    assert second.place == 1 and not second.is_chief and second.workers == 2


def test_a_job_named_chief_comes_before_the_workers():
    jobs = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    places = [read(tf_config(jobs, *task)).place for task in [("chief",), ("worker",)]]
    assert places == [0, 1]
    last = read(tf_config(jobs, "worker", 1))
    assert last.addresses == ("c:3", "a:1", "b:2") and last.place == 2


def test_an_index_in_quotes_is_read():
    assert read(tf_config(PAIR, index="1")).place == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'cluster'", "TF_CONFIG is no JSON (Expecting property name"),
        ("[1]", "is [1], no object"),
        ('{"cluster": ["a:1"]}', 'has cluster ["a:1"], no object'),
        (tf_config({"ps": ["a:1"], **PAIR}), "names the job 'ps'; only chief and work"),
        (tf_config({"worker": "a:1"}), 'has worker "a:1", no list of HOST:PORT'),
        (tf_config({"worker": ["a", "b:2"]}), 'has worker ["a", "b:2"], no list of H'),
        (tf_config({"worker": []}), "has worker [], no list of HOST:PORT"),
        (tf_config({"worker": ["a:1", "a:1"]}), "names the address 'a:1' twice"),
        (tf_config({"chief": ["a:1", "b:2"]}, "chief"), "names 2 chiefs; one is poss"),
        (json.dumps({"cluster": PAIR}), "has task null, whose type must be of the clu"),
        (tf_config(PAIR, "evaluator"), '"type": "evaluator", "index": 0}, whose type'),
        (
            tf_config(PAIR, index=2),
            "has task index 2, and worker has 2: it must be",
        ),
        (tf_config(PAIR, index=-1), "has task index -1, and worker has 2"),
        (tf_config(PAIR, index=True), "has task index true, and worker has 2"),
    ],
)
def test_a_wrong_tf_config_is_one_line_that_shows_a_right_one(text, message):
    with pytest.raises(UserError) as error:
        read(text)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert 'Give it as {"cluster": {"worker": ["HOST:PORT"' in str(error.value)


def test_a_chief_answers_while_its_port_is_open(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster(addresses=(address, "b:2"), place=1)
        assert cluster.chief_answers()
    assert not cluster.chief_answers()


# Refusals of the program ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "flags", "message"),
    [
        ("{", [], "error: TF_CONFIG is no JSON"),
        (tf_config(PAIR), [], "error: TF_CONFIG names 2 workers, which need one --out"),
        (
            tf_config(PAIR),
            ["--output", "run", "--evaluate.trained_alone", "true"],
            "error: evaluate.trained_alone=true trains in one process, and TF_CONFIG",
        ),
    ],
)
def test_a_mistake_is_one_line_and_makes_no_folder(
    text, flags, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CONFIG", text)
    monkeypatch.setattr(sys, "argv", ["train", *flags])
    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == 2 and not list(tmp_path.iterdir())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_another_worker_takes_no_lock_and_has_nothing_to_do_in_a_finished_run(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "manifest.json").write_text('{"finished": true, "data": "x"}')
    monkeypatch.setenv("TF_CONFIG", tf_config(PAIR, index=1))
    assert main(["--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


# Two workers on this machine ----------------------------------------------------


class Workers:
    """Two processes of one cluster, on loopback ports of their own."""

    def __init__(self, table, output, *more):
        with ExitStack() as taken:
            servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
            ports = [taken.enter_context(s).getsockname()[1] for s in servers]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        self.output = output
        self.processes = [
            subprocess.Popen(
                command(table, output, *more),
                cwd=ROOT,
                env={**os.environ, "TF_CONFIG": tf_config(cluster, index=i)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i in range(2)
        ]

    def await_checkpoint(self, name):
        end = time.monotonic() + 300
        while not any((self.output / "checkpoints").glob(name)):
            for process in self.processes:
                assert process.poll() is None, process.communicate()[1][-3000:]
            assert time.monotonic() < end
            time.sleep(0.01)

    def kill(self):
        for process in self.processes:
            process.kill()

    def ends(self, timeout=300):
        """Exit code, output and errors of each."""
        try:
            said = [p.communicate(timeout=timeout) for p in self.processes]
        finally:
            self.kill()
        codes = [process.returncode for process in self.processes]
        return [(code, *texts) for code, texts in zip(codes, said, strict=True)]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    base = tmp_path_factory.mktemp("cluster")
    return table_factory.write_table(base / "data.csv", table_factory.make_rows())


SETTINGS = ("--epochs", "4", "--train.batch_size", "6")  # 8 val rows: 6 and 2
# Of each row alone: a contrastive loss has each worker's own rows as candidates.
SETTINGS += ("--loss.image", "0.5", "--loss.text_audio", "0.2")
SETTINGS += ("--loss.alignment", "cosine")


@pytest.fixture(scope="module")
def alone(table, tmp_path_factory):
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    done = subprocess.run(
        command(table, folder, *SETTINGS), cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def weights(folder):
    import keras

    import mmkeras.models.model  # noqa: F401  its layers

    model = keras.models.load_model(folder / "model.keras")
    # The states of seeds differ, since each run loads them at another moment.
    return {v.path: v.numpy() for v in model.variables if "seed" not in v.path}


def scores(folder):
    rows = (folder / "predictions.csv").read_text().splitlines()[1:]
    return np.array([[float(cell) for cell in r.split(",")[-2:]] for r in rows])


def mistake(errors):
    """The one line of ours; TensorFlow's own log may stand before and behind it."""
    (line,) = [x for x in errors.splitlines() if x.startswith("error: ")]
    return line


def assert_same_run(one, other):
    """Equal to 1e-4: losses and metrics of each epoch, weights, predictions."""
    histories = [json.loads((f / "history.json").read_text()) for f in (one, other)]
    for entry, like in zip(*histories, strict=True):
        assert entry == pytest.approx(like, abs=1e-4)
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], atol=1e-4, err_msg=name)
    np.testing.assert_allclose(scores(one), scores(other), atol=1e-4)


@e2e
def test_two_workers_train_the_model_of_one_process(alone, table, tmp_path):
    (code, said, _), other = Workers(table, tmp_path / "run", *SETTINGS).ends()
    assert code == 0 and "Metrics on 8 rows" in said
    assert other[:2] == (0, "") and "Traceback" not in other[2]
    assert_same_run(alone, tmp_path / "run")

    def names(folder):  # but for names of TensorBoard's logs
        return {n for n in contents(folder) if not n.startswith("logs")}

    assert names(tmp_path / "run") == names(alone)
    logs = [n for n in contents(tmp_path / "run") if n.startswith("logs")]
    assert len(logs) == len([n for n in contents(alone) if n.startswith("logs")])


@e2e
def test_two_killed_workers_go_on_and_train_the_same_model(alone, table, tmp_path):
    folder = tmp_path / "run"
    cut = Workers(table, folder, *SETTINGS)
    cut.await_checkpoint("phase1-epoch00002")
    cut.kill()
    assert [code for code, *_ in cut.ends()] == [-signal.SIGKILL] * 2
    assert not (folder / "metrics.json").exists()

    again = Workers(table, folder, *SETTINGS).ends()

    assert [code for code, *_ in again] == [0, 0], again[0][2][-3000:]
    assert "Epoch 3/4" in again[0][1] and "Epoch 2/4" not in again[0][1]
    assert_same_run(alone, folder)


@e2e
@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_loses_another_ends_with_one_line(lost, table, tmp_path):
    workers = Workers(table, tmp_path / "run", "--epochs", "500")
    workers.await_checkpoint("phase1-epoch0000[2-9]")
    workers.processes[lost].kill()
    code, _, errors = workers.ends(timeout=180)[1 - lost]
    assert code == 2 and "Traceback" not in errors
    said = mistake(errors)
    assert said.startswith("error: Another worker is gone (")
    assert said.endswith(
        "Start all workers again with the same command: the run goes on."
    )


@e2e
def test_workers_with_different_settings_both_refuse(table, tmp_path, monkeypatch):
    seeds = iter([("--seed", "1"), ("--seed", "2")])
    one = command
    monkeypatch.setattr(
        sys.modules[__name__], "command", lambda *words: one(*words, *next(seeds))
    )
    for code, _, errors in Workers(table, tmp_path / "run").ends():
        assert code == 2
        assert mistake(errors).startswith("error: The workers have different settings")
