"""Search space of `mmkeras.tune`: presets, encoders, fusions and rates."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

from mmkeras.cli import build_config, find_preset
from mmkeras.config import Config, to_dict
from mmkeras.config.presets import DEMO, PRETRAINED, best, pretrained_small
from mmkeras.environment.download import offline
from mmkeras.environment.extras import check_extras
from mmkeras.errors import UserError, one_line
from mmkeras.modalities.branch import Branch
from mmkeras.modalities.columns import build_branches, build_columns
from mmkeras.modalities.pretrained import fetch_pretrained
from mmkeras.modalities.types import TYPES
from mmkeras.modalities.vector.column import Vector

if TYPE_CHECKING:
    from mmkeras.data.dataset import Dataset

# Presets that are searched unless some are named. The others differ from these by the
# fusion, which is searched, or were worse in docs/presets.md.
SEARCHED = (DEMO, "pretrained-small", "linear", "cnn-lstm", "early", "cross-attention")
PRESET, OWN = "preset", "own"  # a name in the space; the encoder of the preset

Values = dict[str, Any]  # by dotted name of a setting


class Suggestions(Protocol):
    """The part of `optuna.Trial` that chooses values."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any: ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool): ...


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A setting that is searched where it has an effect.

    Attributes:
        choices: Values of a setting without `limits`.
        limits: Lowest and highest value.
        is_log: Whether the scale between the limits is logarithmic.
        has_effect: Function of the settings so far and the candidate.
    """

    name: str
    choices: tuple = ()
    limits: tuple[float, float] = (0.0, 0.0)
    is_log: bool = False
    has_effect: Callable[[Config, "Candidate"], bool] = lambda config, candidate: True


def _has(config: Config, candidate: "Candidate", name: str) -> bool:
    """Whether the settings of an encoder have a property that is true."""
    parts = (getattr(config, section) for section in candidate.sections)
    return any(getattr(part, name, False) for part in parts)


def _encoder(section: str, settings: Any) -> Values:
    return {f"{section}.{name}": value for name, value in asdict(settings).items()}


# Encoder -> the settings that it comes with, in the place of the preset's encoder,
# where the fusion takes vectors.
ENCODERS: dict[str, dict[str, Values]] = {
    "text.encoder": {"bert": _encoder("text", pretrained_small().text)},
    "image.encoder": {
        "efficientnet_lite0": _encoder("image", pretrained_small().image)
    },
    "audio.encoder": {
        "mfcc_stats": {"audio.encoder": "mfcc_stats", "audio.mfccs": best().audio.mfccs}
    },
}
# In this order, after the preset and the encoders. A linear model has none of them.
SETTINGS = (
    Setting(
        name="audio.segments",
        choices=(1, 3, 5),
        has_effect=lambda config, candidate: _has(config, candidate, "has_statistics"),
    ),
    Setting(  # only in the place of concat: other kinds are what their presets are for
        name="fusion.kind",
        choices=("concat", "interaction", "gated", "low_rank", "late"),
        has_effect=lambda config, candidate: config.fusion.kind == "concat"
        and len(candidate.branches) > 1,
    ),
    Setting(
        name="fusion.units",
        choices=(64, 128, 256, 512),
        has_effect=lambda config, candidate: config.fusion.kind
        not in ("late", "interaction"),
    ),
    Setting(
        name="vector.units",
        choices=(128, 256, 512),
        has_effect=lambda config, candidate: _has(config, candidate, "is_frozen")
        and not config.fusion.takes_tokens,
    ),
    Setting(name="fusion.dropout", limits=(0.0, 0.7)),
    Setting(
        name="fusion.modality_dropout",
        limits=(0.0, 0.5),
        has_effect=lambda config, candidate: len(candidate.branches) > 1
        and config.fusion.kind != "late",
    ),
    Setting(name="train.learning_rate", limits=(3e-4, 6e-3), is_log=True),
    Setting(
        name="train.weight_decay",
        limits=(3e-3, 3.0),
        is_log=True,
        has_effect=lambda config, candidate: config.train.optimizer == "adamw",
    ),
    Setting(
        name="train.label_smoothing",
        limits=(0.0, 0.2),
        has_effect=lambda config, candidate: config.task != "regression",
    ),
    Setting(
        name="train.fine_tune_rate",
        limits=(3e-6, 1e-4),
        is_log=True,
        has_effect=lambda config, candidate: config.train.fine_tune_epochs > 0,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A preset on the columns of a table.

    Attributes:
        config: Settings of the preset and of the user, with the columns.
        branches: Branches of its model.
    """

    config: Config
    branches: tuple[Branch, ...]

    @property
    def sections(self) -> set[str]:
        """Names of the settings of its encoders, such as "text"."""
        branches = (b for b in self.branches if not isinstance(b, Vector))
        kinds = {type(branch.settings) for branch in branches}
        return {
            f.name
            for f in fields(Config)
            if type(getattr(self.config, f.name)) in kinds
        }


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What a search chooses from.

    Attributes:
        candidates: Preset -> candidate; the first is what the others are compared with.
        user_values: Settings of the user by name, which are not searched.
        encoders: The part of ENCODERS that needs no download.
    """

    candidates: Mapping[str, Candidate]
    user_values: Values
    encoders: Mapping[str, Mapping[str, Values]]

    @property
    def choices(self) -> list[str]:
        """Names of the presets and encoders, in order."""
        encoders = [f"{n}={e}" for n, choices in self.encoders.items() for e in choices]
        return [*self.candidates, *encoders]

    def suggest(self, trial: Suggestions) -> Config:
        """Returns the settings that a trial chooses.

        Raises:
            UserError: They cannot be combined.
        """
        preset, *others = self.candidates
        if others:
            preset = trial.suggest_categorical(PRESET, [preset, *others])
        candidate, values = self.candidates[preset], {}
        for name, choices in self._encoders(candidate).items():
            encoder = trial.suggest_categorical(name, [OWN, *choices])
            values |= choices.get(encoder, {})
        config = build(preset, values, self.user_values)
        for setting in SETTINGS:
            if self._is_searched(setting, config, candidate):
                values[setting.name] = _suggest(trial, setting)
                config = build(preset, values, self.user_values)
        return config

    def defaults(self, preset: str) -> Values:
        """Returns what `suggest` has to choose for a preset with default settings."""
        defaults = _Defaults(self.candidates[preset].config)
        self.suggest(defaults)
        return defaults.values

    def encoder_choices(self) -> list[tuple[str, str, str]]:
        """Returns settings of encoders, their choices, and a preset for each."""
        first = {}
        for preset, candidate in self.candidates.items():
            for name, choices in self._encoders(candidate).items():
                for encoder in choices:
                    first.setdefault((name, encoder), preset)
        return [(*choice, preset) for choice, preset in first.items()]

    def _encoders(self, candidate) -> dict[str, Mapping[str, Values]]:
        """Returns the encoders that may take the place of the preset's own."""
        config = candidate.config
        if config.fusion.takes_tokens:
            return {}
        return {
            name: choices
            for name, choices in self.encoders.items()
            if name.partition(".")[0] in candidate.sections
            and name not in self.user_values
            and attrgetter(name)(config) not in choices
        }

    def _is_searched(self, setting, config, candidate) -> bool:
        if config.fusion.kind == "linear" or setting.name in self.user_values:
            return False
        return setting.has_effect(config, candidate)


def _suggest(trial, setting) -> Any:
    if setting.choices:
        return trial.suggest_categorical(setting.name, setting.choices)
    return trial.suggest_float(setting.name, *setting.limits, log=setting.is_log)


class _Defaults:
    """Chooses what a preset has, and notes it."""

    def __init__(self, config: Config):
        self.config, self.values = config, Values()

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        value = attrgetter(name)(self.config)
        return self._note(name, value if value in choices else OWN)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> Any:
        return self._note(name, attrgetter(name)(self.config))

    def _note(self, name, value):
        self.values[name] = value
        return value


def build(
    preset: str, values: Mapping[str, Any], user_values: Mapping[str, Any]
) -> Config:
    """Returns the settings of a preset with values of a search; those of the user win.

    Weights of the user count for the encoders that take some.

    Raises:
        UserError: The settings cannot be combined.
    """
    content = {**values, **user_values, PRESET: preset}
    try:
        return build_config(content, find_preset(preset))
    except UserError:
        weights = {name for name in user_values if name.endswith(".weights")}
        if not weights:
            raise
        content = {k: v for k, v in content.items() if k not in weights}
        return build_config(content, find_preset(preset))


def find_space(
    presets: Sequence[str], is_named: bool, user_values: Values, dataset: "Dataset"
) -> tuple[SearchSpace, dict[str, str]]:
    """Returns the space of a table, and preset or encoder -> why it is left out.

    The first of `presets` is in the space. So are the others if they are named, else
    those that differ on these columns, and need neither a download nor a package.

    Raises:
        UserError: The first preset, or one that is named, is not possible.
    """
    candidates: dict[str, Candidate] = {}
    reasons = {}
    for preset in presets:
        try:
            candidate = _candidate(build(preset, {}, user_values), dataset)
            if is_named or not candidates:
                check_extras(candidate.config)
                fetch_pretrained(candidate.config)
                candidates[preset] = candidate
            elif _is_other(candidate, candidates.values()):
                _check_local(candidate.config)
                candidates[preset] = candidate
        except UserError as error:
            if is_named or not candidates:
                raise
            reasons[preset] = one_line(error)
    space = SearchSpace(
        candidates=candidates, user_values=user_values, encoders=ENCODERS
    )
    encoders: dict[str, dict[str, Values]] = {}
    for name, encoder, preset in space.encoder_choices():
        values = ENCODERS[name][encoder]
        try:
            _check_local(_candidate(build(preset, values, user_values), dataset).config)
            encoders.setdefault(name, {})[encoder] = values
        except UserError as error:
            reasons[f"{name}={encoder}"] = one_line(error)
    return replace(space, encoders=encoders), reasons


def _candidate(config, dataset) -> Candidate:
    from mmkeras.data.dataset import with_columns  # imports TensorFlow

    config = with_columns(config, dataset)
    branches = build_branches(build_columns(config), config)
    return Candidate(config=config, branches=branches)


def _check_local(config) -> None:
    """Raises UserError if settings need a download, or a package that is missing."""
    check_extras(config)
    with offline():
        fetch_pretrained(config)


def _is_other(candidate: Candidate, others: Iterable[Candidate]) -> bool:
    """Whether a preset differs from others in what the columns of the table use."""
    is_pretrained = any(branch.is_pretrained for branch in candidate.branches)
    if candidate.config.preset in PRETRAINED and not is_pretrained:
        return False
    unused = {kind.section or kind.type for kind in TYPES.values()}
    unused -= candidate.sections

    def used(config):
        return {k: x for k, x in to_dict(config).items() if k not in {PRESET, *unused}}

    return all(used(candidate.config) != used(other.config) for other in others)
