"""Order of the packages: each imports only packages that are listed before it."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = {
    "mmkeras": "errors schema names console s3 full_disk files path_patterns config "
    "environment cli layers modalities reports data models export evaluation "
    "explanation training experiments estimators",
    "pipeline": "settings fingerprint components graph runtime compiler local kubeflow",
    "serving.client": "",
    "serving.server": "errors deadline configs metrics models engine grpc rest server",
    "serving.deploy": "",
}
PROGRAMS = (
    "train evaluate predict compare tune explain retrieve cost prove doctor".split()
)
# All other modules of mmkeras, in particular the model, run on every Keras backend.
MAY_IMPORT_TENSORFLOW = (
    "environment.tensorflow_import",
    "files",
    "layers.saved_model",
    "modalities",
    "data",
    "export",
    "evaluation",
    "training",
    "doctor",
)
LIGHT = """
config.presets config.flags cli data.table data.splits data.demo_dataset
data.columns modalities.types modalities.columns
modalities.text.column modalities.image.column modalities.audio.column
modalities.vector.column modalities.tabular.column
modalities.image.reading modalities.image.metadata
modalities.audio.reading modalities.audio.metadata
evaluation.metrics evaluation.bootstrap evaluation.baselines
evaluation.retrieval evaluation.shapley
training.run_folder training.cluster training.rendezvous reports.report
experiments.subprocess_run experiments.cross_validation experiments.comparison_run
""".split()


def modules(package: str) -> dict[str, Path]:
    """Returns dotted name -> file for each module of a package."""
    names = {}
    for path in ROOT.joinpath(*package.split(".")).rglob("*.py"):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        names[name.removesuffix(".__init__")] = path
    return names


SOURCES = {name: path for top in ORDER for name, path in modules(top).items()}


def imported(path: Path) -> set[str]:
    """Returns dotted names of all imports of a file, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the whole name of the module"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def modules_imported(path: Path) -> set[str]:
    """Returns modules of this project that a file imports."""
    modules = set()
    for name in imported(path):
        while name and name not in SOURCES:
            name = name.rpartition(".")[0]
        modules.add(name)
    return modules - {""}


IMPORTS = {name: modules_imported(path) for name, path in SOURCES.items()}


def test_no_modules_import_each_other_in_a_circle():
    list(TopologicalSorter(IMPORTS).static_order())


@pytest.mark.parametrize("top", ORDER)
def test_a_package_imports_only_packages_below(top):
    order = ORDER[top].split()
    parts = {name: name.removeprefix(f"{top}.").partition(".")[0] for name in SOURCES}
    for name in modules(top):
        for other in IMPORTS[name] & modules(top).keys():
            below, above = parts[other], parts[name]
            if below in order and above in order:
                assert order.index(below) <= order.index(above), f"{name}: {other}"
            elif top == "mmkeras":
                assert below in order or above == "__main__", f"{name}: {other}"


@pytest.mark.parametrize("top", ORDER)
def test_the_order_lists_all_packages(top):
    first = {name.removeprefix(f"{top}.").partition(".")[0] for name in modules(top)}
    assert set(ORDER[top].split()) <= first
    if top == "mmkeras":
        listed = {*ORDER[top].split(), *PROGRAMS, "__main__", "mmkeras"}
        assert first == listed


def test_mmkeras_does_not_import_pipeline_and_serving():
    for name in IMPORTS:
        top = name.split(".")[0]
        tops = {other.split(".")[0] for other in IMPORTS[name]}
        assert tops <= {top, "mmkeras"}, name
        if top == "serving":
            part = ".".join(name.split(".")[:2])
            ours = {o for o in IMPORTS[name] if o.startswith("serving.")}
            assert all(f"{other}.".startswith(f"{part}.") for other in ours), name


def test_no_test_module_is_imported():
    for path in ROOT.glob("tests/**/*.py"):
        modules = {part for name in imported(path) for part in name.split(".")}
        assert not any(module.startswith("test_") for module in modules), path


def test_tensorflow_is_imported_only_by_some_packages():
    for name, path in SOURCES.items():
        if any(n.split(".")[0] == "tensorflow" for n in imported(path)):
            assert not name.startswith("serving.client"), name
            if name.startswith("mmkeras."):
                assert name.removeprefix("mmkeras.").startswith(MAY_IMPORT_TENSORFLOW)


def loaded_by(statements: str, heavy: set[str]) -> set[str]:
    """Returns the heavy packages that a fresh interpreter loads by the statements."""
    code = f"import sys\n{statements}\nprint(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_reading_tables_and_arguments_loads_neither_tensorflow_nor_keras():
    statements = "\n".join(f"import mmkeras.{name}" for name in LIGHT)
    assert not loaded_by(statements, {"tensorflow", "keras"})


def test_importing_the_client_loads_nothing_heavy():
    heavy = {"tensorflow", "keras", "grpc", "httpx", "numpy"}
    assert not loaded_by("import serving.client", heavy)


def test_help_and_a_bad_flag_load_nothing_heavy():
    programs = [f"mmkeras.{name}" for name in (*PROGRAMS, "__main__")]
    programs += ["serving.client.__main__", "serving.server.__main__"]
    programs += ["serving.deploy.release"]
    statements = f"""
from importlib import import_module
from mmkeras.errors import UserError
for program in {programs}:
    main = import_module(program).main
    for argv in (["--help"], ["--no-such-flag", "1"]):
        try:
            if main(argv) == (0 if argv == ["--help"] else 2):
                continue
        except (SystemExit, UserError):
            continue
        raise AssertionError(program)
"""
    assert not loaded_by(statements, {"tensorflow", "keras", "grpc", "httpx"})
