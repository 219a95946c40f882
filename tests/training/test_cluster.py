import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from mmkeras.errors import UserError
from mmkeras.export.inference import load_trained
from mmkeras.train import main
from mmkeras.training import run_folder
from mmkeras.training.cluster import Cluster, read_cluster
from mmkeras.training.distributed import RESTART_HINT
from tests import table_factory
from tests.program_harness import error_of, output_of, wait_for_checkpoint

ROOT = Path(__file__).parents[2]
PAIR = {"worker": ["a:1", "b:2"]}


def tf_config(cluster, kind="worker", index=0):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


def read(text):
    return read_cluster({"TF_CONFIG": text})


@pytest.mark.parametrize(
    "environment",
    [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, {"TF_CONFIG": '{"task": {}}'}],
)
def test_without_a_cluster_a_process_is_a_single_chief(environment):
    assert read_cluster(environment).workers == 1
    assert read_cluster(environment).is_chief


@pytest.mark.parametrize(
    ("jobs", "task", "addresses", "index"),
    [
        (PAIR, ("worker", 0), "a:1 b:2", 0),
        (PAIR, ("worker", 1), "a:1 b:2", 1),
        (PAIR, ("worker", "1"), "a:1 b:2", 1),
        ({**PAIR, "chief": ["c:3"]}, ("chief",), "c:3 a:1 b:2", 0),
        ({**PAIR, "chief": ["c:3"]}, ("worker",), "c:3 a:1 b:2", 1),
        ({**PAIR, "chief": ["c:3"]}, ("worker", 1), "c:3 a:1 b:2", 2),
    ],
)
def test_the_chief_or_else_worker_0_comes_first(jobs, task, addresses, index):
    cluster = read(tf_config(jobs, *task))
    assert cluster == Cluster(addresses=tuple(addresses.split()), index=index)
    assert cluster.is_chief == (index == 0)
    assert cluster.workers == len(cluster.addresses)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{'cluster'", "not JSON (Expecting property name"),
        ("[1]", "[1], not an object"),
        ('{"cluster": ["a:1"]}', 'cluster ["a:1"], not an object'),
        (tf_config({"ps": ["a:1"], **PAIR}), "job 'ps'; only chief and worker"),
        (tf_config({"worker": "a:1"}), 'worker "a:1", not a list of HOST:PORT'),
        (tf_config({"worker": ["a", "b:2"]}), 'worker ["a", "b:2"], not a list'),
        (tf_config({"worker": []}), "worker [], not a list"),
        (tf_config({"worker": ["a:1", "a:1"]}), "address 'a:1' twice"),
        (tf_config({"chief": ["a:1", "b:2"]}, "chief"), "2 chiefs; one"),
        (json.dumps({"cluster": PAIR}), "task null"),
        (tf_config(PAIR, "evaluator"), 'task {"type": "evaluator"'),
        (tf_config(PAIR, index=2), "index 2, and worker has 2"),
        (tf_config(PAIR, index=-1), "index -1, and worker has 2"),
        (tf_config(PAIR, index=True), "index true, and worker has 2"),
    ],
)
def test_a_wrong_tf_config_is_refused_with_an_example(text, problem):
    with pytest.raises(UserError) as error:
        read(text)
    assert problem in str(error.value) and "\n" not in str(error.value)
    assert 'Give it as {"cluster": {"worker": ["HOST:PORT"' in str(error.value)


def test_a_chief_is_reachable_while_its_port_is_open(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        cluster = Cluster(addresses=(address, "b:2"), index=1)
        assert cluster.is_chief_reachable()
    assert not cluster.is_chief_reachable()


@pytest.mark.parametrize(
    ("text", "argv", "message"),
    [
        ("{", [], "TF_CONFIG is not JSON"),
        (tf_config(PAIR), [], "TF_CONFIG names 2 workers, which need one --output"),
        (
            tf_config(PAIR),
            ["--output", "run", "--evaluate.trained_alone", "true"],
            "evaluate.trained_alone=true",
        ),
        (
            tf_config(PAIR),
            ["--output", "run", "--preset", "linear"],
            "fusion.kind=linear trains in one process, and TF_CONFIG names 2 workers",
        ),
    ],
)
def test_a_mistake_makes_no_folder(text, argv, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TF_CONFIG", text)
    assert message in error_of(main, argv, monkeypatch, capsys)
    assert not list(tmp_path.iterdir())


def test_a_worker_of_a_finished_run_ends_without_a_lock(tmp_path, monkeypatch, capsys):
    (tmp_path / "manifest.json").write_text('{"finished": true, "data": "x"}')
    monkeypatch.setenv("TF_CONFIG", tf_config(PAIR, index=1))
    assert main(["--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


# Two workers on this machine ----------------------------------------------------


class Workers:
    """Two processes of one cluster; `argv` are the arguments of each."""

    def __init__(self, output, *argv):
        with ExitStack() as stack:
            servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
            ports = [stack.enter_context(s).getsockname()[1] for s in servers]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        self.output = output
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "mmkeras.train", "--output", output, *words],
                cwd=ROOT,
                env={**os.environ, "TF_CONFIG": tf_config(cluster, index=i)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for i, words in enumerate(argv)
        ]

    def wait_for_checkpoint(self, name):
        wait_for_checkpoint(self.output, name, *self.processes)

    def kill(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait(self, timeout=600):
        """Returns exit code, output and errors of each."""
        try:
            texts = [p.communicate(timeout=timeout) for p in self.processes]
        finally:
            self.kill()
        codes = [process.returncode for process in self.processes]
        return [(code, *text) for code, text in zip(codes, texts, strict=True)]


def write_run(base, rows):
    """Writes table and settings of a run; returns the arguments of the program."""
    table = table_factory.write_table(base / "data.csv", rows)
    config = table_factory.tiny_config(
        base / "cache",
        epochs=4,
        train={"batch_size": 6},  # 8 validation rows: 6 and 2
        augment={"flip": True, "word_dropout": 0.1, "spec_frames": 0.1},
        # Per row: in a contrastive loss the rows of one worker are the candidates.
        loss={"text": 0.5, "text_audio": 0.2, "alignment": "cosine"},
    )
    run_folder.write_config(base, config)
    return ["--config", str(base / "config.yaml"), "--data", str(table)]


@pytest.fixture(scope="module")
def argv(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("cluster"), table_factory.make_rows())


def weights(folder):
    variables = load_trained(folder).model.variables
    # The states of seeds differ, since each run loads them at another moment.
    return {v.path: v.numpy() for v in variables if "seed" not in v.path}


def error_line(stderr):
    """Returns the only error line; the rest is TensorFlow's log."""
    assert "Traceback" not in stderr
    (line,) = [x for x in stderr.splitlines() if x.startswith("error: ")]
    return line


def assert_same_run(folder, other):
    """Compares losses and metrics of each epoch, and weights with the temperature."""
    histories = [json.loads((f / "history.json").read_text()) for f in (folder, other)]
    for entry, expected in zip(*histories, strict=True):
        assert entry == pytest.approx(expected, abs=1e-4)
    first, second = weights(folder), weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(value, second[name], atol=1e-4, err_msg=name)


def file_names(folder):
    """Names of all files; those of TensorBoard's logs have a time stamp."""
    paths = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(str(p.parent if p.parts[0] == "logs" else p) for p in paths)


def test_two_workers_train_the_model_of_one_process(tmp_path):
    # The last training batch has 4 rows of 6, and is filled up.
    splits = ["train"] * 22 + ["val"] * 8 + ["test"] * 8
    audio = [table_factory.vector([i % 2, 0.1 * i]) for i in range(len(splits))]
    argv = write_run(tmp_path, table_factory.texts(splits, audio=audio))
    output_of(main, [*argv, "--output", tmp_path / "single"])
    (code, out, _), other = Workers(tmp_path / "run", argv, argv).wait()
    assert code == 0 and "Metrics on 8 rows" in out
    assert other[:2] == (0, "") and "Traceback" not in other[2]
    assert_same_run(tmp_path / "single", tmp_path / "run")
    assert file_names(tmp_path / "run") == file_names(tmp_path / "single")


@pytest.mark.slow
def test_two_killed_workers_go_on_and_train_the_same_model(argv, tmp_path):
    output_of(main, [*argv, "--output", tmp_path / "single"])
    folder = tmp_path / "run"
    workers = Workers(folder, argv, argv)
    workers.wait_for_checkpoint("phase1-epoch00002")
    workers.kill()
    assert [code for code, *_ in workers.wait()] == [-signal.SIGKILL] * 2
    assert not (folder / "metrics.json").exists()

    results = Workers(folder, argv, argv).wait()

    assert [code for code, *_ in results] == [0, 0], results[0][2][-3000:]
    assert "Epoch 3/4" in results[0][1] and "Epoch 2/4" not in results[0][1]
    assert_same_run(tmp_path / "single", folder)


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_worker_that_loses_another_ends_with_one_line(lost, argv, tmp_path):
    argv = [*argv, "--epochs", "500"]
    workers = Workers(tmp_path / "run", argv, argv)
    workers.wait_for_checkpoint("phase1-epoch0000[2-9]")
    workers.processes[lost].kill()
    code, _, stderr = workers.wait(timeout=180)[1 - lost]
    assert code == 2
    line = error_line(stderr)
    assert "Another worker is gone (" in line and line.endswith(RESTART_HINT)


def test_workers_with_different_settings_both_refuse(argv, tmp_path):
    seeds = [[*argv, "--seed", str(seed)] for seed in (1, 2)]
    for code, _, stderr in Workers(tmp_path / "run", *seeds).wait():
        assert code == 2 and "different settings" in error_line(stderr)
