"""The main job on the testbed, through Python and through the shell: what the README promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import headlens as hl
from headlens.cli import app

CLASSES = "landbird,waterbird"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a few hundred of the testbed's images and their manifest, as a user would have them."""
    folder = tmp_path_factory.mktemp("birds")
    hl.testbed.images(folder, n=480)
    return folder


@pytest.fixture(scope="module")
def audit(world: Path, tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    clip = hl.load("testbed")
    card = hl.testbed.card("testbed")
    manifest = hl.read_manifest(world / "manifest.csv")
    store = hl.extract(clip, manifest, tmp_path_factory.mktemp("audit") / "store.zarr")
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    attribute = hl.Attribute(card["attribute"]["name"], card["attribute"]["values"])
    audit = hl.Audit(clip, store, task, attribute, pairs=[tuple(pair) for pair in card["pairs"]])
    audit.evaluate(n_random_sets=10, n_bootstrap=100)
    return audit


def shell(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ, COLUMNS="200")
    return subprocess.run(
        [sys.executable, "-m", "headlens", *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )


def command(world: Path, out: Path, *more: str) -> list[str]:
    data = str(world / "manifest.csv")
    fixed = ["audit", "--model", "testbed", "--data", data, "--classes", CLASSES, "--attribute", "background"]
    return [*fixed, "--out", str(out), "--draws", "10", "--bootstrap", "50", *more]


def test_the_located_heads_are_planted_ones_and_correcting_them_helps(audit: hl.Audit) -> None:
    assert audit.location is not None
    assert audit.results is not None
    planted = {tuple(head) for head in hl.testbed.card("testbed")["planted_heads"]}
    assert audit.location.spurious
    assert set(audit.location.spurious) <= planted
    before, after = (audit.results.evaluations[name].worst_group for name in ("zero-shot", "ltc"))
    # The card's figure on the full test split is larger; a few hundred images leave room for chance.
    assert after > before + 0.10


def test_a_verdict_says_that_the_salient_heads_alone_are_not_shown_to_matter(audit: hl.Audit) -> None:
    results = audit.asking().evaluate(["ltc"], n_random_sets=100, n_bootstrap=100, n_null=0, total=0)
    assert results.verdict is not None
    assert results.verdict.word != "not supported"
    # On the testbed injecting into other salient heads does nearly as well: the ablation is what helps.
    assert results.controls["ltc salient"].comparison().p > 0.05
    assert any("salient heads are not shown to matter by themselves" in one for one in results.verdict.remarks)


def test_an_audit_survives_its_folder(audit: hl.Audit, tmp_path: Path) -> None:
    audit.save(tmp_path / "saved")
    again = hl.Audit.load(tmp_path / "saved")
    assert again.location is not None
    assert again.results is not None
    assert audit.results is not None
    assert again.identity == audit.identity
    assert again.location.spurious == audit.location.spurious  # type: ignore[union-attr]
    pd.testing.assert_frame_equal(again.results.table(wide=True), audit.results.table(wide=True))
    for name, correction in again.corrections.items():
        same = correction.apply(again.data.test).embedding
        assert np.array_equal(same.numpy(), audit.corrections[name].apply(audit.data.test).embedding.numpy())
    # Everything that was asked before is answered without the model; a new prompt is not.
    again.locate()
    with pytest.raises(hl.HeadlensError, match="Give the model"):
        again.with_attribute(hl.Attribute("size", {"small": "a small bird", "large": "a large bird"})).locate()


def test_another_attribute_needs_no_pixels_and_is_marked_as_inferred(
    audit: hl.Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert audit.clip is not None
    monkeypatch.setattr(audit.clip.vision, "forward", lambda *_: pytest.fail("the tower ran"))
    monkeypatch.setattr(audit.clip.vision, "residual_parts", lambda *_: pytest.fail("the tower ran"))
    # A name that is no column of the manifest, so that the values have to be inferred.
    other = audit.with_attribute(hl.Attribute("scenery", {"dry": "a photo of the land", "wet": "a photo of the water"}))
    assert other.data.inferred
    truth = (audit.store.manifest["background"] == "water").to_numpy()
    # Prompts are no labels: most values come out right, and every result says that they are inferred.
    assert ((other.data.values == 1) == truth).mean() > 0.7
    other.evaluate(["ablation"], n_random_sets=5, n_bootstrap=20, total=0)
    assert other.results is not None


def test_a_control_scores_its_sets_as_any_method_is_scored(audit: hl.Audit) -> None:
    assert audit.results is not None
    control = audit.results.controls["ablation"]
    rows = audit.splits.test
    groups = [audit.data.groups[row] for row in rows]
    for heads, by_group, average in zip(control.sets, control.drawn.group_accuracy, control.drawn.average, strict=True):
        view = hl.correct.MeanAblation(heads).fit(audit.data.reference).apply(audit.data.test)
        predicted = audit.data.logits(view.embedding).argmax(-1).numpy()
        expected = hl.metrics.group_accuracy(audit.data.labels[rows], predicted, groups=groups)
        assert list(expected.index) == list(control.groups)
        np.testing.assert_allclose(by_group, expected.to_numpy(), atol=1e-12)
        assert average == pytest.approx((predicted == audit.data.labels[rows]).mean())
        assert set(heads) != set(audit.location.spurious)  # type: ignore[union-attr]


def test_one_image_is_corrected_as_a_million_are(audit: hl.Audit) -> None:
    ltc = audit.corrections["ltc"]
    alone = ltc.apply(audit.data.test.subset(np.asarray([7]))).embedding
    together = ltc.apply(audit.data.test).embedding[7:8]
    np.testing.assert_allclose(alone.numpy(), together.numpy(), atol=1e-6)


def test_a_report_holds_the_verdict_and_loads_nothing(audit: hl.Audit, tmp_path: Path) -> None:
    assert audit.results is not None
    text = audit.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Head-level correction by" in text
    assert "Where the heads read" in text
    assert 'src="http' not in text
    assert len(text) < 8e6


def test_the_shell_runs_the_whole_path_and_writes_what_it_says(world: Path, tmp_path: Path) -> None:
    done = shell(*command(world, tmp_path / "audit"))
    assert done.returncode == 0, done.stderr
    for said in ("zero-shot", "ablation", "ltc", "random heads (ltc)", "worst group", "Head-level correction by"):
        assert said in done.stdout
    record = json.loads((tmp_path / "audit" / "evaluation.json").read_text())
    methods = {method["method"]: method for method in record["methods"]}
    assert {"zero-shot", "ablation", "ltc"} <= set(methods)
    for method in methods.values():
        assert set(method["groups"]) == {"landbird/land", "landbird/water", "waterbird/land", "waterbird/water"}
        assert all(0 <= method[name] <= 1 for name in ("average", "worst_group", "gap"))
        for name in ("average", "worst_group", "gap"):
            low, high = method["interval"][name]
            assert low <= high
    assert methods["ltc"]["worst_group"] == pytest.approx(min(methods["ltc"]["groups"].values()))
    assert (tmp_path / "audit" / "report.html").is_file()

    # The same again is the same audit; another one is refused, and nothing of the first is touched.
    before = (tmp_path / "audit" / "audit.json").read_bytes()
    again = CliRunner().invoke(app, command(world, tmp_path / "audit"))
    assert again.exit_code == 0, again.output
    other = CliRunner().invoke(app, command(world, tmp_path / "audit", "--template", "a picture of a {}"))
    assert isinstance(other.exception, hl.errors.OutputError)
    assert "another audit; what differs: task" in str(other.exception)
    assert json.loads(before)["identity"] == json.loads((tmp_path / "audit" / "audit.json").read_text())["identity"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.drop(columns="label"), "label"),
        (lambda m: m.drop(columns="background"), "background"),
        (lambda m: m.assign(label=m["label"].replace("landbird", "parrot")), "parrot"),
        (lambda m: m.assign(label="landbird"), "are of one class"),
        (lambda m: m.assign(path="gone/" + m["path"]), "not there"),
        (lambda m: m.assign(split=m["split"].replace("val", "validation")), "validation"),
    ],
    ids=["no label", "no attribute", "not a class", "one class", "no image", "no split"],
)
def test_a_bad_manifest_is_told_before_anything_runs(world: Path, tmp_path: Path, change, said: str) -> None:
    manifest = change(pd.read_csv(world / "manifest.csv"))
    manifest["path"] = [str((world / p).resolve()) if not str(p).startswith("gone") else p for p in manifest["path"]]
    manifest.to_csv(tmp_path / "bad.csv", index=False)
    arguments = command(world, tmp_path / "out")
    arguments[arguments.index("--data") + 1] = str(tmp_path / "bad.csv")
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, hl.HeadlensError), result.output
    assert said in str(result.exception)
    assert not (tmp_path / "out" / "store.zarr").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "testbad"], "'testbad'"),
        (["--model", "ViT-B-61", "--pretrained", "openai"], "ViT-B-16"),
        (["--conflicting", "landbird/fire"], "landbird/fire"),
        (["--split", "val"], "--split val,test"),
        (["--methods", "magic"], "ltc"),
        (["--attribute", "background:land"], "name:value=prompt"),
        (["--template", "a zebra {}"], "zebra"),
    ],
)
def test_a_slip_of_the_pen_is_answered_with_what_to_write(
    world: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    result = CliRunner().invoke(app, command(world, tmp_path / "out", *more))
    assert isinstance(result.exception, hl.HeadlensError), result.output
    assert said in str(result.exception)


def test_help_needs_no_heavy_import() -> None:
    code = "import sys, headlens.cli; print([m for m in ('torch', 'pandas', 'plotly', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert shell("--help").returncode == 0
    assert shell("--version").stdout.startswith("headlens ")
    assert shell("audti").returncode == 2


def test_ctrl_c_says_that_nothing_is_lost_and_the_same_command_goes_on(world: Path, tmp_path: Path) -> None:
    import signal
    import time

    store = tmp_path / "acts.zarr"
    arguments = ["extract", "--model", "testbed", "--data", str(world / "manifest.csv"), "--out", str(store)]
    running = subprocess.Popen(
        [sys.executable, "-m", "headlens", *arguments, "--batch-size", "1"],
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not store.is_dir() and running.poll() is None:  # which is made before the first image is read
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=120)
    assert running.returncode == 130, said
    assert "goes on from there" in said
    assert "Traceback" not in said
    again = CliRunner().invoke(app, [*arguments, "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout)["images"] == 480


def test_an_error_is_one_paragraph_on_standard_error() -> None:
    done = shell("audit", "--model", "testbed", "--data", "no[t]here.csv", "--classes", "a,b", "--attribute", "c")
    assert done.returncode == 1
    assert "no[t]here.csv" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_doctor_reports_parity_and_speaks_json() -> None:
    done = shell("doctor", "testbed", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["torch"]
    assert facts["model"] == "testbed"


def test_the_example_runs(tmp_path: Path) -> None:
    import runpy

    main = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "first_look.py"))["main"]
    audit = main(tmp_path, count=240)
    assert audit.results is not None
    assert (tmp_path / "report.html").is_file()
