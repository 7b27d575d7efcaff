"""The commands of an audit: the whole of it, each of its steps, its report, and the demo."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click
from click.exceptions import Exit

from headlens.cli.app import EXIT_MISSED, app, show_facts
from headlens.cli.options import (
    DATA,
    FOLDER,
    JSON,
    MODEL,
    OPEN,
    OVERWRITE,
    REQUIRE,
    Typed,
    WholeNumber,
    arguments,
    check_known,
    command,
    head_names,
    listed,
    of_call,
    option,
    out,
)
from headlens.errors import HeadlensWarning, NothingLocatedError, TaskError
from headlens.progress import stages

if TYPE_CHECKING:
    from headlens.audit import Audit
    from headlens.cli.inputs import Checked
    from headlens.document import Document
    from headlens.steps.requirements import Requirement

_WORLDS = {"birds": "testbed", "figures": "testbed-figures"}
_PLACE = click.Path(path_type=Path)
_NOTHING = "No heads were located."
_STEP = (*FOLDER, *MODEL, *DATA, OVERWRITE, out("audit"), JSON)
_DRAWS = of_call("evaluate", ["n_random_sets", "n_bootstrap", "n_null"])


@command(
    app,
    "demo",
    option(
        "--world",
        "birds: a background bias, located and corrected; figures: a fairness audit.",
        "Data",
        type=click.Choice(list(_WORLDS)),
        default="birds",
    ),
    option("--model -m", "A testbed model that knows the world; see the model card.", "Model"),
    option("--images", "Images to draw in all; all of the world's by default.", "Data", type=WholeNumber(16)),
    _DRAWS,
    option("--seed", "Of every random draw.", "Data", type=int, default=0),
    out("demo"),
    OVERWRITE,
    JSON,
    OPEN,
    example="headlens demo --world figures",
)
def demo(typed: Typed) -> None:
    """Run the whole path on the embedded testbed, whose biased heads are known."""
    from headlens import testbed
    from headlens.audit import Audit
    from headlens.extraction import extract
    from headlens.loading import load
    from headlens.prompts import Attribute, ZeroShotTask
    from headlens.steps.saved import evaluation_record, fairness_record, refuse_other_audit

    world, folder = typed["world"], typed["out"]
    name = typed["model"] or _WORLDS[world]
    card = testbed.card(name, world)
    planted = [tuple(head) for head in card["planted_heads"]]
    draws = arguments(typed, "evaluate")
    with stages(6) as stage:
        stage(f"drawing the world {world} and reading head states")
        clip, task = load(name), ZeroShotTask(card["classes"], card["templates"])
        store = extract(clip, testbed.images(folder / "images", n=typed["images"], world=world), folder / "store.zarr")
        audit = Audit(
            clip,
            store,
            task,
            Attribute(card["attribute"]["name"], card["attribute"]["values"]),
            pairs=testbed.pairs_for(name, task.classes),
            spurious_pairs=[tuple(pair) for pair in card["spurious_pairs"]],
            seed=typed["seed"],
        )
        if not typed["overwrite"]:
            refuse_other_audit(folder, audit.question)
        if world == "birds":
            stage("locating heads")
            audit.locate()
            stage("correcting and scoring, random heads for comparison")
            audit.evaluate(**draws)
            stage("explaining the located heads")
            _explain_located(audit)
            stage("what correcting costs elsewhere")
            audit.collateral()
            stage("writing the report")

            def record() -> dict[str, Any]:
                return evaluation_record(audit.data, audit.record) | {"planted": [list(head) for head in planted]}

            _finish(audit, typed, record, [_planted(planted)], name="evaluation.json")
            return
        stage("locating candidates and explaining every head")
        audit.locate("concept+textspan")
        audit.explain()
        stage("ablating the candidates, random heads for comparison")
        audit.fairness(**draws)
        stage("what the ablation costs elsewhere")
        audit.collateral()
        stage("the same for an attribute that has nothing to do with the classes")
        control = audit.with_attribute(Attribute(card["control"]["name"], card["control"]["values"]))
        negative = control.fairness(**draws, total=0)
        stage("writing the report")

        def record_of_figures() -> dict[str, Any]:
            return fairness_record(audit.data, audit.record) | {
                "planted": [list(head) for head in planted],
                "negative_control": negative.to_dict(),
            }

        planted_line = _planted(planted)
        _finish(audit, typed, record_of_figures, [planted_line, f"Negative control: {negative.verdict.sentence}"])


def _planted(heads: Sequence[tuple[int, int]]) -> str:
    known = ", ".join(f"L{layer}H{head}" for layer, head in heads)
    return f"Planted heads: {known or 'none: the bias was not planted'}."


@command(
    app,
    "audit",
    MODEL,
    DATA,
    of_call("locate"),
    of_call("evaluate"),
    out("audit"),
    OVERWRITE,
    REQUIRE,
    JSON,
    OPEN,
    example="headlens audit --model ViT-B-16 --pretrained laion2b_s34b_b88k --data birds.csv --classes "
    "landbird,waterbird --attribute background",
)
def audit(typed: Typed) -> None:
    """Locate, correct and judge the heads that carry an attribute into a zero-shot task, on your own images."""
    from headlens.cli.inputs import check, new_audit
    from headlens.manifest import named_groups

    located, scored = _call(typed, "locate"), _call(typed, "evaluate")
    check_known("method", scored.get("methods", ()))
    checked, required = check(typed), _required(typed)
    for requirement in required:
        requirement.check_name(("zero-shot", *scored.get("methods", ("ablation", "ltc"))))
        if requirement.group:
            named_groups(requirement.group, checked.classes, list(checked.attribute[1]))
    with stages(6) as stage:
        stage(_reading(checked))
        one = new_audit(checked)
        stage(f"locating heads, {located.get('locator', 'contrastive')}")
        try:
            _locate(one, located)
        except NothingLocatedError as nothing:
            # The question stands: how each group fares is worth a report, and so is why no head was named.
            one.locate(spurious=(), source=_go_on(nothing, typed["out"]))
            scored["methods"] = [name for name in scored.get("methods", ()) if not one.methods[name].located]
        stage("correcting and scoring, random heads for comparison")
        one.evaluate(**scored)
        stage("explaining the located heads")
        _explain_located(one)
        stage("what correcting costs elsewhere")
        if one.corrections:
            one.collateral()
        stage("writing the report")
        if typed["as_json"] and one.location_note.startswith(_NOTHING):  # else it is what the table of heads says
            warnings.warn(one.location_note, HeadlensWarning, stacklevel=1)
        _finish_correction(one, typed, required)


@command(
    app,
    "fairness",
    FOLDER,
    MODEL,
    DATA,
    of_call("fairness"),
    option("--first", "Texts of a head among which a prompt must be, for TextSpan.", "Method", type=WholeNumber(1)),
    of_call("explain", ["k"]),
    out("fairness"),
    OVERWRITE,
    REQUIRE,
    JSON,
    OPEN,
    example="headlens fairness --model ViT-B-16 --pretrained laion2b_s34b_b88k --dataset facet --root facet "
    "--attribute gender_presentation",
)
def fairness(typed: Typed) -> None:
    """Find the heads that carry a demographic attribute, say what they encode, and judge what ablating them does.

    With a saved audit's FOLDER, only the judging is done, and joins that audit.
    """
    from headlens.cli.inputs import check, new_audit, open_audit

    options = _call(typed, "fairness")
    if typed["first"] is not None:
        options["options"] = options.get("options", {}) | {"first": typed["first"]}
    candidates = options.pop("heads", None) or options.pop("locator", "concept+textspan")
    others = options.pop("options", {})
    notes: tuple[str, ...] = ()
    saved = typed["folder"] is not None
    checked, required = None if saved else check(typed), _required(typed)
    for requirement in () if saved else required:
        requirement.check_name(())

    from headlens.steps.saved import fairness_record

    with stages(3 if saved else 6) as stage:
        stage("opening the audit" if checked is None else _reading(checked))
        if checked is None:
            one, folder = open_audit(typed)
        else:
            one, folder, notes = new_audit(checked), checked.out, checked.notes
            stage("locating candidates" if isinstance(candidates, str) else "the candidates as named")
            if isinstance(candidates, str):
                one.locate(candidates, **({"rule": options["rule"]} if "rule" in options else {}), **others)
            stage(f"explaining {one.store.n_layers * one.store.n_heads} heads")
            one.explain(**_call(typed, "explain"))
        stage("ablating the candidates, random heads for comparison")
        one.fairness(candidates, **options, **others)
        if checked is not None:
            stage("what the ablation costs elsewhere")
            one.collateral()
        stage("writing the report")
        _finish(
            one,
            typed,
            lambda: fairness_record(one.data, one.record),
            notes,
            required,
            folder=folder,
        )


@command(
    app,
    "new",
    MODEL,
    DATA,
    out("audit"),
    OVERWRITE,
    JSON,
    example="headlens new --model testbed --store demo/store.zarr --classes landbird,waterbird --attribute background",
)
def new(typed: Typed) -> None:
    """Put a question to a data set and save it as an audit, without taking a step yet."""
    from headlens.cli.inputs import check, new_audit

    checked = check(typed)
    one = new_audit(checked)
    one.save(checked.out, typed["overwrite"])
    facts: dict[str, Any] = {"audit": str(checked.out), "identity": one.identity, "splits": one.splits.note}
    found = [finding.to_dict() if typed["as_json"] else finding.sentence for finding in one.findings]
    show_facts(facts | {"findings": found if typed["as_json"] else " ".join(map(str, found))}, as_json=typed["as_json"])


@command(app, "locate", _STEP, of_call("locate"), example="headlens locate audit/ --locator concept")
def locate(typed: Typed) -> None:
    """Find the heads that carry the attribute into the task, and keep them in the audit's folder."""
    one, folder = _opened(typed, "locate")
    found = _locate(one, _call(typed, "locate"))
    _save(one, folder)
    facts = {
        "audit": str(folder),
        "locator": found.method,
        **_roles(found, typed["as_json"]),
        "note": one.location_note,
        "splits": one.splits.note,
    }
    show_facts(facts, as_json=typed["as_json"])


@command(
    app,
    "explain",
    _STEP,
    option("--head", "One head's texts, such as L10H3; may be repeated.", "Method", multiple=True),
    of_call("explain"),
    example="headlens explain audit/ --head L3H0",
)
def explain(typed: Typed) -> None:
    """Say what heads encode: a table of every head with its label and texts, or the texts of some.

    With options that differ from those of the explanations in the folder, what was found is shown and not saved, since
    other figures rest on what is there; --overwrite replaces it.
    """
    named = [name for text in typed["head"] for name in head_names(text)]
    one, folder = _opened(typed, "explain")
    from headlens.document import show_section
    from headlens.document.heads import all_texts_section, overview_section, poles_section, texts_section
    from headlens.heads import as_heads
    from headlens.steps.record import Explain, last

    wanted = as_heads(named, one.store.n_layers, one.store.n_heads)
    options = _call(typed, "explain")
    every, before = one.store.n_layers * one.store.n_heads, last(one.record, Explain)
    if options or len(one.explanations) < every:
        one.explain(**options)
        saved = not options or before is None or before in one.record or typed["overwrite"]
        if saved:
            _save(one, folder)
        else:
            warnings.warn(
                f"This is shown and not saved: {folder} keeps the explanations that it has, on which other figures "
                "rest. --overwrite replaces them.",
                HeadlensWarning,
                stacklevel=1,
            )
    explained = {head: one.explanations[head] for head in wanted or one.explanations}
    if typed["as_json"]:
        _json({"audit": str(folder), "heads": {str(head): each.to_dict() for head, each in explained.items()}})
        return
    if not wanted:
        show_section(overview_section(one))
        show_section(all_texts_section(one.explanations))
    titles = one.titles if wanted else {}
    for head in wanted:
        show_section(replace(poles_section(one, explained[head]), title=f"Head {head}: {titles[head]}"))
        show_section(texts_section(explained[head]))


@command(
    app,
    "correct",
    _STEP,
    of_call("correct"),
    option("--saved", "A saved audit from which to take the fitted correction --name.", "Method", type=_PLACE),
    example="headlens correct audit/ --methods ltc,roboshot",
)
def correct(typed: Typed) -> None:
    """Fit corrections on the reference split and save each in a folder that `hl.correct.load_correction` opens."""
    one, folder = _opened(typed, "correct")
    options = _call(typed, "correct")
    name = options.get("name")
    from headlens.audit import Audit
    from headlens.steps.saved import correction_folders

    if typed["saved"] is not None:
        known = Audit.load(typed["saved"], one.clip, one.store).corrections
        if name not in known:
            raise TaskError(
                f"The audit in {typed['saved']} has no correction {name!r}.", f"It has {', '.join(known) or 'none'}."
            )
        one.correct(known[name], name=name)
        names = [name]
    else:
        methods = options.get("method", ["ltc"])
        if name is not None and len(methods) != 1:
            raise TaskError("--name goes with one method.", "Leave it out, or name one method with --methods.")
        names = [name or method for method in methods]
        for method, called in zip(methods, names, strict=True):
            one.correct(method, name=called)
    _save(one, folder)
    places = correction_folders(folder)
    where = {called: str(places[called]) for called in names}
    facts: dict[str, Any] = {
        "audit": str(folder),
        "fitted on": f"{len(one.data.reference)} images of the split {one.question.reference}",
    }
    if one.location is not None:
        facts |= _roles(one.location, typed["as_json"])
    show_facts(facts | ({"corrections": where} if typed["as_json"] else where), as_json=typed["as_json"])


@command(app, "evaluate", _STEP, of_call("evaluate"), REQUIRE, OPEN, example="headlens evaluate audit/ --methods ltc")
def evaluate(typed: Typed) -> None:
    """Score corrections on the test split, against zero-shot and against random heads, and write the report.

    Without --methods those that are fitted are scored, and where none is, ablation and LTC.
    """
    required = _required(typed)
    one, folder = _opened(typed, "evaluate")
    options = _call(typed, "evaluate")
    if "methods" not in options and one.corrections:
        options["methods"] = [name for name in one.corrections if name in one.methods]
    if one.fairness_results is None:
        for requirement in required:
            requirement.check_name(("zero-shot", *one.corrections, *options.get("methods", ("ablation", "ltc"))))
    one.evaluate(**options)
    _finish_correction(one, typed, required, folder=folder)


@command(app, "collateral", _STEP, of_call("collateral"), example="headlens collateral audit/ --methods ltc")
def collateral(typed: Typed) -> None:
    """Measure what corrections cost elsewhere: other classes, other attributes, nearest images."""
    one, folder = _opened(typed, "collateral")
    from headlens.document import show_section
    from headlens.document.collateral import elsewhere_section
    from headlens.manifest import parse_attribute
    from headlens.prompts import Attribute

    options = _call(typed, "collateral")
    others = [parse_attribute(text, one.store.manifest) for text in options.pop("attributes", ())]
    found = one.collateral([Attribute(name, dict(values)) for name, values in others], **options)
    _save(one, folder)
    if typed["as_json"]:
        _json({"audit": str(folder), **found.to_dict()})
    else:
        show_section(replace(elsewhere_section(one), brief_table=True))


@command(app, "ablate", _STEP, of_call("ablate"), example="headlens ablate audit/ --heads L3H0,L3H1")
def ablate(typed: Typed) -> None:
    """Replace chosen heads by their reference means: accuracies and Cramér's V before and after, and random heads."""
    one, folder = _opened(typed, "ablate")
    from headlens.document import show_section
    from headlens.document.correction import ablation_section

    found = one.ablate(**({"heads": []} | _call(typed, "ablate")))
    _save(one, folder)
    if typed["as_json"]:
        _json({"audit": str(folder), "measures": found.table().to_dict("records")})
    else:
        show_section(ablation_section(found))


@command(
    app,
    "report",
    (click.RichArgument(["folder"], type=_PLACE),),
    option("--out -o", "The report; by default FOLDER/report.html.", "Output", type=_PLACE),
    option("--card", "The model card's section; by default FOLDER/card.md.", "Output", type=_PLACE),
    option(
        "--images",
        "Images with per-token maps; 0 needs neither the model nor the images.",
        "Output",
        type=WholeNumber(0),
        default=4,
    ),
    MODEL,
    JSON,
    OPEN,
    example="headlens report audit/ --images 0",
)
def report(typed: Typed) -> None:
    """Write a saved audit's report.html and card.md again."""
    from headlens.cli.inputs import check_folder, load_model

    folder = typed["folder"]
    check_folder(folder)
    from headlens.audit import Audit

    one = Audit.load(folder)
    if typed["images"]:
        one = Audit.load(folder, load_model(typed, one.question.model), one.store)
    page = one.report(typed["out"] or folder / "report.html", typed["images"])
    card = _write_card(one, typed["card"] or folder / "card.md")
    show_facts({"audit": str(folder), "report": str(page), "card": str(card)}, as_json=typed["as_json"])
    if typed["open_report"]:
        _open_in_browser(page)


@command(
    app,
    "compare",
    (click.RichArgument(["first"], type=_PLACE), click.RichArgument(["second"], type=_PLACE)),
    option("--out -o", "The page to write; Markdown where the name ends in .md.", "Output", type=_PLACE),
    option("--names", "What to call the two audits: FIRST,SECOND; by default the names of their folders.", "Output"),
    JSON,
    OPEN,
    example="headlens compare audit/ audit-other-prompts/ --out compared.html",
)
def compare(typed: Typed) -> None:
    """Put two saved audits side by side: questions, verdicts, heads, and accuracies with their differences.

    Differences are SECOND minus FIRST. Nothing is run again, and no model is loaded.
    """
    from headlens.cli.inputs import check_folder

    names = listed(typed["names"] or "")
    if typed["names"] is not None and len(names) != 2:
        raise TaskError(
            f"{typed['names']!r} is not two names, FIRST,SECOND.", "Write for example --names before,after."
        )
    for folder in (typed["first"], typed["second"]):
        check_folder(folder)
    from headlens import steps
    from headlens.document import markdown, show, write
    from headlens.document.comparison import comparison_document
    from headlens.document.formatting import today
    from headlens.serialization import write_whole

    found, page = steps.compare(typed["first"], typed["second"], names), typed["out"]
    document = comparison_document(found, today())
    if page is not None and page.suffix == ".md":
        page.parent.mkdir(parents=True, exist_ok=True)
        write_whole(page, markdown(document))
    elif page is not None:
        write(document, page)
    if typed["as_json"]:
        _json(found.to_dict())
    else:
        show(document, [] if page is None else [f"report: {page}"])
    if page is not None and typed["open_report"]:
        _open_in_browser(page)


# ---- what the commands share ----------------------------------------------------------------------------------------


def _opened(typed: Typed, verb: str) -> tuple[Audit, Path]:
    from headlens.cli.inputs import open_audit

    _call(typed, verb)  # a mistyped option is an error before the model is loaded
    return open_audit(typed)


def _call(typed: Typed, verb: str) -> dict[str, Any]:
    """The arguments of a call that were typed; thresholds as the rules that they belong to."""
    given = arguments(typed, verb)
    for name, kind in (("rule", "LabelRule" if verb == "explain" else "ConceptRule"), ("verdict_rule", "FairnessRule")):
        if name in given:
            given[name] = _rule(kind, given[name])
    return given


def _rule(kind: str, values: dict[str, Any]) -> Any:
    from headlens.explain import LabelRule
    from headlens.locate import ConceptRule
    from headlens.steps import FairnessRule

    rule = {"LabelRule": LabelRule, "ConceptRule": ConceptRule, "FairnessRule": FairnessRule}[kind]
    try:
        return rule(**values)
    except TypeError as error:
        known = ", ".join(vars(rule())) or "none"
        raise TaskError(f"{', '.join(values)}: not all of these are thresholds.", f"There are {known}.") from error


def _locate(one: Audit, given: dict[str, Any]) -> Any:
    """Locate as was typed: by a locator, or the heads that were named."""
    options = given.pop("options", {})
    return one.locate(given.pop("locator", "contrastive"), **given, **options)


def _reading(checked: Checked) -> str:
    if checked.manifest is None:
        return "head states from the store"
    return f"head states of {len(checked.manifest):,} images"


def _go_on(nothing: NothingLocatedError, out: Path) -> str:
    """Why no heads were located, and the commands that go on from there."""
    folder = shlex.quote(str(out))
    return (
        f"{_NOTHING} {nothing} To locate them by what they encode instead: headlens locate {folder} "
        f"--locator concept+textspan && headlens evaluate {folder} --methods ablation,ltc"
    )


def _explain_located(one: Audit) -> None:
    """Explain the heads that the report shows one by one, where the model can read the texts of the bank."""
    from headlens.document.heads import shown_heads

    if (heads := shown_heads(one)) and one.clip is not None:
        one.explain(heads)


def _required(typed: Typed) -> list[Requirement]:
    if not typed["require"]:
        return []
    from headlens.steps.requirements import parse_requirement

    return [parse_requirement(text) for text in typed["require"]]


def _finish_correction(one: Audit, typed: Typed, required: Sequence[Requirement], folder: Path | None = None) -> None:
    from headlens.steps.saved import evaluation_record

    _finish(
        one,
        typed,
        lambda: evaluation_record(one.data, one.record),
        (),
        required,
        folder=folder,
    )


def _finish(
    one: Audit,
    typed: Typed,
    record: Callable[[], dict[str, Any]],
    more: Sequence[str] = (),
    required: Sequence[Requirement] = (),
    *,
    folder: Path | None = None,
    name: str = "",
) -> None:
    """Save, write report and card, print the record as JSON, or the audit and `more`; exit as was required."""
    from headlens.document import show, write
    from headlens.document.audit import audit_document
    from headlens.document.formatting import today
    from headlens.serialization import write_json
    from headlens.steps.requirements import check_requirements

    folder = typed["out"] if folder is None else folder
    _save(one, folder, typed.get("overwrite", False))
    found = record()
    if name:
        write_json(folder / name, found)
    document = audit_document(one, date=today())
    page = write(document, folder / "report.html")
    _write_card(one, folder / "card.md", document)
    outcomes = check_requirements(one.results, one.fairness_results, required)
    if outcomes:
        found |= {"requirements": [{"required": str(each.requirement), **asdict(each)} for each in outcomes]}
    if typed["as_json"]:
        _json(found)
    else:
        show(document, [*more, f"report: {page}"])
    if _wants_report(typed):
        _open_in_browser(page)
    for outcome in outcomes:
        click.secho(outcome.sentence, fg="green" if outcome.met else "red", err=True)
    if not all(outcome.met for outcome in outcomes):
        raise Exit(EXIT_MISSED)


def _save(one: Audit, folder: Path, overwrite: bool = False) -> None:
    """Save; a step of the folder that is replaced by the same one with other options is named."""
    from headlens.steps.saved import saved_calls

    before = {} if overwrite else saved_calls(folder)
    one.save(folder, overwrite)
    after = saved_calls(folder)
    for step, call in before.items():
        now = after.get(step, call)
        if changed := [f"{key} {value} → {now.get(key)}" for key, value in call.items() if now.get(key) != value]:
            click.echo(f"Replaced in {folder}: {' '.join(step).lower().strip()} ({'; '.join(changed)}).", err=True)


def _write_card(one: Audit, path: Path, document: Document | None = None) -> Path:
    from headlens.document.markdown import card
    from headlens.serialization import write_whole

    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, card(one, document=document))
    return path


def _wants_report(typed: Typed) -> bool:
    """What was asked; the demo shows its report to a person at a terminal."""
    if typed["open_report"] is not None:
        return bool(typed["open_report"])
    return "world" in typed.values and sys.stdout.isatty() and not typed["as_json"] and not os.environ.get("CI")


def _open_in_browser(page: Path) -> None:
    """Open the report where there is a screen; elsewhere the path that was printed is enough."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if screen:
        webbrowser.open(page.resolve().as_uri())


def _roles(located: Any, as_json: bool) -> dict[str, Any]:
    roles = {role: getattr(located, role) for role in ("spurious", "salient")}
    if as_json:
        return {role: [list(head) for head in heads] for role, heads in roles.items()}
    return {role: ", ".join(map(str, heads)) or "none" for role, heads in roles.items()}


def _json(found: dict[str, Any]) -> None:
    from headlens.serialization import to_json

    click.echo(to_json(found))
