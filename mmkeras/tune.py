"""Search program: the best settings for a table, and an ensemble of the best trials."""

from collections.abc import Sequence
from pathlib import Path

from mmkeras.cli import (
    INTERRUPTED,
    Parser,
    add_settings,
    drop_flags,
    find_preset,
    run_program,
)
from mmkeras.config import to_yaml
from mmkeras.config.generate import GENERATE
from mmkeras.config.presets import DEMO
from mmkeras.config.zero_shot import ZERO_SHOT
from mmkeras.environment.extras import check_extra, check_extras
from mmkeras.environment.tensorflow_import import import_tensorflow
from mmkeras.errors import UserError
from mmkeras.experiments.comparison_run import ALL, preset_names
from mmkeras.experiments.search_folder import (
    SearchArgs,
    is_finished,
    read_search,
    search_summary,
)
from mmkeras.experiments.search_space import SEARCHED, build
from mmkeras.experiments.subprocess_run import (
    print_resume_command,
    sigterm_as_keyboard_interrupt,
)
from mmkeras.files import check_table
from mmkeras.reports import summary
from mmkeras.training import run_folder
from mmkeras.training.cluster import read_cluster

_FLAGS = ("data", "output", "minutes", "trials", "presets", "print_config")


def _build_parser() -> Parser:
    parser = Parser(
        prog="python -m mmkeras.tune",
        usage="%(prog)s [--data FILE.csv] [--minutes M] [--trials N] "
        "[--presets NAME,NAME,...] [--output DIR] [--SETTING VALUE ...]",
        description="Search presets, encoders, fusions and rates for a table, and "
        "export an ensemble of the best models. Settings that are given are not "
        "searched. The same command goes on after an interrupt.",
    )
    parser.add_argument(
        "--data", metavar="FILE.csv", help="Table of rows; else the demo data set."
    )
    parser.add_argument(
        "--output", metavar="DIR", help="Run folder; else a new one under runs/."
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        metavar="M",
        help="Time of training. The first trial is finished in any case.",
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=0,
        metavar="N",
        help="Largest number of trials; 0 is as many as the time allows.",
    )
    parser.add_argument(
        "--presets",
        metavar="NAME,NAME,...",
        help="Presets to search, or all. The first is the one that the result is "
        f"compared with. By default those of {', '.join(SEARCHED)} that fit the "
        "columns and need no download.",
    )
    add_settings(parser, find_preset(DEMO))
    return parser


def main(argv: Sequence[str]) -> int:
    """Parses the command line and searches; returns the exit code."""
    parser = _build_parser()
    parsed = parser.parse_args(argv)
    args = _read_args(parser, parsed, argv)
    first = build(args.presets[0], {}, args.user_values)
    if parsed.print_config:
        print(to_yaml(first), end="")
        return 0
    check_extra("optuna", "python -m mmkeras.tune")
    check_extras(first)
    folder = Path(parsed.output or run_folder.new_folder("tune"))
    with run_folder.locked_folder(folder):
        before = read_search(folder, args)
        if is_finished(before, args):
            print(f"The search in '{folder}' is finished already; nothing was trained.")
        else:
            code = _search(folder, args, before, argv)
            if code:
                return code
        print(search_summary(folder))
        print(summary.run_summary(folder))
    return 0


def _read_args(parser, parsed, argv) -> SearchArgs:
    if read_cluster().workers > 1:
        raise UserError("A search runs on one machine; start it without TF_CONFIG.")
    number = f"--minutes {parsed.minutes:g} is not possible; give a number above 0."
    if not 0 < parsed.minutes < float("inf"):
        raise UserError(number)
    if parsed.trials < 0:
        raise UserError(
            f"--trials {parsed.trials} is not possible; give 1 or more, or 0 for no "
            "limit."
        )
    user_values = parser.read_values(argv)
    preset = user_values.pop("preset", None)
    user_values = {name: x for name, x in user_values.items() if name not in _FLAGS}
    if preset and parsed.presets:
        raise UserError(f"--preset {preset} and --presets: give one of the two.")
    presets = preset_names(parsed.presets) if parsed.presets else ()
    if parsed.presets == ALL:  # the first one is never left out
        presets = (DEMO, *(name for name in presets if name != DEMO))
    if preset:
        presets = (find_preset(preset).preset,)
    if name := next((n for n in user_values if n.startswith("ensemble.")), ""):
        raise UserError(
            f"{name}={user_values[name]} is for mmkeras.train; a search chooses the "
            "models of its ensemble. Leave it out."
        )
    _check_presets(presets, user_values)
    return SearchArgs(
        table=None if parsed.data is None else check_table(parsed.data),
        presets=presets or SEARCHED,
        is_named=bool(presets) and parsed.presets != ALL,
        user_values=user_values,
        minutes=parsed.minutes,
        trials=parsed.trials,
    )


def _check_presets(presets, user_values) -> None:
    """Checks that a search can train the presets with the settings of the user."""
    if any(find_preset(n).fusion.kind == ZERO_SHOT for n in presets):
        raise UserError("The preset 'zero-shot' trains nothing. Leave it out.")
    writes_texts = user_values.get("task") == GENERATE
    if writes_texts or any(find_preset(n).task == GENERATE for n in presets):
        raise UserError(
            f"A search averages predictions, and the texts of task={GENERATE} have no "
            "mean. Compare settings by python -m mmkeras.compare."
        )
    if name := next((n for n in presets if find_preset(n).ensemble.is_active), ""):
        raise UserError(
            f"The preset '{name}' is an ensemble, and a search makes its own. Leave it "
            "out."
        )
    if user_values.get("evaluate.trained_alone"):
        raise UserError(
            "evaluate.trained_alone=true trains a model per modality, which a search "
            "does not. Leave it out, and train the best trial with it."
        )


def _search(folder, args, before, argv) -> int:
    sigterm_as_keyboard_interrupt()
    try:
        import_tensorflow()
        from mmkeras.experiments.search_run import run_search
        from mmkeras.training.process_state import restored_state

        with restored_state():
            run_search(folder, args, before)
    except KeyboardInterrupt:
        words = [*drop_flags(argv, "--output"), "--output", str(folder)]
        print_resume_command("mmkeras.tune", words)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    run_program(main)
