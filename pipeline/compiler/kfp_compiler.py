"""Compiler of the graph to a PipelineSpec of Kubeflow Pipelines v2."""

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
# Time for a pod that lost its node or its network.
_BACKOFF = {"backoffDuration": "60s", "backoffFactor": 2, "backoffMaxDuration": "900s"}

_Resources = (
    pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
)


def compile_spec(request: CompileRequest) -> dict[str, Any]:
    """Compiles the pipeline to a PipelineSpec of version 2.1, ready for YAML.

    The same request gives the same spec: it contains no time and no local name.
    """
    settings, nodes = request.config.kubeflow, _nodes(request)
    for node in nodes.values():
        _set_resources(node, request)
    images = {DEFAULT_IMAGE_PATH_KEY: request.image}
    if settings.gpu_image:
        images |= {n: settings.gpu_image for n in nodes if _gpus(n, settings)}
    pipeline = Pipeline(
        pipeline_name=graph.PIPELINE_NAME,
        pipeline_root=request.pipeline_root,
        components=list(nodes.values()),
        enable_cache=True,
    )
    config = runner.KubeflowV2DagRunnerConfig(
        default_image=images,
        default_commands=_command(request),
        use_pipeline_spec_2_1=True,
    )
    compiled = runner.KubeflowV2DagRunner(config).run(pipeline, write_out=False)
    return _add_kubeflow_settings(compiled["pipelineSpec"], request)


def _nodes(request: CompileRequest) -> dict[str, BaseNode]:
    """Builds the components, with an Importer of the last blessed model.

    Kubeflow Pipelines cannot run a Resolver, which finds that model locally.
    """
    nodes = graph.build_training(request.source, request.config, request.paths)
    baseline = None
    if request.baseline:
        nodes[BASELINE] = Importer(
            source_uri=request.baseline, artifact_type=Model, reimport=False
        ).with_id(BASELINE)
        baseline = nodes[BASELINE].outputs["result"]
    nodes |= graph.build_release(nodes, request.config, request.paths, baseline)
    if request.unlabeled:
        nodes |= graph.build_inference(nodes, request.config, request.unlabeled)
    return nodes


def _set_resources(node: BaseNode, request: CompileRequest) -> None:
    """Sets the resources and the Beam arguments of a component."""
    if not isinstance(node, BaseComponent):
        return  # an Importer has no container
    settings = request.config.kubeflow
    cores, gigabytes = (
        _setting(node.id, by_component) or 0
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
    arguments = shlex.split(_setting(node.id, settings.beam_args) or "")
    if isinstance(node, BaseBeamComponent) and arguments:
        node.with_beam_pipeline_args(_worker_arguments(arguments, request))


def _worker_arguments(arguments: list[str], request: CompileRequest) -> list[str]:
    """Adds the image and plugins that Beam's workers need for this project's code.

    Without an image, TFX packages its own sources for the workers.
    """
    if not any(a.startswith("--sdk_container_image") for a in arguments):
        arguments = [*arguments, f"--sdk_container_image={request.image}"]
    if _is_s3(request) and s3.tensorflow_opens_s3():
        return [*arguments, "--beam_plugins=tensorflow_io"]
    return arguments


def _gpus(component: str, settings: KubeflowConfig) -> int:
    return _setting(component, settings.gpu) or 0


def _setting(component: str, by_component: dict[str, Any]) -> Any:
    return by_component.get(component, by_component.get(DEFAULT))


def _command(request: CompileRequest) -> list[str]:
    return ["python", "-m", s3.__name__ if _is_s3(request) else s3.TFX_ENTRYPOINT]


def _is_s3(request: CompileRequest) -> bool:
    tables = [source.table for source in (request.source, request.unlabeled) if source]
    uris = [request.pipeline_root, request.paths.schema_file, request.baseline, *tables]
    return any(uri and uri.startswith(s3.SCHEME) for uri in uris)


def _add_kubeflow_settings(
    spec: dict[str, Any], request: CompileRequest
) -> dict[str, Any]:
    """Adds retries, caching and environments, which TFX's compiler does not support."""
    settings = request.config.kubeflow
    executors = spec["deploymentSpec"]["executors"]
    for name, task in spec["root"]["dag"]["tasks"].items():
        label = spec["components"][task["componentRef"]["name"]]["executorLabel"]
        if "container" not in executors[label]:
            continue
        if settings.retries:
            task["retryPolicy"] = {"maxRetryCount": settings.retries, **_BACKOFF}
        if name in request.uncached:
            task["cachingOptions"] = {"enableCache": False}
        if settings.env:
            pairs = settings.env.items()
            env = [{"name": key, "value": value} for key, value in pairs]
            executors[label]["container"]["env"] = env
    return spec
