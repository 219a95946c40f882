import pytest

from mmkeras.errors import UserError
from serving.server.__main__ import main


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "Say what to serve"),
        (["--model", "m=/tmp", "--model-config-file", "f"], "Say what to serve"),
        (["--model", "halves"], "--model needs NAME=BASE_PATH, received 'halves'"),
        (["--model", "=path"], "--model needs NAME=BASE_PATH"),
        (["--model", "m="], "--model needs NAME=BASE_PATH"),
        (["--model", "m=/no/such"], "there is no folder '/no/such'"),
        (["--modell", "m=/tmp"], "Did you mean '--model'"),
        (["--model", "m=/tmp", "--port", "x"], "port"),
        (["--model", "m=/tmp", "--port", "70000"], "--port must be from 0 to 65535"),
        (["--model", "m=/tmp", "--max-rows", "0"], "--max-rows must be from 1"),
        (
            ["--model", "m=/tmp", "--max-in-flight-mib", "9"],
            "--max-in-flight-mib must be at least --max-message-mib, 256, received 9",
        ),
        (
            ["--model", "m=/tmp", "--monitoring", "--monitoring-config-file", "f"],
            "not both",
        ),
        (["--model", "m=/tmp", "--monitoring", "--rest-port", "-1"], "switches off"),
        (["--model", "m=/tmp", "--poll-seconds", "0"], "--poll-seconds must be"),
    ],
)
def test_flags_that_cannot_be_used_are_a_users_mistake(argv, text):
    with pytest.raises(UserError, match=text):
        main(argv)


def test_a_version_in_the_place_of_its_base_is_told(halves):
    with pytest.raises(UserError, match=f"--model m={halves}"):
        main(["--model", f"m={halves / '1'}"])


def test_a_run_folder_in_the_place_of_its_exports_is_told(tmp_path):
    (tmp_path / "export").mkdir()
    with pytest.raises(UserError, match=f"--model m={tmp_path / 'export'}"):
        main(["--model", f"m={tmp_path}"])
