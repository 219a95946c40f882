import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline import graph
from pipeline.compiler.compile_request import CompileRequest
from pipeline.compiler.kfp_compiler import compile_spec
from pipeline.graph import DataSource, OutputPaths
from pipeline.runtime import s3
from pipeline.settings import (
    COMPONENTS,
    IN_BEAM,
    ChecksConfig,
    GateConfig,
    KubeflowConfig,
    PipelineConfig,
    TuneConfig,
)
from tests.pipeline.fake_kfp_launcher import Launcher

GOLDEN = Path(__file__).parents[2] / "golden" / "pipeline.yaml"
REWRITE = "REWRITE_GOLDEN"  # variable that rewrites the golden file
FLINK = "--runner=FlinkRunner --flink_master=flink:8081 --environment_type=EXTERNAL"


@pytest.fixture
def request_of(monkeypatch):
    """Builds a complete request; code hashes are replaced by texts."""
    monkeypatch.setattr(graph, "code_hash", lambda module: f"code of {module}")

    def make(baseline="gs://bucket/mmkeras/serving/mmkeras/7", **settings):
        table = DataSource(table="gs://bucket/data.csv", fingerprint="1234")
        return CompileRequest(
            source=table,
            unlabeled=replace(table, table="gs://bucket/new.csv"),
            paths=OutputPaths(
                schema_file="gs://bucket/mmkeras/schema/schema.pbtxt",
                edited="",
                serving_dir="gs://bucket/mmkeras/serving/mmkeras",
                newest_version="17",
            ),
            baseline=baseline,
            pipeline_root="gs://bucket/mmkeras/artifacts",
            image="image:1",
            uncached=frozenset(),
            config=PipelineConfig(kubeflow=KubeflowConfig(**settings)),
        )

    return make


def parsed(spec):
    """Returns the spec as protos; an unknown field is an error."""
    spec = dict(spec)
    deployment = pipeline_spec_pb2.PipelineDeploymentConfig()
    json_format.ParseDict(spec["deploymentSpec"], deployment)
    return json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec()), deployment


def plain(value):
    """Returns a part of the spec without options that are not set."""
    if isinstance(value, dict):
        return {k: plain(item) for k, item in value.items() if item is not None}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, str) and value.startswith('{"'):
        return json.dumps(plain(json.loads(value)), sort_keys=True)
    return value


def containers(deployment):
    return {
        label.removesuffix("_executor"): executor.container
        for label, executor in deployment.executors.items()
        if executor.HasField("container")
    }


def test_the_spec_is_that_of_the_golden_file(request_of):
    beam = {"Transform": FLINK, "StatisticsGen": "--runner=SparkRunner"}
    settings = {"gpu": {"Trainer": 1}, "gpu_image": "gpu:1", "beam_args": beam}
    spec = compile_spec(request_of(service_account="trainer", **settings))
    # These values depend on the version of TFX.
    text = yaml.safe_dump(plain(spec) | {"sdkVersion": "tfx"}, sort_keys=True)
    if os.environ.get(REWRITE):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
    golden = GOLDEN.read_text(encoding="utf-8")
    assert text == golden, f"If the change is intended, run again with {REWRITE}=1"


def test_settings_know_all_components_and_those_in_beam(request_of):
    everything = request_of(beam_args={"default": "--runner=FlinkRunner"})
    tuned = replace(everything.config, tune=TuneConfig(trials=1))
    _, deployment = parsed(compile_spec(replace(everything, config=tuned)))
    names = containers(deployment)
    assert set(names) == set(COMPONENTS)
    in_beam = {n for n, c in names.items() if "--runner=FlinkRunner" in c.args}
    assert in_beam == set(IN_BEAM)


def test_without_a_baseline_nothing_is_imported(request_of):
    spec, deployment = parsed(compile_spec(request_of(baseline=None)))
    assert "Baseline" not in spec.root.dag.tasks
    assert "baseline_model" not in spec.root.dag.tasks["Evaluator"].inputs.artifacts
    assert set(containers(deployment)) == set(spec.root.dag.tasks)


def test_resources_come_from_the_component_or_the_default(request_of):
    settings = {"cpu_cores": {"default": 1, "Trainer": 7.5}, "memory_gb": {"Tuner": 3}}
    _, deployment = parsed(compile_spec(request_of(**settings, gpu={"Trainer": 2})))
    resources = {n: c.resources for n, c in containers(deployment).items()}
    trainer, pusher = resources["Trainer"], resources["Pusher"]
    assert (trainer.cpu_request, trainer.cpu_limit) == (7.5, 7.5)
    assert (pusher.cpu_request, pusher.cpu_limit) == (1, 1)
    assert (trainer.memory_request, trainer.memory_limit) == (0, 0)
    assert trainer.accelerator.type == "nvidia.com/gpu"
    assert trainer.accelerator.count == 2
    with_gpu = [n for n, r in resources.items() if r.accelerator.count]
    assert with_gpu == ["Trainer"]


def test_a_failed_container_is_restarted(request_of):
    spec, _ = parsed(compile_spec(request_of(retries=3)))
    counts = {n: t.retry_policy.max_retry_count for n, t in spec.root.dag.tasks.items()}
    assert counts.pop("Baseline") == 0  # an importer has no container
    assert set(counts.values()) == {3}
    policy = spec.root.dag.tasks["Trainer"].retry_policy
    assert policy.backoff_duration.seconds == 60
    assert "retryPolicy" not in str(compile_spec(request_of(retries=0)))


def test_beam_arguments_of_a_component_include_the_image(request_of):
    other = "--runner=DataflowRunner --sdk_container_image=workers:2"
    arguments = {"Transform": FLINK, "Evaluator": other}
    _, deployment = parsed(compile_spec(request_of(beam_args=arguments)))
    args = {n: list(c.args) for n, c in containers(deployment).items()}
    image = "--sdk_container_image=image:1"
    assert args["Transform"][-4:] == [*FLINK.split(), image]
    assert args["Evaluator"][-2:] == other.split()
    assert not any("runner" in a.lower() for a in args["StatisticsGen"][-1:])


def test_components_with_unreadable_inputs_are_not_cached(request_of):
    unknown = replace(request_of(), uncached=frozenset({"ExampleGen"}))
    spec, _ = parsed(compile_spec(unknown))
    cached = {n: t.caching_options.enable_cache for n, t in spec.root.dag.tasks.items()}
    assert not cached.pop("ExampleGen")
    assert all(cached.values())


def test_every_container_runs_the_entrypoint_of_tfx(request_of):
    compiled = compile_spec(request_of(env={"AWS_REGION": "there"}))
    _, deployment = parsed(compiled)
    entrypoint = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
    for container in containers(deployment).values():
        assert list(container.command) == ["python", "-m", entrypoint]
        assert "{{$}}" in container.args
        (variable,) = container.env
        assert (variable.name, variable.value) == ("AWS_REGION", "there")


@pytest.mark.parametrize("tensorflow_opens_s3", [True, False])
def test_with_s3_uris_the_entrypoint_and_workers_open_s3(
    request_of, tensorflow_opens_s3, monkeypatch
):
    monkeypatch.setattr(s3, "tensorflow_opens_s3", lambda: tensorflow_opens_s3)
    on_s3 = replace(
        request_of(beam_args={"Transform": FLINK}),
        pipeline_root="s3://bucket/artifacts",
    )
    _, deployment = parsed(compile_spec(on_s3))
    for container in containers(deployment).values():
        assert list(container.command) == ["python", "-m", "pipeline.runtime.s3"]
    transform = containers(deployment)["Transform"]
    plugins = [arg for arg in transform.args if arg.startswith("--beam_plugins")]
    assert plugins == ["--beam_plugins=tensorflow_io"] * tensorflow_opens_s3


def changed_components(*requests):
    before, after = (compile_spec(r)["root"]["dag"]["tasks"] for r in requests)
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize(
    ("changes", "components"),
    [
        ({"gate": GateConfig(max_drop=0.5)}, {"Evaluator"}),
        ({"epochs": 7}, {"Trainer"}),
        ({"checks": ChecksConfig(max_silent_share=0.1)}, {"DataGate"}),
    ],
)
def test_a_changed_setting_changes_only_its_components(request_of, changes, components):
    request = request_of()
    changed = replace(request, config=replace(request.config, **changes))
    assert changed_components(request, changed) == components


def test_a_changed_table_changes_only_example_gen(request_of):
    request = request_of()
    changed = replace(request, source=replace(request.source, fingerprint="5678"))
    assert changed_components(request, changed) == {"ExampleGen"}


def test_training_waits_for_the_data_gate(request_of):
    order = Launcher(compile_spec(request_of()), "", Path()).order()
    assert order.index("DataGate") < order.index("Transform") < order.index("Trainer")
    assert order.index("Evaluator") < order.index("Pusher")
