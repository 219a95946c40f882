"""No step knows a type of column by its name: a new type is one package."""

import ast
from pathlib import Path

import pytest

from mmkeras.modalities.types import TYPES

ROOT = Path(__file__).parents[1]
CONSTANTS = {"TEXT", "IMAGE", "AUDIO"}
# Packages that define the types and their settings.
OWNERS = ("mmkeras/modalities/", "mmkeras/config/")
DEMO = "the demo data set has columns of these types"
ENCODER = "the encoder of precomputed vectors is named vector"
NAMES = "columns of these names need no declaration"
PREVIEW = "pages have a preview of each kind of content"
QUERY = "a zero-shot model compares images with texts, which are no column"
EXCEPTIONS = {
    "mmkeras/data/columns.py": ({"vector"}, ENCODER),
    "mmkeras/data/demo_dataset.py": (CONSTANTS, DEMO),
    "mmkeras/export/inference.py": ({"vector"}, ENCODER),
    "mmkeras/reports/report.py": ({"image"}, PREVIEW),
    "mmkeras/retrieve.py": ({"text"}, QUERY),
    "mmkeras/schema.py": ({"text", "image", "audio"}, NAMES),
}


def type_names(code: str) -> set[str]:
    """Returns names of types that code compares with, and constants for them.

    Constants count as keys as well.
    """
    constants, literals = set(), set()
    for node in ast.walk(ast.parse(code)):
        parts = filter(None, node.keys) if isinstance(node, ast.Dict) else ()
        if isinstance(node, ast.Compare | ast.pattern):
            parts = list(ast.walk(node))
            literals |= {n.value for n in parts if isinstance(n, ast.Constant)}
        constants |= {getattr(n, "id", getattr(n, "attr", "")) for n in parts}
        if isinstance(node, ast.Tuple | ast.List | ast.Set | ast.Dict):
            parts = getattr(node, "elts", None) or getattr(node, "keys", ())
            words = {getattr(n, "value", None) for n in parts}
            literals |= words if len(words) > 1 and words <= set(TYPES) else set()
    return constants & CONSTANTS | literals & set(TYPES)


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("if kind == 'text': pass", {"text"}),
        (
            "x = [c for c in columns if c.type in ('image', 'audio')]",
            {"image", "audio"},
        ),
        ("match kind:\n    case 'date' | 'numeric': pass", {"date", "numeric"}),
        ("if kind == schema.TEXT: pass", {"TEXT"}),
        ("row = {AUDIO: b''}", {"AUDIO"}),
        ("for name in ('text', 'audio'): pass", {"text", "audio"}),
        ("settings = {'text': 1, 'audio': 2}", {"text", "audio"}),
        ("row = {'text': 'moo'}; size = image.size > text", set()),
    ],
)
def test_comparisons_with_the_name_of_a_type_are_found(code, names):
    assert type_names(code) == names


@pytest.mark.parametrize("top", ["mmkeras", "pipeline", "serving"])
def test_only_the_packages_of_types_know_their_names(top):
    result = {}
    for path in ROOT.joinpath(top).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        names = type_names(path.read_text(encoding="utf-8"))
        if names and not name.startswith(OWNERS):
            result[name] = names
    expected = {n: e[0] for n, e in EXCEPTIONS.items() if n.startswith(f"{top}/")}
    assert result == expected
