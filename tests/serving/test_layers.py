"""Each package of serving has floors too, and none knows another."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "serving"
# A file imports only files that stand before it here, of its own package alone.
FLOORS = {
    "client": [
        "messages",
        "errors",
        "settings",
        "diagnosis",
        "answer",
        "calls",
        "tensors",
        "retry",
    ]
    + ["content", "grpc_wire", "rest_wire", "grpc_door", "rest_door", "model"]
    + ["conversation", "exchange", "part", "client", "async_client", "writer", "table"]
    + ["__init__", "__main__"],
    "server": ["__init__", "errors", "parsing", "deadline", "metrics", "textproto"]
    + ["configs", "room", "merging", "batching", "tensors", "ranks", "servable"]
    + ["predict", "inference", "warmup", "versions", "lineup", "holder", "manager"]
    + ["core", "inflating", "grpc_door"]
    + ["json_writer", "json_reader", "json_tensor", "rest_json", "json_examples"]
    + ["rest_answers", "rest", "rest_door", "program", "__main__"],
    "deploy": ["__init__", "models_file", "rollout", "servers", "release"],
}
PROGRAMS = {
    "serving.client.__main__": ["tensorflow", "grpc", "httpx"],
    "serving.server.__main__": ["tensorflow", "grpc"],
    "serving.deploy.release": ["tensorflow", "grpc"],
}
FILES = [(package, name) for package, names in FLOORS.items() for name in names]


def imported(path):
    """Names of all that a file imports, inside functions too, with dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write out 'from serving...'"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_file_has_its_floor():
    for package, names in FLOORS.items():
        there = [path.stem for path in (ROOT / package).glob("*.py")]
        assert sorted(there) == sorted(names)


@pytest.mark.parametrize(("package", "name"), FILES)
def test_a_file_imports_only_from_floors_below_and_no_other_package(package, name):
    order = FLOORS[package]
    for other in imported(ROOT / package / f"{name}.py"):
        top, *parts = other.split(".")
        assert top not in ("pipeline", "tests", "benchmarks")
        if top != "serving":
            continue
        assert parts[0] == package, f"{package}/{name}: {other}"
        file = parts[1] if len(parts) > 1 and parts[1] in order else "__init__"
        assert order.index(file) < order.index(name), f"{package}/{name}: {other}"


def test_mmkeras_and_the_pipeline_do_not_know_serving():
    for package in ("mmkeras", "pipeline"):
        for path in (ROOT.parent / package).rglob("*.py"):
            assert not any(n.startswith("serving") for n in imported(path)), path


def test_the_client_never_names_tensorflow():
    for path in (ROOT / "client").glob("*.py"):
        assert not any(n.split(".")[0] == "tensorflow" for n in imported(path)), path


def loaded_by(statements, heavy):
    """Which of the heavy packages a fresh interpreter has then loaded."""
    code = f"import sys\n{statements}\nprint(*{set(heavy)} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize(("program", "heavy"), PROGRAMS.items())
def test_help_and_a_bad_flag_load_nothing_heavy(program, heavy):
    statements = f"""
from {program} import main
from mmkeras.errors import UserError
for argv in (["--help"], ["--no-such-flag", "1"]):
    try:
        if main(argv) == 2:
            continue
    except (SystemExit, UserError):
        continue
    raise AssertionError(argv)
"""
    assert loaded_by(statements, heavy) == []


def test_importing_the_client_loads_nothing_heavy():
    heavy = ["tensorflow", "keras", "grpc", "httpx", "numpy"]
    assert loaded_by("import serving.client", heavy) == []
