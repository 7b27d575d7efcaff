"""`headlens fairness` as its user meets it: from a CSV to a verdict, from a known data set, and on slips."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import headlens as hl
from headlens.cli import app

LIGHT = "light:sun=a photo on a sunny day,cloud=a photo on a cloudy day|a bird under gray clouds"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with some of the testbed's images, and the store that a first command fills."""
    folder = tmp_path_factory.mktemp("birds")
    hl.testbed.images(folder, n=240)
    return folder


def command(world: Path, out: Path, *more: str) -> list[str]:
    fixed = ["fairness", "--model", "testbed", "--data", str(world / "manifest.csv"), "--out", str(out)]
    fixed += ["--classes", "landbird,waterbird", "--store", str(world / "acts.zarr"), "--draws", "10"]
    quick = ["--bootstrap", "50", "--permutations", "50", "--total", "16", "--texts", "4"]
    return [*fixed, *quick, *more]


def test_an_attribute_is_swapped_by_typing_and_the_verdict_is_in_words(world: Path, tmp_path: Path) -> None:
    first = CliRunner().invoke(
        app, command(world, tmp_path / "one", "--attribute", "background:land=the land,water=the water")
    )
    assert first.exit_code == 0, first.output
    for said in ("Candidates by concept+textspan", "Cramér's V", "Class by class", "The bias by background is"):
        assert said in first.output
    record = json.loads((tmp_path / "one" / "fairness.json").read_text())
    assert record["verdict"]["word"] in ("focal", "diffuse", "not shown", "inconclusive")
    assert record["attribute_inferred"] is False
    assert len(record["heads"]) == 32
    assert (tmp_path / "one" / "report.html").stat().st_size < 8e6

    second = CliRunner().invoke(
        app, command(world, tmp_path / "two", "--attribute", LIGHT, "--locator", "concept", "--json")
    )
    assert second.exit_code == 0, second.output
    told = json.loads(second.stdout)
    assert told["attribute_inferred"] is True
    assert told["values"] == ["sun", "cloud"]
    assert told["locator"] == "concept"
    assert "inferred" in (tmp_path / "two" / "report.html").read_text(encoding="utf-8")


def test_a_bank_of_ones_own_explains_the_heads(world: Path, tmp_path: Path) -> None:
    bank = tmp_path / "bank.csv"
    rows = ["text,category", "a photo of the water,place", "a photo of the land,place", "a red bird,colour"]
    bank.write_text("\n".join([*rows, "a blue bird,colour", "a bird at night,light"]) + "\n")
    done = CliRunner().invoke(
        app, command(world, tmp_path / "own", "--attribute", "background", "--bank", str(bank), "--json")
    )
    assert done.exit_code == 0, done.output
    heads = json.loads(done.stdout)["heads"]
    assert {text["category"] for head in heads.values() for text in head["texts"]} <= {"place", "colour", "light"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--attribute", "age:young=a photo"], "two values"),
        (["--attribute", "light:sun=,cloud=a cloud"], "name:value=prompt"),
        (["--attribute", "light:sun=a zebra,cloud=gray clouds"], "zebra"),
        (["--attribute", "background", "--locator", "conept"], "concept"),
        (["--attribute", "background", "--dataset", "facet"], "--dataset NAME"),
        (["--attribute", "background", "--bank", "gone.csv"], "gone.csv"),
    ],
)
def test_a_slip_is_answered_with_what_to_write(world: Path, tmp_path: Path, more: list[str], said: str) -> None:
    done = CliRunner().invoke(app, command(world, tmp_path / "out", *more))
    assert isinstance(done.exception, hl.HeadlensError), done.output
    assert said in str(done.exception)


def test_a_known_data_set_needs_its_folder(tmp_path: Path) -> None:
    asked = ["fairness", "--model", "testbed", "--dataset", "facet", "--attribute", "gender_presentation"]
    done = CliRunner().invoke(app, asked)
    assert "--root FOLDER" in str(done.exception)
    done = CliRunner().invoke(app, [*asked, "--root", str(tmp_path)])
    assert "annotations" in str(done.exception)


def test_the_demo_of_the_figures_finds_the_planted_bias_and_none_where_there_is_none(tmp_path: Path) -> None:
    asked = ["demo", "--world", "figures", "--out", str(tmp_path / "demo"), "--images", "600", "--no-open"]
    done = CliRunner().invoke(app, [*asked, "--draws", "30", "--bootstrap", "100", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    planted = {tuple(head) for head in told["planted"]}
    assert {tuple(head) for head in told["candidates"]} <= planted
    assert told["verdict"]["word"] == "focal"
    assert told["control"]["p"] <= 1 / 31 + 1e-9
    assert told["negative_control"]["verdict"]["word"] == "not shown"
    assert (tmp_path / "demo" / "report.html").is_file()


@pytest.mark.parametrize(("required", "code"), [("cramers_v <= 1.0", 0), ("cramers_v <= 0.01", 3)])
def test_a_requirement_that_is_missed_has_an_exit_code_of_its_own(
    world: Path, tmp_path: Path, required: str, code: int
) -> None:
    asked = command(world, tmp_path / "out", "--attribute", "background", "--locator", "concept")
    done = CliRunner().invoke(app, [*asked, "--require", required])
    assert done.exit_code == code, done.output
    assert ("met" if code == 0 else "missed") in done.stderr
    assert "high end" in done.stderr
    # The results are there either way.
    assert (tmp_path / "out" / "fairness.json").is_file()
