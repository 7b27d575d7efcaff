"""Every notebook of examples/ runs from its first cell to its last, offline, and shows what it promises."""

import ast
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("[0-9]_*.ipynb"))
SMALL = {"count": 240, "draws": 5, "total": 16}


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def tagged(path: Path, tag: str) -> list[str]:
    return ["".join(cell["source"]) for cell in cells(path) if tag in cell["metadata"].get("tags", [])]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One kernel for all, because importing torch takes longer than most notebooks; each starts with empty names."""
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install headlens[dev]")
    manager_module = pytest.importorskip("jupyter_client.manager", reason="jupyter_client is not installed")
    environment = os.environ | {
        "HEADLENS_PROGRESS": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "error::UserWarning",
    }
    environment["IPYTHONDIR"] = str(tmp_path_factory.mktemp("ipython"))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    manager = manager_module.KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(tmp_path_factory.mktemp("notebooks")), env=environment)
    yield manager
    manager.shutdown_kernel(now=True)
    manager.cleanup_resources()


def test_the_five_are_there() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_whole(path: Path, kernel: Any) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install headlens[dev]")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install headlens[dev]")
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            for name, value in SMALL.items():
                cell.source = re.sub(rf"(?m)^{name} = \d+", f"{name} = {value}", cell.source)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = nbclient.NotebookClient(notebook, km=kernel, timeout=300)
    try:
        client.execute()
    finally:
        client.kc.stop_channels()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    figures = [o for o in outputs if "application/vnd.plotly.v1+json" in o.get("data", {})]
    told = "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")
    assert figures or path.name.startswith("5")
    if path.name.startswith("1"):  # which ends with the explorer
        pytest.importorskip("anywidget", reason="the extra headlens[notebook] is not installed")
        assert "application/vnd.jupyter.widget-view+json" in outputs[-1].data
    assert "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stderr") == ""
    if not path.name.startswith("4"):
        displayed = told + "".join(o.data.get("text/plain", "") for o in outputs if "data" in o)
        assert re.search(
            r"Head-level correction by '.*' of L\d+H\d+.* is (not supported|supported|inconclusive)"
            r"|bias by presentation is",
            displayed,
        ), displayed
        assert "report.html" in told


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_changes_in_one_cell(path: Path) -> None:
    for cell in cells(path):
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert "On a real CLIP, with real images:** change the one cell under" in "".join(cells(path)[0]["source"])
    (setup,) = tagged(path, "setup")
    (parameters,) = tagged(path, "parameters")
    assert "count = " in parameters
    # What stands commented is Python, assigns names that the cell assigns, and names a model with its weights.
    lines = [line.removeprefix("# ") for line in setup.splitlines() if line.startswith("# ")]
    code = [re.sub(r"\s+#.*$", "", line) for line in lines]

    def assigned(source: str) -> set[str]:
        targets = [t for node in ast.parse(source).body if isinstance(node, ast.Assign) for t in node.targets]
        return {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}

    assert assigned("\n".join(code)) <= assigned(setup) | {"data"}
    assert any("pretrained" in line for line in code)
    # Nothing but that cell and the parameters names the embedded model as a matter of course.
    rest = ["".join(c["source"]) for c in cells(path) if c["cell_type"] == "code" and not c["metadata"].get("tags")]
    assert not any("hl.load(" in source.replace("hl.load(**model)", "") for source in rest)
