"""Run every method of the registry on a suite.

Steps: read the data set; fill the store, which goes on from where an interrupted run stopped; locate, or take over
heads that were located elsewhere; fit every method on the reference split, where one that cannot be fitted here gives
its reason in place of numbers; score all on the test split, with random heads in the place of the located ones for the
methods that are asked for; measure what the suite measures beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from headlens.audit import METHODS, Audit, Ingredients
from headlens.audit.methods import build
from headlens.benchmark.by_candidates import methods_by_candidates, two_candidates
from headlens.benchmark.by_class import Rivals, class_heads, class_rivals, methods_by_class
from headlens.benchmark.carried import CarriedHeads, heads_of, read_heads
from headlens.benchmark.given import FAMILIES, family, given
from headlens.benchmark.kept import Kept
from headlens.benchmark.measures import measure_all
from headlens.benchmark.proposed import method_of_proposed_pairs
from headlens.benchmark.published import published_numbers
from headlens.benchmark.slots import filled, has_slots
from headlens.benchmark.suite import Suite
from headlens.benchmark.table import RIVAL, BenchmarkTable, Row
from headlens.datasets import Dataset
from headlens.errors import HeadlensError, LocateError
from headlens.extraction import HeadStore, extract
from headlens.heads import HeadId
from headlens.locate import Located
from headlens.metrics import Bootstrap, cramers_v, paired_difference
from headlens.models import HookedCLIP
from headlens.progress import progress

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

    Returns:
        The table, and the audit behind it.

    Raises:
        ManifestError: where the data set's folder is not laid out as its reader expects.
        CorrectionError: for a method that is not registered.
        LocateError: for `heads_from` that cannot be read, or belongs to another model.
    """
    carried = heads_from if heads_from is not None else asked.heads_from
    given_heads = None if carried is None else read_heads(carried)
    location = None if given_heads is None else given_heads.located(clip)
    data = asked.read(Path(root))
    states = extract(clip, data.manifest, store, batch_size=batch_size, on_error=on_error)
    audit, rivals = _audit(asked, data, clip, states, seed)
    each_its_own = has_slots(asked.pairs)
    with ExitStack() as during:
        # Where each image has pairs of its own, pairs proposed for all classes at once are no rival.
        with_proposed = methods is None and not each_its_own
        said = during.enter_context(method_of_proposed_pairs(audit)) if with_proposed else []
        before = dict(METHODS)
        unlocated = _locate(asked, audit, location)
        by_class = class_heads(audit, asked.salient_on) if rivals is not None and not unlocated else {}
        if rivals is not None and by_class:
            during.enter_context(methods_by_class(audit, rivals, by_class, asked.pairs, asked.crossed))
        elif each_its_own and rivals is None:
            during.enter_context(methods_by_candidates(audit, asked.pairs or (), asked.crossed))
        kept = Kept(audit, keep)
        failed = _fit(audit, list(METHODS) if methods is None else list(methods), unlocated, kept)
        fitted = list(audit.corrections)
        controlled = [one for one in controls if one in fitted]
        audit.evaluate(fitted, draws=draws, bootstrap=bootstrap, controls=controlled, remember=kept.predictions)
        reads = {name: given(before[name], _of_two(asked, audit.ingredients_of(name))) for name in fitted}
        idle = _without_heads(audit)
    assert audit.results is not None
    source = given_heads.source if given_heads else f"the benchmark {asked.name}, by {asked.attribute.name}"
    heads = heads_of(audit, source, {audit.task.classes[i]: own for i, own in by_class.items()})
    told = _told_heads(heads, given_heads, unlocated)
    notes = (*data.notes, *asked.notes, audit.splits.note, audit.location_note, told, *said, idle)
    rows = _rows(audit, reads, failed, bootstrap)
    scored = [row.method for row in rows if row.method in audit.results.predictions]
    return (
        BenchmarkTable(
            suite=asked.name,
            model=audit.store.model_name,
            attribute=audit.attribute.name,
            inferred=audit.inferred,
            images=len(audit.splits.test),
            sizes=dict(audit.results.evaluations["zero-shot"].sizes),
            rows=rows,
            published=published_numbers(asked.name, *_named(audit.store.model_name)),
            notes=tuple(note for note in notes if note),
            seed=audit.seed,
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
    rivals, texts = None, None
    if asked.salient_on:
        bare = make()
        rivals, texts = class_rivals(bare, asked.salient_on), bare.texts
    if not has_slots(asked.pairs):
        return make(pairs=asked.pairs, crossed_pairs=asked.crossed, texts=texts), rivals
    twos = list(rivals.rival.items()) if rivals else list(dict.fromkeys(two_candidates(states, data.classes)))
    pairs, crossed = (None if one is None else filled(one, twos, data.classes) for one in (asked.pairs, asked.crossed))
    return make(pairs=pairs, crossed_pairs=crossed, texts=texts), rivals


def _of_two(asked: Suite, known: Ingredients) -> Ingredients:
    """What a method reads shows with the pairs of two classes as with those of all, which may be too many at once."""
    return replace(known, pairs=known.pairs[: len(asked.pairs or ())]) if has_slots(asked.pairs) else known


def _locate(asked: Suite, audit: Audit, carried: Located | None) -> str:
    """Locate, or take over what was located elsewhere. Returns why that is not possible here, "" where it is."""
    if carried is not None:
        audit.location = carried
        return ""
    try:
        audit.locate(conflicting=asked.conflicting(audit) if asked.conflicting else None)
    except LocateError as error:
        # Methods of texts and of labels do not need heads; those that do say why they are not there.
        audit.location = Located("none")
        return str(error)
    return ""


def _fit(audit: Audit, names: list[str], unlocated: str, kept: Kept) -> dict[str, str]:
    """Fit; the reasons of the methods for which that is not possible here."""
    failed: dict[str, str] = {}
    with progress("Fitting methods", len(names), unit="methods") as advance:
        for name in names:
            try:
                if unlocated and name in METHODS and METHODS[name].roles and METHODS[name].locator is None:
                    failed[name] = unlocated
                else:
                    audit.corrections[name] = kept.fit(build(name, audit.ingredients_of(name)))
            except HeadlensError as error:
                if name not in METHODS:
                    raise
                failed[name] = str(error)
            advance(1)
    return failed


def _rows(audit: Audit, reads: dict[str, tuple[str, ...]], failed: dict[str, str], bootstrap: int) -> tuple[Row, ...]:
    results, rows_of = audit.results, audit.splits.test
    assert results is not None
    labels, values = audit.labels[rows_of], audit.values[rows_of]
    groups = [audit.groups[row] for row in rows_of]
    base, rows = results.predictions["zero-shot"], []
    for name, one in results.evaluations.items():
        correction, read = audit.corrections.get(name), reads.get(name, ())
        resampling, own = Bootstrap(bootstrap, seed=audit.seed), results.predictions[name]
        gain = paired_difference(labels, own, baseline=base, groups=groups, bootstrap=resampling)
        lead = None
        if name != RIVAL and RIVAL in results.predictions:
            rival = results.predictions[RIVAL]
            lead = paired_difference(labels, own, baseline=rival, groups=groups, bootstrap=resampling)
        control = results.controls.get(name)
        rows.append(
            Row(
                method=name,
                family=family(name, read, correction),
                given=read,
                average=one.average,
                worst_group=one.worst_group,
                gap=one.gap,
                interval={m: one.interval[m] for m in ("average", "worst_group", "gap")},
                gain=None if correction is None else gain.difference["worst_group"],
                gain_interval=None if correction is None else gain.interval["worst_group"],
                lead=None if lead is None else lead.difference["worst_group"],
                lead_interval=None if lead is None else lead.interval["worst_group"],
                cramers_v=cramers_v(values, results.predictions[name]),
                random_p=None if control is None else control.comparison.p,
                random_sets=None if control is None else len(control.sets),
                transductive=correction is not None and correction.transductive,
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


def _without_heads(audit: Audit) -> str:
    """A sentence on the methods of heads for which none was located: they change nothing."""
    idle = [name for name, correction in audit.corrections.items() if METHODS[name].roles and not correction.edited]
    return f"No head was located for {', '.join(idle)}: these rows repeat what is left without heads." if idle else ""


def _told_heads(heads: CarriedHeads, carried: CarriedHeads | None, unlocated: str) -> str:
    """A sentence on the heads of this table."""
    if unlocated:
        return ""
    spurious, salient = (
        ", ".join(str(HeadId(*head)) for head in own) or "none" for own in (heads.spurious, heads.salient)
    )
    how = "Heads (layer.head)" if carried is None else f"Heads (layer.head), carried over from {carried.source}"
    told = f"{how}: spurious {spurious}; salient {salient}"
    if heads.by_class:
        sizes = [len(own) for own in heads.by_class.values()]
        told += f", where a class has none of its own; {len(sizes)} classes have {min(sizes)} to {max(sizes)} each"
    return f"{told}."


def _named(model: str) -> tuple[str, str | None]:
    """A model's name and weights, from its label "name (weights)"."""
    name, _, weights = model.removesuffix(")").partition(" (")
    return name, weights or None
