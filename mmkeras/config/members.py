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
_OTHERS = (*_SHARED, "preset", "ensemble")


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
    base = PRESETS.get(config.preset, Config)()
    if base.ensemble.presets:
        base = PRESETS[split_names(base.ensemble.presets)[0]]()
    if not config.ensemble.presets.strip():
        return {config.preset: replace(config, ensemble=type(config.ensemble)())}
    _check_names(names, config)
    before = flatten(to_dict(base))
    shared = {key: getattr(config, key) for key in _SHARED}
    changes = {
        name: value
        for name, value in flatten(to_dict(config)).items()
        if value != before[name] and name.partition(".")[0] not in _OTHERS
    }
    result, unused = {}, set(changes)
    for preset in names:
        values = flatten(to_dict(PRESETS[preset]()))
        reached = {n: x for n, x in changes.items() if values[n] == before[n]}
        unused -= set(reached)
        result[preset] = replace(build(Config, values | reached), **shared)
    for name in sorted(unused):
        raise UserError(
            f"{name}={changes[name]} changes no member of "
            f"ensemble.presets={config.ensemble.presets}: each has another value "
            f"than the preset {config.preset}. Leave it out, or train one preset."
        )
    return result


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
