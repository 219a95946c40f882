import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from mmkeras.config import to_dict
from mmkeras.errors import UserError
from mmkeras.schema import LABEL, PROBABILITIES, SERVING_DEFAULT
from pipeline import kubeflow
from pipeline.components.evaluator import evaluation_summary
from pipeline.kubeflow import main
from tests import table_factory
from tests.pipeline.compiler.test_kfp_client import RUNS, api
from tests.pipeline.fake_kfp_launcher import REPOSITORY, Launcher

# Of kfp 2.5 itself, which uses an old urllib3.
pytestmark = pytest.mark.filterwarnings(
    "ignore:HTTPResponse.getheader:DeprecationWarning"
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kubeflow")
    return table_factory.write_table(folder / "data.csv", table_factory.make_rows())


@pytest.fixture
def given(table, tmp_path):
    """Flags that are all there; a None takes one away."""

    def make(**changes):
        flags = {"data": table, "root": tmp_path / "root", "image": "image:1"}
        flags |= {"output": tmp_path / "pipeline.yaml"} | changes
        pairs = ([f"--{k}", str(v)] for k, v in flags.items() if v is not None)
        return [word for pair in pairs for word in pair]

    return make


def error_of(argv):
    with pytest.raises(UserError) as refused:
        main(argv)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# The command line --------------------------------------------------------------


def test_help_and_mistakes_are_answered_at_once():
    for argv, code in ((["--help"], 0), (["--data", "x.csv"], 2)):
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-m", "pipeline.kubeflow", *argv],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code
        assert time.monotonic() - start < 5  # a second, were the machine quiet
        assert re.search(r"\| +mmkeras\.cli$", done.stderr, re.MULTILINE)
        heavy = r"\| +(tensorflow|tfx|kfp|apache_beam)$"
        assert not re.search(heavy, done.stderr, re.MULTILINE)
    assert done.stderr.splitlines()[-1].startswith("error: --root is missing")


@pytest.mark.parametrize("name", ["data", "root", "image", "output"])
def test_what_is_missing_is_named(given, name):
    assert error_of(given(**{name: None})).startswith(f"--{name} is missing.")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"root": "minio://bucket/x"}, "it must be gs://... or s3://..., which comp"),
        ({"data": "/none.csv"}, "--data '/none.csv' is no file"),
        ({"unlabeled": "/none.csv"}, "--unlabeled '/none.csv' is no file"),
        ({"schema": "/none.pbtxt"}, "--schema '/none.pbtxt' is no file"),
        ({"baseline": "/none"}, "--baseline '/none' is no folder"),
        ({"output": "pipeline.json"}, "--output 'pipeline.json' must end in .yaml."),
        ({"output": "/none/p.yaml"}, "lies in no folder that is there."),
        ({"host": "http://localhost"}, "--host is where --submit goes"),
        ({"image": "--submit"}, "--image needs the name of an image, received '--s"),
        ({"kubeflow.gpu.Trianer": 1}, "Did you mean 'Trainer'?"),
        ({"rooot": "x"}, "There is no flag '--rooot'. Did you mean '--root'?"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(given, changes, said):
    assert said in error_of(given(**changes))


def test_submitting_needs_a_host_and_a_root_that_pods_see(given):
    assert error_of([*given(), "--submit"]).startswith("--submit needs --host")
    argv = [*given(host="http://localhost"), "--submit"]
    assert "is a local folder, which no pod of a cluster sees" in error_of(argv)


def test_the_image_and_settings_of_pictures_do_not_get_in_each_others_way(given):
    argv = given(**{"image.size_px": 48, "image": None})
    request = kubeflow._request([*argv, "--image=registry/name:tag"])
    assert request.image == "registry/name:tag"
    assert request.config.image.size_px == 48


# The file ----------------------------------------------------------------------


def test_the_file_parses_back_and_is_the_same_again(given, tmp_path, capsys):
    main(given())
    text = (tmp_path / "pipeline.yaml").read_text()
    spec = yaml.safe_load(text)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert capsys.readouterr().out == f"Pipeline: {tmp_path / 'pipeline.yaml'}\n"
    main(given())
    assert (tmp_path / "pipeline.yaml").read_text() == text


def test_a_changed_table_is_read_anew(given, tmp_path):
    rows = table_factory.make_rows()
    specs = []
    for number in (3, 4):
        rows[3]["text"] = f"number {number}"
        data = table_factory.write_table(tmp_path / "data.csv", rows)
        main(given(data=data))
        specs.append(yaml.safe_load((tmp_path / "pipeline.yaml").read_text()))
    before, after = (s["root"]["dag"]["tasks"] for s in specs)
    changed = {n for n in before if before[n] != after[n]}
    assert changed == {"ExampleGen"}


def test_a_compiled_pipeline_is_submitted(given, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "pipeline.compiler.compile_request._baseline", lambda asked, serving_dir: None
    )
    monkeypatch.setattr(
        "pipeline.compiler.compile_request._edited", lambda path, rows, uncached: ""
    )
    with api() as (host, seen):
        main(
            [
                *given(root="gs://bucket/mmkeras", host=f"{host}/"),
                *("--submit", "--kubeflow.service_account", "trainer"),
            ]
        )
    assert capsys.readouterr().out.splitlines() == [
        f"Pipeline: {tmp_path / 'pipeline.yaml'}",
        f"Run:      {host}/#/runs/details/r1",
    ]
    (run,) = [body for _, path, body in seen if path.startswith(RUNS)]
    written = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())
    assert run["pipeline_spec"] == written
    assert run["service_account"] == "trainer"
    assert run["runtime_config"]["pipeline_root"] == "gs://bucket/mmkeras/artifacts"


# A whole run -------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """All containers of a compiled pipeline, run until the model is pushed."""
    folder = tmp_path_factory.mktemp("cluster")
    rows = table_factory.make_rows()
    rows[3]["audio"], rows[4]["text"] = "", ""
    table = table_factory.write_table(folder / "data" / "data.csv", rows)
    unlabeled = [{k: v for k, v in row.items() if k != "label"} for row in rows[:4]]
    new = table_factory.write_table(folder / "new" / "data.csv", unlabeled)
    settings = to_dict(table_factory.tiny_config(folder / "cache"))
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(settings | {"gate": {"max_drop": 0.5}}))
    argv = ["--data", str(table), "--unlabeled", str(new), "--image", "image:1"]
    argv += ["--root", str(folder / "root"), "--config", str(config)]
    argv += ["--output", str(folder / "pipeline.yaml")]
    main(argv)
    launcher = Launcher(_spec(folder), f"{folder}/root/artifacts", folder / "run")
    return SimpleNamespace(
        folder=folder, argv=argv, order=launcher.run(), launcher=launcher
    )


def _spec(folder):
    return yaml.safe_load((folder / "pipeline.yaml").read_text())


@pytest.mark.e2e
def test_the_pushed_version_answers(ran):
    pushed = ran.launcher.outputs["Pusher"]["pushed_model"]["metadata"]
    serving = ran.folder / "root" / "serving" / "mmkeras"
    assert pushed["pushed"] == 1
    assert [path.name for path in serving.iterdir()] == [pushed["pushed_version"]]
    model = tf.saved_model.load(str(serving / pushed["pushed_version"]))
    (row,) = table_factory.make_rows(["test"], seed=9)
    said = model.signatures[SERVING_DEFAULT](
        text=tf.constant([row["text"]]),
        image=tf.constant([row["image"]]),
        audio=tf.constant([row["audio"]]),
    )
    assert said[LABEL].numpy()[0] in (b"red", b"green")
    assert said[PROBABILITIES].numpy().sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.e2e
def test_every_task_was_run_after_those_it_depends_on(ran):
    assert set(ran.order) == set(ran.launcher.tasks)
    for name, task in ran.launcher.tasks.items():
        for other in task.get("dependentTasks", ()):
            assert ran.order.index(other) < ran.order.index(name)


@pytest.mark.e2e
def test_properties_of_artifacts_survive_between_tasks(ran):
    outputs = ran.launcher.outputs
    examples = outputs["ExampleGen"]["examples"]["metadata"]
    statistics = outputs["StatisticsGen"]["statistics"]["metadata"]
    splits = ["train", "val", "test"]
    assert json.loads(examples["split_names"]) == splits
    assert json.loads(statistics["split_names"]) == splits
    assert examples["rows_train"] == 24
    blessing = outputs["Evaluator"]["blessing"]["metadata"]
    assert blessing["current_model_id"] == outputs["Trainer"]["model"]["name"]


@pytest.mark.e2e
def test_unlabeled_rows_are_answered(ran):
    answers = ran.launcher.outputs["BulkInferrer"]["inference_result"]["uri"]
    files = tf.io.gfile.glob(f"{answers}/*.gz")
    records = tf.data.TFRecordDataset(files, compression_type="GZIP")
    assert len(list(records)) == 4


@pytest.mark.e2e
def test_a_second_model_is_held_against_the_first(ran):
    """Only the Evaluator's container is run again, on the same candidate."""
    main(ran.argv)
    first = ran.launcher.outputs
    known = {n: v for n, v in first.items() if n not in ("Evaluator", "Pusher")}
    second = Launcher(
        _spec(ran.folder), ran.launcher.root, ran.folder / "second", known
    )
    second.tasks.pop("Pusher")
    second.tasks.pop("BulkInferrer")
    assert second.run() == ["Baseline", "Evaluator"]
    baseline = second.outputs["Baseline"]["result"]["uri"]
    version = first["Pusher"]["pushed_model"]["metadata"]["pushed_destination"]
    assert baseline == version
    summary = evaluation_summary(second.outputs["Evaluator"]["evaluation"]["uri"])
    assert summary["baseline"]["accuracy"] == summary["accuracy"]
    assert second.outputs["Evaluator"]["blessing"]["metadata"]["blessed"] == 1
