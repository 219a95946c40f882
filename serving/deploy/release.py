"""Program `python -m serving.deploy.release`: canaries and rollbacks by labels."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import Parser, run_program
from mmkeras.errors import UserError, did_you_mean
from serving.deploy import models_file, rollout
from serving.deploy.servers import Servers

ACTIONS = ("status", "canary", "stable", "rollback")
_DEFAULT_FILE = Path(__file__).parent / "config" / "models.config"


def main(argv: Sequence[str]) -> int:
    """Runs the program; returns the exit code."""
    parsed = _parser().parse_args(argv)
    if parsed.action not in ACTIONS:
        hint = did_you_mean(parsed.action, ACTIONS)
        raise UserError(f"There is no action '{parsed.action}'.{hint}")
    needs_version = parsed.action in (rollout.CANARY, rollout.STABLE)
    if needs_version != (parsed.version is not None):
        verb = "needs a VERSION" if needs_version else "takes no VERSION"
        raise UserError(f"'{parsed.action}' {verb}.")
    if needs_version and parsed.version < 1:
        raise UserError(f"A version is a number above 0, received {parsed.version}.")
    servers = Servers(
        targets=parsed.target or [],
        ca=Path(parsed.ca) if parsed.ca else None,
        wait_s=parsed.wait_s,
    )
    path = Path(parsed.config)
    if parsed.action == "status":
        print_status(path, parsed.model, servers)
    else:
        release(path, parsed.model, parsed.action, parsed.version, servers)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="python -m serving.deploy.release",
        description="Release versions of a model behind TF Serving. 'canary VERSION' "
        "serves a version together with the stable one, 'stable VERSION' makes it the "
        "version that clients get, 'rollback' undoes the last change, 'status' prints "
        "versions and labels.",
    )
    add = parser.add_argument
    add("action", metavar="|".join(ACTIONS), help="What to do.")
    add("version", nargs="?", type=int, metavar="VERSION", help="Model version.")
    add(
        "--config",
        default=str(_DEFAULT_FILE),
        metavar="FILE",
        help="TF Serving's --model_config_file; backups are written to its folder.",
    )
    add("--model", default="mmkeras", metavar="NAME", help="Model name.")
    add(
        "--target",
        action="append",
        metavar="HOST:PORT",
        help="gRPC address of a server that gets the change at once; may be repeated. "
        "Without it the servers must poll the file.",
    )
    add("--ca", metavar="FILE", help="TLS: PEM file of the authority.")
    add("--wait-s", type=float, default=600.0, help="Limit to load a version, seconds.")
    return parser


def release(
    path: Path, name: str, action: str, version: int | None, servers: Servers
) -> None:
    """Changes the file and the servers step by step; prints one line per step.

    Raises:
        UserError: The change is not possible, a version does not load, or a server
            refuses it; the file and the servers are restored.
    """
    config = models_file.read_models(path)
    text = path.read_text(encoding="utf-8")
    model = models_file.find_model(config, name)
    backup = _last_backup(path, model) if action == "rollback" else None
    after = _after(model, action, version, backup)
    if after == model:
        print(f"Nothing to change. {rollout.format_versions(model)}.")
        return
    before = rollout.deep_copy(model)
    steps = rollout.steps(before, after)
    try:
        for step in steps if servers.targets else steps[:1]:
            _apply(path, config, model, step, servers)
        _update_backups(path, text, before, backup, is_finished=model == after)
    except UserError as error:
        raise UserError(f"{error} {_restore(path, text, servers)}") from None
    except BaseException:  # Ctrl-C must not leave half a change either
        print(_restore(path, text, servers), file=sys.stderr, flush=True)
        raise
    if model != after:
        numbers = ", ".join(map(str, rollout.versions(model)))
        print(f"When {numbers} are AVAILABLE on all servers, run this command again.")
    elif action == rollout.CANARY and version > model.version_labels[rollout.STABLE]:
        print(f"Requests that name no label go to version {version}, the newest.")


def _after(model, action: str, version: int | None, backup: Path | None):
    if backup is not None:
        return models_file.find_model(models_file.read_models(backup), model.name)
    change = {rollout.CANARY: rollout.with_canary, rollout.STABLE: rollout.with_stable}
    return change[action](model, version)


def _last_backup(path: Path, model) -> Path:
    """Returns the newest backup with another config of the model."""
    for backup in reversed(models_file.list_backups(path)):
        config = models_file.read_models(backup)
        if models_file.find_model(config, model.name) != model:
            return backup
    raise UserError(f"There is no backup of '{path}' to roll back to.")


def _apply(path: Path, config, model, step, servers: Servers) -> None:
    """Writes the file, which servers may poll, then reloads the servers."""
    model.CopyFrom(step)
    models_file.write_models(path, config)
    servers.reload(config)
    if rollout.is_specific(model):
        servers.wait(model.name, rollout.versions(model))
    places = ", ".join(["file", *servers.targets])
    print(f"{rollout.format_versions(model)} ({places}).", flush=True)


def _restore(path: Path, text: str, servers: Servers) -> str:
    """Restores the file and all servers; returns the result as text."""
    models_file.replace_text(path, text)
    errors = servers.restore(models_file.read_models(path))
    if not errors:
        return "All is as it was."
    return (
        "All is as it was, except for servers that may have the new config until they "
        f"read the file again: {'; '.join(errors)}"
    )


def _update_backups(
    path: Path, text: str, before, backup: Path | None, is_finished: bool
) -> None:
    """Adds a backup, or deletes the one that a rollback has restored."""
    if backup is not None:
        if is_finished:
            backup.unlink()
        return
    # The second half of a change without a server needs no second backup.
    for last in models_file.list_backups(path)[-1:]:
        model = models_file.find_model(models_file.read_models(last), before.name)
        if model != before and model.version_labels == before.version_labels:
            return
    models_file.back_up(path, text)


def print_status(path: Path, name: str, servers: Servers) -> None:
    """Prints the versions of the file, and their states on each server."""
    model = models_file.find_model(models_file.read_models(path), name)
    print(f"{rollout.format_versions(model)} (file).")
    for target in servers.targets:
        states = servers.states(target, name)
        words = [f"{v} {s} {e}".strip() for v, (s, e) in sorted(states.items())]
        print(f"{target}: {'; '.join(words) or 'no version'}.")


if __name__ == "__main__":
    run_program(main)
