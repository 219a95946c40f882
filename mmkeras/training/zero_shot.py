"""Zero-shot classifiers: class names in the place of training rows."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from mmkeras.config import Config, to_dict
from mmkeras.config.zero_shot import SLOT
from mmkeras.console import say
from mmkeras.export import run_manifest
from mmkeras.export.inference import TrainedModel
from mmkeras.export.saved_model import export
from mmkeras.files import atomic_path, latest_version
from mmkeras.modalities import preprocessing_state
from mmkeras.modalities.column import Column
from mmkeras.modalities.columns import build_columns
from mmkeras.modalities.image.prompts import check_pair, encode_prompts
from mmkeras.modalities.preprocessing_state import (
    BINARY,
    PreprocessingState,
    find_classes,
)
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import HEAD, build_model, list_branches
from mmkeras.names import clean_name
from mmkeras.schema import ANALYSIS_FILE, EXPORT_DIR, MODEL_FILE
from mmkeras.training import run_folder

_GOLDEN_IMAGES = 4


def set_class_vectors(
    model: keras.Model, config: Config, state: PreprocessingState
) -> None:
    """Sets the classifier of a new model with fusion.kind=zero_shot.

    The logit of a class is the scale of the preset times the cosine of the vectors of
    the image and of the prompt of the class.
    """
    (branch,) = list_branches(config, state)
    prompts = [config.prompt.replace(SLOT, name) for name in state.classes]
    vectors, scale = encode_prompts(branch.settings.weights, prompts)
    kernel = scale * vectors.T  # (D, C)
    if state.task == BINARY:  # one logit instead of two
        kernel = kernel[:, 1:] - kernel[:, :1]
    bias = np.zeros(kernel.shape[1])
    model.get_layer(HEAD).get_layer("logits").set_weights([kernel, bias])
    say(f"Classes: {len(prompts):,}, as '{prompts[0]}' to the text encoder.")


def check_pairs(config: Config) -> None:
    """Checks the preset of zero-shot classification before rows are read.

    Raises:
        UserError: It cannot be had, or has no text encoder.
    """
    for column in build_columns(config):
        size_px, settings = check_pair(column.settings.weights), column.settings
        if settings.size_px != size_px:
            say(
                f"Warning: image.size_px={settings.size_px}, and the preset takes "
                f"images of {size_px} px, to which they are resized once more. Avoid "
                f"it by --image.size_px {size_px}."
            )


def build_without_rows(folder: Path, config: Config) -> None:
    """Builds, exports and verifies the model of `config.classes`, without a table.

    Example:
        with run_folder.locked_folder(folder):
            build_without_rows(folder, replace(zero_shot(), classes="cat,dog"))
    """
    requested, config = config, _with_column(config)
    check_pairs(config)
    run_folder.write_config(folder, config)
    trained_model = _build(config)
    preprocessing_state.save(trained_model.state, folder / ANALYSIS_FILE)
    content = {"data": run_folder.NO_ROWS, "settings": to_dict(requested)}
    run_manifest.write_manifest(folder, **content, seed=config.seed, fitted=True)
    with atomic_path(folder / MODEL_FILE) as tmp_path:
        trained_model.model.save(tmp_path)
    if latest_version(folder / EXPORT_DIR) is None:
        (column,) = trained_model.preprocessor.columns.values()
        export(trained_model, _golden_images(column), folder / EXPORT_DIR)
        say(f"Export: verified, {folder / EXPORT_DIR}.")
    run_manifest.write_manifest(folder, finished=True)


def _with_column(config):
    """Returns the settings with one column of images, named image unless declared."""
    names = config.columns or config.table.declared or ("image",)
    columns = config.columns or {clean_name(name): {"type": "image"} for name in names}
    return replace(config, columns=columns)


def _build(config) -> TrainedModel:
    classes = config.class_names
    (column,) = build_columns(config)
    state = PreprocessingState(
        branches={column.name: (column.name,)},
        columns={column.name: column.fit(None)},
        task=find_classes([[name] for name in classes], config.task)[0],
        classes=classes,
        class_rows=(0,) * len(classes),
    )
    model = build_model(config, state)
    set_class_vectors(model, config, state)
    return TrainedModel(preprocessor=Preprocessor(config, state), model=model)


def _golden_images(column: Column) -> list[dict[str, bytes]]:
    """Returns rows of random images, to verify the export with."""
    rng, shape = np.random.default_rng(0), (column.settings.size_px,) * 2 + (3,)
    images = rng.integers(0, 256, (_GOLDEN_IMAGES, *shape), np.uint8)
    return [{column.name: tf.io.encode_png(image).numpy()} for image in images]
