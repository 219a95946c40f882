from dataclasses import replace

import pytest

from mmkeras.cli import build_config
from mmkeras.config import Config, ImageConfig, LossConfig, TableConfig, TrainConfig
from mmkeras.config.presets import zero_shot
from mmkeras.errors import UserError


def config(**changes):
    return replace(zero_shot(), **{"classes": "cat,dog", **changes})


def test_class_names_keep_their_order_and_are_cleaned_as_labels():
    names = config(classes=" zebra ,cafe\u0301, hot  dog\u200b").class_names
    assert names == ("zebra", "café", "hot dog")
    assert config(classes="").class_names == ()


def test_class_names_may_be_a_list_of_a_yaml_file():
    values = {"preset": "zero-shot", "classes": ["hot dog", "cat"]}
    assert build_config(values).class_names == ("hot dog", "cat")


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ("cat", "has one class only"),
        ("cat,,dog", "has an empty name"),
        ("cat,dog,", "has an empty name"),
        ("cat,dog, cat", "has 'cat' twice"),
        ("cat|dog,cow", "has '|', which separates"),
    ],
)
def test_a_wrong_list_of_classes_is_refused(classes, problem):
    with pytest.raises(UserError) as error:
        config(classes=classes)
    assert f"classes='{classes}' {problem}" in str(error.value)
    assert "Give two or more names, such as cat,dog." in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "a photo"}, "prompt='a photo' is not possible.*with {} in"),
        ({"task": "regression"}, "task=regression is not possible.*multiclass"),
        ({"task": "binary", "classes": "a,b,c"}, "task=binary.*auto with 3 classes"),
        ({"image": ImageConfig()}, "image.encoder=resnet50 is.*must be kerashub"),
        ({"train": TrainConfig(fine_tune_epochs=2)}, "train.fine_tune_epochs=2.* be 0"),
        ({"loss": LossConfig(image=0.5)}, "loss.image=0.5.*trains nothing"),
        ({"table": TableConfig(text="caption")}, "'caption' is declared as text"),
        ({"columns": {"price": {"type": "numeric"}}}, "'price' is declared as numeric"),
        ({"columns": {"a": "image", "b": "image"}}, "there are 2: a, b.*table.image"),
    ],
)
def test_what_zero_shot_classification_cannot_use_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        config(**changes)


def test_a_column_that_is_declared_twice_is_one():
    entry = {"caf\u00e9": {"type": "image"}}
    assert config(table=TableConfig(image="cafe\u0301"), columns=entry).columns == entry


@pytest.mark.parametrize("changes", [{"classes": "a,b"}, {"prompt": "a {}"}])
def test_other_models_take_neither_classes_nor_a_prompt(changes):
    with pytest.raises(UserError, match="without fusion.kind=zero_shot"):
        Config(**changes)
