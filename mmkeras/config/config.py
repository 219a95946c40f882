"""All settings of a run."""

from dataclasses import asdict, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, Literal, get_type_hints

import yaml

from mmkeras.config.audio import AudioConfig
from mmkeras.config.ensemble import EnsembleConfig
from mmkeras.config.evaluate import EvaluateConfig, ExportConfig
from mmkeras.config.fusion import FusionConfig
from mmkeras.config.generate import (
    GENERATE,
    GenerateConfig,
    check_generate,
    check_no_decoder,
)
from mmkeras.config.image import ImageConfig
from mmkeras.config.loss import CLASS_LOSSES, REGRESSION_LOSSES, LossConfig
from mmkeras.config.table import TableConfig
from mmkeras.config.tabular import TabularConfig
from mmkeras.config.text import TextConfig
from mmkeras.config.train import AugmentConfig, TrainConfig
from mmkeras.config.validation import AUTO, check, check_range
from mmkeras.config.values import convert
from mmkeras.config.vector import VectorConfig
from mmkeras.config.zero_shot import (
    PROMPT,
    ZERO_SHOT,
    check_unused,
    check_zero_shot,
    class_names,
)
from mmkeras.errors import UserError, did_you_mean
from mmkeras.files import is_remote
from mmkeras.path_patterns import check_no_pattern
from mmkeras.schema import MODALITIES


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings of a run.

    The constructor applies no preset: `Config(preset="gated")` has only its name. Use
    `mmkeras.presets["gated"]()`, and `dataclasses.replace` for changes.

    Attributes:
        preset: Name of the preset that supplies the defaults.
        seed: Seed of the split, the weights, the row order and the augmentation.
        task: What a label is: one of two classes (binary), one of several (multiclass),
            any number of classes (multilabel), a number (regression), or a text that
            the model writes (generate). auto chooses among the classes by the labels
            of the table.
        classes: Class names for zero-shot, with commas between; empty is those of the
            label column.
        prompt: Text for zero-shot about a class, with {} in the place of its name.
        epochs: Maximum number of epochs; early stopping may end sooner. auto is 30, or
            as many as give 600 steps.
        on_bad_row: fail stops before training and lists bad rows; reject drops them
            and writes rejected.csv; absent treats an unreadable modality as missing
            in that row.
        columns: Column -> its type, or {type: TYPE, SETTING: VALUE, ...} with settings
            of that type, such as {title: {type: text, encoder: lstm}}.
        table: Columns and splits.
        image: Image branch.
        text: Text branch.
        audio: Audio branch.
        vector: Branch of precomputed vectors.
        tabular: Branch of numbers, categories and dates.
        fusion: Fusion of the branches.
        loss: Loss of the prediction, and auxiliary losses.
        generate: Decoder of task=generate.
        augment: Augmentation.
        train: Optimisation.
        ensemble: Several models in the place of one.
        evaluate: Metrics and report.
        export: Served model.
    """

    preset: str = "resnet50-concat"
    seed: int = 0
    task: Literal[
        "auto", "binary", "multiclass", "multilabel", "regression", "generate"
    ] = AUTO
    classes: str = ""
    prompt: str = PROMPT
    epochs: int | Literal["auto"] = AUTO
    on_bad_row: Literal["fail", "reject", "absent"] = "fail"
    columns: dict[str, Any] = field(default_factory=dict)
    table: TableConfig = field(default_factory=TableConfig)
    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    vector: VectorConfig = field(default_factory=VectorConfig)
    tabular: TabularConfig = field(default_factory=TabularConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    ensemble: EnsembleConfig = field(default_factory=EnsembleConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    export: ExportConfig = field(default_factory=ExportConfig)

    def __post_init__(self):
        check_range(self, "epochs", ge=1, auto=True)
        check_range(self, "seed", ge=0, le=2**31 - 1)
        for name in ("text", "audio"):
            handle = getattr(self, name).hub_handle
            if not is_remote(handle):
                check_no_pattern(f"{name}.hub_handle", handle)
        is_frozen = any(s.is_frozen for s in (self.image, self.text, self.audio))
        if self.train.fine_tune_epochs and not is_frozen:
            raise UserError(
                f"train.fine_tune_epochs={self.train.fine_tune_epochs} unfreezes "
                "frozen encoders, and there is none: set it to 0, or give pretrained "
                "weights, which are frozen first (text.weights, image.weights)."
            )
        if self.ensemble.is_active and self.evaluate.trained_alone:
            raise UserError(
                "evaluate.trained_alone=true compares one model with its parts, and an "
                "ensemble has several. Unset one of the two."
            )
        if self.fusion.kind == "linear":
            self._check_linear()
        self._check_task()
        if self.fusion.kind == ZERO_SHOT:
            check_zero_shot(self)
        else:
            check_unused(self)
        if self.task == GENERATE:
            check_generate(self)
        else:
            check_no_decoder(self)

    @property
    def takes_tokens(self) -> bool:
        """Whether branches give token sequences instead of one vector each."""
        return self.fusion.takes_tokens or self.task == GENERATE

    @property
    def trains_on_vectors(self) -> bool:
        """Whether training reads cached vectors of frozen encoders, and no more."""
        types = {entry["type"] for entry in self.columns.values()}
        parts = [getattr(self, t) for t in ("image", "text", "audio") if t in types]
        trained = [part for part in parts if not part.is_frozen]
        trains_encoder = any(p is self.image or p.is_sequence for p in trained)
        has_frozen = len(trained) < len(parts)
        trains_encoder = trains_encoder or self.train.fine_tune_epochs > 0
        return has_frozen and not trains_encoder and not self.takes_tokens

    def _check_task(self):
        """Checks that no setting belongs to another task."""
        is_regression = self.task == "regression"
        kinds = REGRESSION_LOSSES if is_regression else CLASS_LOSSES
        check(
            self.loss.kind in (AUTO, *kinds),
            "loss.kind",
            self.loss.kind,
            f"auto, {' or '.join(kinds)} with task={self.task}",
        )
        if not is_regression:
            return
        train, default = self.train, TrainConfig()
        # The defaults are ignored, as a preset may have set them.
        unused = {
            "class_weights": ("none", default.class_weights),
            "label_smoothing": (0, default.label_smoothing),
            "oversample": (False,),
            "monitor": ("val_loss",),
        }
        for name, allowed in unused.items():
            if (value := getattr(train, name)) not in allowed:
                raise UserError(
                    f"train.{name}={value} is for classes, and task=regression has "
                    f"none: set train.{name}={allowed[0]}."
                )

    def _check_linear(self):
        """Checks that there are no weights but those of the classifier."""
        unused = []
        if self.image.encoder != "pixels" and not self.image.is_frozen:
            unused += [f"image.encoder={self.image.encoder} (pixels or a frozen one)"]
        for name in ("text", "audio"):
            branch = getattr(self, name)
            if branch.is_frozen:
                continue
            if branch.is_pretrained:
                unused += [f"{name}.frozen={branch.frozen} (auto)"]
                continue
            if branch.is_sequence:
                choices = "one of vectors, or a frozen one"
                unused += [f"{name}.encoder={branch.encoder} ({choices})"]
            elif branch.units:
                unused += [f"{name}.units={branch.units} (0)"]
        for name in ("vector", "tabular"):
            if units := getattr(self, name).units:
                unused += [f"{name}.units={units} (0)"]
        types = dict.fromkeys((*MODALITIES, "vector", "tabular"))
        types = {name: name for name in types}
        for name in (*self.loss.classifiers(types), *self.loss.pairs(types)):
            name = name if isinstance(name, str) else "_".join(name)
            unused += [f"loss.{name}={getattr(self.loss, name)} (0)"]
        if self.train.fine_tune_epochs:
            unused += [f"train.fine_tune_epochs={self.train.fine_tune_epochs} (0)"]
        if self.loss.kind not in (AUTO, "cross_entropy", "mse"):
            unused += [f"loss.kind={self.loss.kind} (auto)"]
        if self.train.oversample:
            unused += ["train.oversample=True (false)"]
        if self.train.class_weights != "none":
            unused += [f"train.class_weights={self.train.class_weights} (none)"]
        for name in ("train.label_smoothing", "fusion.modality_dropout"):
            if value := attrgetter(name)(self):
                unused += [f"{name}={value} (0)"]
        if unused:
            remedy = "Set what is in parentheses"
            if self.preset != "linear":
                remedy += ", or start from --preset linear"
            raise UserError(
                "fusion.kind=linear is a logistic or ridge regression of scikit-learn, "
                f"without {', '.join(unused)}. {remedy}."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of `classes`, in its order."""
        return class_names(self.classes)

    @property
    def files(self) -> dict[str, str]:
        """Setting -> path of the file that it names."""
        paths = {"text.vocab_file": self.text.vocab_file}
        paths["image.weights"] = self.image.weights_file
        if self.text.is_pretrained and not self.text.has_model:
            paths["text.weights"] = self.text.weights
        paths["generate.vocab_file"] = self.generate.vocab_file
        return {name: path for name, path in paths.items() if path}


def to_dict(config: Config) -> dict[str, Any]:
    """Returns the settings as nested dicts, ready for YAML or JSON."""
    return asdict(config)


def flatten(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns a result of `to_dict` by dotted name, such as "train.batch_size".

    The columns are one value.
    """
    flat = {}
    for name, value in settings.items():
        if isinstance(value, dict) and name != "columns":
            flat |= {f"{name}.{member}": x for member, x in value.items()}
        else:
            flat[name] = value
    return flat


def to_yaml(config: Config) -> str:
    """Returns the settings as YAML, which `--config` reads."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def from_dict(content: dict[str, Any], kind: type = Config) -> Any:
    """Builds settings from a result of `to_dict`; names are not checked."""
    parts = {f.name: f.default_factory for f in fields(kind)}
    return kind(
        **{
            name: parts[name](**value) if isinstance(value, dict) else value
            for name, value in content.items()
        }
    )


def override(settings: Any, section: str, values: dict[str, Any]) -> Any:
    """Returns settings of a section with some values of a column in their place.

    Raises:
        UserError: There is no such setting, or its value is not possible.
    """
    hints = get_type_hints(type(settings))
    for name in values:
        if name not in hints:
            hint = did_you_mean(name, list(hints))
            raise UserError(f"There is no setting '{name}' in '{section}'.{hint}")
    converted = {k: convert(f"{section}.{k}", hints[k], v) for k, v in values.items()}
    return replace(settings, **converted)
