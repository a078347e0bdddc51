"""The README promises paths and symbols: each must exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| .+? \| `(\S+?)` \| `(\w+)` \|$", README, re.MULTILINE)

GUIDE = re.findall(r"^\| .+? \| `(\S+?)` \| `(\w+)` \| `(\S+?)` \| `(test_\w+)` \|$", README, re.MULTILINE)


def symbols(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_table_has_its_rows():
    assert len(ROWS) >= 20


@pytest.mark.parametrize(("path", "symbol"), ROWS)
def test_each_row_names_a_file_and_a_symbol_that_exist(path: str, symbol: str):
    assert symbol in symbols(ROOT / path)


def test_the_table_of_the_guides_concepts_has_its_rows():
    assert len(GUIDE) >= 20


@pytest.mark.parametrize(("path", "symbol", "tests", "test"), GUIDE)
def test_each_concept_of_the_guide_has_a_home_and_a_test_that_runs_it(path: str, symbol: str, tests: str, test: str):
    assert symbol in symbols(ROOT / path)
    assert test in symbols(ROOT / tests)


def test_each_link_leads_to_a_file():
    targets = [t for t in re.findall(r"\]\(([^)#]+)\)", README) if not t.startswith("http")]
    assert targets
    assert [t for t in targets if not (ROOT / t).exists()] == []
