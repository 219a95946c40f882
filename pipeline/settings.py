"""The pipeline's own settings, beside those that a plain run has."""

import shlex
from dataclasses import dataclass, field, fields, replace
from typing import Any

from mmkeras.config import AudioConfig, Config, ImageConfig, TextConfig, validation
from mmkeras.errors import UserError, did_you_mean

# Components by their ids, as settings of a cluster name them.
IN_BEAM = ("ExampleGen", "StatisticsGen", "MediaStatistics", "Transform", "Evaluator")
IN_BEAM += ("UnlabeledExampleGen", "BulkInferrer")
COMPONENTS = (*IN_BEAM, "SchemaGen", "ExampleValidator", "DataGate", "Tuner")
COMPONENTS += ("Trainer", "InfraValidator", "Pusher")
DEFAULT = "default"  # stands for every component that is not named

# What a search tries.
LEARNING_RATE, FUSION_UNITS = "learning_rate", "fusion_units"
FUSION_DROPOUT, MODALITY_DROPOUT = "fusion_dropout", "modality_dropout"


@dataclass(frozen=True, kw_only=True)
class ChecksConfig:
    """When the data stop a run.

    Attributes:
        presence_slack: How far the share of rows that have a modality may fall below
            that of the rows the schema is inferred from; a schema that is kept, or
            given, has its own limits.
        max_silent_share: Largest share of the sounds that may be silent throughout.
        max_clipped_share: Largest share of the sounds that may be clipped.
    """

    presence_slack: float = 0.2
    max_silent_share: float = 0.5
    max_clipped_share: float = 0.5

    def __post_init__(self):
        for name in ("presence_slack", "max_silent_share", "max_clipped_share"):
            value = getattr(self, name)
            validation(0 <= value <= 1, f"checks.{name}", value, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """When a trained model is not pushed. Accuracies are shares of the test rows.

    Attributes:
        min_accuracy: Lowest accuracy on all test rows.
        max_drop: How far accuracy may fall below that of the last blessed model.
        min_accuracy_hidden: Lowest accuracy with any one modality hidden.
    """

    min_accuracy: float = 0.0
    max_drop: float = 0.02
    min_accuracy_hidden: float = 0.0

    def __post_init__(self):
        for name in ("min_accuracy", "max_drop", "min_accuracy_hidden"):
            value = getattr(self, name)
            validation(0 <= value <= 1, f"gate.{name}", value, "from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """The search for better settings; off unless `trials` is above 0.

    Attributes:
        trials: Models that are tried.
        epochs: Of each of them.
        learning_rate_low: Lowest learning rate tried.
        learning_rate_high: Highest learning rate tried.
        widths: Fusion widths tried, with commas between.
        dropout_high: Highest fusion dropout tried; the lowest is 0.
    """

    trials: int = 0
    epochs: int = 10
    learning_rate_low: float = 3e-4
    learning_rate_high: float = 1e-2
    widths: str = "64,128,256"
    dropout_high: float = 0.6

    def __post_init__(self):
        validation(self.trials >= 0, "tune.trials", self.trials, "0 or more")
        validation(self.epochs >= 1, "tune.epochs", self.epochs, "at least 1")
        low, high = self.learning_rate_low, self.learning_rate_high
        validation(
            0 < low < high,
            "tune.learning_rate_low",
            low,
            f"above 0 and below tune.learning_rate_high={high:g}",
        )
        numbers = self.widths.replace(",", " ").split()
        validation(
            bool(numbers) and all(n.isdecimal() and int(n) for n in numbers),
            "tune.widths",
            self.widths,
            "whole numbers above 0 with commas between",
        )
        validation(
            0 < self.dropout_high < 1,
            "tune.dropout_high",
            self.dropout_high,
            "above 0 and below 1",
        )

    @property
    def width_choices(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.widths.replace(",", " ").split())


@dataclass(frozen=True, kw_only=True)
class KubeflowConfig:
    """What a component is given on a cluster, by its id.

    "default" is for each component that is not named: {"default": 2, "Trainer": 8}.
    A component that neither names is given none, and the cluster's own defaults hold.

    Attributes:
        service_account: Kubernetes service account of the pods; empty is the
            cluster's own choice.
        retries: How often a component that failed is started anew.
        cpu_cores: Requested for each component, and its limit.
        memory_gb: Requested for each component, and its limit; gigabytes.
        gpu: GPUs of each component.
        gpu_type: What the cluster calls a GPU.
        gpu_image: Image of components that have a GPU; empty is that of the others.
        beam_args: Arguments of Beam for each component that runs in it, in one text;
            without, it runs in the component's own process.
        env: Environment variables of every component.
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
        validation(self.retries >= 0, "kubeflow.retries", self.retries, "0 or more")
        for name in ("cpu_cores", "memory_gb", "gpu", "beam_args"):
            known = IN_BEAM if name == "beam_args" else COMPONENTS
            for component in getattr(self, name):
                _check_component(name, component, (DEFAULT, *known))
        for name in ("cpu_cores", "memory_gb"):
            for component, value in getattr(self, name).items():
                validation(
                    0 < value < float("inf"),
                    f"kubeflow.{name}.{component}",
                    value,
                    "above 0",
                )
        for component, text in self.beam_args.items():
            try:
                shlex.split(text)
            except ValueError as error:
                raise UserError(
                    f"kubeflow.beam_args.{component}={text} cannot be split into "
                    f"words: {error}."
                ) from None
        for component, value in self.gpu.items():
            validation(value >= 0, f"kubeflow.gpu.{component}", value, "0 or more")


def _check_component(setting: str, component: str, known: tuple[str, ...]) -> None:
    if component in known:
        return
    if component in COMPONENTS:
        raise UserError(
            f"kubeflow.{setting} names '{component}', which does not run in Beam. "
            f"Known: {', '.join(known)}."
        )
    raise UserError(
        f"kubeflow.{setting} names '{component}', and there is no such component."
        f"{did_you_mean(component, known)}"
    )


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(Config):
    """All settings of a run through the pipeline.

    Attributes:
        checks: When the data stop a run.
        gate: When a trained model is not pushed.
        tune: The search for better settings.
        kubeflow: What components are given on a cluster.
    """

    checks: ChecksConfig = field(default_factory=ChecksConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)
    kubeflow: KubeflowConfig = field(default_factory=KubeflowConfig)

    @property
    def plain(self) -> Config:
        """The part that a plain run has, which is all that the model depends on."""
        return Config(**{f.name: getattr(self, f.name) for f in fields(Config)})


def ingest_settings(config: Config) -> Config:
    """Returns the settings that the records depend on, all others at their defaults.

    A component is given no others, so that it is answered from the cache when they
    change.
    """
    image = ImageConfig(
        size_px=config.image.size_px, max_megapixels=config.image.max_megapixels
    )
    return Config(
        seed=config.seed,
        on_bad_row=config.on_bad_row,
        table=replace(config.table, cache_dir=""),
        image=image,
        text=TextConfig(encoder=_read_as(config.text, TextConfig())),
        audio=AudioConfig(
            encoder=_read_as(config.audio, AudioConfig()),
            rate_hz=config.audio.rate_hz,
            clip_s=config.audio.clip_s,
            window_ms=config.audio.window_ms,  # this and what follows fit the rate
            hop_ms=config.audio.hop_ms,
            low_hz=config.audio.low_hz,
            high_hz=config.audio.high_hz,
        ),
    )


def _read_as(branch, default):
    """All encoders but the precomputed vectors read the same records."""
    return branch.encoder if branch.encoder == "vector" else default.encoder


def transform_settings(config: Config) -> Config:
    """Returns the settings that vocabulary, classes and scales depend on, as above."""
    text, audio = TextConfig(), AudioConfig()
    return replace(
        ingest_settings(config),
        text=replace(
            config.text,
            units=text.units,
            heads=text.heads,
            layers=text.layers,
            pooling=text.pooling,
            dropout=text.dropout,
        ),
        audio=replace(
            config.audio,
            units=audio.units,
            pooling=audio.pooling,
            dropout=audio.dropout,
        ),
    )


def tuned(config: Config, values: dict[str, Any]) -> Config:
    """Returns the settings with what a trial, or the best one, has tried."""
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
