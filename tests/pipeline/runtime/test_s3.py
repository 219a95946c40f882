"""Tests of s3:// with and without tensorflow-io, against a server on loopback."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tensorflow as tf
import yaml

from mmkeras.config import to_dict
from mmkeras.errors import UserError
from pipeline.kubeflow import main
from pipeline.runtime import s3
from tests import table_factory
from tests.pipeline.fake_kfp_launcher import S3Launcher
from tests.pipeline.s3_server import s3_server

with_tensorflow_io = pytest.mark.skipif(
    not s3.tensorflow_opens_s3(), reason="tensorflow-io has no builds for this Python"
)
without_tensorflow_io = pytest.mark.skipif(
    s3.tensorflow_opens_s3(), reason="tensorflow-io is installed"
)


def run(*argv):
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True)


@with_tensorflow_io
def test_tensorflow_opens_s3_once_it_is_registered():
    process = run(
        "-c",
        "import tensorflow as tf; from pipeline.runtime import s3\n"
        "schemes = tf.io.gfile.get_registered_schemes\n"
        "before = 's3' in schemes(); s3.register(); print(before, 's3' in schemes())",
    )
    assert process.stdout == "False True\n", process.stderr


def test_the_entrypoint_is_that_of_tfx():
    process = run("-m", "pipeline.runtime.s3", "--help")
    assert process.returncode == 0, process.stderr
    assert "--json_serialized_invocation_args" in process.stdout


def test_missing_packages_are_reported(monkeypatch):
    flink = {"Transform": "--runner=FlinkRunner"}
    missing = {"tensorflow_io", "boto3"}
    monkeypatch.setattr(s3, "find_spec", lambda name: name not in missing or None)
    s3.check(["gs://bucket/data.csv", None, "/data.csv"], flink)
    with pytest.raises(UserError, match=r"'s3://b/root' needs boto3.*\[s3\]"):
        s3.check(["gs://bucket/data.csv", "s3://b/root"], {})
    missing.remove("boto3")
    s3.check(["s3://b/root"], {"Transform": ""})
    with pytest.raises(UserError, match="kubeflow.beam_args cannot be used with 's3:"):
        s3.check(["s3://b/root"], flink)
    missing.remove("tensorflow_io")
    s3.check(["s3://b/root"], flink)


# Without tensorflow-io ---------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("boto3", reason="needs the extra s3")
    with s3_server() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        yield server


@without_tensorflow_io
def test_artifacts_are_local_copies_and_other_uris_do_not_change(tmp_path, monkeypatch):
    output_file = tmp_path / "output.json"

    def artifacts(name, uri):
        return {"artifacts": {name: {"artifacts": [{"uri": uri}]}}}

    parameters = {"parameterValues": {"table": "s3://bucket/data.csv"}}
    inputs = parameters | artifacts("model", "s3://bucket/1/model")
    outputs = artifacts("pushed", "s3://bucket/2/pushed")
    outputs["outputFile"] = str(output_file)
    executions = []

    def component(argv):
        executions.append(json.loads(argv[1]))
        pushed = {"uri": "/s3/bucket/2/pushed", "metadata": {"source": "/s3/bucket/1"}}
        output_file.write_text(json.dumps({"artifacts": {"pushed": [pushed]}}))

    monkeypatch.setattr(s3, "_run", component)
    monkeypatch.setattr(s3, "register", lambda: None)
    execution = json.dumps({"inputs": inputs, "outputs": outputs})
    s3.main(["--json_serialized_invocation_args", execution])
    (execution,) = executions
    assert execution["inputs"] == parameters | artifacts("model", "/s3/bucket/1/model")
    pushed = artifacts("pushed", "/s3/bucket/2/pushed")["artifacts"]
    assert execution["outputs"]["artifacts"] == pushed
    (output,) = json.loads(output_file.read_text())["artifacts"]["pushed"]
    assert output == {
        "uri": "s3://bucket/2/pushed",
        "metadata": {"source": "s3://bucket/1"},
    }


@pytest.fixture(scope="module")
def cluster(server, tmp_path_factory):
    """All containers of a pipeline whose table and root are on s3://, after a run."""
    folder = tmp_path_factory.mktemp("cluster")
    table = table_factory.write_table(
        folder / "data" / "data.csv", table_factory.make_rows()
    )
    for path in filter(lambda path: path.is_file(), table.parent.rglob("*")):
        name = f"bucket/{path.relative_to(folder).as_posix()}"
        server.objects[name] = path.read_bytes()
    settings = to_dict(table_factory.tiny_config(folder / "cache"))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    argv = ["--data", "s3://bucket/data/data.csv", "--root", "s3://bucket/mmkeras"]
    argv += ["--image", "image:1", "--config", str(folder / "config.yaml")]
    main([*argv, "--output", str(folder / "pipeline.yaml")])
    spec = yaml.safe_load((folder / "pipeline.yaml").read_text())
    root = "s3://bucket/mmkeras/artifacts"
    launcher = S3Launcher(spec, root, folder / "run", objects=server.objects)
    launcher.run()
    return SimpleNamespace(launcher=launcher, objects=server.objects, argv=argv)


@without_tensorflow_io
@pytest.mark.slow
def test_a_pipeline_on_s3_pushes_a_model(cluster, tmp_path):
    pushed = cluster.launcher.outputs["Pusher"]["pushed_model"]["metadata"]
    destination = pushed["pushed_destination"]
    assert destination.startswith("s3://bucket/mmkeras/serving/mmkeras/")
    base = destination.removeprefix("s3://")
    names = [
        name for name in cluster.objects if name.startswith("bucket/mmkeras/serving")
    ]
    assert names and all(name.startswith(f"{base}/") for name in names)
    for name in names:
        path = tmp_path / name.removeprefix(f"{base}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cluster.objects[name])
    model = tf.saved_model.load(str(tmp_path))
    (row,) = table_factory.make_rows(["test"], seed=9)
    data = {name: tf.constant([row[name]]) for name in ("text", "image", "audio")}
    label = model.signatures["serving_default"](**data)["label"].numpy()[0]
    assert label in (b"red", b"green")
    assert "bucket/mmkeras/schema/schema.pbtxt" in cluster.objects
    assert str(cluster.launcher.local) not in json.dumps(cluster.launcher.outputs)


@without_tensorflow_io
@pytest.mark.slow
def test_the_pushed_version_on_s3_is_the_next_baseline(cluster, tmp_path):
    main([*cluster.argv, "--output", str(tmp_path / "pipeline.yaml")])
    spec = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    importer = spec["deploymentSpec"]["executors"]["Baseline_executor"]["importer"]
    pushed = cluster.launcher.outputs["Pusher"]["pushed_model"]["metadata"]
    assert importer["artifactUri"]["constant"] == pushed["pushed_destination"]
