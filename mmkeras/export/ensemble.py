"""Ensembles: several trained models of the same columns and classes as one."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mmkeras.config import Config, to_yaml
from mmkeras.errors import UserError
from mmkeras.export.inference import TrainedModel
from mmkeras.files import write_text
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.columns import branch_types
from mmkeras.modalities.ensemble_preprocessor import (
    EnsemblePreprocessor,
    Member,
    preprocessing_key,
)
from mmkeras.models.ensemble import build_ensemble, split_model, weights_digest
from mmkeras.models.model import backbones
from mmkeras.schema import (
    ANALYSIS_FILE,
    CONFIG_FILE,
    ENSEMBLE_FILE,
    MEMBERS_DIR,
    embedding_name,
)


def combine_models(
    members: Iterable[TrainedModel],
    weights: Sequence[float],
    config: Config | None = None,
    names: Sequence[str] = (),
) -> TrainedModel:
    """Returns one model that predicts the weighted mean of several.

    Members of weight 0 are left out. Equal preprocessing and equal backbones are there
    once. Each of `members` can be deleted once the next one is taken: an iterator
    needs memory for one more model than the result.

    Args:
        config: Settings of the result; None is those of the first member.
        names: Name of each member in the run folder; by default member-1, ...

    Raises:
        UserError: The members differ in columns or classes.

    Example:
        ensemble = combine_models([load_trained(a), load_trained(b)], [0.7, 0.3])
    """
    names = names or [f"member-{i}" for i in range(1, len(weights) + 1)]
    kept, parts, variants = [], [], _Variants()
    for name, weight, member in zip(names, weights, members, strict=True):
        if not weight:
            continue
        _check_same_rows(kept[0].preprocessor if kept else member.preprocessor, member)
        known = variants.keys
        keys = variants.add(member)
        parts.append(split_model(member.model, keys, known))
        preprocessor = member.preprocessor
        kept.append(
            Member(name=name, weight=weight, preprocessor=preprocessor, keys=keys)
        )
    preprocessor = EnsemblePreprocessor(config or kept[0].preprocessor.config, kept)
    types = branch_types(preprocessor.branches.values(), preprocessor.config)
    aligned = [embedding_name(b) for b in preprocessor.config.loss.aligned(types)]
    shares = [member.weight for member in kept]
    model = build_ensemble(parts, shares, preprocessor.state.task, aligned)
    return TrainedModel(preprocessor=preprocessor, model=model)


class _Variants:
    """Keys of the inputs of an ensemble, by what their values and backbones are."""

    def __init__(self):
        self._contents: dict[str, list] = {}

    @property
    def keys(self) -> list[str]:
        """Keys of all inputs so far."""
        counts = {key: len(contents) for key, contents in self._contents.items()}
        return [_number(key, i) for key, n in counts.items() for i in range(n)]

    def add(self, member: TrainedModel) -> dict[str, str]:
        """Returns key of each input in the member -> its key in the ensemble."""
        keys, encoders = {}, backbones(member.model)
        tokens = member.config.fusion.takes_tokens
        for branch in member.preprocessor.branches.values():
            content = [preprocessing_key(branch, member.state.columns)]
            if encoder := encoders.get(branch.key):
                content += [branch.settings, tokens, weights_digest(encoder)]
            contents = self._contents.setdefault(branch.key, [])
            if content not in contents:
                contents.append(content)
            keys[branch.key] = _number(branch.key, contents.index(content))
        return keys


def _number(key: str, i: int) -> str:
    return f"{key}_{i + 1}" if i else key


def _check_same_rows(first, member):
    """Checks that a member has the columns and the classes of the first one."""
    a, b = first.state, member.state
    for name in ("branches", "task", "classes", "label_scale"):
        if (x := getattr(a, name)) != (y := getattr(b, name)):
            raise UserError(
                f"The models of an ensemble need the same {name.replace('_', ' ')}, "
                f"and these have {x} and {y}. Train them on one table."
            )


def save_ensemble(folder: Path, trained_model: TrainedModel, **content: Any) -> None:
    """Writes what `load_trained` needs for an ensemble, beside model.keras.

    These are the settings and the state of each member under members/, and
    ensemble.json, which gets `content` as well.
    """
    members = []
    for member in trained_model.preprocessor.members:
        member_folder = folder / MEMBERS_DIR / member.name
        member_folder.mkdir(parents=True, exist_ok=True)
        config, state = member.preprocessor.config, member.preprocessor.state
        write_text(member_folder / CONFIG_FILE, to_yaml(config))
        preprocessing_state.save(state, member_folder / ANALYSIS_FILE)
        entry = {"name": member.name, "weight": member.weight, "keys": member.keys}
        members.append(entry)
    preprocessing_state.save(trained_model.state, folder / ANALYSIS_FILE)
    text = json.dumps({"members": members, **content}, indent=1)
    write_text(folder / ENSEMBLE_FILE, text)
