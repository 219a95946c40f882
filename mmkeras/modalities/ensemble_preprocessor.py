"""Preprocessing of an ensemble: that of all members, where it is equal once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from mmkeras.config import Config
from mmkeras.modalities.branch import Branch, BranchGraph
from mmkeras.modalities.column import State
from mmkeras.modalities.preprocessor import Preprocessor


@dataclass(frozen=True, kw_only=True)
class Member:
    """Preprocessing of one member of an ensemble.

    Attributes:
        name: Name of the member, and of its folder.
        weight: Weight in the mean.
        keys: Key of an input in the member -> its key in the ensemble.
    """

    name: str
    weight: float
    preprocessor: Preprocessor
    keys: Mapping[str, str]


class EnsemblePreprocessor(Preprocessor):
    """Preprocessing of several models of the same columns.

    Status, presence and all that depends on one model are those of the first member.
    `config` has the settings of the run.

    Attributes:
        members: Members, in order.
    """

    def __init__(self, config: Config, members: Sequence[Member]):
        first = members[0].preprocessor
        super().__init__(first.config, first.state)
        self.config, self.members = config, tuple(members)
        self._variants: dict[str, list[_Variant]] = {name: [] for name in self.branches}
        for member in members:
            preprocessor = member.preprocessor
            for name, branch in preprocessor.branches.items():
                graph, state = preprocessor.graphs[name], preprocessor.state.columns
                self._add(name, preprocessing_key(branch, state), graph, member.keys)

    def _add(self, name, content, graph, keys) -> None:
        """Adds the graph of a branch, unless an equal one is there, and its key."""
        variants, key = self._variants[name], keys[self.branches[name].key]
        same = [variant for variant in variants if variant.content == content]
        if not same:
            # The first one is traced already by batches of the first member's inputs.
            graph = graph if variants else self.graphs[name]
            same = [_Variant(content=content, graph=graph)]
            variants += same
        if key not in same[0].keys:
            same[0].keys.append(key)

    @property
    def keys(self) -> dict[str, tuple[str, ...]]:
        return {
            name: tuple(key for variant in variants for key in variant.keys)
            for name, variants in self._variants.items()
        }

    @property
    def resources(self) -> list[Any]:
        graphs = [v.graph for variants in self._variants.values() for v in variants]
        return [x for graph in graphs for x in graph.resources]

    def preprocess(self, name, data):
        inputs, usable = {}, {}
        for variant in self._variants[name]:
            values, each_usable = variant.graph(data)
            inputs |= dict.fromkeys(variant.keys, values)
            usable = usable or each_usable
        return inputs, usable


@dataclass(kw_only=True)
class _Variant:
    """One of the different graphs of a branch, and the keys that its values have."""

    content: Any
    graph: BranchGraph
    keys: list[str] = field(default_factory=list)


def preprocessing_key(branch: Branch, state: Mapping[str, State]) -> list:
    """Returns what the graph of a branch depends on; equal ones give equal inputs."""
    columns = [
        (c.type, c.name, _settings(c), getattr(c, "items", 1), state[c.name])
        for c in branch.columns
    ]
    return [columns, branch.input(state)]


def _settings(column) -> dict[str, Any]:
    """Returns the settings of a column that do more than to choose its encoder."""
    settings = asdict(column.settings).items()
    return {k: x for k, x in settings if k not in column.encoder_settings}
