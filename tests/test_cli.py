import json
import os
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

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
from mmkeras.errors import ExportMismatchError, UserError, did_you_mean
from mmkeras.training.run_folder import write_config
from pipeline.settings import PipelineConfig


def parsed(*argv, kind=Config):
    parser = Parser()
    add_settings(parser, choose_preset(argv), kind)
    return settings(parser, parser.parse_args(argv), kind)


def error_of(*argv, kind=Config):
    """Returns the one line of the error that the command line causes."""
    with pytest.raises(UserError) as caught:
        parsed(*argv, kind=kind)
    (line,) = str(caught.value).splitlines()
    return line


def asserts_all(line, parts):
    for part in parts:
        assert part in line


@pytest.fixture
def file(tmp_path):
    def write(content):
        path = tmp_path / "settings.yaml"
        path.write_text(content)
        return str(path)

    return write


def test_a_full_disk_is_one_line_also_where_output_is_left():
    code = """
from mmkeras.cli import run_program
def main(argv):
    print("left")
    raise OSError(28, "No space left on device", "out.csv")
run_program(main)
"""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert done.stderr == "error: out.csv: No space left on device.\n"


def test_no_argument_gives_the_reference_settings():
    assert parsed() == Config()


def test_flags_of_every_kind_arrive():
    config = parsed(
        *("--epochs", "3", "--text.dropout=0.25", "--augment.flip", "true"),
        *("--image.encoder", "small_cnn", "--on_bad_row", "reject"),
        *("--table.text_column", "Title"),
    )
    assert (config.epochs, config.text.dropout, config.augment.flip) == (3, 0.25, True)
    assert (config.image.encoder, config.on_bad_row) == ("small_cnn", "reject")
    assert config.table.text_column == "Title"
    assert config.audio == Config().audio


@pytest.mark.parametrize("flag", ["--on-bad-row", "--on_bad_row"])
def test_on_bad_row_is_written_either_way(flag):
    assert parsed(flag, "absent").on_bad_row == "absent"


def test_a_preset_comes_from_the_flag():
    assert parsed("--preset", "small-concat") == PRESETS["small-concat"]()
    assert parsed("--preset=small-concat", "--epochs", "2").image.size_px == 64


def test_a_preset_comes_from_the_file_and_the_flag_wins(file):
    path = file("preset: small-concat\nepochs: 5\n")
    config = parsed("--config", path)
    assert (config.preset, config.image.encoder) == ("small-concat", "small_cnn")
    assert config.epochs == 5
    assert parsed("--config", path, "--preset", "resnet50-concat").image == (
        Config().image
    )


def test_the_file_wins_over_the_preset_and_flags_over_the_file(file):
    path = file("image:\n  size_px: 96\n  width: 8\n")
    config = parsed("--preset", "small-concat", "--config", path, "--image.width", "4")
    assert (config.image.encoder, config.image.size_px) == ("small_cnn", 96)
    assert config.image.width == 4


@pytest.mark.parametrize(
    ("flag", "meant"),
    [
        ("--epoch", "--epochs"),
        ("--epcohs", "--epochs"),
        ("--text.droput", "--text.dropout"),
        ("--image.size", "--image.size_px"),
        ("--presets", "--preset"),
        ("--on-bad-rows", "--on-bad-row"),
    ],
)
def test_a_flag_in_error_is_answered_with_the_one_meant(flag, meant):
    expected = f"There is no flag '{flag}'. Did you mean '{meant}'?"
    assert error_of(flag, "3") == expected
    assert f"Did you mean '{meant}'?" in error_of(f"{flag}=3")


def test_a_flag_like_no_other_is_answered_with_help():
    assert error_of("--qqqq") == "There is no flag '--qqqq'. See --help for all flags."


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("epohcs: 3", ["no setting 'epohcs'", "Did you mean 'epochs'?"]),
        ("zzz: 3", ["no setting 'zzz'", "Known: ", "epochs"]),
        ("text:\n  droput: 0", ["'droput' in 'text'", "Did you mean 'dropout'?"]),
        ("text:\n  zzz: 0", ["'zzz' in 'text'", "Known: ", "dropout"]),
        ("text.droput: 0", ["'droput' in 'text'", "Did you mean 'dropout'?"]),
        ("text: {dropout: {x: 1}}", ["text.dropout", "float", "{'x': 1}"]),
        ("epochs.x: 1", ["no setting 'epochs.x'", "single value"]),
        ("zz.x: 1", ["no setting 'zz'", "Known: "]),
        ("text: word", ["text ", "settings of its own", "'word'", "--text.NAME"]),
        ("text: [1]", ["text ", "settings of its own", "'[1]'"]),
        ("text:", ["text ", "settings of its own", "nothing"]),
        ("1: 2", ["cannot set '1'"]),
        ("config: other.yaml", ["cannot set 'config'"]),
        ("image:\n  size_px: 8", ["image.size_px=8", "at least 32"]),
        ("preset: big", ["no preset 'big'", "Known: resnet50-concat"]),
        ("preset: [big]", ["no preset '['big']'"]),
        ("- epochs", ["'name: value' lines", "received list"]),
        ("", ["received NoneType"]),
        ("a: [", ["is not YAML"]),
        ("epochs: 3\n\tseed: 1", ["is not YAML"]),
        (f"epochs: {'9' * 5000}", ["is not YAML", "limit"]),
    ],
)
def test_an_error_in_the_file_names_the_setting_and_the_remedy(content, parts, file):
    asserts_all(error_of("--config", file(content)), parts)


# Setting, a value of another type as a flag and as YAML, what the error names.
BAD_VALUES = [
    ("epochs", "many", "many", ["int", "'many'", "whole number"]),
    ("epochs", "2.5", "2.5", ["int", "'2.5'"]),
    ("epochs", "true", "true", ["int", "true"]),
    ("epochs", "", "", ["int", "received"]),
    ("epochs", "null", "null", ["int", "received"]),
    ("epochs", "[1]", "[1]", ["int", "[1]"]),
    ("text.dropout", "half", "half", ["float", "'half'", "number"]),
    ("text.dropout", "true", "true", ["float", "true"]),
    ("text.dropout", "nan", "nan", ["float", "'nan'"]),
    ("text.dropout", "9" * 400, "9" * 400, ["float", "999"]),
    ("augment.flip", "maybe", "maybe", ["bool", "'maybe'", "true or false"]),
    ("augment.flip", "1", "1", ["bool", "'1'"]),
    ("image.encoder", "resnet5", "resnet5", ["pixels", "'resnet5'", "'resnet50'?"]),
    ("image.encoder", "3", "3", ["one of resnet50, ", "'3'"]),
    ("on_bad_row", "skip", "skip", ["one of fail, reject, absent", "'skip'"]),
    ("table.text_column", None, "3", ["str", "'3'", "quote"]),
    ("table.text_column", None, "[a]", ["str", "['a']"]),
    ("table.text_column", None, "", ["str", "nothing"]),
    ("kubeflow.env", "word", "word", ["dict", "'word'", '{"NAME": VALUE}']),
    ("kubeflow.env", "{A: 1}", "{A: 1}", ["kubeflow.env.A", "str", "'1'"]),
    ("kubeflow.gpu", "{Tuner: x}", "{Tuner: x}", ["kubeflow.gpu.Tuner", "int", "'x'"]),
]


@pytest.mark.parametrize(("name", "flag", "content", "parts"), BAD_VALUES)
def test_a_value_of_another_type_is_refused_alike_by_flag_and_by_file(
    name, flag, content, parts, file
):
    path = file(f"{name}: {content}")
    from_file = error_of("--config", path, kind=PipelineConfig)
    asserts_all(from_file.replace("True", "true"), [name, *parts])
    if flag is not None:
        from_flag = error_of(f"--{name}={flag}", kind=PipelineConfig)
        asserts_all(from_flag, [name, *parts])


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("epochs", "3", 3),
        ("epochs", "+3", 3),
        ("epochs", "1_000", 1000),
        ("text.dropout", "0", 0.0),
        ("text.dropout", "1e-1", 0.1),
        ("text.dropout", "1.e-1", 0.1),
        ("export.tolerance", ".inf", float("inf")),
        ("augment.flip", "true", True),
        ("augment.flip", "False", False),
        ("augment.flip", "yes", True),
        ("image.frozen", "yes", "yes"),
        ("table.text_column", "2024-01-01", "2024-01-01"),
        ("table.text_column", "yes", "yes"),
        ("kubeflow.env", '{"A": "b c"}', {"A": "b c"}),
        ("kubeflow.gpu", "{}", {}),
        ("kubeflow.cpu_cores", '{"Tuner": 2}', {"Tuner": 2.0}),
    ],
)
def test_a_value_is_read_alike_from_flag_and_file(name, text, value, file):
    path = file(f"{name}: {text}")
    for argv in ([f"--{name}={text}"], ["--config", path]):
        config = parsed(*argv, kind=PipelineConfig)
        for part in name.split("."):
            config = getattr(config, part)
        assert config == value and type(config) is type(value)


def test_a_group_is_a_mapping_or_a_file_and_its_members_win(file):
    path = file("{dropout: 0.25, units: 8}")
    for given_group in (path, "{dropout: 0.25, units: 8}"):
        text = parsed("--text.units", "16", "--text", given_group).text
        assert (text.dropout, text.units) == (0.25, 16)


def test_a_later_file_wins_over_an_earlier_one_and_a_flag_over_both(tmp_path):
    first, second = tmp_path / "1.yaml", tmp_path / "2.yaml"
    first.write_text("preset: small-concat\nepochs: 3\nseed: 1\ntext: {units: 8}\n")
    second.write_text("epochs: 4\nseed: 2\ntext: {layers: 1}\n")
    config = parsed("--seed", "9", "--config", str(first), "--config", str(second))
    assert (config.epochs, config.seed) == (4, 9)
    assert (config.text.units, config.text.layers) == (8, 1)
    assert config.image == PRESETS["small-concat"]().image


def test_a_file_gives_flags_of_the_program_too_even_a_required_one(file):
    def program(*argv):
        parser = Parser()
        parser.add_argument("--data", required=True)
        parser.add_argument("--top-rows", type=int, default=2)
        add_settings(parser, Config())
        return parser.parse_args(argv)

    path = file("data: a.csv\ntop_rows: 3\n")
    assert program("--config", path).data == "a.csv"
    assert program("--config", path).top_rows == 3
    assert program("--config", path, "--top-rows", "4").top_rows == 4
    assert program("--data", "b.csv").top_rows == 2
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
        return vars(parser.parse_args(argv))

    nothing = {"number": None, "fast": False, "split": "test", "target": None}
    assert program("go") == {**nothing, "action": "go"}
    argv = ["go", "3", "--fast", "--split=train", "--target", "a", "--target", "b: 1"]
    assert program(*argv) == {
        **{"action": "go", "number": 3, "fast": True},
        **{"split": "train", "target": ["a", "b: 1"]},
    }
    for argv, message in (
        (["go", "x"], "number needs int, received 'x'"),
        (["go", "--fast=1"], "--fast takes no value"),
        (["go", "--target"], "--target needs a value"),
        (["go", "--split", "tset"], "train, test, received 'tset'. Did you mean"),
        ([], "action is needed"),
    ):
        with pytest.raises(UserError, match=message):
            program(*argv)


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    assert "cannot be read" in error_of("--config", str(tmp_path / "no.yaml"))
    assert "cannot be read" in error_of("--config", str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in error_of("--config", str(tmp_path / "binary.yaml"))


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--epochs"], ["--epochs needs a value", "--help"]),
        (["--train.learning_rate", "-1e-3"], ["--train.learning_rate=VALUE"]),
        (["--seed", "010"], ["seed needs int", "'010'"]),
        (["--seed", "1:30"], ["seed needs int", "'1:30'"]),
        (["--seed", "x" * 5000], ["seed needs int", "xxx..."]),
        (["--epochs", "--seed", "1"], ["--epochs needs a value"]),
        (["--on_bad_row"], ["--on-bad-row needs a value"]),
        (["--preset"], ["--preset needs a value"]),
        (["--config"], ["--config needs a value"]),
        (["--help=1"], ["takes no value"]),
        (["--image.size_px", "8"], ["image.size_px=8", "at least 32"]),
        (["--text.encoder", "hub"], ["needs text.hub_handle"]),
        (["--preset", "small_concat"], ["Did you mean 'small-concat'?"]),
        (["--preset", "zz"], ["no preset 'zz'", "Known: resnet50-concat, small"]),
        (["--text", "word"], ["text ", "settings of its own", "'word'"]),
        (["--text", "{droput: 0}"], ["'droput' in 'text'", "Did you mean 'dropout'"]),
        (["stray"], ["'stray' belongs to no flag"]),
        (["--epochs", "3", "stray"], ["'stray' belongs to no flag"]),
    ],
)
def test_a_mistake_in_flags_is_one_line_with_the_remedy(argv, parts):
    asserts_all(error_of(*argv), parts)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--kubeflow.gpu.Trainer", "x"], ["kubeflow.gpu.Trainer", "int", "'x'"]),
        (["--kubeflow.gpu.Trainer"], ["--kubeflow.gpu.Trainer needs a value"]),
        (["--kubeflow.gpuu.Trainer", "1"], ["no flag", "Did you mean '--kubeflow.gpu"]),
    ],
)
def test_a_mistake_in_an_entry_of_a_mapping_is_one_line(argv, parts):
    asserts_all(error_of(*argv, kind=PipelineConfig), parts)


def test_an_entry_adds_to_its_mapping_and_a_parser_can_be_used_again():
    parser = Parser()
    add_settings(parser, Config(), PipelineConfig)
    for value in ("1.5", "2"):
        argv = ["--kubeflow.cpu_cores.Tuner", value, "--kubeflow.cpu_cores", "{}"]
        config = settings(parser, parser.parse_args(argv), PipelineConfig)
        assert config.kubeflow.cpu_cores == {"Tuner": float(value)}
        argv = [f"--kubeflow.cpu_cores.Tuner={value}"]
        config = settings(parser, parser.parse_args(argv), PipelineConfig)
        expected = {"default": 2.0, "Tuner": float(value)}
        assert config.kubeflow.cpu_cores == expected


def test_a_near_miss_is_named_and_otherwise_all_that_is_known():
    assert did_you_mean("colour", ["color", "size"]) == " Did you mean 'color'?"
    assert did_you_mean("xyz", ["color", "size"]) == " Known: color, size."


def test_a_resolved_file_is_read_without_any_flag(file):
    config = load_config(file("preset: small-concat\nseed: 3\n"))
    assert (config.seed, config.image.encoder) == (3, "small_cnn")


# As versions before 0.2 wrote it, and as a person might.
OLD_FILE = """
preset: small-concat
seed: 0
on_bad_row: fail
table: {text_column: 'no', cache_dir: '', val_share: 0.15}
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
    assert config.image.frozen == "yes" and config.table.text_column == "no"
    assert config.table.cache_dir == "" and not config.train.restore_best
    assert config.train.fine_tune_learning_rate == config.export.tolerance == 1e-5
    assert config.train.warmup_epochs == 3.0


@pytest.mark.parametrize("name", PRESETS)
def test_each_presets_resolved_file_is_read_back(name, tmp_path):
    write_config(tmp_path, PRESETS[name]())
    assert load_config(tmp_path / "config.yaml") == PRESETS[name]()


TEXTS = st.one_of(
    # PyYAML writes a next-line character as a line break under allow_unicode.
    st.text(max_size=8).map(lambda text: text.replace("\x85", "-")),
    st.sampled_from(["", "null", "~", "3", "1e3", "true", "no", "2024-01-01", "a: b"]),
)


def values_of(flag):
    """Returns a strategy of values of a setting's type, most of them possible."""
    if flag.name == "preset":
        return st.sampled_from(list(PRESETS))
    if flag.name == "kubeflow.env":
        return st.dictionaries(TEXTS, TEXTS, max_size=3)
    if flag.is_mapping:
        numbers = {
            "kubeflow.gpu": st.integers(0, 9),
            "kubeflow.beam_args": st.just("a"),
        }
        positive = numbers.get(flag.name, st.floats(0.1, 99))
        return st.dictionaries(st.sampled_from(["default", "Transform"]), positive)
    if choices := getattr(flag.hint, "__args__", None):
        return st.sampled_from(choices)
    floats = st.one_of(st.floats(0, 1), st.floats(0, 1e9), st.just(float("inf")))
    kinds = {int: st.integers(0, 300), float: floats, bool: st.booleans(), str: TEXTS}
    return kinds[flag.hint]


@st.composite
def configs(draw, kind):
    """Draws settings; a group whose values are not possible together has defaults."""
    flags = {flag.name: flag for flag in list_flags(kind())}

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

    return draw_group(kind(), "")


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


@pytest.mark.parametrize("kind", [Config, PipelineConfig])
@given(data=st.data())
@examples(max_examples=25, deadline=None, phases=[Phase.generate])
def test_settings_survive_a_file_and_flags(kind, data):
    config = data.draw(configs(kind))
    assert parsed(*as_flags(to_dict(config)), kind=kind) == config
    with TemporaryDirectory() as folder:
        write_config(Path(folder), config)
        assert parsed("--config", f"{folder}/config.yaml", kind=kind) == config


def test_settings_are_printed_as_a_file_that_gives_them_again(capsys, file):
    with pytest.raises(SystemExit) as caught:
        parsed("--preset", "mult", "--epochs", "3", "--print_config")
    assert not caught.value.code
    path = file(capsys.readouterr().out)
    assert parsed("--config", path) == parsed("--preset", "mult", "--epochs", "3")


def test_flags_and_their_values_are_taken_out_of_a_command_line():
    argv = ["--a", "1", "--b=2", "--c", "3", "--bb", "4"]
    assert drop_flags(argv, "--a", "--b") == ["--c", "3", "--bb", "4"]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("The table is empty."), 2, "error: The table is empty.\n"),
        (
            ExportMismatchError("Row 3."),
            1,
            "error: The export failed its proof. Row 3.\n",
        ),
    ],
)
def test_a_program_ends_with_one_line_and_its_code(error, code, said, capsys):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as caught:
        run_program(main)
    assert caught.value.code == code
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("ending", "said"),
    [("raise KeyboardInterrupt", "Interrupted.\n"), ("return 130", "")],
)
def test_an_interrupted_program_ends_before_the_interpreter_shuts_down(ending, said):
    code = f"""
import atexit
from mmkeras.cli import run_program
atexit.register(print, "shut down")
def main(argv):
    print("saved")
    {ending}
run_program(main)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 130
    assert (result.stdout, result.stderr) == ("saved\n", said)


def test_our_own_mistakes_keep_their_traceback():
    def main(argv):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_program(main)


def test_a_program_without_error_ends_with_zero():
    with pytest.raises(SystemExit) as caught:
        run_program(lambda argv: None)
    assert caught.value.code == 0


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--epoch", "3"], "Did you mean '--epochs'?"),
        (["--data", "no.csv"], "--data 'no.csv' is no file"),
        (["--config", "no.yaml"], "'no.yaml' cannot be read"),
        (["--train.optimizer", "sdg"], "must be one of adam, adamw, sgd"),
    ],
)
def test_the_program_answers_a_mistake_with_one_line_and_exit_2(argv, said, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mmkeras.train", *argv],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ") and said in line
    assert not list(tmp_path.iterdir())


def test_help_explains_every_setting_with_its_default():
    result = subprocess.run(
        [sys.executable, "-m", "mmkeras.train", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "80"},
    )
    assert result.stderr == ""
    words = " ".join(result.stdout.split())
    for flag in ("--data", "--output", "--config", "--on-bad-row", "--on_bad_row"):
        assert flag in words
    for flag in list_flags(Config()):
        assert flag.words[0] in words
        if not flag.is_group:
            default = json.dumps(flag.default).strip('"') or "empty"
            assert flag.doc and f"{flag.doc} (default: {default})" in words
    assert "What training minimises beside the fused classifier's loss:" in words


def test_inherited_settings_are_explained():
    assert all(flag.doc for flag in list_flags(PipelineConfig()))


@pytest.mark.parametrize(
    ("argv", "code"), [(["--help"], 0), (["--epohcs", "3"], 2), (["--epochs", "x"], 2)]
)
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
    result = subprocess.run(
        [sys.executable, "-c", statements], capture_output=True, text=True
    )
    assert result.returncode == code
    assert result.stderr.splitlines()[-1] == ""
