"""`headlens benchmark` as its user meets it: the table in five forms and a report, and the slips."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

import headlens as hl
from headlens import benchmark
from headlens.benchmark import suites
from headlens.cli import app
from headlens.datasets import Dataset
from headlens.errors import CorrectionError, ManifestError, TaskError


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The testbed's suite over fewer images."""
    classes = tuple(hl.testbed.card("testbed")["classes"])
    asked = replace(benchmark.suite("testbed"), read=lambda root: Dataset(hl.testbed.images(root, n=160), classes))
    monkeypatch.setitem(benchmark.SUITES, "testbed", lambda: asked)
    monkeypatch.setattr("headlens.benchmark.report.caption_figure", lambda *a: None)
    return tmp_path / "out"


def invoke(*arguments):
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


def test_one_command_writes_the_table_in_every_form_and_the_report(small):
    quick = ("--methods", "ablation, ltc", "--draws", 3, "--bootstrap", 20)
    done = invoke("testbed", "--out", small, *quick)
    assert done.exit_code == 0, done.output
    assert "worst" in done.output
    files = {path.name for path in small.iterdir()}
    assert {"table.md", "table.csv", "table.json", "table.tex", "report.html", "store.zarr", "images"} <= files
    table = json.loads((small / "table.json").read_text(encoding="utf-8"))
    assert table["rows"][0]["method"] == "zero-shot"
    assert (small / "report.html").stat().st_size < 8e6

    again = invoke("testbed", "--out", small, *quick, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == table


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("waterbird",), TaskError, "one of the suites"),
        (("waterbirds",), TaskError, "--root"),
        (("waterbirds", "--root", "."), TaskError, "--model"),
        (("waterbirds", "--root", "nowhere", "--model", "testbed"), ManifestError, "laid out as published"),
        (("testbed", "--methods", "ltd"), CorrectionError, "Choose among"),
    ],
)
def test_a_slip_is_told_before_anything_is_computed(tmp_path, arguments, error, said):
    done = invoke(*arguments, "--out", tmp_path / "out")
    assert isinstance(done.exception, error)
    assert said in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_every_suite_has_a_line_in_the_docs(request):
    page = (request.config.rootpath / "docs" / "benchmark.md").read_text(encoding="utf-8")
    for name in benchmark.SUITES:
        assert f"`{name}`" in page
    for name in hl.audit.METHODS:
        assert f"`{name}`" in page, name
    assert suites.NEUTRAL[0] in page
