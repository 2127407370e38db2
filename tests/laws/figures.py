"""The size and shape of the code in figures: ``python -m tests.laws.figures [--json]``.

Counts what a reader meets: modules and their lines, modules that one neighbour alone imports, class
names with several meanings, circles, template environments, and code that stands in two places.
"""

from __future__ import annotations

import argparse
import ast
import collections
import json
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("edge_sdk", "host_tools")
# Lines in a row that must be alike to count as repeated.
_REPEATED_LINES = 8


def modules(root: Path = _ROOT) -> dict[str, str]:
    """The sources of all product modules by their dotted names."""
    found = {}
    for package in _PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = file.read_text(encoding="utf-8")
    return found


def importers(sources: dict[str, str]) -> dict[str, set[str]]:
    """For each module, the modules that import it, within functions too."""
    found: dict[str, set[str]] = {name: set() for name in sources}
    for name, source in sources.items():
        for imported in _imports(ast.parse(source), set(sources)):
            if imported != name:
                found[imported].add(name)
    return found


def _imports(tree: ast.AST, known: set[str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inside = f"{node.module}.{alias.name}"
                if inside in known:
                    yield inside
                elif node.module in known:
                    yield node.module


def lone(users: dict[str, set[str]]) -> list[str]:
    """Modules with exactly one importer, which lies in the same folder."""
    return sorted(
        name
        for name, by in users.items()
        if len(by) == 1 and _folder(next(iter(by))) == _folder(name)
    )


def _folder(name: str) -> str:
    return name.rpartition(".")[0]


def homonyms(sources: dict[str, str]) -> dict[str, list[str]]:
    """Public class names that several modules define, with those modules."""
    homes = collections.defaultdict(list)
    for name, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes[node.name].append(name)
    return {name: where for name, where in sorted(homes.items()) if len(where) > 1}


def circles(sources: dict[str, str]) -> list[tuple[str, ...]]:
    """Groups of modules that import each other in a circle, imports for types included."""
    users = importers(sources)
    uses = {name: {other for other in sources if name in users[other]} for name in sources}
    return sorted(tuple(sorted(group)) for group in _strongly_connected(uses) if len(group) > 1)


def _strongly_connected(graph: dict[str, set[str]]) -> Iterator[set[str]]:
    """Tarjan's algorithm (1972) by reachability: the graph is small."""
    reach = {start: _reachable(graph, start) for start in graph}
    seen: set[str] = set()
    for name in graph:
        if name not in seen:
            group = {name} | {other for other in reach[name] if name in reach[other]}
            seen |= group
            yield group


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    rest = list(graph[start])
    while rest:
        name = rest.pop()
        if name not in found:
            found.add(name)
            rest += graph[name]
    return found


def repeated(sources: dict[str, str]) -> list[tuple[str, str]]:
    """Pairs of places, as ``module:line``, that share eight code lines in a row.

    Blank lines, comments, imports and lines of brackets alone do not count; each run of alike lines
    is one pair.
    """
    first: dict[tuple[str, ...], str] = {}
    pairs, until = [], {}
    for name, source in sources.items():
        lines = list(_code_lines(source))
        for index in range(len(lines) - _REPEATED_LINES + 1):
            window = tuple(text for _, text in lines[index : index + _REPEATED_LINES])
            place = f"{name}:{lines[index][0]}"
            if window not in first:
                first[window] = place
            elif index > until.get(name, -1):
                pairs.append((first[window], place))
                until[name] = index + _REPEATED_LINES
    return pairs


def _code_lines(source: str) -> Iterator[tuple[int, str]]:
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if docstring or isinstance(node, (ast.Import, ast.ImportFrom)):
            left_out |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for number, line in enumerate(source.splitlines(), 1):
        text = line.split("  #")[0].strip()
        if number not in left_out and re.search(r"\w", text) and not text.startswith("#"):
            yield number, text


def figures(root: Path = _ROOT) -> dict[str, object]:
    """All figures by name."""
    sources = modules(root)
    lines = sorted(source.count("\n") for source in sources.values())
    return {
        "modules": len(sources),
        "lines": sum(lines),
        "lines_mean": round(statistics.mean(lines)),
        "lines_median": round(statistics.median(lines)),
        "modules_below_60_lines": sum(
            source.count("\n") < 60 and not file_is_package(root, name)
            for name, source in sources.items()
        ),
        "loose_in_edge_sdk": sum(name.count(".") == 1 for name in sources if "edge_sdk." in name)
        - sum((root / "edge_sdk" / name).is_dir() for name in _second_level(sources)),
        "one_importer_in_the_same_folder": lone(importers(sources)),
        "classes_with_several_meanings": homonyms(sources),
        "circles": circles(sources),
        "template_environments": sum(
            len(re.findall(r"\.Environment\(", source)) for source in sources.values()
        ),
        "repeated": repeated(sources),
    }


def _second_level(sources: dict[str, str]) -> set[str]:
    return {name.split(".")[1] for name in sources if name.startswith("edge_sdk.")}


def file_is_package(root: Path, name: str) -> bool:
    """Whether a module is the ``__init__`` of a folder."""
    return (root / name.replace(".", "/")).is_dir()


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--root", type=Path, default=_ROOT, help="another checkout")
    arguments = parser.parse_args()
    found = figures(arguments.root)
    if arguments.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    for name, value in found.items():
        count = len(value) if isinstance(value, (list, dict)) else value
        sys.stdout.write(f"{name.replace('_', ' '):36} {count:>8}\n")


if __name__ == "__main__":
    main()
