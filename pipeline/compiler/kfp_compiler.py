"""What a cluster is told to run: the graph, compiled for Kubeflow Pipelines v2."""

import shlex
from typing import Any

from kfp.pipeline_spec import pipeline_spec_pb2
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner as runner
from tfx.orchestration.kubeflow.v2.pipeline_builder import DEFAULT_IMAGE_PATH_KEY
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Model

from pipeline import graph
from pipeline.compiler.compile_request import CompileRequest
from pipeline.runtime import s3
from pipeline.settings import DEFAULT, KubeflowConfig

BASELINE = "Baseline"
# A pod that lost its node, or its network, is given the time to find another.
_BACKOFF = {"backoffDuration": "60s", "backoffFactor": 2, "backoffMaxDuration": "900s"}

_Resources = (
    pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
)


def compile_spec(job: CompileRequest) -> dict[str, Any]:
    """Compiles the pipeline to a PipelineSpec of version 2.1, ready for YAML.

    The same job gives the same spec: nothing in it is of this machine or this hour.
    """
    settings, nodes = job.config.kubeflow, _nodes(job)
    for node in nodes.values():
        _equip(node, job)
    images = {DEFAULT_IMAGE_PATH_KEY: job.image}
    if settings.gpu_image:
        images |= {n: settings.gpu_image for n in nodes if _gpus(n, settings)}
    pipeline = Pipeline(
        pipeline_name=graph.PIPELINE_NAME,
        pipeline_root=job.pipeline_root,
        components=list(nodes.values()),
        enable_cache=True,
    )
    config = runner.KubeflowV2DagRunnerConfig(
        default_image=images,
        default_commands=_command(job),
        use_pipeline_spec_2_1=True,
    )
    compiled = runner.KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    return _finished(compiled["pipelineSpec"], job)


def _nodes(job: CompileRequest) -> dict[str, BaseNode]:
    """Builds the components; the last blessed model is imported.

    Kubeflow Pipelines has no Resolver, which finds it on one machine.
    """
    nodes = graph.build_training(job.source, job.config, job.places)
    baseline = None
    if job.baseline:
        nodes[BASELINE] = Importer(
            source_uri=job.baseline, artifact_type=Model, reimport=False
        ).with_id(BASELINE)
        baseline = nodes[BASELINE].outputs["result"]
    nodes |= graph.build_release(nodes, job.config, job.places, baseline)
    if job.unlabeled:
        nodes |= graph.build_inference(nodes, job.config, job.unlabeled)
    return nodes


def _equip(node: BaseNode, job: CompileRequest) -> None:
    """Gives a component its resources, and its arguments of Beam."""
    if not isinstance(node, BaseComponent):
        return  # an Importer has no container
    settings = job.config.kubeflow
    cores, gigabytes = (
        _of(node.id, by_component) or 0
        for by_component in (settings.cpu_cores, settings.memory_gb)
    )
    resources = _Resources(
        cpu_request=cores,
        cpu_limit=cores,
        memory_request=gigabytes,
        memory_limit=gigabytes,
    )
    if gpus := _gpus(node.id, settings):
        resources.accelerator.type = settings.gpu_type
        resources.accelerator.count = gpus
    node.with_platform_config(resources)
    arguments = shlex.split(_of(node.id, settings.beam_args) or "")
    if isinstance(node, BaseBeamComponent) and arguments:
        node.with_beam_pipeline_args(_for_workers(arguments, job))


def _for_workers(arguments: list[str], job: CompileRequest) -> list[str]:
    """Adds what makes a worker of Beam read our code, and our places.

    Without an image of their own TFX packs its sources for them, and not ours.
    """
    if not any(a.startswith("--sdk_container_image") for a in arguments):
        arguments = [*arguments, f"--sdk_container_image={job.image}"]
    if _is_s3(job) and s3.tensorflow_opens_s3():
        return [*arguments, "--beam_plugins=tensorflow_io"]
    return arguments


def _gpus(component: str, settings: KubeflowConfig) -> int:
    return _of(component, settings.gpu) or 0


def _of(component: str, by_component: dict[str, Any]) -> Any:
    return by_component.get(component, by_component.get(DEFAULT))


def _command(job: CompileRequest) -> list[str]:
    return ["python", "-m", s3.__name__ if _is_s3(job) else s3.TFX_ENTRYPOINT]


def _is_s3(job: CompileRequest) -> bool:
    uris = [job.pipeline_root, job.source.table, job.places.schema_file, job.baseline]
    uris += [job.unlabeled.table] if job.unlabeled else []
    return any(uri and uri.startswith(s3.SCHEME) for uri in uris)


def _finished(spec: dict[str, Any], job: CompileRequest) -> dict[str, Any]:
    """Adds what TFX's compiler cannot say: retries, single caches, environments."""
    settings = job.config.kubeflow
    executors = spec["deploymentSpec"]["executors"]
    for name, task in spec["root"]["dag"]["tasks"].items():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        if "container" not in executors[label]:
            continue
        if settings.retries:
            task["retryPolicy"] = {"maxRetryCount": settings.retries, **_BACKOFF}
        if name in job.uncached:
            task["cachingOptions"] = {"enableCache": False}
        if settings.env:
            container = executors[label]["container"]
            container["env"] = [
                {"name": key, "value": value} for key, value in settings.env.items()
            ]
    return spec
