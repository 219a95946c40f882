"""sync.sh, which copies versions from S3 to a pod, with a fake `aws` on a folder."""

import os
import subprocess

import pytest

from tests.serving.deploy.files import DEPLOY

SCRIPT = DEPLOY / "kubernetes" / "overlays" / "s3" / "sync.sh"
AWS = r"""#!/bin/bash
[[ -e $BUCKET/down ]] && exit 255
path() { echo "$BUCKET/${1#s3://}"; }
case "$2 $3" in
    "ls --recursive")
        key=${4#s3://*/}
        cd "$(path "${4%"$key"}")" &&
            find "${key%/}" -type f -printf '2026-01-02 03:04:05 %10s %p\n' | sort
        ;;
    "ls "*) for f in "$(path "$3")"*/; do echo "    PRE $(basename "$f")/"; done ;;
    "cp --recursive")
        mkdir -p "$6" && cp -r "$(path "$5")." "$6"
        [[ -z ${LATE:-} ]] || echo more >>"$(path "$5")saved_model.pb"
        ;;
    *) exit 2 ;;
esac
"""
FILES = ("saved_model.pb", "variables/variables.index")
FILES += ("variables/variables.data-00000-of-00001",)


@pytest.fixture
def push(tmp_path):
    """push(version, *names) writes files of a version to the bucket."""
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(AWS)
    aws.chmod(0o755)
    (tmp_path / "models.config").write_text("# 7\nmodel_config_list { }\n")

    def push(version, *names):
        for name in names or FILES:
            file = tmp_path / "bucket" / "b" / "mmkeras" / version / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(version)

    return push


@pytest.fixture
def sync(tmp_path):
    """sync(rounds, **variables) runs the script; returns its process."""

    def sync(rounds=2, **variables):
        environment = os.environ | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "BUCKET": str(tmp_path / "bucket"),
            "SOURCE": "s3://b/mmkeras",
            "MODELS": str(tmp_path / "models"),
            "MODELS_CONFIG": str(tmp_path / "models.config"),
            "EVERY_S": "0",
            "ROUNDS": str(rounds),
            "TMPDIR": str(tmp_path),
        }
        process = subprocess.run(
            ["bash", SCRIPT],
            env=environment | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert process.returncode == 0, process.stderr
        return process

    return sync


def versions(tmp_path):
    return sorted(file.name for file in (tmp_path / "models").iterdir())


def test_a_complete_version_is_copied(push, sync, tmp_path):
    push("7")
    sync(rounds=1)  # it may still grow
    assert versions(tmp_path) == []
    assert sync().stdout == "Version 7 is here.\n"
    copy = tmp_path / "models" / "7" / "variables" / "variables.index"
    assert copy.read_text() == "7"
    assert versions(tmp_path) == ["7"]


@pytest.mark.parametrize("missing", FILES)
@pytest.mark.parametrize("others", [[], ["assets/saved_model.pb", "saved_model.pb2"]])
def test_a_version_without_all_files_of_a_model_is_not_copied(
    push, sync, tmp_path, missing, others
):
    push("7", *(name for name in FILES if name != missing), *others)
    sync(rounds=3)
    assert versions(tmp_path) == []


def test_a_version_that_changes_during_the_copy_is_copied_again(push, sync, tmp_path):
    push("7")
    assert sync(LATE="1").stdout == ""
    assert versions(tmp_path) == []
    sync()
    assert (tmp_path / "models" / "7" / "saved_model.pb").read_text() == "7more\n"
    assert versions(tmp_path) == ["7"]


def test_the_script_needs_bash_and_coreutils_only():
    # The image of the AWS CLI has no diffutils.
    words = SCRIPT.read_text().split()
    assert not {"cmp", "diff", "find", "awk"} & set(words)


def test_the_newest_versions_and_those_of_the_config_are_kept(push, sync, tmp_path):
    for version in ("1", "2", "9", "10", "11", "12", ".13.partial"):
        push(version)
    (tmp_path / "models" / "5").mkdir(parents=True)
    (tmp_path / "models.config").write_text("# no 1\nversions: 2 versions: 12\n")
    sync()
    assert versions(tmp_path) == ["10", "11", "12", "2"]


def test_nothing_is_deleted_while_the_bucket_cannot_be_read(push, sync, tmp_path):
    push("7")
    sync()
    (tmp_path / "bucket" / "down").touch()
    assert "s3://b/mmkeras cannot be read; next try in 0 s." in sync().stderr
    assert versions(tmp_path) == ["7"]
