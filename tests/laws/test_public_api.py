"""The public API is the recorded one, and the documentation imports nothing else."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.laws import public_api

_ROOT = Path(__file__).parents[2]
_DOCUMENTS = [
    _ROOT / "README.md",
    *sorted((_ROOT / "docs").rglob("*.md")),
    *sorted((_ROOT / "firmware_examples").rglob("*.md")),
]
_WHERE = "the public API differs from tests/laws/public_api.txt:"
_WHAT_TO_DO = (
    "where this is meant, follow the rules for deprecation in docs/embedding.md, add it to CHANGELOG.md "
    "and type: python -m tests.laws.public_api --write"
)
_BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def test_the_public_api_is_the_recorded_one() -> None:
    recorded = public_api.FILE.read_text("utf-8").splitlines()
    found = list(public_api.lines())
    changed = [f"- {line}" for line in recorded if line not in found]
    changed += [f"+ {line}" for line in found if line not in recorded]
    assert found == recorded, "\n".join([_WHERE, *changed, _WHAT_TO_DO])


class _Shape(NamedTuple):
    sides: int
    name: str = "x"


class _Base:
    def __init__(self, size: int, *, clock: Any = print) -> None: ...

    def grow(self, by: float = 0.5) -> int: ...

    @property
    def area(self) -> float: ...

    def _hidden(self) -> None: ...


def test_a_class_is_described_by_all_that_a_program_can_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_Base, "__module__", "edge_sdk.x")
    monkeypatch.setattr(_Shape, "__module__", "edge_sdk.x")
    assert list(public_api._described("edge_sdk.Base", _Base)) == [
        "class edge_sdk.Base",
        "edge_sdk.Base(size: int, *, clock: Any = ...)",
        "edge_sdk.Base.area: float",
        "edge_sdk.Base.grow(self, by: float = 0.5) -> int",
    ]
    assert list(public_api._described("edge_sdk.Shape", _Shape)) == [
        "class edge_sdk.Shape(tuple)",
        "edge_sdk.Shape(sides: int, name: str = 'x')",
    ]


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """``(module, name)`` of what a program imports from the product; an empty name: the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.module or "", alias.name
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""


def _not_public(tree: ast.Module) -> list[str]:
    return [
        f"{module} {name}".strip()
        for module, name in _imports(tree)
        if module.split(".")[0] in ("edge_sdk", "host_tools")
        and (
            module not in public_api.MODULES
            or (name not in ("", "errors", "testing") and name not in public_api.names(module))
        )
    ]


def test_an_import_of_an_internal_name_is_seen() -> None:
    program = (
        "import edge_sdk\nfrom edge_sdk import Classifier, errors\n"
        "from edge_sdk.errors import SinkError, Sink\nfrom edge_sdk.sinks.spool import Spool\n"
        "import host_tools.workflow\n"
    )
    assert _not_public(ast.parse(program)) == [
        "edge_sdk.errors Sink",
        "edge_sdk.sinks.spool Spool",
        "host_tools.workflow",
    ]


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_the_documentation_imports_public_names_alone(document: Path) -> None:
    for _, block in _BLOCK.findall(document.read_text("utf-8")):
        assert _not_public(ast.parse(textwrap.dedent(block))) == []


@pytest.mark.parametrize(
    "example",
    sorted((_ROOT / "firmware_examples").rglob("*.py")),
    ids=lambda path: str(path.relative_to(_ROOT)),
)
def test_an_example_imports_public_names_alone(example: Path) -> None:
    assert _not_public(ast.parse(example.read_text("utf-8"))) == []
