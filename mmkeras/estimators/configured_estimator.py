"""Constructor of the estimators: settings by name, as scikit-learn keeps them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator

from mmkeras.cli import build_config
from mmkeras.config import Config
from mmkeras.config.validation import AUTO
from mmkeras.errors import UserError
from mmkeras.estimators.arguments import check_encoders, check_path, check_settings
from mmkeras.modalities.columns import build_columns
from mmkeras.modalities.preprocessing_state import GENERATE, REGRESSION

# Task -> its estimator; of others the classifier.
_ESTIMATORS = {REGRESSION: "MultimodalRegressor", GENERATE: "MultimodalGenerator"}
_NAMED = ("preset", "path", "settings", "encoders")  # parameters that are no settings


class ConfiguredEstimator(BaseEstimator):
    """Estimator whose parameters are the settings of mmkeras, checked at once."""

    _preset: str | None = None  # default preset
    _task: dict[str, str] = {}  # settings that the class determines
    _tasks: tuple[str, ...]  # that it can train

    def __init__(
        self,
        preset: str | None = None,
        *,
        path: str | Path | None = None,
        settings: Config | Mapping[str, Any] | None = None,
        encoders: Mapping[str, Any] | None = None,
        **more: Any,
    ):
        """Sets what `fit` trains.

        Args:
            preset: Name of `mmkeras.presets`; None is resnet50-concat, or
                small-captions for a generator.
            path: Run folder, new or to be resumed; None is a temporary folder, which
                lives as long as this object.
            settings: Values by dotted name, such as {"text.encoder": "lstm"}; or a
                Config in the place of a preset.
            encoders: Column -> its encoder in the place of the one of the settings: a
                keras.Model, of which a copy is trained, or a function from the shape
                of a row of its input to one. It returns (B, D).
            **more: The same with "__" for the dot: text__encoder="lstm", epochs=3,
                columns={"title": "text"}. They win over `settings`.

        Raises:
            UserError: A setting does not exist, or a value is not possible.
        """
        self.preset, self.path, self.settings = preset, path, settings
        self.encoders, self._more = encoders, more
        check_path(path)
        check_encoders(encoders)
        self.build_config()

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Returns the arguments of the constructor."""
        return {**{name: getattr(self, name) for name in _NAMED}, **self._more}

    def set_params(self, **params: Any) -> "ConfiguredEstimator":
        """Changes arguments of the constructor.

        Raises:
            UserError: As the constructor.
        """
        params = {**self.get_params(), **params}
        type(self)(**params)  # before anything changes
        self.__init__(**params)
        return self

    def build_config(self, **values: Any) -> Config:
        """Returns all settings; `values` win.

        Raises:
            UserError: As the constructor.
        """
        check_settings(self.settings)
        settings, defaults, task = self.settings or {}, None, self._task
        if isinstance(settings, Config):
            task = task if settings.task == AUTO else {}
            settings, defaults = {}, settings
            if self.preset is not None:
                raise UserError(
                    f"preset='{self.preset}' and settings=Config(...) exclude each "
                    "other. Give one of them."
                )
        more = {name.replace("__", "."): value for name, value in self._more.items()}
        preset = self.preset or (self._preset if defaults is None else None)
        preset = {} if preset is None else {"preset": preset}
        values = {**preset, **task, **settings, **more, **values}
        config = build_config(values, defaults)
        if config.task not in self._tasks:
            other = _ESTIMATORS.get(config.task, "MultimodalClassifier")
            raise UserError(
                f"task={config.task} is not for {type(self).__name__}. Use {other}, or "
                "leave it out."
            )
        if config.columns:
            build_columns(config)  # checks their types and settings
        return config
