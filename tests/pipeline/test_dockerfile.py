"""Tests of the Dockerfile that need no Docker."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "pipeline" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def instructions():
    """Instructions and their words, in order."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    lines = filter(None, text.replace("\\\n", " ").splitlines())
    return [(line.split()[0], line.split()[1:]) for line in lines]


def all_of(instructions, name):
    return [words for instruction, words in instructions if instruction == name]


@pytest.fixture(scope="module")
def setup():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def arguments_of(python):
    """Returns the build arguments of a stack; those of the old one are in comments."""
    pattern = r"ARG (\w+)" if python == "3.13" else r"#   --build-arg (\w+)"
    return dict(re.findall(rf"^{pattern}=(\S+)$", DOCKERFILE, re.MULTILINE))


@pytest.mark.parametrize(
    ("python", "debian"), [("3.13", "trixie"), ("3.10", "bookworm")]
)
def test_bases_have_the_versions_of_the_lock(python, debian, instructions):
    bases = [words[0] for words in all_of(instructions, "FROM")]
    assert bases == ["${BEAM}", "${PYTHON}", "${PYTHON}"]
    arguments = arguments_of(python)
    lock_file = ROOT / arguments["CONSTRAINTS"]
    assert lock_file.name == f"py{python.replace('.', '')}.txt"
    (beam,) = re.findall(r"^apache-beam==(\S+)", lock_file.read_text(), re.MULTILINE)
    assert arguments["BEAM"] == f"apache/beam_python{python}_sdk:{beam}"
    assert arguments["PYTHON"] == f"python:{python}-slim-{debian}"


@pytest.mark.parametrize("python", ["3.13", "3.10"])
def test_the_lock_has_what_the_extras_ask_of_that_python(python, setup):
    lock = {}
    for line in (ROOT / arguments_of(python)["CONSTRAINTS"]).read_text().splitlines():
        requirement = Requirement(line)
        if applies(requirement, python):
            lock[canonicalize_name(requirement.name)] = requirement.specifier
    requirements = setup["options"]["install_requires"]
    for extra in ("tfx", "s3"):
        requirements += setup["options.extras_require"][extra]
    names = set()
    for line in filter(lambda line: line and line[0] != "#", requirements.splitlines()):
        requirement = Requirement(line)
        if not applies(requirement, python):
            continue
        name = canonicalize_name(requirement.name)
        (version,) = (pin.version for pin in lock[name])
        assert version in requirement.specifier, line
        names.add(name)
    assert {"tensorflow", "keras", "tfx", "apache-beam", "kfp", "boto3"} <= names


def applies(requirement, python):
    variables = {"python_version": python, "python_full_version": f"{python}.0"}
    return not requirement.marker or requirement.marker.evaluate(variables)


def test_extras_of_every_variant_exist(setup):
    variants = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE)
    assert variants
    for variant in variants:
        assert set(variant.split(",")) <= set(setup["options.extras_require"])


def test_what_is_copied_is_there_and_not_ignored(instructions):
    patterns = (ROOT / ".dockerignore").read_text().splitlines()
    exceptions = [p[1:] for p in patterns if p.startswith("!")]
    copies = [w for w in all_of(instructions, "COPY") if not w[0].startswith("--from")]
    sources = [source for words in copies for source in words[:-1]]
    assert {"mmkeras", "pipeline", "constraints", "pyproject.toml"} <= set(sources)
    for source in sources:
        assert (ROOT / source).exists()
        assert any(fnmatch(source.partition("/")[0], pattern) for pattern in exceptions)
    assert "*" in patterns  # hence no environment and no history


def test_the_requirements_can_be_read_before_the_code_is_copied(instructions, tmp_path):
    stage = instructions[instructions.index(("FROM", ["${PYTHON}", "AS", "build"])) :]
    for name, words in stage:
        if name == "RUN" and "--requirements" in words:
            break
        if name == "COPY":
            *sources, target = words
            for source in sources:
                to = tmp_path / target / (Path(source).name if "." in source else "")
                to.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
                copy(ROOT / source, to)
    (tmp_path / "built").mkdir()
    code = "from setuptools import build_meta as build;"
    code += "build.prepare_metadata_for_build_wheel('built')"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    (metadata,) = tmp_path.glob("built/*/METADATA")
    assert "Requires-Dist: tfx==1.21.0" in metadata.read_text()


def test_versions_come_from_the_lock(instructions):
    installs = [" ".join(w) for w in all_of(instructions, "RUN") if "install" in w]
    dependencies, project = installs[-2:]
    assert "--constraints ${CONSTRAINTS}" in dependencies
    assert "--requirements pyproject.toml" in dependencies
    assert project.endswith("--no-deps .")


def test_nothing_runs_as_root_and_python_is_the_one_with_the_project(instructions):
    last = max(i for i, (name, _) in enumerate(instructions) if name == "FROM")
    final = instructions[last:]
    assert all_of(final, "USER") == [["1000"]]
    variables = shlex.join(word for words in all_of(final, "ENV") for word in words)
    assert "PATH=/opt/venv/bin:" in variables
    copied = [words for words in all_of(final, "COPY") if words[0] == "--from=build"]
    assert copied == [["--from=build", "/opt/venv", "/opt/venv"]]
