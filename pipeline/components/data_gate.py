"""DataGate: stops a run whose rows are not as they must be, and says why."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx import types
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts
from tfx.utils import io_utils

from mmkeras.errors import UserError
from mmkeras.files import join_path, read_text
from mmkeras.schema import AUDIO, INGESTED_FILE, LABEL
from pipeline.components.artifacts import DataBlessing, MediaStatistics
from pipeline.components.media_statistics_accumulator import PAGE_FILE, STATISTICS_FILE
from pipeline.components.schema_gen import SCHEMA_FILE, keep_schema, unknown_classes
from pipeline.settings import ChecksConfig

PASSED_FILE = "passed.json"
_LISTED = 30  # in one message
_Reason = anomalies_pb2.AnomalyInfo
# What TFDV finds most often, in plainer words than its own short descriptions.
_WORDS = {
    _Reason.ENUM_TYPE_UNEXPECTED_STRING_VALUES: "values that the schema does not list",
    _Reason.FEATURE_TYPE_LOW_FRACTION_PRESENT: "too often absent",
}
_SENTENCES = {  # which leave nothing to add
    _Reason.FEATURE_TYPE_NOT_PRESENT: "absent in all rows",
    _Reason.SCHEMA_MISSING_COLUMN: "absent in all rows",
    _Reason.SCHEMA_NEW_COLUMN: "a feature that the schema does not know",
}
# And what of its long ones is said otherwise.
_VALUES = re.compile(r"^Examples contain values missing from the schema: ")
_FRACTIONS = re.compile(r"^The feature was.*minimum fraction = (\S+), actual = (\S+)$")
_SHARE = re.compile(r"\(([~<])(\d+)%\)")
_UNDER = {"~": "", "<": "under "}


def media_anomalies(statistics: Mapping[str, Any], checks: ChecksConfig) -> list[str]:
    """Returns one line for each check that the media of a split do not meet.

    `statistics` is what `media_totals.summarize` gives.
    """
    lines = []
    for split, found in statistics["splits"].items():
        for words, key, setting in (
            ("silent throughout", "silent_share", "max_silent_share"),
            ("clipped", "clipped_share", "max_clipped_share"),
        ):
            share, most = found["sounds"].get(key, 0.0), getattr(checks, setting)
            if share > most:
                lines.append(
                    f"{AUDIO}: {_percent(share)} of the sounds in {split} are {words} "
                    f"(checks.{setting}={most:g})"
                )
    return lines


def _percent(share):
    return f"{100 * share:.3g} %"


def schema_anomalies(anomalies: anomalies_pb2.Anomalies, split: str) -> list[str]:
    """Returns one line for each way in which a split is not as its schema says."""
    lines = [f"no rows in {split}"] if anomalies.data_missing else []
    for info in _reasons(anomalies.dataset_anomaly_info):
        lines.append(f"rows of {split}: {_said(info)}")
    for name, found in sorted(anomalies.anomaly_info.items()):
        feature = ".".join(found.path.step) or name
        lines += [f"{feature} in {split}: {_said(info)}" for info in _reasons(found)]
    return lines


def class_anomalies(schema: schema_pb2.Schema, dataset: Mapping) -> list[str]:
    """Returns one line for each split with classes that no schema has listed.

    Of rows with several labels; the others are TFDV's. `ingested` is ingested.json.
    """
    lines = []
    for split, labels in dataset["labels"].items():
        if unknown := unknown_classes(schema, labels):
            words = "classes that the schema does not list"
            lines.append(f"{LABEL} in {split}: {words}: {', '.join(unknown[:_LISTED])}")
    return lines


def _reasons(found) -> Iterator[Any]:
    """Yields the reasons of an anomaly; itself where it gives none."""
    if found.reason:
        yield from found.reason
    elif found.description or found.short_description:
        yield found


def _said(reason) -> str:
    """Returns 'values that the schema does not list: goat (12 % of the rows)'."""
    kind, short = getattr(reason, "type", None), reason.short_description
    if kind in _SENTENCES:
        return _SENTENCES[kind]
    words = _WORDS.get(kind, short[:1].lower() + short[1:])
    more = " ".join(reason.description.split()).strip(" .")
    more = _FRACTIONS.sub(_present, _VALUES.sub("", more))
    more = _SHARE.sub(
        lambda found: f"({_UNDER[found[1]]}{found[2]} % of the rows)", more
    )
    return f"{words}: {more}" if words and more else words or more


def _present(found):
    least, there = (_percent(float(share)) for share in found.groups())
    return f"in {there} of the rows, where the schema asks for {least}"


class Executor(BaseExecutor):
    """Lets the data through, or raises what a person should read."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes passed.json, and the schema to where later runs look for it.

        Raises:
            UserError: The data are not as they must be.
        """
        anomalies = artifact_utils.get_single_instance(input_dict["anomalies"])
        media = artifact_utils.get_single_uri(input_dict["media_statistics"])
        schema_file = exec_properties["schema_file"]
        splits = artifact_utils.decode_split_names(anomalies.split_names)
        lines = []
        for split in splits:
            lines += schema_anomalies(_read_anomalies(anomalies, split), split)
        schema_uri = artifact_utils.get_single_uri(input_dict["schema"])
        schema = io_utils.parse_pbtxt_file(
            join_path(schema_uri, SCHEMA_FILE), schema_pb2.Schema()
        )
        examples = artifact_utils.get_single_uri(input_dict["examples"])
        dataset = json.loads(read_text(join_path(examples, INGESTED_FILE)))
        lines += class_anomalies(schema, dataset)
        checks = ChecksConfig(**json.loads(exec_properties["checks"]))
        lines += media_anomalies(
            json.loads(read_text(join_path(media, STATISTICS_FILE))), checks
        )
        if lines:
            page = join_path(media, PAGE_FILE)
            raise UserError(_refusal(lines, anomalies.uri, page, schema_file))
        if schema_file:
            keep_schema(schema, schema_file, dataset["fingerprint"])
        passed = join_path(
            artifact_utils.get_single_uri(output_dict["blessing"]), PASSED_FILE
        )
        content = {"splits": splits, "checks": json.loads(exec_properties["checks"])}
        io_utils.write_string_file(passed, json.dumps(content))


def _read_anomalies(artifact, split) -> anomalies_pb2.Anomalies:
    uri = artifact_utils.get_split_uri([artifact], split)
    with fileio.open(join_path(uri, DEFAULT_FILE_NAME), "rb") as file:
        return anomalies_pb2.Anomalies.FromString(file.read())


def _refusal(lines, anomalies_uri, page, schema_file) -> str:
    shown = [f"  {line}" for line in lines[:_LISTED]]
    if len(lines) > _LISTED:
        shown.append(f"  ... and {len(lines) - _LISTED} more")
    count = "1 check" if len(lines) == 1 else f"{len(lines)} checks"
    schema = f"edit {schema_file}" if schema_file else "give another schema"
    return "\n".join(
        [
            f"The data do not pass {count}:",
            *shown,
            f"What the media are like: {page}",
            f"All that the schema found: {anomalies_uri}",
            f"Mend the rows; or, where they are meant to be so, {schema} (it is "
            "inferred anew where there is none) or set the checks.* named above.",
        ]
    )


class DataGateSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of the component."""

    PARAMETERS = {
        "checks": component_spec.ExecutionParameter(type=str),
        "schema_file": component_spec.ExecutionParameter(type=str),
        "code": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "anomalies": component_spec.ChannelParameter(
            type=standard_artifacts.ExampleAnomalies
        ),
        "media_statistics": component_spec.ChannelParameter(type=MediaStatistics),
        "schema": component_spec.ChannelParameter(type=standard_artifacts.Schema),
    }
    OUTPUTS = {"blessing": component_spec.ChannelParameter(type=DataBlessing)}


class DataGate(BaseComponent):
    """Component of the executor above."""

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        examples: types.BaseChannel,
        anomalies: types.BaseChannel,
        media_statistics: types.BaseChannel,
        schema: types.BaseChannel,
        schema_file: str,
        checks: str,
        code: str = "",
    ):
        """Builds the component.

        Args:
            examples: Of ExampleGen.
            anomalies: Of ExampleValidator.
            media_statistics: Of MediaStatistics.
            schema: That the rows were held against.
            schema_file: Where it is kept once the rows have passed, unless there is
                one; "" to keep none.
            checks: `ChecksConfig` as JSON.
            code: Hash of the code; a new one runs it anew.
        """
        spec = DataGateSpec(
            examples=examples,
            anomalies=anomalies,
            media_statistics=media_statistics,
            schema=schema,
            schema_file=schema_file,
            checks=checks,
            code=code,
            blessing=types.Channel(type=DataBlessing),
        )
        super().__init__(spec=spec)
