"""The program pipeline.kubeflow, and the containers of its compiled pipeline."""

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tensorflow as tf
import yaml

from mmkeras.config import to_dict
from mmkeras.errors import UserError
from mmkeras.schema import LABEL, PROBABILITIES, SERVING_DEFAULT
from pipeline import kubeflow
from pipeline.components.evaluator import evaluation_summary
from pipeline.kubeflow import main
from tests import table_factory
from tests.pipeline.fake_kfp_launcher import REPOSITORY, Launcher
from tests.pipeline.kfp_api import RUNS, kfp_api

# kfp 2.5 uses an old urllib3.
pytestmark = pytest.mark.filterwarnings(
    "ignore:HTTPResponse.getheader:DeprecationWarning"
)


@pytest.fixture
def argv_of(compiled, tmp_path):
    """Builds a complete command line; a value of None leaves its flag out."""

    def make(**changes):
        flags = {"data": compiled.table, "root": tmp_path / "root", "image": "image:1"}
        flags |= {"output": tmp_path / "pipeline.yaml"} | changes
        pairs = ([f"--{k}", str(v)] for k, v in flags.items() if v is not None)
        return [word for pair in pairs for word in pair]

    return make


def read_spec(folder):
    return yaml.safe_load((folder / "pipeline.yaml").read_text())


def error_of(argv):
    with pytest.raises(UserError) as error:
        main(argv)
    assert "\n" not in str(error.value)
    return str(error.value)


# The command line --------------------------------------------------------------


@pytest.mark.parametrize(("argv", "code"), [(["--help"], 0), (["--data", "x.csv"], 2)])
def test_help_and_mistakes_need_no_heavy_imports(argv, code):
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pipeline.kubeflow", *argv],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert process.returncode == code
    assert re.search(r"\| +mmkeras\.cli$", process.stderr, re.MULTILINE)
    heavy = r"\| +(tensorflow|tfx|kfp|apache_beam)$"
    assert not re.search(heavy, process.stderr, re.MULTILINE)
    if code:
        assert process.stderr.splitlines()[-1].startswith("error: --root is missing")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *[({n: None}, f"^--{n} is missing.") for n in ("data", "image", "output")],
        ({"root": "minio://bucket/x"}, "--root.*gs://.*s3://"),
        ({"root": "gs://bucket/a*"}, r"--root 'gs://bucket/a\*' has one of"),
        ({"data": "/none.csv"}, "--data '/none.csv' is no file"),
        ({"unlabeled": "/none.csv"}, "--unlabeled '/none.csv' is no file"),
        ({"schema": "/none.pbtxt"}, "--schema '/none.pbtxt' is no file"),
        ({"baseline": "/none"}, "--baseline '/none' is no folder"),
        ({"output": "pipeline.json"}, "--output 'pipeline.json' must end in .yaml"),
        ({"output": "/none/p.yaml"}, "--output '/none/p.yaml'.*folder"),
        ({"host": "http://localhost"}, "--host.*--submit"),
        ({"image": "--submit"}, "--image needs.*'--submit'"),
        ({"kubeflow.gpu.Trianer": 1}, "Did you mean 'Trainer'?"),
        ({"rooot": "x"}, "'--rooot'. Did you mean '--root'?"),
    ],
)
def test_a_mistake_is_one_line_with_a_remedy(argv_of, changes, message):
    assert re.search(message, error_of(argv_of(**changes)))


def test_submitting_needs_a_host_and_a_remote_root(argv_of):
    assert error_of([*argv_of(), "--submit"]).startswith("--submit needs --host")
    argv = [*argv_of(host="http://localhost"), "--submit"]
    assert re.search("--root.*local folder.*gs://.*s3://", error_of(argv))


def test_the_container_image_does_not_collide_with_settings_of_images(argv_of):
    argv = argv_of(**{"image.size_px": 48, "image": None})
    request = kubeflow.parse_args([*argv, "--image=registry/name:tag"])
    assert request.image == "registry/name:tag"
    assert request.config.image.size_px == 48


# The file ----------------------------------------------------------------------


def test_a_compiled_pipeline_is_submitted(argv_of, tmp_path, monkeypatch, capsys):
    request = "pipeline.compiler.compile_request"
    monkeypatch.setattr(f"{request}._baseline", lambda args, newest: None)
    monkeypatch.setattr(f"{request}._newest_version", lambda serving_dir: "")
    monkeypatch.setattr(f"{request}._edited", lambda path, rows, uncached: "")
    with kfp_api() as (host, requests):
        argv = argv_of(root="gs://bucket/mmkeras", host=f"{host}/")
        main([*argv, "--submit"])
    assert capsys.readouterr().out.splitlines() == [
        f"Pipeline: {tmp_path / 'pipeline.yaml'}",
        f"Run:      {host}/#/runs/details/r1",
    ]
    (run,) = [body for _, path, body in requests if path.startswith(RUNS)]
    assert run["pipeline_spec"] == read_spec(tmp_path)


# Containers --------------------------------------------------------------------


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A compiled pipeline of a small table, with an unlabeled one."""
    folder = tmp_path_factory.mktemp("cluster")
    rows = table_factory.make_rows()
    rows[3]["audio"], rows[4]["text"] = "", ""
    table = table_factory.write_table(folder / "data" / "data.csv", rows)
    unlabeled = [{k: v for k, v in row.items() if k != "label"} for row in rows[:4]]
    unlabeled = table_factory.write_table(folder / "new" / "data.csv", unlabeled)
    settings = to_dict(table_factory.tiny_config(folder / "cache"))
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings | {"gate": {"max_drop": 0.5}}))
    argv = ["--data", str(table), "--unlabeled", str(unlabeled), "--image", "image:1"]
    argv += ["--root", str(folder / "root"), "--config", str(config)]
    argv += ["--output", str(folder / "pipeline.yaml")]
    main(argv)
    return SimpleNamespace(folder=folder, table=table, argv=argv)


def launcher_of(compiled, name, **options):
    root = str(compiled.folder / "root" / "artifacts")
    return Launcher(read_spec(compiled.folder), root, compiled.folder / name, **options)


@pytest.fixture(scope="module")
def cluster(compiled):
    """All containers, run until the model is pushed."""
    launcher = launcher_of(compiled, "run")
    launcher.run()
    return launcher


def test_a_container_runs_by_the_entrypoint_of_tfx(compiled):
    outputs = launcher_of(compiled, "one").run_task("ExampleGen")
    examples = outputs["examples"]["metadata"]
    assert json.loads(examples["split_names"]) == ["train", "val", "test"]
    assert examples["rows_train"] == 24


@pytest.mark.slow
def test_the_pushed_version_predicts(compiled, cluster):
    pushed = cluster.outputs["Pusher"]["pushed_model"]["metadata"]
    serving = compiled.folder / "root" / "serving" / "mmkeras"
    assert pushed["pushed"] == 1
    assert [path.name for path in serving.iterdir()] == [pushed["pushed_version"]]
    model = tf.saved_model.load(str(serving / pushed["pushed_version"]))
    (row,) = table_factory.make_rows(["test"], seed=9)
    prediction = model.signatures[SERVING_DEFAULT](
        **{name: tf.constant([row[name]]) for name in ("text", "image", "audio")}
    )
    assert prediction[LABEL].numpy()[0] in (b"red", b"green")
    assert prediction[PROBABILITIES].numpy().sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_artifacts_have_their_properties_and_unlabeled_rows_are_predicted(cluster):
    statistics = cluster.outputs["StatisticsGen"]["statistics"]["metadata"]
    assert json.loads(statistics["split_names"]) == ["train", "val", "test"]
    blessing = cluster.outputs["Evaluator"]["blessing"]["metadata"]
    assert blessing["current_model_id"] == cluster.outputs["Trainer"]["model"]["name"]
    uri = cluster.outputs["BulkInferrer"]["inference_result"]["uri"]
    files = tf.io.gfile.glob(f"{uri}/*.gz")
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    assert len(list(records)) == 4


@pytest.mark.slow
def test_a_second_model_is_compared_with_the_first(compiled, cluster):
    """Only the Evaluator's container runs again, on the same candidate."""
    main(compiled.argv)
    first = cluster.outputs
    outputs = {n: v for n, v in first.items() if n not in ("Evaluator", "Pusher")}
    second = launcher_of(compiled, "second", outputs=outputs)
    second.tasks.pop("Pusher")
    second.tasks.pop("BulkInferrer")
    assert second.run() == ["Baseline", "Evaluator"]
    baseline = second.outputs["Baseline"]["result"]["uri"]
    assert baseline == first["Pusher"]["pushed_model"]["metadata"]["pushed_destination"]
    summary = evaluation_summary(second.outputs["Evaluator"]["evaluation"]["uri"])
    assert summary["baseline"]["accuracy"] == summary["accuracy"]
    assert second.outputs["Evaluator"]["blessing"]["metadata"]["blessed"] == 1
