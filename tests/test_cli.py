import argparse
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mmkeras import cli, train
from mmkeras.cli import (
    Parser,
    add_settings,
    choose_preset,
    drop_flags,
    load_config,
    run_program,
    settings,
)
from mmkeras.config import Config, to_dict
from mmkeras.config.flags import list_flags
from mmkeras.config.presets import PRESETS
from mmkeras.errors import ExportMismatchError, UserError
from mmkeras.training.run_folder import write_config
from pipeline.settings import PipelineConfig
from tests.program_harness import run_python


def parse(*argv, kind=Config):
    parser = Parser()
    add_settings(parser, choose_preset(argv), kind)
    return settings(parser, parser.parse_args(argv), kind)


def value_of(config, name):
    for part in name.split("."):
        config = getattr(config, part)
    return config


def error_of(*argv):
    """Returns the error, of one line, that the command line causes."""
    with pytest.raises(UserError) as error:
        parse(*argv, kind=PipelineConfig)
    (line,) = str(error.value).splitlines()
    return line


def assert_all_in(line, parts):
    for part in parts:
        assert part in line


@pytest.fixture
def file(tmp_path):
    def write(content, name="settings.yaml"):
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return write


# Sources of settings ----------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "content", "expected"),
    [
        ([], "", {}),
        (["--text.dropout=0.25"], "", {"text.dropout": 0.25}),
        (["--augment.flip", "true"], "", {"augment.flip": True}),
        (["--image.encoder", "small_cnn"], "", {"image.encoder": "small_cnn"}),
        (["--table.text", "Title"], "", {"table.text": "Title"}),
        (["--on-bad-row", "absent"], "", {"on_bad_row": "absent"}),
        (["--on_bad_row", "absent"], "", {"on_bad_row": "absent"}),
        (["--preset", "small-concat"], "", {"image.encoder": "small_cnn"}),
        (["--preset=small-concat", "--epochs", "2"], "", {"image.size_px": 64}),
        ([], "{preset: small-concat, epochs: 5}", {"epochs": 5, "image.width": 16}),
        (["--preset", "resnet50-concat"], "preset: small-concat", {}),
        (
            ["--preset", "small-concat", "--image.width", "4"],
            "image: {size_px: 96, width: 8}",
            {"image.encoder": "small_cnn", "image.size_px": 96, "image.width": 4},
        ),
    ],
)
def test_flags_win_over_files_and_files_over_the_preset(argv, content, expected, file):
    config = parse(*argv, *(["--config", file(content)] if content else []))
    assert {name: value_of(config, name) for name in expected} == expected
    if not expected:
        assert config == Config()


def test_a_later_file_wins_over_an_earlier_one_and_a_flag_over_both(file):
    first = "preset: small-concat\nepochs: 3\nseed: 1\ntext: {units: 8}\n"
    first = file(first, "1.yaml")
    second = file("epochs: 4\nseed: 2\ntext: {layers: 1}\n", "2.yaml")
    config = parse("--seed", "9", "--config", first, "--config", second)
    assert (config.epochs, config.seed) == (4, 9)
    assert (config.text.units, config.text.layers) == (8, 1)
    assert config.image == PRESETS["small-concat"]().image


@pytest.mark.parametrize(
    ("argv", "content", "expected"),
    [
        ([], "", "small-concat"),
        (["--epochs", "1"], "seed: 1", "small-concat"),
        (["--data", "a.csv"], "", "resnet50-concat"),
        ([], "data: a.csv", "resnet50-concat"),
        (["--preset", "gated"], "", "gated"),
        ([], "preset: resnet50-concat", "resnet50-concat"),
        (["--task", "generate"], "", "small-captions"),
        (["--task=generate"], "", "small-captions"),
        ([], "task: generate", "small-captions"),
        (["--task", "generate"], "task: binary", "small-captions"),
        (["--task", "generate", "--data", "a.csv"], "", "small-captions"),
        (["--task", "generate", "--preset", "cnn-lstm"], "", "cnn-lstm"),
        (["--task", "regression"], "", "small-concat"),
    ],
)
def test_the_demo_data_set_and_texts_have_presets_of_their_own(
    argv, content, expected, file
):
    argv = [*argv, *(["--config", file(content)] if content else [])]
    assert choose_preset(argv, has_demo=True).preset == expected


def test_a_group_is_a_mapping_or_a_file_and_its_members_win(file):
    path = file("{dropout: 0.25, units: 8}")
    for group in (path, "{dropout: 0.25, units: 8}"):
        text = parse("--text.units", "16", "--text", group).text
        assert (text.dropout, text.units) == (0.25, 16)


def test_an_entry_adds_to_its_mapping_and_a_parser_can_be_used_again():
    parser = Parser()
    add_settings(parser, Config(), PipelineConfig)
    for value in (1.5, 2.0):
        for argv, expected in (
            (["--kubeflow.cpu_cores", "{}"], {}),
            ([], {"default": 2.0}),
        ):
            argv = [f"--kubeflow.cpu_cores.Tuner={value}", *argv]
            config = settings(parser, parser.parse_args(argv), PipelineConfig)
            assert config.kubeflow.cpu_cores == {**expected, "Tuner": value}


# Values -----------------------------------------------------------------------


# Setting, a value of another type as a flag and as YAML, what the error names.
BAD_VALUES = [
    ("epochs", "many", "many", ["int", "'many'", "whole number", "Or give auto."]),
    ("epochs", "true", "true", ["int", "true"]),
    ("epochs", "", "", ["int", "received"]),
    ("epochs", "null", "null", ["int", "received"]),
    ("text.dropout", "half", "half", ["float", "'half'", "number"]),
    ("text.dropout", "true", "true", ["float", "true"]),
    ("text.dropout", "nan", "nan", ["float", "'nan'"]),
    ("text.dropout", "9" * 400, "9" * 400, ["float", "999"]),
    ("augment.flip", "maybe", "maybe", ["bool", "'maybe'", "true or false"]),
    ("augment.flip", "1", "1", ["bool", "'1'"]),
    ("image.encoder", "resnet5", "resnet5", ["pixels", "'resnet5'", "'resnet50'?"]),
    ("on_bad_row", "skip", "skip", ["one of fail, reject, absent", "'skip'"]),
    ("table.text", None, "3", ["str", "'3'", "quote"]),
    ("table.text", None, "", ["str", "nothing"]),
    ("kubeflow.env", "word", "word", ["dict", "'word'", '{"NAME": VALUE}']),
    ("kubeflow.env", "{A: 1}", "{A: 1}", ["kubeflow.env.A", "str", "'1'"]),
    ("kubeflow.gpu", "{Tuner: x}", "{Tuner: x}", ["kubeflow.gpu.Tuner", "int", "'x'"]),
]


@pytest.mark.parametrize(("name", "flag", "content", "parts"), BAD_VALUES)
def test_a_value_of_another_type_is_refused(name, flag, content, parts, file):
    path = file(f"{name}: {content}")
    from_file = error_of("--config", path)
    assert_all_in(from_file.replace("True", "true"), [name, *parts])
    if flag is not None:
        from_flag = error_of(f"--{name}={flag}")
        assert_all_in(from_flag, [name, *parts])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("epochs", "+3", 3),
        ("epochs", "1_000", 1000),
        ("epochs", "auto", "auto"),
        ("train.batch_size", "7", 7),
        ("text.dropout", "0", 0.0),
        ("text.dropout", "1e-1", 0.1),
        ("text.dropout", "1.e-1", 0.1),
        ("export.tolerance", ".inf", float("inf")),
        ("augment.flip", "true", True),
        ("augment.flip", "False", False),
        ("augment.flip", "yes", True),
        ("image.frozen", "yes", "yes"),
        ("table.text", "2024-01-01", "2024-01-01"),
        ("table.text", "yes", "yes"),
        ("kubeflow.env", '{"A": "b c"}', {"A": "b c"}),
        ("kubeflow.gpu", "{}", {}),
        ("kubeflow.cpu_cores", '{"Tuner": 2}', {"Tuner": 2.0}),
    ],
)
def test_a_value_is_read_alike_from_flag_and_file(name, text, value, file):
    path = file(f"{name}: {text}")
    for argv in ([f"--{name}={text}"], ["--config", path]):
        result = value_of(parse(*argv, kind=PipelineConfig), name)
        assert result == value and type(result) is type(value)


def test_the_label_column_has_a_short_flag():
    assert value_of(parse("--label", "a,b"), "table.label") == "a,b"


# Mistakes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--epoch", "3"], ["no flag '--epoch'", "Did you mean '--epochs'?"]),
        (["--text.droput", "3"], ["Did you mean '--text.dropout'?"]),
        (["--on-bad-rows=3"], ["Did you mean '--on-bad-row'?"]),
        (["--qqqq"], ["no flag '--qqqq'", "See --help"]),
        (["--label-column=Class"], ["Did you mean '--table.label'?"]),
        (["--image_column", "p"], ["Did you mean '--table.image'?"]),
        (["--labels", "y"], ["Did you mean '--table.label'?"]),
        (["--target", "y"], ["Did you mean '--table.label'?"]),
        (["--y", "c"], ["Did you mean '--table.label'?"]),
        (["--spilt", "s"], ["Did you mean '--table.split_column'?"]),
        (["--test", "s"], ["no flag '--test'"]),
        (["--image", "img"], ["--image.NAME VALUE", "--table.image"]),
        (["--epochs"], ["--epochs needs a value", "--help"]),
        (["--train.learning_rate", "-1e-3"], ["--train.learning_rate=VALUE"]),
        (["--seed", "010"], ["seed needs int", "'010'"]),
        (["--seed", "1:30"], ["seed needs int", "'1:30'"]),
        (["--seed", "x" * 5000], ["seed needs int", "xxx..."]),
        (["--epochs", "--seed", "1"], ["--epochs needs a value"]),
        (["--on_bad_row"], ["--on-bad-row needs a value"]),
        (["--config"], ["--config needs a value"]),
        (["--help=1"], ["takes no value"]),
        (["--image.size_px", "8"], ["image.size_px=8", "at least 32"]),
        (["--text.encoder", "hub"], ["needs text.hub_handle"]),
        (["--preset", "small_concat"], ["Did you mean 'small-concat'?"]),
        (["--preset", "zz"], ["no preset 'zz'", "Known: resnet50-concat, small"]),
        (["--text", "{droput: 0}"], ["'droput' in 'text'", "Did you mean 'dropout'"]),
        (["--epochs", "3", "stray"], ["'stray' belongs to no flag"]),
        (["--kubeflow.gpu.Trainer", "x"], ["kubeflow.gpu.Trainer", "int", "'x'"]),
        (["--kubeflow.gpu.Trainer"], ["--kubeflow.gpu.Trainer needs a value"]),
        (["--kubeflow.gpuu.Trainer", "1"], ["no flag", "Did you mean '--kubeflow.gpu"]),
    ],
)
def test_a_mistake_in_flags_is_one_line_with_the_remedy(argv, parts):
    assert_all_in(error_of(*argv), parts)


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("epohcs: 3", ["no setting 'epohcs'", "Did you mean 'epochs'?"]),
        ("zzz: 3", ["no setting 'zzz'", "Known: ", "epochs"]),
        ("text:\n  droput: 0", ["'droput' in 'text'", "Did you mean 'dropout'?"]),
        ("text.droput: 0", ["'droput' in 'text'", "Did you mean 'dropout'?"]),
        ("text: {dropout: {x: 1}}", ["text.dropout", "float", "{'x': 1}"]),
        ("epochs.x: 1", ["no setting 'epochs.x'", "single value"]),
        ("zz.x: 1", ["no setting 'zz'", "Known: "]),
        ("text: [1]", ["text ", "'[1]'", "--text.NAME"]),
        ("text:", ["text ", "nothing", "--text.NAME"]),
        ("1: 2", ["cannot set '1'"]),
        ("config: other.yaml", ["cannot set 'config'"]),
        ("preset: [big]", ["no preset '['big']'"]),
        ("- epochs", ["'name: value' lines", "received list"]),
        ("", ["received NoneType"]),
        ("a: [", ["is not YAML"]),
        (f"epochs: {'9' * 5000}", ["is not YAML", "limit"]),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_the_remedy(content, parts, file):
    assert_all_in(error_of("--config", file(content)), parts)


def test_an_unreadable_file_is_named(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "no.yaml", tmp_path, tmp_path / "binary.yaml"):
        assert_all_in(error_of("--config", str(path)), [str(path), "cannot be read"])


# Parsers of programs ----------------------------------------------------------


def test_a_file_sets_flags_of_the_program_too_even_a_required_one(file):
    def program(*argv):
        parser = Parser()
        parser.add_argument("--data", required=True)
        parser.add_argument("--top-rows", type=int, default=2)
        add_settings(parser, Config())
        parsed = parser.parse_args(argv)
        return parsed.data, parsed.top_rows

    path = file("data: a.csv\ntop_rows: 3\n")
    assert program("--config", path) == ("a.csv", 3)
    assert program("--config", path, "--top-rows", "4") == ("a.csv", 4)
    assert program("--data", "b.csv") == ("b.csv", 2)
    with pytest.raises(UserError, match="--data is needed"):
        program("--top-rows", "4")


def test_a_program_has_switches_choices_lists_and_positional_words():
    def program(*argv):
        parser = Parser()
        parser.add_argument("action")
        parser.add_argument("number", nargs="?", type=int)
        parser.add_argument("--fast", action="store_true")
        parser.add_argument("--split", choices=("train", "test"), default="test")
        parser.add_argument("--target", action="append")
        assert "--split {train,test}" in parser.format_help()
        return parser.parse_args(argv)

    defaults = {"number": None, "fast": False, "split": "test", "target": None}
    assert program("go") == argparse.Namespace(action="go", **defaults)
    argv = ["go", "3", "--fast", "--split=train", "--target", "a", "--target", "b: 1"]
    assert program(*argv) == argparse.Namespace(
        action="go", number=3, fast=True, split="train", target=["a", "b: 1"]
    )
    for argv, message in (
        (["go", "x"], "number needs int, received 'x'"),
        (["go", "--fast=1"], "--fast takes no value"),
        (["go", "--target"], "--target needs a value"),
        (["go", "--split", "tset"], "train, test, received 'tset'. Did you mean"),
        ([], "action is needed"),
    ):
        with pytest.raises(UserError, match=message):
            program(*argv)


def test_a_table_without_its_flag_is_pointed_to_data(tmp_path):
    with pytest.raises(UserError, match=r"Did you mean `--data 'my rows\.csv'`\?"):
        train.main(["my rows.csv", "--epochs", "3"])
    for word in ("stray", "0.5"):
        with pytest.raises(UserError, match=f"'{word}' belongs to no flag. See --help"):
            train.main([word])
    (tmp_path / "rows").touch()
    with pytest.raises(UserError, match="`--data .*rows`"):
        train.main([str(tmp_path / "rows")])


def test_a_flag_that_prints_help_is_suggested_too():
    with pytest.raises(UserError, match=r"'--help_all'. Did you mean '--help-all'\?"):
        train.main(["--help_all"])


def test_flags_and_their_values_are_dropped_from_a_command_line():
    argv = ["--a", "1", "--b=2", "--c", "3", "--bb", "4"]
    assert drop_flags(argv, "--a", "--b") == ["--c", "3", "--bb", "4"]


# Files of settings ------------------------------------------------------------

# Written by versions before 0.2, or by a person.
OLD_FILE = """
preset: small-concat
seed: 3
on_bad_row: fail
table: {text: 'no', cache_dir: '', val_share: 0.15}
image: {frozen: 'yes', weights: none}
augment: {flip: false, crop: 0, colour: 0}
train:
  learning_rate: 0.0015
  warmup_epochs: 3
  restore_best: false
  fine_tune_learning_rate: 1.0e-05
export: {tolerance: 1e-5}
"""


def test_a_file_of_an_old_run_is_read(file):
    config = load_config(file(OLD_FILE))
    assert (config.seed, config.image.encoder) == (3, "small_cnn")
    assert config.image.frozen == "yes" and config.table.text == "no"
    assert config.table.cache_dir == "" and not config.train.restore_best
    assert config.train.fine_tune_rate == config.export.tolerance == 1e-5
    assert config.train.warmup_epochs == 3.0


@pytest.mark.parametrize("name", PRESETS)
def test_the_config_file_of_each_preset_is_read_back(name, tmp_path):
    write_config(tmp_path, PRESETS[name]())
    assert load_config(tmp_path / "config.yaml") == PRESETS[name]()


TEXTS = st.one_of(
    # PyYAML writes a next-line character as a line break under allow_unicode.
    st.text(max_size=8).map(lambda text: text.replace("\x85", "-")),
    st.sampled_from(["", "null", "~", "3", "1e3", "true", "no", "2024-01-01", "a: b"]),
)


def values_of(flag):
    """Returns a strategy of values of a setting's type, mostly valid ones."""
    if flag.name == "preset":
        return st.sampled_from(list(PRESETS))
    if flag.name == "kubeflow.env":
        return st.dictionaries(TEXTS, TEXTS, max_size=3)
    if flag.is_mapping:
        others = {"gpu": st.integers(0, 9), "beam_args": st.just("a")}
        value = others.get(flag.name.partition(".")[2], st.floats(0.1, 99))
        return st.dictionaries(st.sampled_from(["default", "Transform"]), value)
    choices = getattr(flag.hint, "__args__", None)
    if choices and choices[0] is int:
        return st.one_of(st.integers(0, 300), st.just("auto"))
    if choices:
        return st.sampled_from(choices)
    floats = st.one_of(st.floats(0, 1), st.floats(0, 1e9), st.just(float("inf")))
    kinds = {int: st.integers(0, 300), float: floats, bool: st.booleans(), str: TEXTS}
    return kinds[flag.hint]


@st.composite
def configs(draw):
    """Draws settings; a group whose values cannot be combined has defaults."""
    flags = {flag.name: flag for flag in list_flags(PipelineConfig())}

    def draw_group(group, prefix):
        members = {field.name: getattr(group, field.name) for field in fields(group)}
        leaves = [name for name, value in members.items() if not is_dataclass(value)]
        changed = draw(st.lists(st.sampled_from(leaves), max_size=4)) if leaves else []
        values = {name: draw(values_of(flags[prefix + name])) for name in set(changed)}
        for name, value in members.items():
            if is_dataclass(value):
                values[name] = draw_group(value, f"{prefix}{name}.")
        try:
            return type(group)(**values)
        except UserError:
            return group

    return draw_group(PipelineConfig(), "")


def as_flags(content, prefix=""):
    """Yields the flags of all settings of `to_dict`."""
    for name, value in content.items():
        if isinstance(value, dict) and prefix == "":
            yield from as_flags(value, f"{name}.")
        elif isinstance(value, str):
            yield f"--{prefix}{name}={value}"
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
            yield f"--{prefix}{name}={text.removesuffix('...' + chr(10)).strip()}"


@given(config=configs())
@examples(max_examples=25, deadline=None, phases=[Phase.generate])
def test_settings_survive_a_file_and_flags(config):
    assert parse(*as_flags(to_dict(config)), kind=PipelineConfig) == config
    with TemporaryDirectory() as folder:
        write_config(Path(folder), config)
        path = f"{folder}/config.yaml"
        assert parse("--config", path, kind=PipelineConfig) == config


def test_printed_settings_are_a_file_that_sets_them_again(capsys, file):
    with pytest.raises(SystemExit) as end:
        parse("--preset", "mult", "--epochs", "3", "--print_config")
    assert not end.value.code
    path = file(capsys.readouterr().out)
    assert parse("--config", path) == parse("--preset", "mult", "--epochs", "3")


# Help -------------------------------------------------------------------------


def test_help_explains_every_setting_with_its_default(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        train.main(["--data", "rows.csv", "--help-all"])
    text = " ".join(capsys.readouterr().out.split())
    for flag in ("--data", "--output", "--config", "--on-bad-row", "--on_bad_row"):
        assert flag in text
    for flag in list_flags(Config()):
        assert flag.words[0] in text
        if flag.is_group:
            assert f"{flag.doc.rstrip('.')}:" in text
        else:
            default = json.dumps(flag.default).strip('"') or "empty"
            assert flag.doc and f"{flag.doc} (default: {default})" in text


def test_help_is_one_screen_without_the_members_of_groups(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        train.main(["--help"])
    text = capsys.readouterr().out
    assert not end.value.code and len(text.splitlines()) <= 44
    for flag in ("--data", "--output", "--preset", "--epochs", "--help-all"):
        assert flag in text
    assert "--text.dropout" not in text and "Text branch" not in text


def test_inherited_settings_are_explained():
    assert all(flag.doc for flag in list_flags(PipelineConfig()))


@pytest.mark.parametrize(("argv", "code"), [(["--help"], 0), (["--epohcs", "3"], 2)])
def test_help_and_errors_load_no_heavy_package(argv, code):
    statements = f"""
import atexit, sys
heavy = {{"tensorflow", "keras", "numpy"}}
atexit.register(lambda: print(*heavy & set(sys.modules), file=sys.stderr))
from mmkeras.cli import run_program
from mmkeras.train import main
sys.argv = ["train", *{argv!r}]
run_program(main)
"""
    result = run_python(statements)
    assert result.returncode == code
    assert result.stderr.splitlines()[-1] == ""


# Exit codes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "err"),
    [
        (UserError("The table is empty."), 2, "error: The table is empty.\n"),
        (
            ExportMismatchError("Row 3."),
            1,
            "error: The export failed its verification. Row",
        ),
        (OSError(13, "Permission denied", "a.csv"), 2, "error: a.csv: Permission de"),
        (ModuleNotFoundError(name="kfp.dsl"), 2, "error: This program needs kfp"),
        (None, 0, ""),
    ],
)
def test_a_program_ends_with_a_line_and_its_code(error, code, err, monkeypatch, capsys):
    monkeypatch.setattr(cli, "find_spec", lambda module: None)

    def main(argv):
        if error:
            raise error

    with pytest.raises(SystemExit) as end:
        run_program(main)
    assert end.value.code == code
    out, line = capsys.readouterr()
    assert out == "" and line.startswith(err) and line.count("\n") == bool(error)


def test_output_that_cannot_be_written_at_the_end_is_an_error():
    program = "from mmkeras.cli import run_program; run_program(lambda _: print('a'))"
    with open("/dev/full", "w") as full:
        result = run_python(program, stdout=full)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("ending", "code", "err"),
    [
        ("raise KeyboardInterrupt", 130, "Interrupted.\n"),
        ("return 130", 130, ""),
        ("raise LostWorkerError('b:2 is gone.')", 2, "error: b:2 is gone.\n"),
    ],
)
def test_a_program_ends_before_the_interpreter_shuts_down(ending, code, err):
    program = f"""
import atexit
from mmkeras.cli import run_program
from mmkeras.errors import LostWorkerError
atexit.register(print, "shut down")
def main(argv):
    print("saved")
    {ending}
run_program(main)
"""
    result = run_python(program)
    assert result.returncode == code
    assert (result.stdout, result.stderr) == ("saved\n", err)


@pytest.mark.parametrize(
    ("start", "name", "ignored"),
    [
        ("gc.callbacks.append(interrupt)", "SIGINT", "SIGTERM"),
        ("Finalized()", "SIGINT", "SIGTERM"),
        ("Finalized()", "SIGTERM", "SIGINT"),  # a background job of a shell script
    ],
)
def test_a_signal_that_python_swallows_ends_the_program(start, name, ignored):
    program = f"""
import gc, os, signal, time
from mmkeras.cli import run_program
def interrupt(*_):
    gc.callbacks.clear()
    os.kill(os.getpid(), signal.{name})
class Finalized:
    __del__ = interrupt
def main(argv):
    signal.signal(signal.{name}, signal.default_int_handler)
    signal.signal(signal.{ignored}, signal.SIG_IGN)
    {start}
    gc.collect()
    time.sleep(60)
run_program(main)
"""
    result = run_python(program)
    assert (result.returncode, result.stderr) == (130, "Interrupted.\n")


@pytest.mark.parametrize(
    "error", [ZeroDivisionError(), ModuleNotFoundError(name="numpy"), OSError("full")]
)
def test_an_internal_error_has_its_traceback(error):
    def main(argv):
        raise error

    with pytest.raises(type(error)):
        run_program(main)


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--label", "adopted"], "label", "adopted"),
        (["--table.label_column=adopted"], "label", "adopted"),
        (["--table.text_column", "title"], "text", "title"),
        (["--table.numeric", "price, age"], "numeric", "price, age"),
    ],
)
def test_columns_of_the_table_have_short_and_earlier_names(argv, name, value, tmp_path):
    assert getattr(parse(*argv).table, name) == value


def test_earlier_names_of_columns_are_read_from_a_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("table: {text_column: title, label_column: kind}")
    table = parse("--config", str(path)).table
    assert (table.text, table.label) == ("title", "kind")


def test_columns_have_types_and_settings(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("columns: {title: {type: text, encoder: lstm}}")
    config = parse("--config", str(path), "--columns.photo", "image")
    entry = {"type": "text", "encoder": "lstm"}
    assert config.columns == {"title": entry, "photo": "image"}
