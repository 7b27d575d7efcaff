"""Run every method of the registry on a suite.

Steps: read the data set; fill the store, which goes on from where an interrupted run stopped; locate, or take over
heads that were located elsewhere; fit every method on the reference split, where one that cannot be fitted here gives
its reason in place of numbers; score all on the test split, with random heads instead of the located ones for the
methods that are asked for; measure what the suite measures beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from headlens.audit import Audit
from headlens.benchmark.by_candidates import methods_by_candidates, two_candidates
from headlens.benchmark.by_class import Rivals, class_heads, class_rivals, methods_by_class
from headlens.benchmark.carried import CarriedHeads, heads_of, read_heads
from headlens.benchmark.given import FAMILIES, family, given
from headlens.benchmark.kept import Kept
from headlens.benchmark.measures import measure_all
from headlens.benchmark.proposed import NAME as PROPOSED
from headlens.benchmark.proposed import method_of_proposed_pairs
from headlens.benchmark.published import published_numbers
from headlens.benchmark.slots import filled, has_slots
from headlens.benchmark.suite import Suite
from headlens.benchmark.table import RIVAL, BenchmarkTable, Row
from headlens.datasets import Dataset
from headlens.errors import HeadlensError, LocateError, UnknownNameError
from headlens.extraction import HeadStore, extract
from headlens.heads import HeadId
from headlens.locate import Located
from headlens.metrics import cramers_v, paired_difference
from headlens.models import HookedCLIP
from headlens.progress import progress
from headlens.steps.evaluate import Evaluated
from headlens.steps.question import as_pairs

CONTROLLED = ("ablation", "ltc")


def run(
    asked: Suite,
    clip: HookedCLIP,
    root: str | Path,
    store: str | Path,
    *,
    methods: Sequence[str] | None = None,
    controls: Sequence[str] = CONTROLLED,
    draws: int = 100,
    bootstrap: int = 1000,
    seed: int = 0,
    batch_size: int | None = None,
    on_error: str = "raise",
    heads_from: str | Path | CarriedHeads | None = None,
    keep: str | Path | None = None,
    n_null: int = 0,
) -> tuple[BenchmarkTable, Audit]:
    """Fill the store where it is not there, fit every method on the reference split, and score it on the test split.

    Args:
        asked: the suite.
        clip: the model.
        root: the data set's folder.
        store: where its head states are or will be.
        methods: their names; every registered one by default, so that one registered in a notebook cell is among them.
        controls: the methods that are repeated with layer-matched random heads.
        draws: of random heads.
        bootstrap: resamples behind every interval.
        seed: of every draw.
        batch_size, on_error: as in `extract`.
        heads_from: heads that were located elsewhere, in place of locating here: see `read_heads`. Methods that bring a
            locator of their own keep it.
        keep: a folder for fitted corrections and what random heads predict, so that an interrupted run, asked again,
            computes none of them twice; see `headlens.benchmark.kept`.
        n_null: how often the verdict on LTC is repeated with the attribute permuted within the true classes; none by
            default, which the notes say. Not where each class has heads of its own.

    Returns:
        The table, and the audit behind it.

    Raises:
        ManifestError: where the data set's folder is not laid out as its reader expects.
        UnknownNameError: for a method that is not registered.
        LocateError: for `heads_from` that cannot be read, or belongs to another model.
    """
    carried = heads_from if heads_from is not None else asked.heads_from
    given_heads = None if carried is None else read_heads(carried)
    location = None if given_heads is None else given_heads.located(clip)
    data = asked.read(Path(root))
    states = extract(clip, data.manifest, store, batch_size=batch_size, on_error=on_error)
    audit, rivals = _audit(asked, data, clip, states, seed)
    each_its_own = has_slots(asked.pairs)
    said: list[str] = []
    # Where each image has pairs of its own, pairs proposed for all classes at once are no rival.
    if methods is None and not each_its_own:
        proposed, said = method_of_proposed_pairs(audit.data)
        audit.methods = audit.methods.with_entries({PROPOSED: proposed})
    unlocated = _locate(asked, audit, location)
    by_class = class_heads(audit, asked.salient_on) if rivals is not None and not unlocated else {}
    if rivals is not None and by_class:
        audit.methods = methods_by_class(audit, rivals, by_class, asked.pairs, asked.crossed)
    elif each_its_own and rivals is None:
        audit.methods = methods_by_candidates(audit.data, audit.methods, asked.pairs or (), asked.crossed)
    kept = Kept(audit.data, keep)
    failed = _fit(audit, list(audit.methods) if methods is None else list(methods), unlocated, kept)
    fitted = list(audit.fitted)
    audit.evaluate(
        fitted,
        controls=[one for one in controls if one in fitted],
        judged="ltc" if "ltc" in fitted else None,
        n_random_sets=draws,
        n_bootstrap=bootstrap,
        n_null=0 if by_class else n_null,  # methods by class take the audit's own heads
        total=0,
        cache=kept.predictions,
    )
    idle = _without_heads(audit)
    assert audit.results is not None
    source = given_heads.source if given_heads else f"the benchmark {asked.name}, by {asked.attribute.name}"
    heads = heads_of(audit, source, {audit.task.classes[i]: own for i, own in by_class.items()})
    told = _told_heads(heads, given_heads, unlocated)
    judged = _verdict_note(audit.results, bool(by_class))
    notes = (*data.notes, *asked.notes, audit.splits.note, audit.location_note, told, *said, idle, judged)
    rows = _rows(audit, failed)
    scored = [row.method for row in rows if row.method in audit.results.predictions]
    return (
        BenchmarkTable(
            suite=asked.name,
            model=audit.store.model_name,
            attribute=audit.attribute.name,
            inferred=audit.data.inferred,
            images=len(audit.splits.test),
            sizes=dict(audit.results.evaluations["zero-shot"].sizes),
            rows=rows,
            published=published_numbers(asked.name, *_named(audit.store.model_name)),
            notes=tuple(note for note in notes if note),
            seed=audit.question.seed,
            extras=measure_all(asked.extras, audit, bootstrap, scored),
            heads=heads,
        ),
        audit,
    )


def _audit(asked: Suite, data: Dataset, clip: HookedCLIP, states: HeadStore, seed: int) -> tuple[Audit, Rivals | None]:
    """The audit with the text pairs of all images, and what it says of rival classes where heads go by class."""
    make = partial(
        Audit,
        clip,
        states,
        asked.task(data),
        asked.attribute,
        reference=asked.reference,
        test=asked.test,
        spurious_pairs=asked.spurious,
        seed=seed,
        **asked.options,
    )
    bare = make()
    rivals = class_rivals(bare, asked.salient_on) if asked.salient_on else None
    if not has_slots(asked.pairs):
        return bare.asking(pairs=as_pairs(asked.pairs), crossed_pairs=as_pairs(asked.crossed)), rivals
    twos = list(rivals.rival.items()) if rivals else list(dict.fromkeys(two_candidates(states, data.classes)))
    pairs, crossed = (None if one is None else filled(one, twos, data.classes) for one in (asked.pairs, asked.crossed))
    return bare.asking(pairs=as_pairs(pairs), crossed_pairs=as_pairs(crossed)), rivals


def _locate(asked: Suite, audit: Audit, carried: Located | None) -> str:
    """Locate, or take over what was located elsewhere. Returns why that is not possible here, "" where it is."""
    try:
        if carried is not None:
            audit.locate(carried)
        else:
            audit.locate(conflicting=asked.conflicting(audit) if asked.conflicting else None)
    except LocateError as error:
        # Methods of texts and of labels do not need heads; those that do say why they are not there.
        audit.locate(Located("none"))
        return str(error)
    return ""


def _fit(audit: Audit, names: list[str], unlocated: str, kept: Kept) -> dict[str, str]:
    """Fit; the reasons of the methods for which that is not possible here."""
    failed: dict[str, str] = {}
    with progress("Fitting methods", len(names), unit="methods") as advance:
        for name in names:
            try:
                if unlocated and audit.methods[name].located:
                    failed[name] = unlocated
                else:
                    audit.correct(name, fit=kept.fit)
            except UnknownNameError:
                raise
            except HeadlensError as error:
                failed[name] = str(error)
            advance(1)
    return failed


def _rows(audit: Audit, failed: dict[str, str]) -> tuple[Row, ...]:
    results = audit.results
    assert results is not None
    labels, values, groups = audit.data.test_labels, audit.data.test_values, audit.data.test_groups
    base, rows = results.predictions["zero-shot"], []
    for name, one in results.evaluations.items():
        fitted = audit.fitted.get(name)
        own = results.predictions[name]
        gain = paired_difference(labels, own, baseline=base, groups=groups)
        lead = None
        if name != RIVAL and RIVAL in results.predictions:
            rival = results.predictions[RIVAL]
            lead = paired_difference(labels, own, baseline=rival, groups=groups)
        control = results.controls.get(name)
        rows.append(
            Row(
                method=name,
                family=family(fitted),
                given=() if fitted is None else given(fitted),
                average=one.average,
                worst_group=one.worst_group,
                gap=one.gap,
                interval={m: one.interval[m] for m in ("average", "worst_group", "gap")},
                gain=None if fitted is None else gain.difference["worst_group"],
                gain_interval=None if fitted is None else gain.interval["worst_group"],
                lead=None if lead is None else lead.difference["worst_group"],
                lead_interval=None if lead is None else lead.interval["worst_group"],
                cramers_v=cramers_v(values, results.predictions[name]),
                corrected_v=cramers_v(values, results.predictions[name], corrected=True),
                random_p=None if control is None else control.comparison().p,
                random_sets=None if control is None else len(control.sets),
                transductive=fitted is not None and fitted.correction.transductive,
            )
        )
    for control in results.controls.values():
        record = control.to_record()
        rows.append(
            Row(
                method=record["method"],
                family="random heads",
                average=record["average"],
                worst_group=record["worst_group"],
                gap=record["gap"],
                interval={m: tuple(record["interval"][m]) for m in ("average", "worst_group", "gap")},
                gain=record["worst_group"] - results.evaluations["zero-shot"].worst_group,
            )
        )
    rows += [Row(name, FAMILIES[-1], failure=reason) for name, reason in failed.items()]
    return tuple(sorted(rows, key=lambda row: FAMILIES.index(row.family)))


def _verdict_note(results: Evaluated, by_class: bool) -> str:
    """The verdict on LTC, and whether its null was run; "" where it was not judged."""
    if (verdict := results.verdict) is None or verdict.method != "ltc":
        return ""
    why = "each class has heads of its own" if by_class else "ask for it with --null 50, n_null=50 in Python"
    return verdict.sentence + ("" if verdict.null is not None else f" The verdict's own null was not run: {why}.")


def _without_heads(audit: Audit) -> str:
    """A sentence on the methods of heads for which none was located: they change nothing."""
    idle = [name for name, one in audit.fitted.items() if one.roles and not one.correction.edited]
    return f"No head was located for {', '.join(idle)}: these rows repeat what is left without heads." if idle else ""


def _told_heads(heads: CarriedHeads, carried: CarriedHeads | None, unlocated: str) -> str:
    """A sentence on the heads of this table."""
    if unlocated:
        return ""
    spurious, salient = (
        ", ".join(str(HeadId(*head)) for head in own) or "none" for own in (heads.spurious, heads.salient)
    )
    how = "Heads" if carried is None else f"Heads, carried over from {carried.source}"
    told = f"{how}: spurious {spurious}; salient {salient}"
    if heads.by_class:
        sizes = [len(own) for own in heads.by_class.values()]
        told += f", where a class has none of its own; {len(sizes)} classes have {min(sizes)} to {max(sizes)} each"
    return f"{told}."


def _named(model: str) -> tuple[str, str | None]:
    """A model's name and weights, from its label "name (weights)"."""
    name, _, weights = model.removesuffix(")").partition(" (")
    return name, weights or None
