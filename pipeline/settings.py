"""Settings of the pipeline in addition to those of a training run."""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from mmkeras.config import Config, GenerateConfig
from mmkeras.config.validation import AUTO, check, check_range
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.errors import UserError, did_you_mean
from mmkeras.modalities.column import Column
from mmkeras.modalities.columns import column_entry, recognised_entry
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION
from mmkeras.modalities.types import TYPES
from mmkeras.modalities.vector.column import Vector

# Ids of components, as the settings `kubeflow.*` name them.
IN_BEAM = ("ExampleGen", "StatisticsGen", "MediaStatistics", "Transform", "Evaluator")
IN_BEAM += ("UnlabeledExampleGen", "BulkInferrer")
COMPONENTS = (*IN_BEAM, "SchemaGen", "ExampleValidator", "DataGate", "Tuner")
COMPONENTS += ("Trainer", "InfraValidator", "Pusher")
DEFAULT = "default"  # name of all other components

# Hyperparameters of the search.
LEARNING_RATE, FUSION_UNITS = "learning_rate", "fusion_units"
FUSION_DROPOUT, MODALITY_DROPOUT = "fusion_dropout", "modality_dropout"

# Limits of `GateConfig` for classes, numbers and texts.
_CLASS_LIMITS = ("min_accuracy", "min_accuracy_hidden")
_NUMBER_LIMITS = ("min_r2", "min_r2_hidden")
_TEXT_LIMITS = ("min_exact_match", "min_exact_match_hidden", "min_bleu_4", "min_chrf")
_TEXT_LIMITS += ("min_cider_d", "max_word_error_rate")
_LIMITS_OF_TASK = {REGRESSION: _NUMBER_LIMITS, GENERATE: _TEXT_LIMITS}


@dataclass(frozen=True, kw_only=True)
class ChecksConfig:
    """Limits of the data checks, as shares of rows.

    Attributes:
        presence_slack: Largest drop of the share of rows with a column, compared with
            the rows the schema is inferred from. A schema file has its own limits.
        max_silent_share: Largest share of the audio that may be silent throughout.
        max_clipped_share: Largest share of the audio that may be clipped.
    """

    presence_slack: float = 0.2
    max_silent_share: float = 0.5
    max_clipped_share: float = 0.5

    def __post_init__(self):
        names = ("presence_slack", "max_silent_share", "max_clipped_share")
        check_range(self, *(f"checks.{name}" for name in names), ge=0, le=1)


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """Limits on the test rows below which a model is not pushed.

    Attributes:
        min_accuracy: Lowest accuracy on all test rows.
        max_drop: Largest drop of accuracy, of R² in regression, or of the exact match
            of generated texts, below that of the last blessed model.
        min_accuracy_hidden: Lowest accuracy with any one branch masked.
        min_r2: Lowest R² on all test rows, in regression; 0 is that of their mean.
        min_r2_hidden: Lowest R² with any one branch masked; -inf is no limit.
        min_exact_match: Lowest exact match of generated texts. This and the next are
            limits of the lower end of the 95 % interval.
        min_exact_match_hidden: Lowest exact match with any one branch masked.
        min_bleu_4: Lowest BLEU-4.
        min_chrf: Lowest chrF.
        min_cider_d: Lowest CIDEr-D, which is from 0 to 10.
        max_word_error_rate: Highest upper end of the 95 % interval of the word error
            rate; inf is no limit.
    """

    min_accuracy: float = 0.0
    max_drop: float = 0.02
    min_accuracy_hidden: float = 0.0
    min_r2: float = 0.0
    min_r2_hidden: float = -math.inf
    min_exact_match: float = 0.0
    min_exact_match_hidden: float = 0.0
    min_bleu_4: float = 0.0
    min_chrf: float = 0.0
    min_cider_d: float = 0.0
    max_word_error_rate: float = math.inf

    def __post_init__(self):
        names = {"max_drop", *_CLASS_LIMITS, *_TEXT_LIMITS} - {"max_word_error_rate"}
        for name in sorted(names):
            limit = 10 if name == "min_cider_d" else 1
            check_range(self, f"gate.{name}", ge=0, le=limit)
        check_range(self, "gate.max_word_error_rate", ge=0)
        check_range(self, *(f"gate.{name}" for name in _NUMBER_LIMITS), le=1)


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Hyperparameter search, which runs if `trials` is above 0.

    Attributes:
        trials: Number of models to train.
        epochs: Epochs per trial; auto is a third of those of the training.
        learning_rate_low: Lowest learning rate.
        learning_rate_high: Highest learning rate.
        widths: Fusion widths, separated by commas.
        dropout_high: Highest fusion dropout; the lowest is 0.
    """

    trials: int = 0
    epochs: int | Literal["auto"] = AUTO
    learning_rate_low: float = 3e-4
    learning_rate_high: float = 1e-2
    widths: str = "64,128,256"
    dropout_high: float = 0.6

    def __post_init__(self):
        check_range(self, "tune.trials", ge=0)
        check_range(self, "tune.epochs", ge=1, auto=True)
        high = "tune.learning_rate_high"
        check_range(self, "tune.learning_rate_low", gt=0, lt=high)
        numbers = self.widths.replace(",", " ").split()
        is_allowed = numbers and all(n.isdecimal() and int(n) for n in numbers)
        allowed = "whole numbers above 0, separated by commas"
        check(bool(is_allowed), "tune.widths", self.widths, allowed)
        check_range(self, "tune.dropout_high", gt=0, lt=1)

    @property
    def width_choices(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.widths.replace(",", " ").split())


@dataclass(frozen=True, kw_only=True)
class KubeflowConfig:
    """Resources of the components on a cluster, by component id.

    "default" applies to all other components: {"default": 2, "Trainer": 8}. Without a
    value, a component has the defaults of the cluster.

    Attributes:
        service_account: Kubernetes service account of the pods; empty is the cluster's
            default.
        retries: Number of restarts of a failed component.
        cpu_cores: CPU request and limit of each component.
        memory_gb: Memory request and limit of each component, gigabytes.
        gpu: Number of GPUs of each component.
        gpu_type: Resource name of a GPU in the cluster.
        gpu_image: Image of components with a GPU; empty is that of the others.
        beam_args: Arguments of Beam for each component that runs in it, as one text;
            without them, Beam runs in the component's process.
        env: Environment variables of all components.
    """

    service_account: str = ""
    retries: int = 2
    cpu_cores: dict[str, float] = field(default_factory=lambda: {DEFAULT: 2.0})
    memory_gb: dict[str, float] = field(
        default_factory=lambda: {DEFAULT: 4.0, "Tuner": 8.0, "Trainer": 8.0}
    )
    gpu: dict[str, int] = field(default_factory=dict)
    gpu_type: str = "nvidia.com/gpu"
    gpu_image: str = ""
    beam_args: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        check_range(self, "kubeflow.retries", ge=0)
        for name in ("cpu_cores", "memory_gb", "gpu", "beam_args"):
            known = IN_BEAM if name == "beam_args" else COMPONENTS
            for component in getattr(self, name):
                _check_component(name, component, (DEFAULT, *known))
        for name in ("cpu_cores", "memory_gb"):
            for component, value in getattr(self, name).items():
                is_allowed = 0 < value < float("inf")
                check(is_allowed, f"kubeflow.{name}.{component}", value, "above 0")
        for component, text in self.beam_args.items():
            try:
                shlex.split(text)
            except ValueError as error:
                raise UserError(
                    f"kubeflow.beam_args.{component}={text} cannot be split into "
                    f"words ({error}); close all quotes."
                ) from None
        for component, value in self.gpu.items():
            check(value >= 0, f"kubeflow.gpu.{component}", value, "0 or more")


def _check_component(setting: str, component: str, known: tuple[str, ...]) -> None:
    if component in known:
        return
    if component in COMPONENTS:
        raise UserError(
            f"kubeflow.{setting} names '{component}', which does not run in Beam. "
            f"Known: {', '.join(known)}."
        )
    raise UserError(
        f"kubeflow.{setting} names an unknown component, '{component}'."
        f"{did_you_mean(component, known)}"
    )


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(Config):
    """All settings of a run through the pipeline.

    Attributes:
        checks: Limits of the data checks.
        gate: Limits below which a model is not pushed.
        tune: Hyperparameter search.
        kubeflow: Resources of the components on a cluster.
    """

    checks: ChecksConfig = field(default_factory=ChecksConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    kubeflow: KubeflowConfig = field(default_factory=KubeflowConfig)

    def __post_init__(self):
        super().__post_init__()
        limits = {*_CLASS_LIMITS, *_NUMBER_LIMITS, *_TEXT_LIMITS}
        for name in sorted(limits - {*_LIMITS_OF_TASK.get(self.task, _CLASS_LIMITS)}):
            default = getattr(GateConfig, name)
            allowed = f"{default}, its default, with task={self.task}"
            value = getattr(self.gate, name)
            check(value == default, f"gate.{name}", value, allowed)
        if self.fusion.kind == ZERO_SHOT:
            raise UserError(
                "fusion.kind=zero_shot trains nothing, so that there is nothing for a "
                "pipeline to do: use python -m mmkeras.train --preset zero-shot."
            )
        if self.ensemble.is_active:
            raise UserError(
                "ensemble.presets and ensemble.folds train several models, and a "
                "pipeline trains one. Leave them out, or use python -m mmkeras.train."
            )
        if self.tune.trials and self.fusion.kind == "linear":
            raise UserError(
                f"tune.trials={self.tune.trials} searches settings that "
                "fusion.kind=linear does not have. Set it 0."
            )

    @property
    def plain(self) -> Config:
        """Settings of a training run, which determine the model."""
        return Config(**{f.name: getattr(self, f.name) for f in fields(Config)})


def ingest_settings(config: Config) -> Config:
    """Returns the settings that the records depend on, all others at their defaults.

    Changes of other settings therefore do not invalidate the cached records.
    """
    return Config(
        seed=config.seed,
        task=config.task,
        on_bad_row=config.on_bad_row,
        table=replace(config.table, cache_dir=""),
        **_column_settings(config, lambda kind, names: set(kind.read_settings)),
    )


def transform_settings(config: Config) -> Config:
    """Returns the settings that statistics of labels and columns depend on."""
    settings = _column_settings(
        config, lambda kind, names: names - {*kind.encoder_settings}
    )
    names = ("tokens", "vocab_size", "vocab_file")  # of a generator's vocabulary
    values = {name: getattr(config.generate, name) for name in names}
    generate = replace(GenerateConfig(), **values)
    return replace(ingest_settings(config), generate=generate, **settings)


def _column_settings(
    config: Config, choose: Callable[[type[Column], set[str]], set[str]]
) -> dict[str, Any]:
    """Returns sections and columns with the settings that `choose` keeps of a type.

    An encoder of vectors is kept, since its records differ.
    """
    result, kept = {"columns": {}}, {}
    for kind in TYPES.values():
        section = getattr(config, kind.section or kind.type)
        names = choose(kind, {f.name for f in fields(section)})
        if getattr(section, "encoder", "") == Vector.type:
            names.add("encoder")
        kept[kind.type] = names
        values = {name: getattr(section, name) for name in names}
        result[kind.section or kind.type] = replace(type(section)(), **values)
    for name, value in config.columns.items():
        entry = column_entry(name, value)
        entry = {k: v for k, v in entry.items() if k in (*kept[entry["type"]], "key")}
        result["columns"][name] = entry | recognised_entry(column_entry(name, value))
    return result


def tuned(config: Config, values: dict[str, Any]) -> Config:
    """Returns the settings with the hyperparameters of a trial."""
    return replace(
        config,
        train=replace(config.train, learning_rate=values[LEARNING_RATE]),
        fusion=replace(
            config.fusion,
            units=values[FUSION_UNITS],
            dropout=values[FUSION_DROPOUT],
            modality_dropout=values[MODALITY_DROPOUT],
        ),
    )
