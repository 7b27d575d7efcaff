"""`headlens benchmark` as its user meets it: the table in five forms and a report, and the slips."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

import headlens as hl
from headlens import benchmark
from headlens.benchmark import suites
from headlens.cli import app
from headlens.datasets import Dataset
from headlens.errors import LocateError, ManifestError, TaskError, UnknownNameError


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The testbed's suite over fewer images."""
    classes = tuple(hl.testbed.card("testbed")["classes"])
    asked = replace(benchmark.suite("testbed"), read=lambda root: Dataset(hl.testbed.images(root, n=160), classes))
    monkeypatch.setitem(benchmark.SUITES._entries, "testbed", lambda: asked)
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
    assert {"located.json", *(f"measure-{i}.csv" for i in range(1, 6))} <= files
    table = json.loads((small / "table.json").read_text(encoding="utf-8"))
    assert table["rows"][0]["method"] == "zero-shot"
    assert (small / "report.html").stat().st_size < 8e6

    again = invoke("testbed", "--out", small, *quick, "--json")
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == table


def test_heads_are_carried_over_by_the_name_of_a_folder(small, tmp_path):
    quick = ("--methods", "ablation", "--draws", 2, "--bootstrap", 20)
    assert invoke("testbed", "--out", small, *quick).exit_code == 0
    record = json.loads((small / "located.json").read_text(encoding="utf-8"))
    planted = {str(hl.heads.HeadId(*head)) for head in hl.testbed.card("testbed")["planted_heads"]}
    assert record["spurious"]
    assert set(record["spurious"]) <= planted
    record["spurious"] = ["L1H2"]
    (tmp_path / "located.json").write_text(json.dumps(record), encoding="utf-8")
    shared = ("--root", small / "images", "--store", small / "store.zarr", "--out", tmp_path / "other")
    for source in (tmp_path, tmp_path / "located.json", "L1H2", "1.2"):
        done = invoke("testbed", *shared, *quick, "--heads-from", source, "--json")
        assert done.exit_code == 0, done.output
        notes = " ".join(json.loads(done.stdout)["notes"])
        assert "transferred from" in notes
        assert "spurious L1H2" in notes

    other = invoke("testbed", *shared, *quick, "--model", "testbed-birds-1", "--heads-from", tmp_path)
    assert isinstance(other.exception, LocateError)
    assert record["model"]["fingerprint"] in other.exception.received
    assert "another model" in other.exception.remedy


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (("waterbird",), TaskError, "one of the suites"),
        (("waterbirds",), TaskError, "--root"),
        (("waterbirds", "--root", "."), TaskError, "--model"),
        (("waterbirds", "--root", "nowhere", "--model", "testbed"), ManifestError, "published layout"),
        (("testbed", "--methods", "ltd"), UnknownNameError, "Did you mean 'ltc'"),
        (("testbed", "--heads-from", "nowhere"), LocateError, "located heads to transfer"),
    ],
)
def test_a_slip_is_told_before_anything_is_computed(tmp_path, arguments, error, said):
    done = invoke(*arguments, "--out", tmp_path / "out")
    assert isinstance(done.exception, error)
    assert said in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_an_option_that_is_not_there_is_told_with_its_neighbour(tmp_path):
    done = invoke("testbed", "--head-from", "10.10", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "--heads-from" in done.output
    assert not (tmp_path / "out").exists()


def test_every_suite_has_a_line_in_the_docs(request):
    page = (request.config.rootpath / "docs" / "benchmark.md").read_text(encoding="utf-8")
    for name in benchmark.SUITES:
        assert f"`{name}`" in page
    for name in hl.steps.METHODS:
        assert f"`{name}`" in page, name
    assert suites.NEUTRAL[0] in page
