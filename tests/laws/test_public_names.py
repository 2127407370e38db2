"""The public names of ``edge_sdk``: the same for a program that runs and for its type checker."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edge_sdk

_SOURCE = Path(edge_sdk.__file__)


def _for_checkers() -> dict[str, str]:
    """``{public name: module}`` of the statements that only type checkers read."""
    (block,) = (
        node
        for node in ast.parse(_SOURCE.read_text("utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {
        alias.name: str(node.module)
        for node in imports
        for alias in node.names
        if alias.asname == alias.name  # else it is not exported
    }


def test_checkers_are_given_the_names_that_programs_get() -> None:
    for_programs = {
        name: f"edge_sdk.{module}" for module, names in edge_sdk._NAMES.items() for name in names
    }
    assert _for_checkers() == for_programs
    assert edge_sdk.__all__ == sorted(for_programs)


@pytest.mark.parametrize("name", edge_sdk.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(edge_sdk, name)
    assert value is getattr(sys.modules[_for_checkers()[name]], name)
    assert name in dir(edge_sdk)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        edge_sdk.Clasifier  # type: ignore[attr-defined]  # noqa: B018


def test_a_checker_knows_the_types_and_refuses_other_names(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import edge_sdk\n"
        "from edge_sdk import Clasifier\n"
        "edge_sdk.Helth\n"
        "reveal_type(edge_sdk.Health('lost', 'why'))\n"
        "reveal_type(edge_sdk.run)\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", tmp_path / "c",
         "--follow-imports=silent", "--ignore-missing-imports", program],
        capture_output=True, text=True, cwd=_SOURCE.parents[1], check=False,
    )  # fmt: skip
    lines = checked.stdout.splitlines()
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert [line.split(":")[1] for line in lines if ": error:" in line] == ["2", "3"]
    assert any("edge_sdk.types.Health" in line for line in lines)
    assert any("edge_sdk.loop.statistics.RunStatistics" in line for line in lines)
