import os
import subprocess
import sys

import pytest

from mmkeras.cli import (
    Parser,
    add_settings,
    choose_preset,
    did_you_mean,
    load_config,
    run_program,
    settings,
)
from mmkeras.config import Config
from mmkeras.errors import ProofError, UserError
from mmkeras.presets import PRESETS


def parsed(*argv):
    parser = Parser()
    add_settings(parser, choose_preset(argv))
    return settings(parser, parser.parse_args(argv))


def error_of(*argv):
    """The one line that the command line is answered with."""
    with pytest.raises(UserError) as caught:
        parsed(*argv)
    (line,) = str(caught.value).splitlines()
    return line


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
    ("content", "said"),
    [
        ("epohcs: 3", "There is no setting 'epohcs'. Did you mean 'epochs'?"),
        ("zzz: 3", "There is no setting 'zzz'. Known: "),
        (
            "text:\n  droput: 0",
            "no setting 'droput' in 'text'. Did you mean 'dropout'?",
        ),
        ("text:\n  zzz: 0", "no setting 'zzz' in 'text'. Known: "),
        ("text: word", "text holds settings of its own"),
        ("text: [1]", "text holds settings of its own, received '[1]'"),
        ("epochs: true", "epochs needs int, received 'True'"),
        ("1: 2", "cannot set '1'"),
        ("config: other.yaml", "cannot set 'config'"),
        ("epochs: many", "epochs needs int, received 'many'"),
        ("epochs: 2.5", "epochs needs int, received '2.5'"),
        ("image:\n  encoder: vgg", "image.encoder must be one of resnet50, "),
        ("image:\n  size_px: 8", "image.size_px=8 is not possible"),
        ("preset: big", "There is no preset 'big'."),
        ("preset: [big]", "There is no preset '['big']'."),
        ("- epochs", "must hold settings as 'name: value' lines, received list"),
        ("", "received NoneType"),
        ("a: [", "is not YAML"),
        ("epochs: 3\n\tseed: 1", "is not YAML"),
    ],
)
def test_an_error_in_the_file_is_one_line_that_says_what(content, said, file):
    assert said in error_of("--config", file(content))


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    assert "cannot be read" in error_of("--config", str(tmp_path / "no.yaml"))
    assert "cannot be read" in error_of("--config", str(tmp_path))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read" in error_of("--config", str(tmp_path / "binary.yaml"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--epochs", "many"], "epochs needs int, received 'many'"),
        (["--epochs", "2.5"], "epochs needs int, received '2.5'"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--epochs", ""], "epochs needs int, received ''"),
        (["--text.dropout", "half"], "text.dropout needs float, received 'half'"),
        (["--augment.flip", "maybe"], "augment.flip needs bool, received 'maybe'"),
        (
            ["--image.encoder", "vgg"],
            "pixels, received 'vgg'.",
        ),
        (
            ["--on-bad-row=skip"],
            "on_bad_row must be one of fail, reject, absent, received 'skip'.",
        ),
        (["--image.size_px", "8"], "image.size_px=8 is not possible: it must be at"),
        (["--text.encoder", "hub"], "needs text.hub_handle"),
        (["--preset", "small_concat"], "Did you mean 'small-concat'?"),
        (["--preset", "zz"], "There is no preset 'zz'. Known: resnet50-concat, small"),
        (["--preset"], "Argument --preset: expected one argument."),
        (["--text", "word"], "text holds settings of its own, received 'word'"),
        (["stray"], "There is no flag 'stray'"),
        (["--epochs", "3", "stray"], "There is no flag 'stray'"),
    ],
)
def test_a_bad_value_is_one_line_that_says_what(argv, said):
    assert said in error_of(*argv)


def test_a_near_miss_is_named_and_otherwise_all_that_is_known():
    assert did_you_mean("colour", ["color", "size"]) == " Did you mean 'color'?"
    assert did_you_mean("xyz", ["color", "size"]) == " Known: color, size."


def test_a_resolved_file_is_read_without_any_flag(file):
    config = load_config(file("preset: small-concat\nseed: 3\n"))
    assert (config.seed, config.image.encoder) == (3, "small_cnn")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("The table is empty."), 2, "error: The table is empty.\n"),
        (ProofError("Row 3."), 1, "error: The export failed its proof. Row 3.\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
    ],
)
def test_a_program_ends_with_one_line_and_its_code(error, code, said, capsys):
    def main(argv):
        raise error

    with pytest.raises(SystemExit) as caught:
        run_program(main)
    assert caught.value.code == code
    assert capsys.readouterr() == ("", said)


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


def test_help_names_every_flag():
    result = subprocess.run(
        [sys.executable, "-m", "mmkeras.train", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stderr == ""
    for flag in ("--data", "--output", "--preset", "--image.size_px", "--train.ema"):
        assert flag in result.stdout
