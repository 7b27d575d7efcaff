"""Heads that were located on one data set and are corrected on another: files, checks, and what the table says."""

from dataclasses import replace

import pytest
from benchmark_trees import (
    QUICK,
    counteranimal,
    fairface,
    run_case,
    small_clip,
)

from headlens import benchmark
from headlens.benchmark.report import figures
from headlens.errors import LocateError


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def run_once(clip, tmp_path_factory):
    found = {}

    def run(name):
        if name not in found:
            found[name] = run_case(name, clip, tmp_path_factory.mktemp(name))
        return found[name]

    return run


def test_heads_are_carried_over_to_another_suite(run_once, clip, tmp_path) -> None:
    table, audit = run_once("waterbirds")
    first = table.heads
    assert (tuple(first.spurious), tuple(first.salient)) == (audit.location.spurious, audit.location.salient)
    first = replace(first, spurious=((0, 1), (2, 3)), salient=((1, 2),))
    assert benchmark.read_heads(first.write(tmp_path / "located.json")) == first
    assert benchmark.read_heads(tmp_path) == first

    counteranimal(tmp_path / "data")
    asked = replace(benchmark.suite("counteranimal"), extras=())
    place = tmp_path / "acts.zarr"
    found, own = benchmark.run(
        asked, clip, tmp_path / "data", place, methods=["ltc", "ablation"], heads_from=tmp_path, **QUICK
    )
    assert own.corrections["ablation"].heads == ((0, 1), (2, 3))
    assert all(part.corrections[0].heads == ((0, 1), (2, 3)) for part in own.corrections["ltc"].parts)
    assert any("transferred from the benchmark waterbirds, by background" in note for note in found.footnotes())
    assert found.heads.source == first.source
    assert "random heads (ltc)" in {row.method for row in found.rows}
    section = figures(own, images=0)[0]
    assert "transferred" in section.text
    written = own.script()
    assert 'audit.locate(spurious=["L0H1", "L2H3"], salient=["L1H2"], source="transferred")' in written
    # A suite that always takes them over, and heads that a publication names.
    published = benchmark.TransferredHeads(((2, 3),), source="A. Author 2025")
    always = replace(asked, heads_from=published)
    found, own = benchmark.run(always, clip, tmp_path / "data", place, methods=["ablation"], **QUICK)
    assert own.corrections["ablation"].heads == ((2, 3),)
    assert any("transferred from A. Author 2025: spurious L2H3; salient none" in note for note in found.footnotes())


def test_faces_take_the_heads_of_occupations(run_once, clip, tmp_path) -> None:
    table, _ = run_once("genderbias-vl")
    fairface(tmp_path / "data")
    heads = replace(table.heads, spurious=((1, 1),))
    found, own = benchmark.run(
        replace(benchmark.suite("fairface"), extras=()),
        clip,
        tmp_path / "data",
        tmp_path / "acts.zarr",
        methods=["ablation"],
        heads_from=heads,
        **QUICK,
    )
    assert own.corrections["ablation"].heads == ((1, 1),)
    assert any("transferred from the benchmark genderbias-vl" in note for note in found.footnotes())


def test_a_saved_audit_hands_its_heads_on(run_once, tmp_path) -> None:
    _, audit = run_once("waterbirds")
    audit.save(tmp_path / "audit")
    found = benchmark.read_heads(tmp_path / "audit")
    assert tuple(found.spurious) == audit.location.spurious
    assert tuple(found.salient) == audit.location.salient
    assert found.fingerprint == audit.store.fingerprint
    assert "background" in found.source


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        (benchmark.TransferredHeads(((0, 1),), fingerprint="0123", model="another"), "another one|those of another"),
        (benchmark.TransferredHeads(((7, 1),)), "3 layers"),
        (benchmark.TransferredHeads(()), "at least one located head"),
        ("nowhere", "located heads to transfer"),
        ("10.10;11.3", "located heads to transfer"),
    ],
)
def test_heads_that_do_not_fit_are_refused_before_anything_is_read(clip, tmp_path, heads, said) -> None:
    asked = benchmark.suite("counteranimal")
    with pytest.raises(LocateError, match=said) as error:
        benchmark.run(asked, clip, tmp_path / "data", tmp_path / "acts.zarr", heads_from=heads)
    assert error.value.remedy
    assert not (tmp_path / "acts.zarr").exists()


def test_heads_can_be_written_out(clip) -> None:
    assert benchmark.read_heads("2.3, 0.1").located(clip).spurious == ((2, 3), (0, 1))
