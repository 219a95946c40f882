"""Preprocessing from raw values to the inputs of the Keras model, in the graph."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from mmkeras.config import Config
from mmkeras.modalities.branch import Branch, BranchGraph
from mmkeras.modalities.column import Column
from mmkeras.modalities.columns import build_branches, build_columns
from mmkeras.modalities.preprocessing_state import PreprocessingState
from mmkeras.modalities.text.target import TargetTokenizer
from mmkeras.schema import ABSENT, OK, PRESENT, UNREADABLE
from mmkeras.schema import STATUS_SEPARATOR as SEPARATOR


class Preprocessor:
    """Preprocessing in the graph, with its token tables and hub modules.

    Build one per run and share it, since it caches traced functions. Training augments
    between the steps of each branch's graph; serving calls the same functions.

    Attributes:
        branches: Branches in the order of the model, by name.
        graphs: Branch -> its graph.
        tokenizer: Tokenizer of the label column of a generator, else None.

    Example:
        preprocessor = Preprocessor(config, state)
        inputs, status = preprocessor({"text": tf.constant(["moo"]), "image": images})
    """

    def __init__(self, config: Config, state: PreprocessingState):
        self.config, self.state = config, state
        branches = {b.name: b for b in build_branches(build_columns(config), config)}
        self.branches: dict[str, Branch] = {n: branches[n] for n in state.branches}
        self.graphs: dict[str, BranchGraph] = {
            name: branch.graph(state.columns) for name, branch in self.branches.items()
        }
        self.tokenizer = (
            TargetTokenizer(config.generate, state.texts.vocabulary)
            if state.texts
            else None
        )

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        """Branch -> keys of its inputs in the model: one, or those of an ensemble."""
        return {name: (branch.key,) for name, branch in self.branches.items()}

    @property
    def columns(self) -> dict[str, Column]:
        """Columns of all branches, by name."""
        return {c.name: c for b in self.branches.values() for c in b.columns}

    @property
    def resources(self) -> list[Any]:
        """Objects that an export must track: token tables and hub modules."""
        resources = [x for graph in self.graphs.values() for x in graph.resources]
        return resources + (self.tokenizer.resources if self.tokenizer else [])

    @property
    def specs(self) -> dict[str, tf.TensorSpec]:
        """Specs of (B,) values by column, as the model is served."""
        return {
            name: tf.TensorSpec([None], tf.string if c.takes_strings else tf.float32)
            for name, c in self.columns.items()
        }

    def tensors(self, data: Mapping[str, Any]) -> dict[str, tf.Tensor]:
        """Returns values by column as tensors of `specs`."""
        return {n: tf.constant(list(data[n]), s.dtype) for n, s in self.specs.items()}

    def __call__(
        self, data: Mapping[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Preprocesses (B,) values by column; a broken or empty one is absent.

        Returns:
            The model's inputs, (B, ...) by key of the branch and (B, M) float32 under
            "present", and (B,) string: "ok", or the absent or unreadable columns.
        """
        inputs, present, problems = {}, [], []
        for name in self.branches:
            values, usable = self.preprocess(name, data)
            inputs |= values
            any_usable = tf.reduce_any([ok for ok, _ in usable.values()], axis=0)
            present.append(tf.cast(any_usable, tf.float32))
            problems += [_problem(column, *usable[column]) for column in usable]
        inputs[PRESENT] = tf.stack(present, axis=1)  # (B, M)
        status = tf.strings.join(problems)
        status = tf.strings.regex_replace(status, f"^{SEPARATOR}", "")
        return inputs, tf.where(status == "", OK, status)

    def preprocess(
        self, name: str, data: Mapping[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], dict[str, tuple[tf.Tensor, tf.Tensor]]]:
        """Preprocesses one branch; returns its inputs by key, and as its graph does."""
        values, usable = self.graphs[name](data)
        return {self.branches[name].key: values}, usable


def column_feature(column: Column) -> tf.io.FixedLenFeature:
    """Returns the feature of a column in a tf.Example; a missing one is absent."""
    if column.takes_strings:
        return tf.io.FixedLenFeature([], tf.string, "")
    return tf.io.FixedLenFeature([], tf.float32, float("nan"))


def _problem(column, ok, exists):
    """Returns (B,) strings: "; text absent", "; text unreadable", or ""."""
    unreadable, absent = (f"{column} {word}" for word in (UNREADABLE, ABSENT))
    reason = tf.where(exists, unreadable, absent)
    return tf.where(ok, "", tf.strings.join([SEPARATOR, reason]))
