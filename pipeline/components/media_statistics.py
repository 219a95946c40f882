"""What the media of each split are like: a component that reads facts, not media."""

import json
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsDict
from tfx import types
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.dsl.io import fileio
from tfx.types import artifact_utils, component_spec, standard_artifacts

from mmkeras.files import join_path, read_text
from mmkeras.schema import INGESTED_FILE
from pipeline.components import artifacts
from pipeline.components.media_statistics_accumulator import (
    PAGE_FILE,
    STATISTICS_FILE,
    MediaTotals,
    class_counts,
    read_row,
    summarize,
)
from pipeline.components.media_statistics_page import render

MAX_CLASSES = 100  # of a split: those with most rows


class Executor(BaseBeamExecutor):
    """Writes media_statistics.json in Beam, and the page when that is done."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes both files."""
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        folder = artifact_utils.get_single_uri(output_dict["media_statistics"])
        dataset = json.loads(read_text(join_path(examples.uri, INGESTED_FILE)))
        splits = artifact_utils.decode_split_names(examples.split_names)
        path = join_path(folder, STATISTICS_FILE)
        fileio.makedirs(folder)
        with self._make_beam_pipeline() as pipeline:
            rows = [
                _read_split(pipeline, examples, split, dataset["modalities"])
                for split in splits
            ]
            (
                rows
                | beam.Flatten()
                | Summarize(splits, dataset["modalities"])
                | "Write" >> beam.Map(_write, path)
            )
        _write(render(json.loads(read_text(path))), join_path(folder, PAGE_FILE))


def _read_split(pipeline, examples, split, modalities):
    files = join_path(artifact_utils.get_split_uri([examples], split), "*")
    return (
        pipeline
        | f"Read {split}" >> beam.io.ReadFromTFRecord(files)
        | f"Facts of {split}" >> beam.Map(_keyed_facts, split, modalities)
    )


class Summarize(beam.PTransform):
    """(split, RowFacts) -> the text of media_statistics.json."""

    def __init__(self, splits: list[str], modalities: list[str]):
        super().__init__()
        self._splits, self._modalities = splits, modalities

    def expand(self, rows):
        totals = rows | "Totals" >> beam.CombinePerKey(CombineTotals())
        classes = (
            rows
            | "By class" >> beam.FlatMap(_by_class)
            | "Count rows" >> beam.CombinePerKey(_add)
            | "By split" >> beam.MapTuple(_by_split)
        )
        number = classes | "Count classes" >> beam.combiners.Count.PerKey()
        largest = classes | "Largest classes" >> beam.combiners.Top.PerKey(
            MAX_CLASSES, key=_class_size
        )
        return (
            rows.pipeline
            | beam.Create([self._splits])
            | "Summarize"
            >> beam.Map(
                _summary,
                self._modalities,
                AsDict(totals),
                AsDict(number),
                AsDict(largest),
            )
        )


class CombineTotals(beam.CombineFn):
    """RowFacts -> Totals."""

    def create_accumulator(self):
        return MediaTotals()

    def add_input(self, totals, row):
        totals.add(row)
        return totals

    def merge_accumulators(self, parts):
        whole = MediaTotals()
        for part in parts:
            whole.merge(part)
        return whole

    def extract_output(self, totals):
        return totals


# Functions of the module, since Beam's workers are other processes.


def _keyed_facts(record, split, modalities):
    return split, read_row(record, modalities)


def _by_class(item):
    split, row = item
    return [((split, name), class_counts(row)) for name in row.classes]


def _add(counts):
    return tuple(sum(column) for column in zip(*counts, strict=True))


def _by_split(key, counts):
    split, name = key
    return split, (name, counts)


def _class_size(item):
    name, (rows, *_) = item
    return rows, name


def _summary(splits, modalities, totals, number, largest):
    classes = {
        split: (number.get(split, 0), largest.get(split, [])) for split in splits
    }
    totals = {split: totals.get(split, MediaTotals()) for split in splits}
    return json.dumps(summarize(totals, classes, modalities), ensure_ascii=False)


def _write(text, path):
    with fileio.open(path, "wb") as file:
        file.write(text.encode("utf-8"))


class MediaStatisticsSpec(component_spec.ComponentSpec):
    """Inputs, outputs and parameters of the component."""

    PARAMETERS = {"code": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples)
    }
    OUTPUTS = {
        "media_statistics": component_spec.ChannelParameter(
            type=artifacts.MediaStatistics
        )
    }


class MediaStatistics(BaseBeamComponent):
    """Component of the executor above."""

    SPEC_CLASS = MediaStatisticsSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(self, *, examples: types.BaseChannel, code: str = ""):
        """Builds the component.

        Args:
            examples: Of TableExampleGen.
            code: Hash of the code; a new one runs it anew.
        """
        output = types.Channel(type=artifacts.MediaStatistics)
        spec = MediaStatisticsSpec(
            examples=examples, media_statistics=output, code=code
        )
        super().__init__(spec=spec)
