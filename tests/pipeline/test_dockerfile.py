"""No Docker runs here: what can be known of the image without building it."""

import configparser
import re
import shlex
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def instructions():
    """[(instruction, its words)] in order; continued lines are one."""
    text = (ROOT / "pipeline" / "Dockerfile").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.split()[1:]) for line in lines.splitlines() if line]


def all_of(instructions, name):
    return [words for instruction, words in instructions if instruction == name]


@pytest.fixture(scope="module")
def defaults(instructions):
    arguments = (words[0].partition("=") for words in all_of(instructions, "ARG"))
    return {name: value for name, _, value in arguments}


def test_every_stage_has_its_base_named_by_an_argument(instructions, defaults):
    bases = [words[0] for words in all_of(instructions, "FROM")]
    assert bases == ["${BEAM}", "${PYTHON}", "${PYTHON}"]
    assert {"BEAM", "PYTHON", "EXTRAS"} == set(defaults)


def test_bases_have_the_versions_of_the_lock(defaults):
    lock = (ROOT / "constraints.txt").read_text()
    (beam,) = re.findall(r"^apache-beam==(.*)$", lock, re.MULTILINE)
    assert defaults["BEAM"] == f"apache/beam_python3.10_sdk:{beam}"
    assert defaults["PYTHON"].startswith("python:3.10-")
    assert 'requires-python = ">=3.10,<3.11"' in (ROOT / "pyproject.toml").read_text()


def test_extras_of_every_variant_are_there(defaults):
    extras = configparser.ConfigParser()
    extras.read(ROOT / "setup.cfg")
    known = extras["options.extras_require"]
    text = (ROOT / "pipeline" / "Dockerfile").read_text()
    for variant in (defaults["EXTRAS"], *re.findall(r"EXTRAS=([\w,]+)", text)):
        assert set(variant.split(",")) <= set(known)


def test_what_is_copied_is_there_and_not_ignored(instructions):
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [p[1:] for p in patterns if p.startswith("!")]
    own = [w for w in all_of(instructions, "COPY") if not w[0].startswith("--from")]
    sources = [source for words in own for source in words[:-1]]
    assert {"mmkeras", "pipeline", "constraints.txt", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch(source, pattern) for pattern in kept)
    assert "*" in patterns  # and so no environment and no history


def test_versions_come_from_the_lock(instructions):
    installs = [" ".join(w) for w in all_of(instructions, "RUN") if "install" in w]
    dependencies, own = installs[-2:]
    assert "--constraints constraints.txt" in dependencies
    assert "--requirements pyproject.toml" in dependencies
    assert own.endswith("--no-deps .")


def test_nothing_runs_as_root_and_python_is_the_one_with_the_project(instructions):
    last = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    final = instructions[last:]
    assert all_of(final, "USER") == [["1000"]]
    variables = shlex.join(word for words in all_of(final, "ENV") for word in words)
    assert "PATH=/opt/venv/bin:" in variables
    copied = [words for words in all_of(final, "COPY") if words[0] == "--from=build"]
    assert copied == [["--from=build", "/opt/venv", "/opt/venv"]]
