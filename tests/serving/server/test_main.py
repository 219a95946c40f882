import pytest

from mmkeras.errors import UserError
from serving.server.__main__ import main

MODEL = ["--model", "m=/tmp"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([], "--model.* or --model-config-file"),
        ([*MODEL, "--model-config-file", "f"], "either --model.* or"),
        (["--model", "halves"], "--model needs NAME=BASE_PATH, received 'halves'"),
        (["--model", "=path"], "--model needs NAME=BASE_PATH"),
        (["--model", "m="], "--model needs NAME=BASE_PATH"),
        (["--model", "m=/no/such"], "'/no/such' does not exist"),
        (["--modell", "m=/tmp"], "Did you mean '--model'"),
        ([*MODEL, "--port", "x"], "port"),
        ([*MODEL, "--port", "70000"], "--port must be from 0 to 65535"),
        ([*MODEL, "--max-rows", "0"], "--max-rows must be from 1"),
        ([*MODEL, "--max-in-flight-mib", "9"], "--max-message-mib, 256, received 9"),
        ([*MODEL, "--monitoring", "--monitoring-config-file", "f"], "not both"),
        ([*MODEL, "--monitoring", "--rest-port", "-1"], "switches off"),
        (
            [*MODEL, "--model-config-file-poll-wait-seconds", "1"],
            "seconds needs --model-config-file FILE",
        ),
        ([*MODEL, "--poll-seconds", "0"], "--poll-seconds must be"),
    ],
)
def test_invalid_flags_are_a_users_mistake(argv, text):
    with pytest.raises(UserError, match=text):
        main(argv)


def test_a_version_or_a_run_folder_as_base_path_gets_the_right_path(halves, tmp_path):
    with pytest.raises(UserError, match=f"--model m={halves}"):
        main(["--model", f"m={halves / '1'}"])
    (tmp_path / "export").mkdir()
    with pytest.raises(UserError, match=f"--model m={tmp_path / 'export'}"):
        main(["--model", f"m={tmp_path}"])
