"""Run every method of the registry on a suite.

Steps: read the data set; fill the store, which goes on from where an interrupted run stopped; locate; fit every method
on the reference split, where one that cannot be fitted here gives its reason in place of numbers; score all on the test
split, with random heads in the place of the located ones for the methods that are asked for; measure what the suite
measures beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from headlens.audit import METHODS, Audit, Ingredients
from headlens.benchmark.by_candidates import filled, has_slots, methods_by_candidates, two_candidates
from headlens.benchmark.given import FAMILIES, family, given
from headlens.benchmark.measures import measure_all
from headlens.benchmark.proposed import method_of_proposed_pairs
from headlens.benchmark.published import published_numbers
from headlens.benchmark.suite import Suite, TextPairs
from headlens.benchmark.table import RIVAL, BenchmarkTable, Row
from headlens.datasets import Dataset
from headlens.errors import HeadlensError, LocateError
from headlens.locate import Candidates
from headlens.metrics import cramers_v, paired_difference
from headlens.models import HookedCLIP
from headlens.progress import progress
from headlens.states import HeadStore, extract

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
    batch_size: int = 64,
    on_error: str = "raise",
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

    Returns:
        The table, and the audit behind it.

    Raises:
        ManifestError: where the data set's folder is not laid out as its reader expects.
        CorrectionError: for a method that is not registered.
    """
    data = asked.read(Path(root))
    states = extract(clip, data.manifest, store, batch_size=batch_size, on_error=on_error)
    audit = _audit(asked, data, clip, states, seed)
    each_its_own = has_slots(asked.pairs)
    with ExitStack() as during:
        # Where each image has pairs of its own, pairs proposed for all classes at once are no rival.
        with_proposed = methods is None and not each_its_own
        said = during.enter_context(method_of_proposed_pairs(audit)) if with_proposed else []
        before = dict(METHODS)
        if each_its_own:
            during.enter_context(methods_by_candidates(audit, asked.pairs or (), asked.crossed))
        failed = _fit(asked, audit, list(METHODS) if methods is None else list(methods))
        fitted = list(audit.corrections)
        audit.evaluate(fitted, draws=draws, bootstrap=bootstrap, controls=[one for one in controls if one in fitted])
        reads = {name: given(before[name], _of_two(asked, audit.ingredients_of(name))) for name in fitted}
        idle = _without_heads(audit)
    assert audit.results is not None
    notes = (*data.notes, *asked.notes, audit.splits.note, audit.location_note, *said, idle)
    return (
        BenchmarkTable(
            suite=asked.name,
            model=audit.store.model_name,
            attribute=audit.attribute.name,
            inferred=audit.inferred,
            images=len(audit.splits.test),
            sizes=dict(audit.results.evaluations["zero-shot"].sizes),
            rows=_rows(audit, reads, failed, bootstrap),
            published=published_numbers(asked.name, *_named(audit.store.model_name)),
            notes=tuple(note for note in notes if note),
            seed=audit.seed,
            extras=measure_all(asked.extras, audit, bootstrap),
        ),
        audit,
    )


def _audit(asked: Suite, data: Dataset, clip: HookedCLIP, states: HeadStore, seed: int) -> Audit:
    pairs, crossed = asked.pairs, asked.crossed
    if has_slots(pairs):
        twos = list(dict.fromkeys(two_candidates(states, data.classes)))
        pairs, crossed = _filled(pairs, twos, data), _filled(crossed, twos, data)
    return Audit(
        clip,
        states,
        asked.task(data),
        asked.attribute,
        reference=asked.reference,
        test=asked.test,
        pairs=pairs,
        spurious_pairs=asked.spurious,
        crossed_pairs=crossed,
        seed=seed,
        **asked.options,
    )


def _of_two(asked: Suite, known: Ingredients) -> Ingredients:
    """What a method reads shows with the pairs of two classes as with those of all, which may be too many at once."""
    return replace(known, pairs=known.pairs[: len(asked.pairs or ())]) if has_slots(asked.pairs) else known


def _filled(pairs: TextPairs | None, twos: list[tuple[int, int]], data: Dataset) -> TextPairs | None:
    return None if pairs is None else filled(pairs, twos, data.classes)


def _fit(asked: Suite, audit: Audit, names: list[str]) -> dict[str, str]:
    """Locate and fit; the reasons of the methods for which one of the two is not possible here."""
    unlocated = ""
    try:
        audit.locate(conflicting=asked.conflicting(audit) if asked.conflicting else None)
    except LocateError as error:
        # Methods of texts and of labels do not need heads; those that do say why they are not there.
        audit.location, unlocated = Candidates("none", []), str(error)
    failed: dict[str, str] = {}
    with progress("Fitting methods", len(names), unit="methods") as advance:
        for name in names:
            try:
                if unlocated and name in METHODS and METHODS[name].roles and METHODS[name].locator is None:
                    failed[name] = unlocated
                else:
                    audit.correct(name)
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
        gain = paired_difference(base, results.predictions[name], labels, groups, draws=bootstrap, seed=audit.seed)
        lead = None
        if name != RIVAL and RIVAL in results.predictions:
            lead = paired_difference(
                results.predictions[RIVAL], results.predictions[name], labels, groups, draws=bootstrap, seed=audit.seed
            )
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
    idle = [
        name
        for name in audit.corrections
        if METHODS[name].roles and not audit.ingredients_of(name).located(METHODS[name].roles)
    ]
    return f"No head was located for {', '.join(idle)}: these rows repeat what is left without heads." if idle else ""


def _named(model: str) -> tuple[str, str | None]:
    """A model's name and weights, from its label "name (weights)"."""
    name, _, weights = model.removesuffix(")").partition(" (")
    return name, weights or None
