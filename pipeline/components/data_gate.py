"""DataGate: TFX component that stops a run whose rows fail the data checks."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, standard_artifacts
from tfx.utils import io_utils

from mmkeras.errors import UserError
from mmkeras.files import join_path, read_json
from mmkeras.schema import INGESTED_FILE, LABEL
from pipeline.components.artifacts import (
    PAGE_FILE,
    STATISTICS_FILE,
    DataBlessing,
    MediaStatistics,
)
from pipeline.components.custom_component import CustomComponent, make_spec
from pipeline.components.schema_gen import SCHEMA_FILE, keep_schema, unknown_classes
from pipeline.settings import ChecksConfig

PASSED_FILE = "passed.json"
_MAX_LINES = 30  # of one message
_Reason = anomalies_pb2.AnomalyInfo
# Plainer names of TFDV's most frequent anomalies.
_NAMES = {
    _Reason.ENUM_TYPE_UNEXPECTED_STRING_VALUES: "values that the schema does not list",
    _Reason.FEATURE_TYPE_LOW_FRACTION_PRESENT: "too often absent",
}
_SENTENCES = {  # of anomalies whose long description adds nothing
    _Reason.FEATURE_TYPE_NOT_PRESENT: "absent in all rows",
    _Reason.SCHEMA_MISSING_COLUMN: "absent in all rows",
    _Reason.SCHEMA_NEW_COLUMN: "a feature that the schema does not know",
}
# Parts of TFDV's long descriptions that are rewritten.
_VALUES = re.compile(r"^Examples contain values missing from the schema: ")
_FRACTIONS = re.compile(r"^The feature was.*minimum fraction = (\S+), actual = (\S+)$")
_SHARE = re.compile(r"\(([~<])(\d+)%\)")
_UNDER = {"~": "", "<": "under "}


def media_anomalies(statistics: Mapping[str, Any], checks: ChecksConfig) -> list[str]:
    """Returns one line per column of a split with too many faults.

    `statistics` is the content of media_statistics.json.
    """
    lines = []
    for split, content in statistics["splits"].items():
        for name, column in statistics["columns"].items():
            for feature, (problem, _) in column["faults"].items():
                share = content["faults"].get(feature, {}).get("share", 0.0)
                setting = f"max_{feature.removeprefix(column['feature'] + '_')}_share"
                limit = getattr(checks, setting, 1.0)
                if share > limit:
                    lines.append(
                        f"{name}: {_percent(share)} of the {column['type']} in {split} "
                        f"is {problem} (checks.{setting}={limit:g})"
                    )
    return lines


def _percent(share):
    return f"{100 * share:.3g} %"


def schema_anomalies(anomalies: anomalies_pb2.Anomalies, split: str) -> list[str]:
    """Returns one line per difference between a split and its schema."""
    lines = [f"no rows in {split}"] if anomalies.data_missing else []
    for info in _reasons(anomalies.dataset_anomaly_info):
        lines.append(f"rows of {split}: {_describe(info)}")
    for name, anomaly in sorted(anomalies.anomaly_info.items()):
        feature = ".".join(anomaly.path.step) or name
        start = f"{feature} in {split}"
        lines += [f"{start}: {_describe(info)}" for info in _reasons(anomaly)]
    return lines


def class_anomalies(schema: schema_pb2.Schema, dataset: Mapping) -> list[str]:
    """Returns one line per split with classes that the schema does not list.

    TFDV checks single labels itself; this checks rows with several labels. `dataset` is
    the content of ingested.json.
    """
    lines = []
    for split, labels in dataset["labels"].items():
        if unknown := unknown_classes(schema, labels):
            names = ", ".join(unknown[:_MAX_LINES])
            problem = "classes that the schema does not list"
            lines.append(f"{LABEL} in {split}: {problem}: {names}")
    return lines


def _reasons(anomaly) -> Iterator[Any]:
    """Yields the reasons of an anomaly, or the anomaly itself if it has none."""
    if anomaly.reason:
        yield from anomaly.reason
    elif anomaly.description or anomaly.short_description:
        yield anomaly


def _describe(reason) -> str:
    """Returns 'values that the schema does not list: goat (12 % of the rows)'."""
    kind, short = getattr(reason, "type", None), reason.short_description
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    name = _NAMES.get(kind, short[:1].lower() + short[1:])
    details = " ".join(reason.description.split()).strip(" .")
    details = _FRACTIONS.sub(_describe_presence, _VALUES.sub("", details))
    details = _SHARE.sub(
        lambda match: f"({_UNDER[match[1]]}{match[2]} % of the rows)", details
    )
    return f"{name}: {details}" if name and details else name or details


def _describe_presence(match):
    minimum, present = (_percent(float(share)) for share in match.groups())
    return f"in {present} of the rows, where the schema requires {minimum}"


class Executor(BaseExecutor):
    """Passes the data on, or raises an error that lists all failed checks."""

    def Do(self, input_dict, output_dict, exec_properties) -> None:
        """Writes passed.json, and the schema to the file that later runs read.

        Raises:
            UserError: A data check fails.
        """
        anomalies = artifact_utils.get_single_instance(input_dict["anomalies"])
        media, schema_uri, examples = (
            artifact_utils.get_single_uri(input_dict[key])
            for key in ("media_statistics", "schema", "examples")
        )
        blessing = artifact_utils.get_single_uri(output_dict["blessing"])
        schema_path = join_path(schema_uri, SCHEMA_FILE)
        schema = io_utils.parse_pbtxt_file(schema_path, schema_pb2.Schema())
        dataset = read_json(examples, INGESTED_FILE)
        schema_file = exec_properties["schema_file"]
        checks = json.loads(exec_properties["checks"])
        splits, lines = artifact_utils.decode_split_names(anomalies.split_names), []
        for split in splits:
            lines += schema_anomalies(_read_anomalies(anomalies, split), split)
        lines += class_anomalies(schema, dataset)
        statistics = read_json(media, STATISTICS_FILE)
        lines += media_anomalies(statistics, ChecksConfig(**checks))
        if lines:
            page = join_path(media, PAGE_FILE)
            raise UserError(_refusal(lines, anomalies.uri, page, schema_file))
        if schema_file:
            keep_schema(schema, schema_file, dataset["fingerprint"])
        content = json.dumps({"splits": splits, "checks": checks})
        io_utils.write_string_file(join_path(blessing, PASSED_FILE), content)


def _read_anomalies(artifact, split) -> anomalies_pb2.Anomalies:
    uri = artifact_utils.get_split_uri([artifact], split)
    with fileio.open(join_path(uri, DEFAULT_FILE_NAME), "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())


def _refusal(lines, anomalies_uri, page, schema_file) -> str:
    shown = [f"  {line}" for line in lines[:_MAX_LINES]]
    if len(lines) > _MAX_LINES:
        shown.append(f"  ... and {len(lines) - _MAX_LINES} more")
    count = "1 check" if len(lines) == 1 else f"{len(lines)} checks"
    schema = f"edit {schema_file}" if schema_file else "give another schema"
    return "\n".join(
        [
            f"The data do not pass {count}:",
            *shown,
            f"Statistics of the media: {page}",
            f"All anomalies: {anomalies_uri}",
            f"Fix the rows. If they are correct, {schema} (without one it is inferred "
            "again) or change the checks.* settings named above.",
        ]
    )


class DataGate(CustomComponent, BaseComponent):
    """Component of the executor above; `checks` is `ChecksConfig` as JSON.

    The schema is saved as `schema_file` once the rows have passed, unless the file
    exists; "" saves nothing.
    """

    SPEC_CLASS = make_spec(
        inputs={
            "examples": standard_artifacts.Examples,
            "anomalies": standard_artifacts.ExampleAnomalies,
            "media_statistics": MediaStatistics,
            "schema": standard_artifacts.Schema,
        },
        outputs={"blessing": DataBlessing},
        parameters={"checks": str, "schema_file": str, "code": str},
    )
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)
