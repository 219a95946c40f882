"""`python -m serving.deploy.release`: canary, stable, rollback, by version labels."""

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
    """Parses the command line and does it; returns the exit code."""
    parsed = _parser().parse_args(argv)
    if parsed.action not in ACTIONS:
        known = did_you_mean(parsed.action, ACTIONS)
        raise UserError(f"There is no action '{parsed.action}'.{known}")
    takes_version = parsed.action in (rollout.CANARY, rollout.STABLE)
    if takes_version != (parsed.version is not None):
        needs = "needs a VERSION" if takes_version else "takes no VERSION"
        raise UserError(f"'{parsed.action}' {needs}.")
    if takes_version and parsed.version < 1:
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
        description="Release versions of a model behind TF Serving: 'canary VERSION' "
        "serves a version beside the stable one, 'stable VERSION' makes it the one "
        "that clients get, 'rollback' undoes the last change, 'status' looks.",
    )
    parser.add_argument("action", metavar="|".join(ACTIONS), help="What to do.")
    parser.add_argument(
        "version", nargs="?", type=int, metavar="VERSION", help="Which."
    )
    parser.add_argument(
        "--config",
        default=str(_DEFAULT_FILE),
        metavar="FILE",
        help="TF Serving's --model_config_file; what it was stays beside it.",
    )
    parser.add_argument(
        "--model", default="mmkeras", metavar="NAME", help="Which model."
    )
    parser.add_argument(
        "--target",
        action="append",
        metavar="HOST:PORT",
        help="gRPC port of a server that gets the change at once; may be repeated. "
        "Without it servers have to read the file again by themselves.",
    )
    parser.add_argument("--ca", metavar="FILE", help="PEM of the authority, for TLS.")
    parser.add_argument(
        "--wait-s", type=float, default=600.0, help="How long a version may load."
    )
    return parser


def release(
    path: Path, name: str, action: str, version: int | None, servers: Servers
) -> None:
    """Does one change, step by step; each step is one line of output.

    Raises:
        UserError: The change makes no sense, a version does not load, or a server
            refuses it; then all is as it was.
    """
    config = models_file.read_models(path)
    text = path.read_text(encoding="utf-8")
    model = models_file.find_model(config, name)
    undone = _undone(path, model) if action == "rollback" else None
    after = _after(model, action, version, undone)
    if after == model:
        print(f"Nothing to change. {rollout.format_versions(model)}.")
        return
    before = rollout.deep_copy(model)
    plan = rollout.steps(before, after)
    try:
        for step in plan if servers.targets else plan[:1]:
            _take(path, config, model, step, servers)
        _record(path, text, before, undone, finished=model == after)
    except UserError as error:
        raise UserError(f"{error} {_restored(path, text, servers)}") from None
    except BaseException:  # Ctrl-C too must not leave half a change
        print(_restored(path, text, servers), file=sys.stderr, flush=True)
        raise
    if model != after:
        served = ", ".join(map(str, rollout.versions(model)))
        print(f"When {served} are AVAILABLE on all servers, run this command again.")
    elif action == rollout.CANARY and version > model.version_labels[rollout.STABLE]:
        print(f"Requests that name no label go to version {version}, the newest.")


def _after(model, action: str, version: int | None, undone: Path | None):
    if undone is not None:
        return models_file.find_model(models_file.read_models(undone), model.name)
    change = {rollout.CANARY: rollout.with_canary, rollout.STABLE: rollout.with_stable}
    return change[action](model, version)


def _undone(path: Path, model) -> Path:
    """Returns the newest file that was kept in which the model is another."""
    for file in reversed(models_file.list_backups(path)):
        if models_file.find_model(models_file.read_models(file), model.name) != model:
            return file
    raise UserError(f"There is nothing to roll back to beside '{path}'.")


def _take(path: Path, config, model, step, servers: Servers) -> None:
    """Writes the file, which servers may poll, then gives it to those named."""
    model.CopyFrom(step)
    models_file.write_models(path, config)
    servers.reload(config)
    if rollout.is_specific(model):
        servers.wait(model.name, rollout.versions(model))
    where = ", ".join(["file", *servers.targets])
    print(f"{rollout.format_versions(model)} ({where}).", flush=True)


def _restored(path: Path, text: str, servers: Servers) -> str:
    """Brings back what was in the file and on all servers; returns what is so now."""
    models_file.write_whole(path, text)
    wrong = servers.restore(models_file.read_models(path))
    if not wrong:
        return "All is as it was."
    return (
        "All is as it was but for servers that may have the new config until they "
        f"read the file again: {'; '.join(wrong)}"
    )


def _record(path: Path, text: str, before, undone: Path | None, finished: bool) -> None:
    """Keeps what the file was, or forgets what a rollback has brought back."""
    if undone is not None:
        if finished:
            undone.unlink()
        return
    # The second half of a change that was begun without a server is no new one.
    last = models_file.list_backups(path)[-1:]
    for file in last:
        kept = models_file.find_model(models_file.read_models(file), before.name)
        if kept != before and kept.version_labels == before.version_labels:
            return
    models_file.back_up(path, text)


def print_status(path: Path, name: str, servers: Servers) -> None:
    """Prints what the file says, and the states of versions on each server."""
    model = models_file.find_model(models_file.read_models(path), name)
    print(f"{rollout.format_versions(model)} (file).")
    for target in servers.targets:
        states = servers.states(target, name)
        words = [f"{v} {s} {e}".strip() for v, (s, e) in sorted(states.items())]
        print(f"{target}: {'; '.join(words) or 'no version'}.")


if __name__ == "__main__":
    run_program(main)
