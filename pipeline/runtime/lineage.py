"""Lineage of runs and pushed models, read from ML Metadata."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_metadata.metadata_store import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as pb

from mmkeras.errors import UserError
from mmkeras.files import join_path, read_json
from mmkeras.schema import CONFIG_FILE, MANIFEST_FILE, METRICS_FILE, SPLITS, TEST

METADATA_FILE = "metadata.sqlite"
_SHOWN_METRICS = ("accuracy", "f1_macro", "log_loss", "r2", "rmse", "mae")
_SHOWN_METRICS += ("exact_match", "bleu_4", "chrf", "cider_d", "word_error_rate")
_INPUTS = (pb.Event.INPUT, pb.Event.DECLARED_INPUT)
_OUTPUTS = (pb.Event.OUTPUT, pb.Event.DECLARED_OUTPUT)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Execution of the component `node`; `ended` is the last change of its state."""

    node: str
    parameters: dict[str, Any]
    inputs: dict[str, list[pb.Artifact]]
    outputs: dict[str, list[pb.Artifact]]
    ended: datetime


class Lineage:
    """Reader of the ML Metadata of a root."""

    def __init__(self, root: Path):
        """Opens the store; raises UserError if there is none."""
        path = root / METADATA_FILE
        if not path.is_file():
            raise UserError(
                f"--root '{root}' holds no pipeline run; give the folder of one, or "
                "run the pipeline first."
            )
        config = pb.ConnectionConfig()
        config.sqlite.filename_uri = str(path)
        config.sqlite.connection_mode = 1  # READONLY
        self.store = MetadataStore(config)

    def last_run(self) -> dict[str, Step]:
        """Returns the steps of the newest run, by component."""
        runs = self.store.get_contexts_by_type("pipeline_run")
        newest = max(runs, key=lambda context: context.id)
        executions = self.store.get_executions_by_context(newest.id)
        steps = [self._step(e) for e in sorted(executions, key=lambda e: e.id)]
        return {step.node: step for step in steps}

    def pushed(self) -> pb.Artifact | None:
        """Returns the model that was pushed last."""
        artifacts = [
            artifact
            for artifact in self.store.get_artifacts_by_type("PushedModel")
            if artifact.custom_properties["pushed"].int_value == 1
        ]
        return max(artifacts, key=lambda a: a.id, default=None)

    def producer(self, artifact: pb.Artifact) -> Step:
        """Returns the step that created an artifact, not one that reused it."""
        events = self.store.get_events_by_artifact_ids([artifact.id])
        producers = [e.execution_id for e in events if e.type in _OUTPUTS]
        (execution,) = self.store.get_executions_by_id([min(producers)])
        return self._step(execution)

    def _step(self, execution: pb.Execution) -> Step:
        contexts = self.store.get_contexts_by_execution(execution.id)
        node = next(c.name for c in contexts if c.type == "node")
        events = self.store.get_events_by_execution_ids([execution.id])
        ids = [event.artifact_id for event in events]
        artifacts = {a.id: a for a in self.store.get_artifacts_by_id(ids)}

        def artifacts_by_key(types):
            result: dict[str, list[pb.Artifact]] = {}
            for event in events:
                if event.type in types:
                    key = event.path.steps[0].key
                    result.setdefault(key, []).append(artifacts[event.artifact_id])
            return result

        ended_s = execution.last_update_time_since_epoch / 1000
        return Step(
            node=node.partition(".")[2],
            parameters={k: _value(v) for k, v in execution.custom_properties.items()},
            inputs=artifacts_by_key(_INPUTS),
            outputs=artifacts_by_key(_OUTPUTS),
            ended=datetime.fromtimestamp(ended_s).astimezone(),
        )


def _value(value: pb.Value) -> Any:
    return getattr(value, value.WhichOneof("value"))


def status(root: Path) -> str:
    """Returns the lineage of the pushed model: rows, schema, config and metrics.

    Raises:
        UserError: No model was pushed yet.
    """
    lineage = Lineage(root)
    pushed = lineage.pushed()
    if pushed is None:
        raise UserError(f"--root '{root}' has no pushed model; run the pipeline first.")
    push = lineage.producer(pushed)
    (infra_blessing,) = push.inputs["infra_blessing"]
    (blessing,) = push.inputs["model_blessing"]
    evaluator = lineage.producer(blessing)
    (model,) = evaluator.inputs["model"]
    trainer = lineage.producer(model)
    (run,) = trainer.outputs["model_run"]
    (examples,) = trainer.inputs["examples"]
    (graph,) = trainer.inputs["transform_graph"]
    (schema,) = lineage.producer(graph).inputs["schema"]
    version = pushed.custom_properties["pushed_destination"].string_value
    lines = {
        "Pushed": f"{version}  ({push.ended:%Y-%m-%d %H:%M:%S %z})",
        "Model": f"{model.uri}  (trained {trainer.ended:%Y-%m-%d %H:%M:%S %z})",
        "Run": run.uri,
        **_rows(lineage, examples),
        "Schema": join_path(schema.uri, "schema.pbtxt"),
        **_config(run),
        **_metrics(run, evaluator),
        "Export proof": join_path(infra_blessing.uri, "INFRA_BLESSED"),
    }
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name + ':':<{width}}{value}" for name, value in lines.items())


def _rows(lineage, examples) -> dict[str, str]:
    step = lineage.producer(examples)
    counts = [
        f"{examples.custom_properties[f'rows_{split}'].int_value:,} {split}"
        for split in SPLITS
    ]
    content = examples.custom_properties["content"].string_value
    (rejected,) = step.outputs["rejected"]
    count = rejected.custom_properties["rows"].int_value
    return {
        "Table": step.parameters["table"],
        "Rows": f"{', '.join(counts)}; content sha256 {content[:16]}",
        "Rejected rows": f"{count}" + (f", {rejected.uri}" if count else ""),
        "Examples": examples.uri,
    }


def _config(run) -> dict[str, str]:
    manifest = read_json(run.uri, MANIFEST_FILE)
    settings = manifest["settings"]
    epochs = manifest.get("resolved", {}).get("epochs", settings["epochs"])
    return {
        "Config": f"{join_path(run.uri, CONFIG_FILE)}  (preset {settings['preset']}, "
        f"seed {settings['seed']}, {epochs} epochs at most)"
    }


def _metrics(run, evaluator: Step) -> dict[str, str]:
    metrics = read_json(run.uri, METRICS_FILE)["metrics"]
    values = [
        f"{name} {metrics[name]['value']:.3f}"
        for name in _SHOWN_METRICS
        if name in metrics and metrics[name]["value"] is not None
    ]
    (evaluation,) = evaluator.outputs["evaluation"]
    baseline = [model.uri for model in evaluator.inputs.get("baseline_model", [])]
    return {
        "Metrics": f"{', '.join(values)} on the {TEST} rows",
        "Evaluation": evaluation.uri,
        "Compared with": (*baseline, "nothing, the first blessed model")[0],
    }
