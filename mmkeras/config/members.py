"""Settings of the members of an ensemble."""

from dataclasses import replace

from mmkeras.config.config import Config, flatten, to_dict
from mmkeras.config.flags import build
from mmkeras.config.presets import PRESETS
from mmkeras.config.table import split_names
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.errors import UserError, did_you_mean

# What all members have in common, whatever their presets are.
_SHARED = ("seed", "task", "on_bad_row", "columns", "table", "evaluate", "export")
_OWN = ("preset", "ensemble")  # of each member


def member_configs(config: Config) -> dict[str, Config]:
    """Returns preset -> settings of the members with it.

    A setting that differs from the preset of `config` is changed in those members whose
    preset has the same value as that preset. A preset that is an ensemble itself counts
    as its first member, so that what it changes reaches the others too. Label, table,
    seed, evaluation and export are those of `config` in all of them.

    Raises:
        UserError: A preset does not exist, or cannot be a member; or a changed setting
            reaches no member.

    Example:
        config = replace(small_concat(), ensemble=EnsembleConfig(presets="gated,late"))
        member_configs(config)["gated"].fusion.kind  # "gated"
    """
    names = split_names(config.ensemble.presets) or (config.preset,)
    if not config.ensemble.presets.strip():
        return {config.preset: replace(config, ensemble=type(config.ensemble)())}
    _check_names(names, config)
    preset = PRESETS.get(config.preset, Config)()
    first = split_names(preset.ensemble.presets)
    base = PRESETS[first[0]]() if first else preset
    before, after = flatten(to_dict(base)), flatten(to_dict(config))
    shared = {n: x for n, x in after.items() if n.partition(".")[0] in _SHARED}
    changes = {
        n: x
        for n, x in after.items()
        if x != before[n] and n not in shared and n.partition(".")[0] not in _OWN
    }
    result, unused = {}, _changes_of_user(changes, preset)
    for name in names:
        values = flatten(to_dict(PRESETS[name]()))
        reached = {n: x for n, x in changes.items() if values[n] == before[n]}
        unused -= set(reached)
        result[name] = build(Config, values | reached | shared)
    if unused:
        name = min(unused)
        raise UserError(
            f"{name}={changes[name]} changes no member of "
            f"ensemble.presets={config.ensemble.presets}: each has another value "
            f"than the preset {base.preset}. Leave it out, or train one preset."
        )
    return result


def _changes_of_user(changes, preset) -> set[str]:
    """Returns the names of the changes that are not those of the preset itself."""
    before = flatten(to_dict(preset))
    return {name for name, value in changes.items() if value != before[name]}


def _check_names(names, config):
    for name in names:
        if name not in PRESETS:
            hint = did_you_mean(name, list(PRESETS))
            raise UserError(f"ensemble.presets: there is no preset '{name}'.{hint}")
        kind = "an ensemble itself" if PRESETS[name]().ensemble.is_active else ""
        if PRESETS[name]().fusion.kind == ZERO_SHOT:
            kind = "never trained"
        if kind:
            raise UserError(
                f"ensemble.presets={config.ensemble.presets} has '{name}', which is "
                f"{kind}. Leave it out."
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
