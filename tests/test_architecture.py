"""The plan of the house is kept: floors import downwards, packages re-export, nothing prints, nothing is pickled."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "headlens"
FLOORS = {
    0: {"errors", "fingerprint", "heads", "progress", "registry", "serialization", "tables", "cells", "_version"},
    1: {"locate", "correct", "metrics", "prompts"},
    2: {"models", "states"},
    3: {"images", "manifest", "findings", "extraction"},
    4: {"explain", "datasets", "loading", "testbed"},
    5: {"steps", "baking", "embedding"},
    6: {"plots"},
    7: {"report", "audit", "cli", "explore", "benchmark", "__main__"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}
# Doors upwards, opened only when called: the audit writes its own report and opens its own explorer.
ALLOWED_UPWARDS = {("audit", "report"), ("audit", "explore")}

SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every headlens room a module imports, and whether it does so inside a function."""
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" if node.module == "headlens" else node.module for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("headlens."):
                yield name.split(".")[1], id(node) in inside


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_lower_floor_never_imports_a_higher_one(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    for other, inside_a_function in imports(ast.parse(path.read_text())):
        if (room, other) in ALLOWED_UPWARDS:
            assert inside_a_function, f"{room} may reach {other} only when called, not on import"
        else:
            assert FLOOR_OF[other] <= FLOOR_OF[room], f"{room} (floor {FLOOR_OF[room]}) imports {other}"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda p: p.parent.name)
def test_a_package_file_only_re_exports(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert isinstance(body[0], ast.Expr), "a package says what it is for"
    assert all(isinstance(node, ast.Import | ast.ImportFrom | ast.Assign) for node in body[1:])


def test_nothing_prints_or_unpickles() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "print", path
                assert not called.startswith("pickle."), path
                if called == "torch.load":
                    assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), (
                        f"{path}: torch.load without weights_only=True"
                    )
