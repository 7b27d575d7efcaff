"""The record of an audit: no step is lost, none is made twice, and the record alone repeats the audit."""

import json
import shutil
import warnings
from dataclasses import fields, replace
from pathlib import Path

import fairness_example
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import headlens as hl
from headlens.cli.app import app
from headlens.correct import MeanAblation, PrototypeAblation, ZeroAblation
from headlens.correct.base import CORRECTIONS
from headlens.errors import CorrectionError, HeadlensWarning, OutputError, UnknownNameError
from headlens.heads import as_heads
from headlens.manifest import named_groups
from headlens.serialization import digest
from headlens.steps import AuditData, record
from headlens.steps.record import Record
from headlens.steps.saved import FORMAT

FEW = {"n_random_sets": 3, "n_bootstrap": 11}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> hl.Audit:
    return fairness_example.audit(tmp_path_factory.mktemp("record") / "images")


def fresh(example: hl.Audit, **changes: object) -> hl.Audit:
    """The same question, or one that differs in some fields, with nothing taken yet."""
    question = replace(example.question, **changes)
    return hl.Audit.of(AuditData(question, example.store, None, example.data.texts))


def replayed(audit: hl.Audit, other: hl.Audit) -> hl.Audit:
    """Another audit of the same question, after the calls of the first one's script."""
    lines = [line for line in audit.script().splitlines() if line.startswith("audit.")]
    names = {"hl": hl, "audit": other, "saved": audit}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what the record holds drops nothing
        for line in lines:
            exec(line, names)
    return other


def results(taken: Record) -> dict[object, str]:
    return {step.call: digest(step.result) for step in taken}


def same(one: hl.Audit, other: hl.Audit) -> None:
    assert [step.call for step in one.record] == [step.call for step in other.record]
    for mine, theirs in zip(one.record, other.record, strict=True):
        assert digest(mine.result) == digest(theirs.result), mine.call


def test_a_correction_of_ones_own_survives_evaluate(example: hl.Audit) -> None:
    audit = fresh(example)
    audit.correct(MeanAblation(["L2H4"]), name="mine")
    found = audit.evaluate(["ablation"], **FEW)  # locates, because ablation needs heads
    assert list(found.evaluations) == ["zero-shot", "mine", "ablation"]
    assert list(audit.corrections) == ["mine", "ablation"]


def test_methods_with_their_own_locator_stand_beside_those_of_the_audit(example: hl.Audit) -> None:
    audit = fresh(example)
    assert list(audit.evaluate(["ltc full", "ltc"], controls=[], **FEW).evaluations) == ["zero-shot", "ltc full", "ltc"]
    alone = fresh(example)
    alone.evaluate(["ltc full"], controls=[], **FEW)
    assert list(alone.corrections) == ["ltc full"]
    assert alone.location is None


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"methods": ["ablation"], "controls": ["ltc"]}, CorrectionError, "'ltc' is not among the scored methods"),
        ({"methods": ["ablation"], "judged": "ltc"}, CorrectionError, "judged method 'ltc'"),
        ({"methods": ["roboshot"], "controls": ["roboshot"]}, CorrectionError, "no located heads"),
        ({"methods": ["ablation", "magic"]}, UnknownNameError, "magic"),
    ],
)
def test_every_name_is_resolved_before_anything_is_computed(example, arguments, error, said) -> None:
    audit = fresh(example)
    with pytest.raises(error, match=said):
        audit.evaluate(**arguments)
    assert audit.record == ()


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda a: hl.Audit(a.clip, a.store, a.task, "scenery"), "attribute has the type str.*hl.Attribute"),
        (lambda a: hl.Audit(a.clip, a.store, a.task, {"land": "a land"}), "attribute has the type dict"),
        (
            lambda a: hl.Audit(a.clip, a.store, list(a.task.classes), a.attribute),
            "task has the type list.*ZeroShotTask",
        ),
        (lambda a: hl.Audit(a.store, a.clip, a.task, a.attribute), "clip has the type HeadStore.*The order is"),
        (lambda a: hl.Audit(a.clip, "acts.zarr", a.task, a.attribute), "store has the type str.*HeadStore.open"),
        (lambda a: hl.Audit.load("folder", "testbed"), "clip has the type str"),
        (lambda a: a.with_attribute("scenery"), "attribute has the type str"),
        (lambda a: hl.ZeroShotTask({"a": "a photo of a", "b": "a photo of b"}), "a list of two classes"),
        (lambda a: hl.ZeroShotTask(3), "a list of two classes"),
        (lambda a: a.locate(conflicting=["nurse-man"]), "no group of a class and a value.*CLASS/VALUE"),
        (lambda a: a.locate(conflicting=3), "3 is no group"),
        (lambda a: a.locate(["contrastive"]), "locator has the type list.*Pass one of contrastive"),
        (lambda a: a.correct(["ltc"]), "method has the type list.*audit.correct"),
        (lambda a: a.evaluate([ZeroAblation(["L3H0"])]), "methods has the type ZeroAblation.*Pass names"),
        (lambda a: a.evaluate(3), "methods has the type int"),
        (lambda a: a.explain(3), "3 names no head"),
        (lambda a: a.fairness(3), "3 names no head"),
        (lambda a: a.collateral(["background"]), "attributes has the type str"),
        (lambda a: hl.decompose("testbed", torch.zeros(1, 3, 5, 7)), "A str is no hooked model"),
        (lambda a: hl.extract("testbed", a.store.manifest, "acts.zarr"), "clip has the type str.*The order is"),
    ],
)
def test_an_argument_of_another_type_is_one_sentence_with_what_to_pass(example: hl.Audit, call, said: str) -> None:
    with pytest.raises(hl.HeadlensError, match=said):
        call(example)


@pytest.mark.usefixtures("without_shape_checks")
def test_what_an_own_locator_score_or_method_returns_is_checked(
    example: hl.Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for registry in (hl.steps.LOCATORS, hl.steps.SCORES):
        monkeypatch.setitem(registry._entries, "mine", lambda evidence: [(3, 0)])
    monkeypatch.setitem(hl.steps.METHODS._entries, "mine", hl.steps.Method(lambda known: ["L3H0"], ()))
    with pytest.raises(hl.HeadlensError, match=r"the locator 'mine' returned has the type list.*hl\.locate\.Located"):
        fresh(example).locate("mine")
    with pytest.raises(hl.HeadlensError, match=r"the score 'mine' returned has the type list.*hl\.HeadScores"):
        example.scores("mine")
    with pytest.raises(hl.HeadlensError, match=r"method's function returned has the type list"):
        fresh(example).correct("mine")


def test_one_head_and_one_group_may_be_written_in_any_form(example: hl.Audit) -> None:
    for head in ("L3H0", "3.0", (3, 0), hl.HeadId(3, 0), "3,0", "(3, 0)", ["L3H0"], [(3, 0)], "L3H0"):
        assert as_heads(head, 4, 8) == ((3, 0),)
    assert as_heads(((3, 0), (2, 1)), 4, 8) == ((3, 0), (2, 1))
    classes, values = ["a/b", "c"], ["x", "y"]
    for groups in ("a/b/x", ["a/b/x"], [("a/b", "x")], [["a/b", "x"]]):
        assert named_groups(groups, classes, values) == (("a/b", "x"),)


def test_a_verdict_names_its_method_and_the_heads_of_that_method(example: hl.Audit) -> None:
    audit = fresh(example)
    audit.locate(spurious=["L0H1"], source="by hand")
    verdict = audit.evaluate(["ablation", "ablation textspan"], controls=[], **FEW).verdict
    assert (verdict.method, verdict.heads) == ("ablation textspan", audit.fitted["ablation textspan"].heads)
    assert verdict.heads != audit.location.spurious
    verdict = audit.evaluate(["roboshot"], **FEW).verdict
    assert (verdict.method, verdict.heads) == ("roboshot", ())
    assert verdict.sentence.startswith("Correction by 'roboshot'")


def test_fairness_does_not_depend_on_what_was_called_before(example: hl.Audit) -> None:
    settings = FEW | {"n_permutations": 9}
    one, other = fresh(example), fresh(example)
    other.locate("contrastive")
    other.evaluate(["ablation"], controls=[], **FEW)
    alone, second = one.fairness("concept", **settings), other.fairness("concept", **settings)
    # But for the verdict's level, which the questions asked of the same images share.
    assert (alone.verdict.questions, second.verdict.questions) == (1, 2)
    same = {"verdict": alone.verdict, "removed": alone.removed, "dependence": alone.dependence}
    assert digest(alone) == digest(replace(second, **same))
    assert one.location is None
    by_scores = [fresh(example), other]
    alone, second = (audit.fairness("contrastive", n_null=0, **settings) for audit in by_scores)
    assert digest(alone.located) == digest(second.located)


def test_locating_other_heads_drops_what_rested_on_the_old_ones_and_names_it(example: hl.Audit) -> None:
    audit = fresh(example)
    audit.locate("concept", rule=hl.locate.ConceptRule(0, 0, 0.5, 0))
    audit.correct("ablation")
    audit.correct("roboshot")
    audit.correct(ZeroAblation(["L1H1"]))
    audit.evaluate(["ablation"], controls=[], **FEW)
    with pytest.warns(HeadlensWarning, match="the correction 'ablation', the evaluation no longer hold"):
        audit.locate("contrastive")
    assert list(audit.corrections) == ["roboshot", "ZeroAblation"]
    assert audit.results is None


def test_a_second_correction_does_not_replace_the_first(example: hl.Audit) -> None:
    audit = fresh(example)
    audit.correct(MeanAblation(["L0H0"]))
    audit.correct(MeanAblation(["L0H1"]))
    assert list(audit.corrections) == ["MeanAblation", "MeanAblation 2"]
    audit.correct(MeanAblation(["L0H0"]), name="MeanAblation")  # the same again
    audit.evaluate([], controls=[], **FEW)
    with pytest.raises(CorrectionError, match="Another correction is already named"):
        audit.correct(MeanAblation(["L2H2"]), name="MeanAblation")
    with pytest.warns(HeadlensWarning, match="the evaluation"):
        audit.correct(MeanAblation(["L2H2"]), name="MeanAblation", replace=True)
    assert audit.corrections["MeanAblation"].heads == ((2, 2),)


def test_unfitted_prototypes_with_other_members_differ(example: hl.Audit) -> None:
    first, second = (np.arange(len(example.data.reference)) % 3 == part for part in (0, 1))
    one, other = (PrototypeAblation(["L0H0"], torch.from_numpy(m)) for m in (first, second))
    assert digest(one) != digest(other)


def test_explanations_go_along_only_where_a_fresh_audit_would_find_the_same(example: hl.Audit) -> None:
    audit = fresh(example)
    audit.explain(["L0H1"], k=2, n_bootstrap=0)
    assert audit.asking(task=hl.ZeroShotTask(audit.task.classes, "another {}")).record == audit.record
    for change in ({"seed": 1}, {"reference": "test", "test": "val"}, {"bank": audit.question.bank.take(range(9))}):
        assert audit.asking(**change).record == ()
    halves = audit.store.manifest.assign(split=["val"] * 30 + ["test"] * 30 + ["rest"] * (len(audit.store) - 60))
    other = hl.Audit.of(AuditData(audit.question, audit.store.with_manifest(halves), None, audit.data.texts))
    other.explain(["L0H1"], k=2, n_bootstrap=0)
    assert other.asking(test="rest").record == ()  # labels are tested on the scored images


def test_the_script_counts_questions_that_were_asked_by_calls_that_were_replaced(example: hl.Audit) -> None:
    audit = fresh(example)
    audit.fairness("concept", n_null=0, n_permutations=9, **FEW)
    for judged in ("roboshot", "ablation"):
        audit.evaluate(["roboshot", "ablation"], judged=judged, controls=[], n_null=0, **FEW)
    assert (audit.fairness_results.verdict.questions, audit.results.verdict.questions) == (1, 3)
    same(replayed(audit, fresh(example)), audit)


def test_text_pairs_are_frozen_however_they_come(example: hl.Audit) -> None:
    pairs = [["a cook in an apron", "a nurse in white"]]
    other = example.asking(pairs=pairs)
    assert other.question.pairs == tuple(map(tuple, pairs))
    assert hash(other.question.pairs) and other.identity == fresh(example, pairs=other.question.pairs).identity


def test_every_field_of_a_question_but_the_models_name_is_in_its_identity(example: hl.Audit) -> None:
    asked, pairs, bank = example.question, (("a cook", "a nurse"),), example.question.bank
    changes = {
        "fingerprint": "another",
        "manifest": "another",
        "task": hl.ZeroShotTask(asked.task.classes, "another {}"),
        "attribute": hl.Attribute("presentation", {"feminine": "one", "masculine": "other"}),
        "reference": "train",
        "test": "dev",
        "pairs": pairs,
        "spurious_pairs": pairs,
        "crossed_pairs": pairs,
        "bank": bank.take(range(1, len(bank))),
        "seed": 1,
        "skip_unlabelled": True,
    }
    assert {"model", *changes} == {one.name for one in fields(asked)}
    found = {asked.identity, *(replace(asked, **{name: value}).identity for name, value in changes.items())}
    assert len(found) == 1 + len(changes)
    assert replace(asked, model="another name").identity == asked.identity


# ---- folders --------------------------------------------------------------------------------------------------------


def test_what_differs_is_named_and_can_be_overwritten_on_purpose(example: hl.Audit, tmp_path: Path) -> None:
    one = fresh(example)
    one.correct("roboshot")
    one.save(tmp_path / "audit")
    before = {path.name: path.read_bytes() for path in (tmp_path / "audit").iterdir() if path.is_file()}
    pairs = (("a cook", "a nurse"),)
    other = fresh(example, seed=1, pairs=pairs, skip_unlabelled=True)
    with pytest.raises(OutputError) as refused:
        other.save(tmp_path / "audit")
    for said in ("pairs the default → 1 pairs", "seed 0 → 1", "skip unlabelled False → True", "overwrite=True"):
        assert said in str(refused.value)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "audit").iterdir() if path.is_file()}
    other.save(tmp_path / "audit", overwrite=True)
    assert hl.Audit.load(tmp_path / "audit", store=example.store).question == other.question
    assert not list((tmp_path / "audit" / "corrections").iterdir())


def test_saving_again_leaves_nothing_stale_and_a_moved_folder_is_the_same_audit(example: hl.Audit, tmp_path) -> None:
    audit = fresh(example)
    audit.locate("concept", rule=hl.locate.ConceptRule(0, 0, 0.5, 0))
    audit.evaluate(["ablation"], controls=[], **FEW)
    audit.save(tmp_path / "audit")
    with pytest.warns(HeadlensWarning):
        audit.locate("contrastive")
    audit.correct("roboshot")
    audit.save(tmp_path / "audit")
    (kept,) = (tmp_path / "audit" / "corrections").iterdir()
    assert kept.name.startswith("roboshot")
    assert not (tmp_path / "audit" / "evaluation.json").exists()
    assert len(list((tmp_path / "audit").glob("arrays*"))) == 1
    shutil.move(tmp_path / "audit", tmp_path / "moved")
    again = hl.Audit.load(tmp_path / "moved", store=example.store)
    same(again, audit)
    again.save(tmp_path / "moved")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda saved: "{", "damaged"),
        (lambda saved: json.dumps(saved | {"format": 2, "headlens": "0.1"}), "saved by headlens 0.1 in format 2"),
        (lambda saved: json.dumps(saved | {"record": [{"call": {"type": "Locate"}}]}), "damaged"),
        (lambda saved: json.dumps(saved | {"files": {"arrays": "gone", "texts": "gone"}}), "damaged"),
        (lambda saved: json.dumps(saved | {"question": []}), "damaged"),
    ],
)
def test_a_damaged_or_older_audit_is_one_sentence(example: hl.Audit, tmp_path, damage, said) -> None:
    fresh(example).save(tmp_path)
    saved = json.loads((tmp_path / "audit.json").read_text())
    (tmp_path / "audit.json").write_text(damage(saved))
    with pytest.raises(OutputError, match=said) as error:
        hl.Audit.load(tmp_path, store=example.store)
    assert error.value.remedy


def test_a_correction_whose_code_is_not_imported_is_named_for_what_it_is(
    example: hl.Audit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = fresh(example)
    audit.correct(ZeroAblation(["L1H0"]), name="damp")
    audit.save(tmp_path)
    monkeypatch.delitem(CORRECTIONS._entries, ZeroAblation.name)
    with pytest.raises(CorrectionError, match=f"of the kind {ZeroAblation.name!r}.* Import the code that defines it"):
        hl.Audit.load(tmp_path)


def older(**changes: object):
    """`audit.json` as a version before this one might have written it."""
    return lambda saved: saved | {"headlens": "0.0.7"} | changes


def of_another_question(saved: dict) -> dict:
    return older(question=saved["question"] | {"strictness": 3})(saved)


def without_a_field(saved: dict) -> dict:
    return older(question={name: value for name, value in saved["question"].items() if name != "bank"})(saved)


def with_another_result(saved: dict) -> dict:
    step = saved["record"][0]
    return older(record=[step | {"result": step["result"] | {"gone": 1}}, *saved["record"][1:]])(saved)


@pytest.mark.parametrize(
    "change",
    [
        older(format=3),
        older(format=None),
        older(format=FORMAT + 1),
        of_another_question,
        without_a_field,
        with_another_result,
    ],
)
def test_an_audit_of_another_version_is_one_sentence_and_nothing_is_lost(
    example: hl.Audit, tmp_path: Path, change
) -> None:
    audit = fresh(example)
    audit.locate("concept", rule=hl.locate.ConceptRule(0, 0, 0.5, 0))
    audit.save(tmp_path)
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(OutputError, match=r"saved by headlens 0\.0\.7") as error:
        hl.Audit.load(tmp_path, store=example.store)
    assert "\n" not in str(error.value) and "Run the audit again from its store" in error.value.remedy
    shell = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert shell.exit_code != 0 and "saved by headlens 0.0.7" in str(shell.exception)
    other = hl.Audit.of(AuditData(replace(audit.question, seed=3), example.store, None, example.data.texts))
    with pytest.raises(OutputError, match="overwrite=True"):
        other.save(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    other.save(tmp_path, overwrite=True)
    same(hl.Audit.load(tmp_path, store=example.store), other)


def test_a_field_that_a_later_version_added_has_its_default(example: hl.Audit, tmp_path: Path) -> None:
    audit = fresh(example)
    audit.save(tmp_path)
    saved = json.loads((tmp_path / "audit.json").read_text())
    del saved["question"]["skip_unlabelled"], saved["asked"]
    (tmp_path / "audit.json").write_text(json.dumps(saved | {"headlens": "0.0.7"}))
    same(hl.Audit.load(tmp_path, store=example.store), audit)


# ---- any order of calls ---------------------------------------------------------------------------------------------

_EXAMPLE: list[hl.Audit] = []


@pytest.fixture(scope="module", autouse=True)
def shared(example: hl.Audit):
    _EXAMPLE[:] = [example]


class AnyOrder(RuleBasedStateMachine):
    """Any order of steps: what was fitted stays unless a warning named it, and the script gives the same results."""

    @initialize()
    def begin(self) -> None:
        self.audit = fresh(_EXAMPLE[0])
        self.folder: Path | None = None

    def take(self, step) -> None:
        before = dict(self.audit.fitted), {s.call: s.result for s in self.audit.record}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
        said = " ".join(str(one.message) for one in caught if issubclass(one.category, HeadlensWarning))
        for name in set(before[0]) - set(self.audit.fitted):
            assert f"'{name}'" in said
        for step_now in self.audit.record:
            if step_now.call in before[1] and not said:
                assert step_now.result is before[1][step_now.call]  # nothing is computed twice

    @rule(locator=st.sampled_from(["contrastive", "contrastive-full", "concept"]), n_bootstrap=st.sampled_from([0, 3]))
    def locate(self, locator: str, n_bootstrap: int) -> None:
        self.take(lambda: self.audit.locate(locator, n_bootstrap=n_bootstrap))

    @rule(method=st.sampled_from(["ablation", "roboshot", "zero ablation", "ltc full"]))
    def correct(self, method: str) -> None:
        self.take(lambda: self.audit.correct(method))

    @rule(head=st.sampled_from(["L0H1", "L2H4"]))
    def correct_own(self, head: str) -> None:
        self.take(lambda: self.audit.correct(ZeroAblation([head]), name=f"zero {head}"))

    @rule(methods=st.lists(st.sampled_from(["ablation", "roboshot"]), unique=True), n_bootstrap=st.sampled_from([7, 9]))
    def evaluate(self, methods: list[str], n_bootstrap: int) -> None:
        self.take(lambda: self.audit.evaluate(methods, n_random_sets=2, n_bootstrap=n_bootstrap))

    @rule(locator=st.sampled_from(["contrastive", "concept"]))
    def fairness(self, locator: str) -> None:
        self.take(lambda: self.audit.fairness(locator, n_random_sets=2, n_bootstrap=7, n_permutations=5))

    @rule(heads=st.sampled_from([["L0H1"], ["L2H4", "L1H1"]]))
    def explain(self, heads: list[str]) -> None:
        self.take(lambda: self.audit.explain(heads, k=2, n_bootstrap=0))

    @rule()
    def collateral(self) -> None:
        self.take(lambda: self.audit.collateral(n_bootstrap=7))

    @precondition(lambda self: self.audit.record)
    @rule()
    def save_and_load(self) -> None:
        folder = Path(_EXAMPLE[0].store.path).parent / "state-machine"
        self.audit.save(folder, overwrite=True)
        again = hl.Audit.load(folder, store=_EXAMPLE[0].store)
        same(again, self.audit)
        again.data = self.audit.data  # whose texts can be asked for anything
        self.audit = again

    @rule()
    def another_attribute(self) -> None:
        other = self.audit.with_attribute(hl.Attribute("warmth", {"warm": "warm one", "cold": "cold one"}))
        assert {type(step.call) for step in other.record} <= {record.Explain}

    def teardown(self) -> None:
        if hasattr(self, "audit"):
            same(replayed(self.audit, fresh(_EXAMPLE[0])), self.audit)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=15,
    stateful_step_count=8,
    phases=(Phase.generate,),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)
