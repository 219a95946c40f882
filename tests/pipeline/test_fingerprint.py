from pathlib import Path

import pytest

from pipeline import fingerprint
from pipeline.fingerprint import code_hash, files_hash


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small project that replaces the real one."""
    files = {
        "mmkeras/__init__.py": "",
        "mmkeras/low.py": "A = 1\n",
        "mmkeras/other.py": "B = 1\n",
        "pipeline/__init__.py": "",
        "pipeline/top.py": "def f():\n    from mmkeras.low import A\n    return A\n",
        "pipeline/top.html.j2": "<p>{{ a }}</p>",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    return tmp_path


def new_hash(module="pipeline.top"):
    code_hash.cache_clear()
    return code_hash(module)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("pipeline/top.py", True),
        ("pipeline/top.html.j2", True),
        ("mmkeras/low.py", True),  # imported inside a function
        ("mmkeras/other.py", False),
    ],
)
def test_the_hash_depends_on_the_imports_of_the_module(name, changes, tree):
    before = new_hash()
    assert new_hash() == before
    path = Path(tree / name)
    path.write_text(path.read_text() + " ")
    assert (new_hash() != before) == changes
    code_hash.cache_clear()


def test_example_gen_does_not_depend_on_training():
    sources = {p.stem for p in fingerprint._sources("pipeline.components.example_gen")}
    assert {"ingest_plan", "shards", "example_reader"} <= sources
    assert not {"trainer", "fit", "evaluator"} & sources
    assert {"trainer", "fit", "model"} <= {
        p.stem for p in fingerprint._sources("pipeline.components.trainer")
    }


def test_the_hash_of_files_depends_on_their_content(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("a")
    paths = {"text.vocab_file": str(path)}
    assert files_hash({}) == ""
    assert files_hash(paths) == files_hash(paths) != files_hash({"other": str(path)})
    before = files_hash(paths)
    path.write_text("b")
    assert files_hash(paths) != before
    path.unlink()
    with pytest.raises(OSError):
        files_hash(paths)
