"""Fake of Kubeflow Pipelines that runs the containers of a compiled pipeline.

It changes artifacts between two tasks as Kubeflow's driver and launcher do: of the
properties only numbers, texts, lists and mappings survive, and each artifact gets an
id, a display name and the type of its schema.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Launcher:
    """Cluster of one machine.

    Attributes:
        spec: Compiled pipeline.
        root: Pipeline root that the run is submitted with.
        folder: Folder of logs and metadata.
        outputs: Task -> output -> artifact; tasks with outputs do not run again.
    """

    spec: dict[str, Any]
    root: str
    folder: Path
    outputs: dict[str, dict[str, dict]] = field(default_factory=dict)
    _ids: int = 0

    def run(self) -> list[str]:
        """Runs all tasks; returns their names in the order they were run."""
        order = [name for name in self.order() if name not in self.outputs]
        for name in order:
            self.outputs[name] = self.run_task(name)
        return order

    def order(self) -> list[str]:
        waits_for = {}
        for name, task in self.tasks.items():
            inputs = task.get("inputs", {}).get("artifacts", {}).values()
            producers = {i["taskOutputArtifact"]["producerTask"] for i in inputs}
            assert producers <= set(task.get("dependentTasks", ())), name
            waits_for[name] = task.get("dependentTasks", ())
        return list(TopologicalSorter(waits_for).static_order())

    @property
    def tasks(self) -> dict[str, dict]:
        return self.spec["root"]["dag"]["tasks"]

    def component(self, task: str) -> dict:
        return self.spec["components"][self.tasks[task]["componentRef"]["name"]]

    def executor(self, task: str) -> dict:
        executors = self.spec["deploymentSpec"]["executors"]
        return executors[self.component(task)["executorLabel"]]

    def run_task(self, task: str) -> dict[str, dict]:
        """Runs the container of one task; returns its outputs."""
        definitions = self.component(task)["outputDefinitions"]["artifacts"]
        if "importer" in self.executor(task):
            importer, (name,) = self.executor(task)["importer"], definitions
            uri = importer["artifactUri"]["constant"]
            return {name: self._recorded(name, uri, importer["typeSchema"], {})}
        output_file = self.folder / task / "output_metadata.json"
        executor_input = self._executor_input(task, output_file)
        self._run_container(task, json.dumps(executor_input))
        results = json.loads(output_file.read_text())["artifacts"]
        outputs = {}
        for name, provided in executor_input["outputs"]["artifacts"].items():
            (artifact,) = provided["artifacts"]
            (result,) = results.get(name, {"artifacts": [{}]})["artifacts"]
            uri = result.get("uri") or artifact["uri"]
            metadata = result.get("metadata", {})
            outputs[name] = self._recorded(name, uri, artifact["type"], metadata)
        return outputs

    def _executor_input(self, task: str, output_file: Path) -> dict:
        inputs = self.tasks[task].get("inputs", {})
        artifacts = {}
        for name, source in inputs.get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            upstream = self.outputs[output["producerTask"]]
            artifacts[name] = {"artifacts": [upstream[output["outputArtifactKey"]]]}
        parameters = {
            name: value["runtimeValue"]["constant"]
            for name, value in inputs.get("parameters", {}).items()
        }
        outputs, folder = {}, f"{self.root}/mmkeras/run-1/{task}/salt"
        definitions = self.component(task)["outputDefinitions"]["artifacts"]
        for name, definition in definitions.items():
            artifact = {"uri": f"{folder}/{name}", "type": definition["artifactType"]}
            outputs[name] = {"artifacts": [artifact]}
        return {
            "inputs": {"parameterValues": parameters, "artifacts": artifacts},
            "outputs": {"artifacts": outputs, "outputFile": str(output_file)},
        }

    def _run_container(self, task: str, executor_input: str) -> None:
        container = self.executor(task)["container"]
        words = [*self._entrypoint(container["command"]), *container["args"]]
        command = [word.replace("{{$}}", executor_input) for word in words]
        variables = {v["name"]: v["value"] for v in container.get("env", ())}
        # As in the image, where `python` is the one that has the project.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        log = self.folder / task / "log.txt"
        log.parent.mkdir(parents=True)
        with log.open("wb") as file:
            process = subprocess.run(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **variables, "PATH": path},
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=600,
            )
        tail = log.read_text(errors="replace")[-3000:]
        assert process.returncode == 0, f"{task} failed: {tail}"

    def _entrypoint(self, command: list[str]) -> list[str]:
        return command

    def _recorded(self, name: str, uri: str, kind: dict, metadata: dict) -> dict:
        self._ids += 1
        properties = {key: _stored(value) for key, value in metadata.items()}
        return {
            "name": str(self._ids),
            "uri": uri,
            "type": kind,
            "metadata": {"display_name": name, **properties},
        }


@dataclass
class S3Launcher(Launcher):
    """Cluster whose pipeline root is s3://.

    Like Kubeflow's launcher, it copies a task's inputs to a local folder first, and
    afterwards uploads the task's outputs from there.

    Attributes:
        objects: "bucket/key" -> content.
    """

    objects: dict[str, bytes] = field(default_factory=dict)

    @property
    def local(self) -> Path:
        return self.folder / "s3"

    def _run_container(self, task: str, executor_input: str) -> None:
        shutil.rmtree(self.local, ignore_errors=True)
        for artifact in _artifacts(executor_input, "inputs"):
            for name in [n for n in self.objects if n.startswith(f"{artifact}/")]:
                path = self.local / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.objects[name])
        super()._run_container(task, executor_input)
        for artifact in _artifacts(executor_input, "outputs"):
            folder = self.local / artifact
            for path in filter(Path.is_file, folder.rglob("*")):
                name = path.relative_to(self.local).as_posix()
                self.objects[name] = path.read_bytes()

    def _entrypoint(self, command: list[str]) -> list[str]:
        """Replaces the folder of the image by a temporary one."""
        assert command == ["python", "-m", "pipeline.runtime.s3"]
        code = "import sys; from pipeline.runtime import s3; "
        code += "s3.LAUNCHER_FOLDER = sys.argv[1]; s3.main(sys.argv[2:])"
        return ["python", "-c", code, f"{self.local}/"]


def _artifacts(executor_input: str, side: str) -> list[str]:
    """Returns the artifacts of one side as "bucket/key"."""
    lists = json.loads(executor_input)[side]["artifacts"].values()
    uris = (artifact["uri"] for item in lists for artifact in item["artifacts"])
    return [uri.removeprefix("s3://") for uri in uris]


def _stored(value: Any) -> Any:
    """Returns a property as the metadata store returns it."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, list):
        return {"list": value}
    if isinstance(value, dict):
        return {"struct": value}
    assert isinstance(value, str), "the metadata store rejects null"
    return value
