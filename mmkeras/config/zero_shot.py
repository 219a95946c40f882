"""Checks of zero-shot classification: classes by their names, without training."""

from collections import Counter
from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from mmkeras.config.validation import AUTO, check
from mmkeras.errors import UserError
from mmkeras.names import clean_name
from mmkeras.schema import LABEL_SEPARATOR

ZERO_SHOT = "zero_shot"  # value of fusion.kind
SLOT = "{}"  # place of a class name in a prompt
PROMPT = f"a photo of a {SLOT}"
# Setting, its possible values, and why it has no others.
_NEEDED = (
    ("image.encoder", ("kerashub",), "needs encoders of images and of texts"),
    ("image.frozen", (AUTO, "yes"), "trains nothing"),
    ("train.fine_tune_epochs", (0,), "trains nothing"),
    ("loss.image", (0,), "trains nothing"),
)
_WITHOUT = f"without fusion.kind={ZERO_SHOT} (--preset zero-shot)"


def class_names(classes: str) -> tuple[str, ...]:
    """Returns the names of a setting with commas between, cleaned as labels are."""
    if not classes.strip():
        return ()
    return tuple(clean_name(name) for name in classes.split(","))


def check_unused(config: Any) -> None:
    """Checks that a `Config` of another fusion names no classes and no prompt.

    Raises:
        UserError: It does.
    """
    check(not config.classes, "classes", config.classes, f"empty {_WITHOUT}")
    allowed = f"'{PROMPT}' {_WITHOUT}"
    check(config.prompt == PROMPT, "prompt", f"'{config.prompt}'", allowed)


def check_zero_shot(config: Any) -> None:
    """Checks the settings of a `Config` for zero-shot classification.

    Raises:
        UserError: A class name is not possible, or a setting needs training or another
            input than one column of images.
    """
    _check_classes(config.classes)
    if config.ensemble.is_active:
        raise UserError(
            "Zero-shot classification trains nothing, and ensemble.presets and "
            "ensemble.folds train several models. Leave them out."
        )
    allowed = f"a text with {SLOT} in the place of the class name, such as '{PROMPT}'"
    check(SLOT in config.prompt, "prompt", f"'{config.prompt}'", allowed)
    size, tasks = len(class_names(config.classes)), (AUTO, "binary", "multiclass")
    check(config.task in tasks, "task", config.task, f"one of {', '.join(tasks)}")
    is_possible = config.task != "binary" or size in (0, 2)
    check(is_possible, "task", "binary", f"multiclass or auto with {size} classes")
    _check_columns({**config.table.declared, **config.columns})
    for name, allowed, reason in _NEEDED:
        value = attrgetter(name)(config)
        text = f"{allowed[0]}, as fusion.kind={ZERO_SHOT} {reason}"
        check(value in allowed, name, value, text)


def _check_classes(classes):
    names, remedy = class_names(classes), "Give two or more names, such as cat,dog."
    if not names:
        return  # those of a table
    problem = ""
    if len(names) == 1:
        problem = "has one class only"
    elif not all(names):
        problem = "has an empty name"
    elif LABEL_SEPARATOR in classes:
        problem = f"has '{LABEL_SEPARATOR}', which separates labels of a row"
    elif (most_frequent := Counter(names).most_common(1)[0])[1] > 1:
        problem = f"has '{most_frequent[0]}' twice"
    if problem:
        raise UserError(f"classes='{classes}' {problem}. {remedy}")


def _check_columns(columns: Mapping[str, Any]) -> None:
    types = {
        clean_name(name): entry.get("type") if isinstance(entry, Mapping) else entry
        for name, entry in columns.items()
    }
    if others := [name for name, kind in types.items() if kind != "image"]:
        raise UserError(
            f"Zero-shot classification reads images only, and the column '{others[0]}' "
            f"is declared as {types[others[0]]}: the tokenizers of CLIP and SigLIP are "
            "not in the served graph. Leave the column out."
        )
    if len(types) > 1:
        raise UserError(
            "Zero-shot classification reads one column of images, and there are "
            f"{len(types)}: {', '.join(types)}. Give one by --table.image, and ignore "
            "the others by --table.ignore."
        )
