"""Data goes one way: a module imports only from the floors below its own."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# Modules of one floor do not know each other.
FLOORS = [
    ["errors", "schema", "shapley", "s3", "tensorflow_import"],
    ["config", "cluster", "dropout", "page", "files", "values"],
    ["presets", "tokens", "charts", "flags", "extras"],
    ["cli", "table", "media", "preprocess", "encoders", "fusion", "augment"]
    + ["metrics", "baselines", "report", "embedded", "run", "meeting", "capi", "protos"]
    + ["single"],
    ["splits", "decoders", "losses", "model", "trial"],
    ["examples", "corruptions"],
    ["plan", "inference", "native", "folds", "comparison"]
    + ["occlusion", "retrieval", "calibration"],
    ["shards", "proof", "contest", "staged", "heat"],
    ["ingested", "modalities", "noise"],
    ["records"],
    ["data", "export", "replicas"],
    ["features", "fit", "predictions", "analyze"],
    ["worst_errors", "explanation", "prepare"],
    ["evaluation", "explanation_page"],
    ["training"],
    ["train", "evaluate", "predict", "doctor", "prove", "compare", "cost"]
    + ["explain", "retrieve"],
    ["__main__"],
]
# Inside a package a file imports only files that stand before it here.
PACKAGES = {
    "config": ["check", "table", "image", "text", "audio", "fusion", "loss", "train"]
    + ["evaluate", "whole", "__init__"],
    "media": ["file", "picture", "sound", "vector", "facts", "__init__"],
    "preprocess": [
        "raw",
        "analysis",
        "wordpiece",
        "text",
        "rows",
        "hub",
        "vector",
        "image",
    ]
    + ["audio", "graph", "__init__"],
    "fusion": ["presence", "vectors", "sequences", "late", "__init__"],
    "encoders": ["histograms", "cnn", "vit", "weights", "applications", "kerashub"]
    + ["image", "text", "audio", "__init__"],
}
# The model itself is pure Keras and stays so, as it also runs on other backends.
MAY_IMPORT_TENSORFLOW = {"files", "preprocess", "augment", "decoders", "examples"}
MAY_IMPORT_TENSORFLOW |= {"data", "inference", "proof", "export", "fit", "evaluation"}
MAY_IMPORT_TENSORFLOW |= {"training", "features", "native", "capi", "replicas"}
MAY_IMPORT_TENSORFLOW |= {"analyze", "shards", "staged", "modalities", "noise"}
MAY_IMPORT_TENSORFLOW |= {"tensorflow_import"}
LIGHT = ["errors", "schema", "config", "presets", "values", "flags", "cli", "table"]
LIGHT += [
    "splits",
    "media",
    "metrics",
    "baselines",
    "report",
    "embedded",
    "run",
    "cluster",
    "meeting",
]
LIGHT += [
    "retrieval",
    "trial",
    "folds",
    "comparison",
    "contest",
    "shapley",
    "page",
    "charts",
]
LIGHT += FLOORS[-2] + FLOORS[-1]

FLOOR_OF = {name: i for i, names in enumerate(FLOORS) for name in names}
ROOT = Path(__file__).parents[1] / "mmkeras"
FILES = sorted(ROOT.rglob("*.py"))


def module_of(path):
    """("preprocess", "image") of mmkeras/preprocess/image.py."""
    return path.relative_to(ROOT).with_suffix("").parts


def imported(path):
    """Names of all that a file imports, inside functions too, with dots."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write out 'from mmkeras...'"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_imported(path):
    """Those of them that are files of ours, as `module_of` has them."""
    for name in imported(path):
        top, *parts = name.split(".")
        if top != "mmkeras":
            continue
        while parts:
            file = ROOT.joinpath(*parts)
            if file.with_suffix(".py").is_file():
                yield tuple(parts)
                break
            if file.is_dir():
                yield (*parts, "__init__")
                break
            parts.pop()


def test_every_module_has_its_floor():
    there = {module_of(path)[0] for path in FILES} - {"__init__"}
    assert there == set(FLOOR_OF)
    for package, names in PACKAGES.items():
        assert sorted(names) == sorted(p.stem for p in ROOT.glob(f"{package}/*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: "/".join(module_of(p)))
def test_a_module_imports_only_from_floors_below(path):
    own = module_of(path)
    for other in modules_imported(path):
        if other[0] == own[0]:
            order = PACKAGES[own[0]]
            assert order.index(other[1]) < order.index(own[1]), f"{path}: {other}"
        else:
            assert FLOOR_OF[other[0]] < FLOOR_OF[own[0]], f"{path}: {other}"


def test_tensorflow_stays_where_it_belongs():
    importers = {
        module_of(path)[0]
        for path in FILES
        if any(name.split(".")[0] == "tensorflow" for name in imported(path))
    }
    assert importers <= MAY_IMPORT_TENSORFLOW


def loaded_by(statements):
    """Which of the heavy packages a fresh interpreter has then loaded."""
    code = f"import sys\n{statements}\n"
    code += "print(*{'tensorflow', 'keras'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()[-1].split()


def test_reading_tables_and_arguments_loads_neither_tensorflow_nor_keras():
    assert loaded_by("\n".join(f"import mmkeras.{name}" for name in LIGHT)) == []


@pytest.mark.parametrize("program", FLOORS[-2] + FLOORS[-1])
def test_help_and_a_bad_argument_load_neither_tensorflow_nor_keras(program):
    statements = f"""
from mmkeras.{program} import main
from mmkeras.errors import UserError
for argv in (["--help"], ["--no-such-flag", "1"]):
    try:
        if main(argv) == (0 if argv == ["--help"] else 2):
            continue
    except (SystemExit, UserError):
        continue
    raise AssertionError(argv)
"""
    assert loaded_by(statements) == []
