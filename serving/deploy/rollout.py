"""Which versions a model serves and which labels they have, before and after a change.

Source: TensorFlow Serving 2.16.1. A label may be given only to a version that is
available, and a config whose labels are refused changes nothing. So a version is
served first, and labelled by a second config.
"""

from mmkeras.errors import UserError

STABLE, CANARY = "stable", "canary"


def with_canary(model, version: int):
    """Returns a copy where `version` is served beside the stable one, as canary.

    Raises:
        UserError: Nothing is stable yet, or `version` is.
    """
    if STABLE not in model.version_labels:
        raise UserError(
            f"No version of '{model.name}' is labelled '{STABLE}'; name the one that "
            f"clients use now, by '{STABLE} VERSION', before there is a canary."
        )
    if model.version_labels[STABLE] == version:
        raise UserError(f"Version {version} of '{model.name}' is stable already.")
    changed = deep_copy(model)
    changed.version_labels[CANARY] = version
    return _serving(changed, set(changed.version_labels.values()))


def with_stable(model, version: int):
    """Returns a copy where `version` is stable, and the canary no more if it was.

    The version that was stable stays loaded, so that a rollback has not to load it.
    """
    changed = deep_copy(model)
    versions = set(model.version_labels.values()) | {version}
    changed.version_labels[STABLE] = version
    if changed.version_labels.get(CANARY) == version:
        del changed.version_labels[CANARY]
    return _serving(changed, versions)


def steps(before, after) -> list:
    """Returns the configs that lead from one to the other, each one allowed by then."""
    if is_specific(after) and set(versions(after)) - set(versions(before)):
        first = _serving(deep_copy(before), {*versions(before), *versions(after)})
        return [first] if first == after else [first, after]
    return [after]


def is_specific(model) -> bool:
    """Whether a model serves versions that its config names."""
    return model.model_version_policy.WhichOneof("policy_choice") == "specific"


def versions(model) -> list[int]:
    """Returns the versions that the config of a model names."""
    return list(model.model_version_policy.specific.versions)


def format_versions(model) -> str:
    """Returns labels and versions in one line."""
    labels = sorted(model.version_labels.items(), key=lambda item: item[::-1])
    words = ", ".join(f"{label} {version}" for label, version in labels)
    if is_specific(model):
        served = ", ".join(map(str, versions(model)))
    else:
        policy = model.model_version_policy
        count = policy.latest.num_versions or 1
        served = "all" if policy.HasField("all") else f"the latest {count}"
    return f"{model.name}: {words or 'no labels'}; versions served: {served}"


def deep_copy(model):
    """Returns a copy of a ModelConfig."""
    copy = type(model)()
    copy.CopyFrom(model)
    return copy


def _serving(model, numbers: set[int]):
    model.model_version_policy.Clear()
    model.model_version_policy.specific.versions.extend(sorted(numbers))
    return model
