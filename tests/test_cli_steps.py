"""The shell one step at a time: each step goes on from the folder of the one before."""

import html
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import headlens as hl
from headlens.cli import app
from headlens.document.audit import audit_document
from headlens.errors import HeadlensWarning, StoreWarning
from headlens.serialization import digest
from headlens.steps.reproduce import settings

STEPS = ("locate", "explain", "correct", "evaluate", "report")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("birds")
    hl.testbed.images(folder, n=240)
    return folder


def inputs(world: Path, out: Path) -> list[str]:
    data = ["--data", str(world / "manifest.csv"), "--store", str(world / "acts.zarr"), "--out", str(out)]
    return ["--model", "testbed", *data, "--classes", "landbird,waterbird", "--attribute", "background"]


def told(*arguments: object) -> dict:
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def refused(*arguments: object) -> str:
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert isinstance(done.exception, hl.HeadlensError), done.output
    return str(done.exception)


@pytest.fixture(scope="module")
def located(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an audit that was located, and nothing more."""
    folder = tmp_path_factory.mktemp("steps") / "audit"
    found = told("locate", *inputs(world, folder))
    assert found["locator"] == "contrastive"
    assert found["spurious"]
    return folder


def test_the_steps_give_what_an_audit_in_python_gives(world: Path, located: Path) -> None:
    heads = told("explain", located, "--texts", 3)["heads"]
    assert len(heads) == 32
    assert all(len(one["texts"]) <= 3 for one in heads.values())

    with pytest.warns(HeadlensWarning, match="shown and not saved"):
        fewer = told("explain", located, "--texts", 2)["heads"]
    assert all(len(one["texts"]) == 2 for one in fewer.values())
    kept = hl.Audit.load(located).explanations.values()
    assert {len(one.texts) for one in kept} == {3}  # other figures rest on them
    shown = CliRunner().invoke(app, ["explain", str(located)], env={"COLUMNS": "400"}).stdout
    assert all("; ".join(one.texts) in shown for one in kept)
    told("explain", located, "--texts", 2, "--overwrite")
    assert {len(one.texts) for one in hl.Audit.load(located).explanations.values()} == {2}

    fitted = told("correct", located, "--methods", "ablation")
    correction = hl.correct.load_correction(fitted["corrections"]["ablation"])
    assert correction.fitted

    record = told("evaluate", located, "--draws", 5, "--bootstrap", 20)
    methods = [method["method"] for method in record["methods"]]
    assert methods == ["zero-shot", "ablation", "random heads (ablation)"]  # what was fitted, and nothing else

    saved = hl.Audit.load(located)
    assert saved.results is not None
    assert len(saved.explanations) == 32  # what a step found, the next one keeps
    again = hl.Audit.load(located, hl.load("testbed"))
    again.locate()
    again.evaluate(["ablation"], n_random_sets=5, n_bootstrap=20)
    assert again.results is not None
    assert again.results.table(wide=True).equals(saved.results.table(wide=True))

    written = told(
        "report", located, "--images", 0, "--out", located / "again.html", "--card", located / "own" / "c.md"
    )
    assert saved.results.verdict.sentence[:40] in html.unescape((located / "again.html").read_text(encoding="utf-8"))
    assert Path(written["card"]).read_text(encoding="utf-8") == saved.card()


def test_the_same_question_typed_again_goes_on_from_its_folder(world: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    told("locate", *inputs(world, out), "--locator", "concept")
    fitted = told("correct", *inputs(world, out))
    assert hl.Audit.load(out).location.method == "concept"  # type: ignore[union-attr]
    assert list(fitted["corrections"]) == ["ltc"]
    told("evaluate", out, "--methods", "ablation", "--draws", 3, "--bootstrap", 20)
    assert (out / "evaluation.json").is_file()
    # Other heads: what rested on the old ones is gone from the folder, too, and is named.
    with pytest.warns(HeadlensWarning, match="the correction 'ltc', the correction 'ablation', the evaluation"):
        told("locate", out, "--locator", "contrastive")
    again = hl.Audit.load(out)
    assert again.corrections == {}
    assert again.results is None
    assert not (out / "evaluation.json").exists()


def test_a_correction_is_embedded_and_baked_from_the_shell(world: Path, located: Path, tmp_path: Path) -> None:
    saved = told("correct", located, "--methods", "ablation")["corrections"]["ablation"]
    images = ["--model", "testbed", "--data", world / "manifest.csv"]
    done = told("embed", *images, "--correction", saved, "--out", tmp_path / "e.npy")
    assert done["images"] == len(np.load(tmp_path / "e.npy")) == len(np.load(tmp_path / "e.plain.npy")) == 240
    said = refused("embed", *images, "--correction", Path(saved).parent / "ablation", "--out", tmp_path / "f.npy")
    assert "no saved correction" in said and f"There are {saved}" in said
    assert "neither in .parquet" in refused("embed", *images, "--correction", saved, "--out", tmp_path / "e.txt")

    store = ["--store", world / "acts.zarr", "--heads", "L3H0"]
    asked = ["--classes", "landbird,waterbird", "--attribute", "background"]
    baked = told("bake", "--model", "testbed", *store, *asked, "--out", tmp_path / "baked")
    assert (tmp_path / "baked" / "open_clip_model.safetensors").is_file() and baked["heads"] == "L3H0"
    assert "no --model" in refused("bake", *store)
    same = told("bake", located, "--heads", "L3H0", "--out", tmp_path / "baked-2")  # whose folder knows all of it
    assert {**same, "folder": ""} == {**baked, "folder": ""}
    assert "Leave one out" in refused("bake", located, *store)
    assert "saved audit's folder" in refused("bake", "--model", "testbed", "--heads", "L3H0")
    assert told("atlas", located, "--out", tmp_path / "atlas")["heads"] == 32
    assert "`headlens report FOLDER` writes card.md" in CliRunner().invoke(app, ["card", str(located)]).output


def edited(world: Path, folder: Path, keep=slice(None), **columns) -> Path:
    """A table of the world's images in another folder than theirs, with some columns changed."""
    frame = pd.read_csv(world / "manifest.csv").loc[keep]
    path = folder / "edited.csv"
    frame.assign(**{name: change(frame) for name, change in columns.items()}).to_csv(path, index=False)
    return path


def test_a_filled_store_answers_an_edited_table(world: Path, located: Path, tmp_path: Path) -> None:
    """Fewer rows, other labels, another attribute, and a folder that holds none of the images: matched by image."""
    table = edited(
        world,
        tmp_path,
        label=lambda frame: frame["background"].map({"land": "land", "water": "water"}),
        species=lambda frame: frame["label"],
        keep=slice(10, 229),
    )
    with pytest.warns(StoreWarning, match="20 of the store's 240 images are not in the table"):
        found = told(
            *(
                "new",
                "--model",
                "testbed",
                "--data",
                table,
                "--store",
                world / "acts.zarr",
                "--out",
                tmp_path / "audit",
            ),
            *("--classes", "land,water", "--attribute", "species:landbird=landbird,waterbird=waterbird"),
        )
    audit = hl.Audit.load(found["audit"])  # which keeps the table: no later step has to be given it
    assert len(audit.store) == 220
    assert audit.store.manifest_digest == audit.question.manifest
    assert f"--data {tmp_path / 'audit' / 'manifest.parquet'}" in audit.commands()
    namespace: dict = {}
    with pytest.warns(StoreWarning):
        exec(audit.script(), namespace)
    assert namespace["audit"].identity == audit.identity
    assert set(audit.store.manifest["species"]) == {"landbird", "waterbird"}
    assert (Path(audit.store.manifest.attrs["root"]) / audit.store.manifest["path"][0]).is_file()  # for token maps


def test_with_a_store_alone_it_is_said_whose_labels_are_used(world: Path, located: Path, tmp_path: Path) -> None:
    table = edited(world, tmp_path, path=lambda frame: str(world) + "/" + frame["path"])
    told("extract", "--model", "testbed", "--data", table, "--out", tmp_path / "acts.zarr")
    asked = ["new", *["--model", "testbed", "--classes", "landbird,waterbird", "--attribute", "background"], "--json"]
    asked += ["--store", str(tmp_path / "acts.zarr"), "--out", str(tmp_path / "audit")]
    done = CliRunner().invoke(app, asked)
    assert f"Labels are those saved with the store: {table} of 20" in done.stderr
    assert json.loads(done.stdout)["audit"]
    table.write_text(table.read_text().replace("landbird", "waterbird", 3))
    with pytest.warns(HeadlensWarning, match="edited.csv has changed since the store was filled"):
        CliRunner().invoke(app, asked)
    table.unlink()
    assert f"{table} of 20" in CliRunner().invoke(app, asked).stderr


def test_an_audit_that_locates_nothing_ends_with_a_report_and_the_command_that_goes_on(
    world: Path, located: Path, tmp_path: Path
) -> None:
    audit = hl.Audit.load(located)
    classes = list(audit.task.classes)
    guess = (audit.store.embedding @ audit.data.classifier.T).argmax(1).numpy()
    table = edited(world, tmp_path, keep=[classes[i] for i in guess] == audit.store.manifest["label"].to_numpy())
    out = tmp_path / "an audit"
    few = ("--bootstrap", "20", "--draws", "3", "--null", "0")
    with pytest.warns(HeadlensWarning) as warned:
        found = told(
            *("audit", *inputs(world, out), "--data", table, *few, "--methods", "ltc,roboshot"),
        )
    assert found["spurious"] == []
    assert [one["method"] for one in found["methods"]] == ["zero-shot", "roboshot"]
    assert set(found["methods"][0]["groups"]) >= {"landbird/land", "waterbird/water"}
    (said,) = {str(one.message) for one in warned if "No heads were located" in str(one.message)}
    for page in ("report.html", "card.md"):
        assert "there is nothing to contrast" in (out / page).read_text()
    command = said[said.index("headlens locate") :]
    locating, evaluating = (shlex.split(one)[1:] for one in command.split(" && "))
    assert told(*locating)["spurious"]
    again = told(*evaluating, *few)
    assert "random heads (ltc)" in [one["method"] for one in again["methods"]]


def test_a_report_without_heads_says_why_and_how_the_groups_fare(located: Path) -> None:
    audit = hl.Audit.load(located).asking(seed=7)
    audit.locate(spurious=(), source="No heads were located. There is no mistake.")
    audit.evaluate([], n_bootstrap=20)
    page = audit_document(audit, images=0)
    zero_shot = audit.results.evaluations["zero-shot"]
    assert page.sentences[0] == "No verdict: no heads were located."
    assert f"{100 * zero_shot.worst_group:.1f} % of its answers are right" in page.sentences[1]
    assert [tile.name for tile in page.tiles] == ["Verdict", "Worst group", "Average accuracy"]
    texts = {section.title: section.text for section in page.sections}
    assert not any("No heads were located" in note for note in page.notes)  # said once, in 'Which heads'
    assert texts["Which heads"].startswith("No heads were located. There is no mistake.")
    assert texts["What it cost elsewhere"] == "Nothing was corrected, so that nothing changed elsewhere."


def test_a_step_that_replaces_one_with_other_options_says_so(located: Path) -> None:
    told("ablate", located, "--heads", "L3H0", "--draws", 3, "--bootstrap", 11)
    again = ["ablate", str(located), "--heads", "L3H0", "--bootstrap", "11", "--draws"]
    assert "replaced" not in CliRunner().invoke(app, [*again, "3"]).stderr
    said = CliRunner().invoke(app, [*again, "5"]).stderr
    assert f"Replaced in {located}: ablate (n_random_sets 3 → 5)." in said


def test_text_pairs_that_nobody_gave_are_said_to_be_the_testbeds(located: Path) -> None:
    audit = hl.Audit.load(located)
    audit.evaluate([], n_bootstrap=20)
    page = audit_document(audit, images=0)
    assert any("text pairs for knowledge injection are the testbed's own" in note for note in page.notes)
    assert settings(audit.data, ())["text pairs"].endswith(", the testbed's own for these classes")
    given = audit.asking(pairs=(("a duck", "a sparrow"),))
    assert settings(given.data, ())["text pairs"] == "1, given"


def test_people_get_tables(located: Path) -> None:
    shown = CliRunner().invoke(app, ["explain", str(located)])
    assert shown.exit_code == 0, shown.output
    assert all(said in shown.output for said in ("What heads encode", "label", "L3H0"))
    one = CliRunner().invoke(app, ["explain", str(located), "--head", "3.0"])
    assert one.exit_code == 0, one.output
    assert one.output.startswith("Head L3H0: ")
    assert "Head L2H0" not in one.output
    heads = CliRunner().invoke(app, ["locate", str(located)])
    assert "spurious" in heads.output
    fitted = CliRunner().invoke(app, ["correct", str(located)])
    assert "ltc" in fitted.output


def test_a_requirement_stops_a_step_as_it_stops_an_audit(located: Path) -> None:
    asked = ["evaluate", str(located), "--methods", "ablation", "--draws", "3", "--bootstrap", "20", "--require"]
    assert CliRunner().invoke(app, [*asked, "worst_group >= 0.99"]).exit_code == 3
    assert CliRunner().invoke(app, [*asked, "ablation.average >= 0.01"]).exit_code == 0
    assert "Did you mean 'ltc'?" in refused("evaluate", located, "--methods", "ltc", "--require", "lct.gap <= 0.1")


def test_a_report_takes_no_step_and_names_the_call_that_does(world: Path, located: Path, tmp_path: Path) -> None:
    store = hl.HeadStore.open(world / "acts.zarr")
    clip = hl.load("testbed")
    task = hl.ZeroShotTask(["landbird", "waterbird"], "a photo of a {}")
    background = hl.Attribute("background", {"land": "a photo of the land", "water": "a photo of the water"})
    audit = hl.Audit(clip, store, task, background)
    audit.locate()
    audit.save(tmp_path / "audit")
    told("report", tmp_path / "audit", "--images", 1)
    assert hl.Audit.load(tmp_path / "audit").results is None
    page = (tmp_path / "audit" / "report.html").read_text(encoding="utf-8")
    assert "Nothing was corrected, so that nothing changed elsewhere." in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "--model, --data"),
        (["--model", "testbed"], "There is no --attribute"),
        (["--attribute", "background"], "There is no --model"),
    ],
)
def test_what_is_missing_is_named(more: list[str], said: str) -> None:
    for step in STEPS[:-1]:
        assert said in refused(step, *more)


def test_slips_are_answered_with_what_to_write(located: Path, tmp_path: Path) -> None:
    for step in STEPS:
        assert "There is no saved audit" in refused(step, tmp_path)
    assert "--seed" in refused("locate", located, "--seed", 0)  # typed, though it is the default
    assert "--template" in refused("evaluate", located, "--template", "{}")
    assert "contrastive" in refused("locate", located, "--locator", "contrast")
    assert "landbird/fire" in refused("locate", located, "--conflicting", "landbird/fire")
    assert "4 layers with 8 heads" in refused("explain", located, "--head", "9.1")
    assert "ltc" in refused("correct", located, "--methods", "magic")
    assert "Load that model" in refused("explain", located, "--model", "testbed-plain")


def test_every_command_of_the_map_is_there_speaks_json_and_is_completed() -> None:
    steps = ["new", "locate", "explain", "correct", "evaluate", "collateral", "ablate", "report", "compare"]
    commands = ["demo", "audit", "fairness", *steps, "extract", "benchmark", "atlas", "bake", "embed", "doctor"]
    code = "import sys; sys.argv[0] = 'headlens'; from headlens.cli import main; main()"

    def run(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "200"} | environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert list(app.commands) == commands
    for name, command in app.commands.items():
        assert any("--json" in parameter.opts for parameter in command.params), name
    offered = run(_HEADLENS_COMPLETE="bash_complete", COMP_WORDS="headlens e", COMP_CWORD="1").split()
    assert sorted(offered) == ["plain,embed", "plain,evaluate", "plain,explain", "plain,extract"]
    options = run(_HEADLENS_COMPLETE="bash_complete", COMP_WORDS="headlens correct --me", COMP_CWORD="2").split()
    assert options == ["plain,--methods"]


def test_a_mistyped_column_a_class_and_a_command_name_what_is_near(world: Path, tmp_path: Path) -> None:
    def asked(**changed: str) -> list[str]:
        options = {"--classes": "landbird,waterbird", "--attribute": "background"} | changed
        data = ["--model", "testbed", "--data", str(world / "manifest.csv"), "--out", str(tmp_path / "out")]
        return ["audit", *data, *(text for option in options.items() for text in option)]

    said = refused(*asked(**{"--attribute": "backgruond"}))
    assert "Did you mean 'background'?" in said
    assert "NAME:value=prompt" in said
    assert "or the class names" in refused(*asked(**{"--classes": "landbird,waterbrid"}))
    mistyped = CliRunner().invoke(app, ["audti"])
    assert mistyped.exit_code == 2
    assert "'audit'" in mistyped.output
    mistyped = CliRunner().invoke(app, ["audit", "--modle", "testbed"])
    assert mistyped.exit_code == 2
    assert "--model" in mistyped.output
    assert not (tmp_path / "out").exists()


def test_a_file_where_a_folder_should_be_is_one_paragraph_and_no_traceback(located: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code = "import sys; sys.argv[0] = 'headlens'; from headlens.cli import main; main()"
    asked = ["report", str(located), "--images", "0", "--out", str(tmp_path / "r.html"), "--card"]
    done = subprocess.run(
        [sys.executable, "-c", code, *asked, str(tmp_path / "file" / "card.md")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("headlens: Could not read or write")
    assert "Traceback" not in done.stderr


def test_script_and_commands_of_an_audit_repeat_it_to_the_digit(world: Path, located: Path, tmp_path: Path) -> None:
    audit = hl.Audit.load(located, hl.load("testbed"))
    one = hl.Audit(
        audit.clip,
        audit.store,
        audit.task,
        audit.attribute,
        pairs=[("a duck", "a sparrow"), ("a gull", "a robin")],
        spurious_pairs=[("a photo of the water", "a photo of the land")],
        crossed_pairs=[("a duck", "a duck on the water")],
        bank=audit.data.bank.take(range(0, len(audit.data.bank), 9)),
        seed=3,
        skip_unlabelled=True,
    )
    groups = [("landbird", "water"), ("waterbird", "land")]
    one.locate("concept", conflicting=groups, rule=hl.locate.ConceptRule(minimum_auroc=0.65), n_bootstrap=3)
    one.correct("ablation")
    own = hl.correct.MeanAblation(["L3H1"]).fit(one.data.reference)
    one.correct(own, name="of my own")
    one.evaluate(controls=["ablation"], n_random_sets=5, n_bootstrap=20)
    one.explain(["L3H1", "L2H0"], k=3)
    one.fairness(n_random_sets=5, n_bootstrap=20)
    one.collateral(methods=["ablation"])
    one.ablate(["L3H1", "L3H2"])
    one.save(tmp_path / "saved")

    names: dict = {}
    exec(one.script(), names)
    for line in one.commands(tmp_path / "again").splitlines():
        program, *arguments = shlex.split(line)
        assert program == "headlens"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, (line, done.output, done.exception)
    from_shell = hl.Audit.load(tmp_path / "again")
    for other in (names["audit"], from_shell):
        assert other.identity == one.identity
        assert [step.call for step in other.record] == [step.call for step in one.record]
        for mine, theirs in zip(one.record, other.record, strict=True):
            assert digest(mine.result) == digest(theirs.result), mine.call


BIRDS = "audit --model testbed --data MANIFEST --classes landbird,waterbird --attribute background"


def test_what_needs_no_model_is_refused_before_one_is_loaded(
    world: Path, located: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(hl.HeadlensError, match="Near it are testbed"):
        hl.load("testbedd")

    def load(*arguments: object, **options: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("headlens.loading.load", load)
    assert "holds another audit; what differs: seed 0 → 1" in refused("new", *inputs(world, located), "--seed", 1)
    other = ["--attribute", "background:land=the land,water=the water"]
    assert "land', 'water'] → the same in other texts" in refused("new", *inputs(world, located), *other)
    assert "landbird/watr" in refused("locate", located, "--conflicting", "landbird/watr")
    assert "There is no device 'cuda:7'" in refused("locate", located, "--device", "cuda:7")
    with pytest.raises(AssertionError, match="the model was loaded"):
        raise CliRunner().invoke(app, ["locate", str(located)]).exception


def test_the_names_that_the_shell_knows_are_those_that_are_registered() -> None:
    from headlens.benchmark import SUITES
    from headlens.cli.others import SUITES as TYPED
    from headlens.steps import LOCATORS, METHODS
    from headlens.steps.options import KNOWN

    assert {"locator": tuple(LOCATORS), "method": tuple(METHODS)} == KNOWN
    assert tuple(SUITES) == TYPED


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("audit --model testbed --data none.csv --classes a,b --attribute background", "is not there"),
        ("audit --data none.csv --methods lct", "Did you mean 'ltc'?"),
        ("locate audit --locator contrasive", "Did you mean 'contrastive'?"),
        ("ablate audit --heads L9H9x", "names no head"),
        ("fairness --data none.csv", "There is no --model"),
        ("explain nowhere --head 3.0", "There is no saved audit in nowhere"),
        ("report nowhere", "There is no saved audit in nowhere"),
        ("embed --model testbed --correction no --data MANIFEST --out e.parquet", "There is no saved correction"),
        ("benchmark waterbird", "one of the suites"),
        ("benchmark waterbirds", "Write --root FOLDER"),
        (
            "audit --model testbd --data MANIFEST --classes landbird,waterbird --attribute background",
            "Near it are testbed",
        ),
        ("audit --model ViT-B-17 --data MANIFEST --classes landbird,waterbird --attribute background", "ViT-B-16"),
        ("demo --model testbed-birds-9", "testbed-birds-0"),
        ("doctor vit-b-16", "ViT-B-16"),
        ("audit --model testbed --data MANIFEST --classes landbird,waterbird --attribute age:old=old", "two values"),
        ("explain nowhere --head 3-0", "names no head"),
        ("explain nowhere --head 3,0", "There is no saved audit in nowhere"),
        ("audit --data none.csv --methods LTC", "Did you mean 'ltc'?"),
        (["audit", "--data", "none.csv", "--methods", "ltc ablation"], "Separate names by commas: ltc,ablation."),
        ("audit --draws many", "'many' is not a valid whole number"),
        ("audit --data none.csv --device gpu", "There is no device 'gpu'"),
        ("audit --data none.csv --out MANIFEST", "is a file"),
        (f"{BIRDS} --conflicting landbird/watr", "Did you mean 'landbird/water'?"),
        ([*BIRDS.split(), "--require", "lct.gap <= 0.1"], "Did you mean 'ltc'?"),
        ("bake --model testbed --store acts.zarr --heads 3-0", "names no head"),
    ],
)
def test_a_mistyped_argument_is_answered_before_torch_is_imported(
    world: Path, typed: str | list[str], said: str
) -> None:
    code = (
        "import sys; from click.testing import CliRunner; from headlens.cli import app\n"
        "done = CliRunner().invoke(app, sys.argv[1:])\n"
        "print(done.exception if done.exit_code == 1 else done.output); assert done.exit_code\n"
        "assert 'torch' not in sys.modules"
    )
    words = typed.split() if isinstance(typed, str) else typed
    arguments = [word.replace("MANIFEST", str(world / "manifest.csv")) for word in words]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
