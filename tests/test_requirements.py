"""Dependencies in setup.cfg, which are exactly the imported packages."""

import ast
import configparser
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mmkeras.environment.extras import EXTRAS

ROOT = Path(__file__).parents[1]
PACKAGES = ("mmkeras", "pipeline", "serving")
# Import name -> distribution, where they differ by more than "_" and "-".
DISTRIBUTIONS = {
    "PIL": "pillow",
    "absl": "absl-py",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
    "yaml": "pyyaml",
}
# Needed by another package; setup.cfg has the reason.
NOT_IMPORTED = {"setuptools", "tensorboard", "tf-keras", "dill"}
NOT_IMPORTED |= {"tensorflow-io-gcs-filesystem"}
# Installed by boto3 in its own version.
WITH_ANOTHER = {"botocore"}


def imported(package):
    """Returns the distributions that a package of this project imports."""
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    names -= {*sys.stdlib_module_names, *PACKAGES}
    return {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in names}


def declared():
    """Returns extra -> its distributions; "" is the core."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    texts = {"": parser["options"]["install_requires"]}
    texts |= parser["options.extras_require"]
    return {
        extra: {
            Requirement(line).name
            for line in text.splitlines()
            if line and not line.startswith("#")
        }
        for extra, text in texts.items()
    }


@pytest.mark.parametrize(
    ("package", "extras"),
    [
        ("mmkeras", ["", "hub", "bert", "s3", "media", "tune", "generate"]),
        ("pipeline", ["", "tfx", "s3"]),
        ("serving", ["", "serving"]),
    ],
)
def test_imported_packages_are_declared(package, extras):
    allowed = set().union(*(declared()[extra] for extra in extras))
    assert imported(package) - WITH_ANOTHER <= allowed


def test_declared_packages_are_imported():
    names = {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in EXTRAS}
    used = names.union(*(imported(package) for package in PACKAGES))
    by_extra = declared()
    del by_extra["test"]
    assert set().union(*by_extra.values()) - used == NOT_IMPORTED - used


def test_the_default_import_needs_no_extra():
    """Modules of the extras hub, bert and generate are imported by `import_extra`."""
    extras = declared()["generate"] | {"keras-hub", "tensorflow-hub", "tensorflow-text"}
    assert not imported("mmkeras") & extras
