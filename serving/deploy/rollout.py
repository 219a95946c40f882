"""Versions and labels of a model before and after a release.

Source: TensorFlow Serving 2.16.1. A label needs a version that is available, and a
config with a refused label changes nothing. So a version is served by one config and
labeled by the next.
"""

from mmkeras.errors import UserError

STABLE, CANARY = "stable", "canary"


def with_canary(model, version: int):
    """Returns a copy that serves `version` with the stable one, labeled canary.

    Raises:
        UserError: There is no stable version, or it is `version`.
    """
    if STABLE not in model.version_labels:
        raise UserError(
            f"No version of '{model.name}' is labeled '{STABLE}'. Before a canary, "
            f"label the version that clients use now: '{STABLE} VERSION'."
        )
    if model.version_labels[STABLE] == version:
        raise UserError(f"Version {version} of '{model.name}' is stable already.")
    changed = deep_copy(model)
    changed.version_labels[CANARY] = version
    return _with_versions(changed, set(changed.version_labels.values()))


def with_stable(model, version: int):
    """Returns a copy with `version` labeled stable, and not canary.

    The version that was stable stays loaded, for a fast rollback.
    """
    changed = deep_copy(model)
    numbers = set(model.version_labels.values()) | {version}
    changed.version_labels[STABLE] = version
    if changed.version_labels.get(CANARY) == version:
        del changed.version_labels[CANARY]
    return _with_versions(changed, numbers)


def steps(before, after) -> list:
    """Returns the configs from `before` to `after`; each needs the one before it."""
    if is_specific(after) and set(versions(after)) - set(versions(before)):
        numbers = {*versions(before), *versions(after)}
        first = _with_versions(deep_copy(before), numbers)
        return [first] if first == after else [first, after]
    return [after]


def is_specific(model) -> bool:
    """Returns whether the config of a model lists its versions."""
    return model.model_version_policy.WhichOneof("policy_choice") == "specific"


def versions(model) -> list[int]:
    """Returns the versions that the config of a model lists."""
    return list(model.model_version_policy.specific.versions)


def format_versions(model) -> str:
    """Returns labels and versions in one line."""
    labels = sorted(model.version_labels.items(), key=lambda item: item[::-1])
    names = ", ".join(f"{label} {version}" for label, version in labels)
    policy = model.model_version_policy
    if is_specific(model):
        numbers = ", ".join(map(str, versions(model)))
    elif policy.HasField("all"):
        numbers = "all"
    else:
        numbers = f"the latest {policy.latest.num_versions or 1}"
    return f"{model.name}: {names or 'no labels'}; versions served: {numbers}"


def deep_copy(model):
    """Returns a copy of a ModelConfig."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _with_versions(model, numbers: set[int]):
    model.model_version_policy.Clear()
    model.model_version_policy.specific.versions.extend(sorted(numbers))
    return model
