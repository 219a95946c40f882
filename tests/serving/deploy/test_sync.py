"""Versions from S3 to a pod, by the overlay's script and an `aws` of the test's own.

That one lists and copies a folder as the real one does a bucket.
"""

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


@pytest.fixture
def bucket(tmp_path):
    (tmp_path / "bin").mkdir()
    aws = tmp_path / "bin" / "aws"
    aws.write_text(AWS)
    aws.chmod(0o755)
    (tmp_path / "bucket" / "b" / "mmkeras").mkdir(parents=True)
    (tmp_path / "models.config").write_text("# 7\nmodel_config_list { }\n")
    return tmp_path / "bucket" / "b" / "mmkeras"


WHOLE = ("saved_model.pb", "variables/variables.index")
WHOLE += ("variables/variables.data-00000-of-00001",)


def push(bucket, version, *names):
    for name in names or WHOLE:
        file = bucket / version / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(version)


def sync(tmp_path, rounds=2, **more):
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
    done = subprocess.run(
        ["bash", SCRIPT],
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done


def there(tmp_path):
    return sorted(file.name for file in (tmp_path / "models").iterdir())


def test_a_version_is_copied_whole(bucket, tmp_path):
    push(bucket, "7")
    assert sync(tmp_path).stdout == "Version 7 is here.\n"
    copied = tmp_path / "models" / "7" / "variables" / "variables.index"
    assert copied.read_text() == "7"
    assert there(tmp_path) == ["7"]


def test_a_version_that_still_grows_is_left_for_later(bucket, tmp_path):
    push(bucket, "7")
    sync(tmp_path, rounds=1)
    assert there(tmp_path) == []


@pytest.mark.parametrize("missing", WHOLE)
@pytest.mark.parametrize("instead", [[], ["assets/saved_model.pb", "saved_model.pb2"]])
def test_a_version_without_all_files_of_a_model_is_none(
    bucket, tmp_path, missing, instead
):
    push(bucket, "7", *(name for name in WHOLE if name != missing), *instead)
    sync(tmp_path, rounds=3)
    assert there(tmp_path) == []


def test_a_version_that_changes_while_it_is_copied_is_copied_again(bucket, tmp_path):
    push(bucket, "7")
    assert sync(tmp_path, LATE="1").stdout == ""
    assert there(tmp_path) == []
    sync(tmp_path)
    copied = tmp_path / "models" / "7" / "saved_model.pb"
    assert copied.read_text() == "7more\n"
    assert there(tmp_path) == ["7"]


def test_the_script_needs_no_more_than_bash_and_coreutils():
    # The image of the AWS CLI has no diffutils.
    words = SCRIPT.read_text().split()
    assert not {"cmp", "diff", "find", "awk"} & set(words)


def test_the_newest_and_the_named_ones_are_there_and_no_others(bucket, tmp_path):
    for version in ("1", "2", "9", "10", "11", "12"):
        push(bucket, version)
    push(bucket, ".13.partial")
    (tmp_path / "models" / "5").mkdir(parents=True)
    (tmp_path / "models.config").write_text("# no 1\nversions: 2 versions: 12\n")
    sync(tmp_path)
    assert there(tmp_path) == ["10", "11", "12", "2"]


def test_nothing_is_deleted_while_the_bucket_cannot_be_read(bucket, tmp_path):
    push(bucket, "7")
    sync(tmp_path)
    (tmp_path / "bucket" / "down").touch()
    said = sync(tmp_path).stderr
    assert "s3://b/mmkeras cannot be read; next try in 0 s." in said
    assert there(tmp_path) == ["7"]
