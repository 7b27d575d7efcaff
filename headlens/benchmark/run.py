"""Run every method of the registry on a suite.

Steps: read the data set; fill the store, which goes on from where an interrupted run stopped; locate, or take
heads that were located elsewhere; fit every method on the reference split, where one that cannot be fitted here gives
its reason in place of numbers; score all on the test split, with random heads instead of the located ones for the
methods that are asked for; measure what the suite measures beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache as memoised
from functools import partial
from pathlib import Path

from headlens.audit import Audit
from headlens.benchmark.cache import Cache
from headlens.benchmark.head_transfer import TransferredHeads, heads_of, read_heads
from headlens.benchmark.measures import measure_all
from headlens.benchmark.per_image import (
    Rivals,
    class_heads,
    class_rivals,
    filled,
    has_slots,
    methods_by_candidates,
    methods_by_class,
    two_candidates,
)
from headlens.benchmark.suite import Suite, published_numbers
from headlens.benchmark.table import BenchmarkTable, rows_of
from headlens.correct import Correction, locate_then_correct
from headlens.datasets import Dataset
from headlens.errors import HeadlensError, LocateError, UnknownNameError
from headlens.extraction import HeadStore, extract
from headlens.heads import HeadId
from headlens.locate import Located
from headlens.models import HookedCLIP
from headlens.progress import progress
from headlens.prompts import ProposedPairs, encode_pairs, propose_pairs
from headlens.steps.data import AuditData
from headlens.steps.evaluate import Evaluated
from headlens.steps.methods import ROLES, Ingredients, Method
from headlens.steps.reproduce import ModelName

CONTROLLED = ("ablation", "ltc")
PROPOSED = "ltc with proposed pairs"
_N_PROPOSED = 6


def run(
    asked: Suite,
    clip: HookedCLIP,
    data: str | Path | Dataset,
    store: str | Path | HeadStore,
    *,
    methods: Sequence[str] | None = None,
    controls: Sequence[str] = CONTROLLED,
    n_random_sets: int = 100,
    n_bootstrap: int = 1000,
    seed: int = 0,
    heads_from: str | Path | TransferredHeads | None = None,
    cache: str | Path | None = None,
    n_null: int = 0,
) -> tuple[BenchmarkTable, Audit]:
    """Fill the store where it is not there, fit every method on the reference split, and score it on the test split.

    Args:
        asked: the suite.
        clip: the model.
        data: the data set's folder, or what the suite read from it.
        store: its head states, or where they are or will be kept.
        methods: their names; every registered one by default, so that one registered in a notebook cell is among them.
        controls: the methods that are repeated with layer-matched random heads.
        n_random_sets: how many sets of random heads.
        n_bootstrap: resamples behind the intervals of the suite's further measures and of the verdict.
        seed: of every draw.
        heads_from: heads that were located elsewhere, in place of locating here: see `read_heads`. Methods that bring a
            locator of their own keep it.
        cache: a folder for fitted corrections and what random heads predict, so that an interrupted run, asked again,
            computes none of them twice; see `headlens.benchmark.cache`.
        n_null: how often the verdict on LTC is repeated with the attribute permuted within the true classes; none by
            default, which the notes say. Not where each class has heads of its own.

    Returns:
        The table, and the audit behind it.

    Raises:
        ManifestError: where the data set's folder is not laid out as its reader expects.
        UnknownNameError: for a method that is not registered.
        LocateError: for `heads_from` that cannot be read, or belongs to another model.
    """
    source_of_heads = heads_from if heads_from is not None else asked.heads_from
    given_heads = None if source_of_heads is None else read_heads(source_of_heads)
    location = None if given_heads is None else given_heads.located(clip)
    data = data if isinstance(data, Dataset) else asked.read(Path(data))
    states = store if isinstance(store, HeadStore) else extract(clip, data.manifest, store)
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
    kept = Cache(audit.data, cache)
    failed = _fit(audit, list(audit.methods) if methods is None else list(methods), unlocated, kept)
    fitted = list(audit.fitted)
    audit.evaluate(
        fitted,
        controls=[one for one in controls if one in fitted],
        judged="ltc" if "ltc" in fitted else None,
        n_random_sets=n_random_sets,
        n_bootstrap=n_bootstrap,
        n_null=0 if by_class else n_null,  # methods by class take the audit's own heads
        total=0,
        cache=kept.predictions,
    )
    idle = _without_heads(audit)
    assert audit.results is not None
    source = given_heads.source if given_heads else f"the benchmark {asked.name}, by {asked.attribute.name}"
    heads = heads_of(audit, source, {audit.task.classes[i]: own for i, own in by_class.items()})
    described = _described_heads(heads, given_heads, unlocated)
    judged = _verdict_note(audit.results, bool(by_class))
    notes = (*data.notes, *asked.notes, audit.splits.note, audit.location_note, described, *said, idle, judged)
    rows = rows_of(audit, failed)
    model = ModelName.of(audit.store.model_name)
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
            published=published_numbers(asked.name, model.name, model.pretrained),
            notes=tuple(note for note in notes if note),
            seed=audit.question.seed,
            extras=measure_all(asked.extras, audit, n_bootstrap, scored),
            heads=heads,
        ),
        audit,
    )


def method_of_proposed_pairs(data: AuditData) -> tuple[Method, list[str]]:
    """The method, and a list that gets a sentence on the pairs once it is built.

    The pairs are those of the bank that best distinguish the classes and least the attribute's values; labels of images
    are not read for them.
    """
    said: list[str] = []

    @memoised
    def proposed() -> ProposedPairs:
        prototypes = data.question.attribute.prototypes(data.texts)
        found = propose_pairs(data.bank, data.texts, data.classifier, prototypes, _N_PROPOSED)
        listed = "; ".join(f"{first} / {second}" for first, second in found.pairs)
        said.append(f"Pairs proposed from the text bank, for {PROPOSED}: {listed}.")
        return found

    def build(known: Ingredients) -> Correction:
        return locate_then_correct(known.spurious, known.salient, encode_pairs(proposed().pairs, data.texts))

    return Method(build, ROLES), said


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
        return bare.asking(pairs=asked.pairs, crossed_pairs=asked.crossed), rivals
    twos = list(rivals.rival.items()) if rivals else list(dict.fromkeys(two_candidates(states, data.classes)))
    pairs, crossed = (None if one is None else filled(one, twos, data.classes) for one in (asked.pairs, asked.crossed))
    return bare.asking(pairs=pairs, crossed_pairs=crossed), rivals


def _locate(asked: Suite, audit: Audit, transferred: Located | None) -> str:
    """Locate, or take what was located elsewhere. Returns why that is not possible here, "" where it is."""
    try:
        if transferred is not None:
            audit.locate(transferred)
        else:
            audit.locate(conflicting=asked.conflicting(audit) if asked.conflicting else None)
    except LocateError as error:
        # Methods of texts and of labels do not need heads; those that do say why they are not there.
        audit.locate(Located("none"))
        return str(error)
    return ""


def _fit(audit: Audit, names: list[str], unlocated: str, kept: Cache) -> dict[str, str]:
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


def _described_heads(heads: TransferredHeads, source: TransferredHeads | None, unlocated: str) -> str:
    """A sentence on the heads of this table."""
    if unlocated:
        return ""
    spurious, salient = (
        ", ".join(str(HeadId(*head)) for head in own) or "none" for own in (heads.spurious, heads.salient)
    )
    how = "Heads" if source is None else f"Heads, transferred from {source.source}"
    described = f"{how}: spurious {spurious}; salient {salient}"
    if heads.by_class:
        sizes = [len(own) for own in heads.by_class.values()]
        described += f", where a class has none of its own; {len(sizes)} classes have {min(sizes)} to {max(sizes)} each"
    return f"{described}."
