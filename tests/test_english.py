"""Patterns of unclear English and of unclear names that a machine can find."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("mmkeras", "pipeline", "serving", "tests", "benchmarks", "docs", ".ci")
FILES = [
    path
    for folder in FOLDERS
    for pattern in ("*.py", "*.md", "*.j2", "*.yaml")
    for path in sorted((ROOT / folder).rglob(pattern))
] + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]

# "name: Of the model." leaves out the noun: "name: Model name."
NOUN_LEFT_OUT = re.compile(r"^\s+\w+(, \w+)*: Of ")
# "one classifier per modality", never without "per".
DISTRIBUTIVE = re.compile(
    r"\b(a|an|one|each|\d+) (?!of |for |in |to |has |is )\w+ an? "
    r"(row|class|modality|run|fold|file|worker|batch"
    r"|column|request|model|component|epoch|step|second|line)\b"
)
# A variable is a noun: result, exists, local, tmp_path, status, limit, minimum, ...
BANNED_NAMES = set(
    "found there own aside said beside drawn given most least whole told asked heard "
    "together here founds apart gone somewhere".split()
)


def lines_matching(pattern: re.Pattern) -> list[str]:
    """Returns "file:line: text" of each match."""
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        if path != Path(__file__)
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]


def names_bound(tree: ast.AST):
    """Yields (line, name) of variables, arguments, attributes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name


def test_attributes_are_described_with_their_noun():
    assert lines_matching(NOUN_LEFT_OUT) == []


def test_rates_are_written_with_per():
    assert lines_matching(DISTRIBUTIVE) == []


def test_variables_are_nouns():
    hits = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in FILES
        if path.suffix == ".py"
        for line, name in names_bound(ast.parse(path.read_text("utf-8")))
        if name.strip("_") in BANNED_NAMES
    ]
    assert hits == []
