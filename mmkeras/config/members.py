"""Settings of the members of an ensemble."""

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

from mmkeras.config.config import Config
from mmkeras.config.presets import PRESETS
from mmkeras.config.table import split_names
from mmkeras.errors import UserError, did_you_mean

# What all members have in common, whatever their presets are.
_SHARED = ("seed", "task", "on_bad_row", "columns", "table", "evaluate", "export")
_NEVER = ("preset", "ensemble")  # those of each member


def member_configs(config: Config) -> dict[str, Config]:
    """Returns preset -> settings of the members with it.

    A setting that differs from the preset of `config` is changed in those members whose
    preset has the same value as that preset. Label, table, seed, evaluation and export
    are those of `config` in all of them.

    Raises:
        UserError: A preset does not exist, or cannot be a member; or a changed setting
            reaches no member.

    Example:
        config = replace(small_concat(), ensemble=EnsembleConfig(presets="gated,late"))
        member_configs(config)["gated"].fusion.kind  # "gated"
    """
    names = split_names(config.ensemble.presets) or (config.preset,)
    base = PRESETS.get(config.preset, Config)()
    if not config.ensemble.presets.strip():
        return {config.preset: replace(config, ensemble=type(config.ensemble)())}
    _check_names(names, config)
    changes = dict(_changes(base, config))
    result, unused = {}, set(changes)
    for name in names:
        member = PRESETS[name]()
        reached = {p for p, (x, _) in changes.items() if _value(member, p) == x}
        unused -= reached
        member = _with_changes(member, base, config)
        shared = {key: getattr(config, key) for key in _SHARED}
        result[name] = replace(member, **shared)
    for path in sorted(unused):
        if path.partition(".")[0] not in _SHARED:
            raise UserError(
                f"{path}={changes[path][1]} changes no member of "
                f"ensemble.presets={config.ensemble.presets}: each has another value "
                f"than the preset {config.preset}. Leave it out, or train one preset."
            )
    return result


def _check_names(names, config):
    for name in names:
        if name not in PRESETS:
            hint = did_you_mean(name, list(PRESETS))
            raise UserError(f"ensemble.presets: there is no preset '{name}'.{hint}")
        if PRESETS[name]().ensemble.is_active:
            raise UserError(
                f"ensemble.presets={config.ensemble.presets} has '{name}', which is an "
                "ensemble itself. Leave it out."
            )
    if len(set(names)) < len(names):
        raise UserError(
            f"ensemble.presets={config.ensemble.presets} has a preset twice. Give each "
            "once; ensemble.folds trains it several times."
        )
    if len(names) == 1 and not config.ensemble.folds:
        raise UserError(
            f"ensemble.presets={names[0]} is one model. Give two presets or more, or "
            f"--preset {names[0]} alone."
        )


def _changes(
    base: Any, config: Any, prefix: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yields dotted name -> (value of the preset, value) of each changed setting."""
    for field in fields(base):
        path, before = f"{prefix}{field.name}", getattr(base, field.name)
        value = getattr(config, field.name)
        if path in _NEVER:
            continue
        if is_dataclass(before):
            yield from _changes(before, value, f"{path}.")
        elif value != before:
            yield path, (before, value)


def _value(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings


def _with_changes(member: Any, base: Any, config: Any, prefix: str = "") -> Any:
    """Returns the settings of a member with what is changed where it equals `base`."""
    changes = {}
    for field in fields(base):
        values = [getattr(x, field.name) for x in (member, base, config)]
        if prefix + field.name in _NEVER:
            continue
        if is_dataclass(values[0]):
            changes[field.name] = _with_changes(*values, f"{prefix}{field.name}.")
        elif values[1] != values[2] and values[0] == values[1]:
            changes[field.name] = values[2]
    return replace(member, **changes)
