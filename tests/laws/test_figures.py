"""What the figures of the code must stay at, and that they see a breach."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.laws.figures import circles, figures, homonyms, modules


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(modules()) == []


def test_a_class_name_has_one_meaning() -> None:
    assert homonyms(modules()) == {}


def test_pages_have_one_template_environment() -> None:
    assert figures()["template_environments"] == 1


@pytest.mark.parametrize("where", ["", "def later() -> None:\n    "])
def test_a_circle_is_seen_within_functions_too(where: str) -> None:
    sources = {
        "edge_sdk.a": "from edge_sdk.b import B\n",
        "edge_sdk.b": f"{where}import edge_sdk.c\n",
        "edge_sdk.c": f"{where}from edge_sdk import a\n",
        "edge_sdk.d": "import edge_sdk.a\n",
    }
    assert circles(sources) == [("edge_sdk.a", "edge_sdk.b", "edge_sdk.c")]


def test_two_classes_of_one_name_are_seen_and_private_ones_are_not() -> None:
    sources = {
        "edge_sdk.a": "class Page: ...\nclass _Row: ...\n",
        "host_tools.b": "class Page: ...\nclass _Row: ...\n",
    }
    assert homonyms(sources) == {"Page": ["edge_sdk.a", "host_tools.b"]}


def test_template_environments_are_counted(tmp_path: Path) -> None:
    for name in ("edge_sdk", "host_tools"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pages.py").write_text("engine = jinja2.Environment()\n")
    assert figures(tmp_path)["template_environments"] == 2
