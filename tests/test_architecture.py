"""The project's layers: lower ones never import higher ones, packages re-export, nothing prints, nothing is pickled."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import headlens as hl

PACKAGE = Path(__file__).parents[1] / "headlens"
FLOORS = {
    0: {
        "errors",
        "fingerprint",
        "heads",
        "model_names",
        "progress",
        "registry",
        "serialization",
        "tables",
        "cells",
        "_version",
    },
    1: {"locate", "correct", "metrics", "prompts"},
    2: {"models", "states"},
    3: {"images", "manifest", "findings", "extraction"},
    4: {"explain", "datasets", "loading", "testbed"},
    5: {"steps", "baking", "embedding"},
    6: {"plots", "document"},
    7: {"audit", "head_atlas", "cli", "explore", "benchmark", "__main__"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """What a file imports from where: at the top, inside a function, or for annotation alone."""
    module, package = module_of(path.with_suffix(".py")), path.stem == "__init__"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + package] if node.level else []
            yield from ((".".join([*above, *filter(None, [node.module])]), alias.name) for alias in node.names)


def exports(package: str) -> dict[str, tuple[str, str]]:
    """Where a package takes each of its names from; a lazy one says so in its stub."""
    path = FILES[package]
    stub = path.with_suffix(".pyi")
    return {name: (source, name) for source, name in imports(stub if stub.exists() else path) if name}


EXPORTS = {module: exports(module) for module, path in FILES.items() if path.stem == "__init__"}


def file_of(source: str, name: str) -> str | None:
    """The file that an import ends at, through whatever packages hand it on; None for other libraries."""
    if f"{source}.{name}" in FILES:
        return f"{source}.{name}"
    if name in EXPORTS.get(source, {}):
        return file_of(*EXPORTS[source][name])
    return source if source in FILES else None


def imported(path: Path) -> set[str]:
    found = {file_of(*one) for one in imports(path)} - {None, module_of(path)}
    return {module for module in found if module is not None and FILES[module].stem != "__init__"}


IMPORTED = {module: imported(path) for module, path in FILES.items() if path.stem != "__init__"}


@pytest.mark.parametrize("module", IMPORTED)
def test_a_lower_floor_never_imports_a_higher_one(module: str) -> None:
    room = module.split(".")[1]
    for other in IMPORTED[module]:
        assert FLOOR_OF[other.split(".")[1]] <= FLOOR_OF[room], f"{module} (floor {FLOOR_OF[room]}) imports {other}"


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(IMPORTED).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda p: p.parent.name)
def test_a_package_file_only_re_exports(path: Path) -> None:
    body = ast.parse(path.read_text()).body
    assert isinstance(body[0], ast.Expr), "a package says what it is for"
    assert all(isinstance(node, ast.Import | ast.ImportFrom | ast.Assign) for node in body[1:])


def test_nothing_prints_or_unpickles() -> None:
    for path in FILES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called != "print", path
                assert not called.startswith("pickle."), path
                if called == "torch.load":
                    assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords), (
                        f"{path}: torch.load without weights_only=True"
                    )


def test_every_public_name_is_there():
    assert [name for name in hl.__all__ if getattr(hl, name, None) is None] == []
