"""What the oracle table teaches, in sentences whose every number is taken from what was measured.

A sentence whose condition the numbers do not meet is left out. A remark behind the numbers says what a locator reads,
never how well it did: that is for the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Block = dict[str, Any]
Row = dict[str, Any]

REMARKS = {
    "contrastive": "It credits one head an image, so that a head that stands behind a stronger one gets no credit: "
    "trust it for *the* head, not for all of them.",
    "calibrated": "It asks of every head by itself that wrong decisions rest on it and that it follows the attribute, "
    "and corrects for the number of heads: weak heads need more images.",
    "contrastive-soft": "Its score, a head's mean part in wrong decisions less that in right ones, is close to what an "
    "ablation takes away; it needs the labels, and incorrectly classified images of the conflicting groups.",
    "concept": "It never sees a class score: it says which heads move the embedding along the attribute. That these "
    "are the heads that matter for the classes is a finding here, not a premise.",
    "textspan": "Its rule asks whether the attribute is among a head's first texts, not how much the head varies, so "
    "that heads which hardly move the embedding are named too: read it together with the concept test.",
    "concept+textspan": "Agreement of both tests costs heads, and buys precision.",
}


def lessons(blocks: Sequence[Block]) -> list[str]:
    """The sentences, one paragraph each."""
    every = about_v(blocks)
    planted = [block for block in every if block["planted"]]
    told = [_in_short(planted), _on_search(planted)] if planted else []
    told += [_on_locator(planted, name) for name in REMARKS if planted]
    told += [_on_prompts(planted), _on_sweeps(every)]
    told += [_on_diffuse(block) for block in every if not block["planted"]]
    told += [_on_control(block) for block in blocks if block["asked"] == "control"]
    return [lesson for lesson in [*told, _on_scores(every)] if lesson]


# ---- words for numbers ----------------------------------------------------------------------------------------------


def percent(value: float | None) -> str:
    """As a whole number of percent; a share below zero says no more than that."""
    return "–" if value is None else "< 0" if value < 0 else f"{100 * value:.0f} %"


def listed(heads: Sequence[str], most: int = 6) -> str:
    """The first heads, and how many there are."""
    if not heads:
        return "none"
    return ", ".join(heads[:most]) + (f", … ({len(heads)} heads)" if len(heads) > most else "")


def short(block: Block) -> str:
    """The model's name without the testbed's."""
    return str(block["model"]).removeprefix("testbed-")


def about_v(blocks: Sequence[Block]) -> list[Block]:
    """Those about Cramér's V of an attribute that the classes may depend on."""
    return [block for block in blocks if block["measure"] == "cramers_v" and block["asked"] == "attribute"]


def row_of(block: Block, locator: str) -> Row:
    """The line of a locator."""
    return next(row for row in block["rows"] if row["locator"] == locator)


def _range(values: Sequence[float], form: str = "{:.2f}") -> str:
    low, high = (
        form.format(round(end, 3) if abs(end) >= 0.005 else 0.0) for end in (min(values), max(values))
    )  # no minus before a zero
    return low if low == high else f"{low} to {high}"


def _whole(values: Sequence[float]) -> str:
    return _range(values, "{:.0f}")


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# ---- sentences ------------------------------------------------------------------------------------------------------


def _in_short(blocks: Sequence[Block]) -> str:
    told = []
    for locator in REMARKS:
        rows = [(block, row_of(block, locator)) for block in blocks]
        hits = sum(len(set(row["heads"]) & set(block["planted"])) for block, row in rows)
        named = sum(len(row["heads"]) for _, row in rows)
        # Naming none takes nothing away.
        least = min(0.0 if row["share"] is None else row["share"] for _, row in rows)
        told.append((-least, -hits / max(named, 1), f"{locator} {percent(least)}, {hits} of {named}"))
    return (
        "**In short.** The lowest share of the best set of as many heads that a locator's heads reach on a model with "
        "planted heads, and how many of the heads that it names on all of them were planted: "
        f"{'; '.join(words for *_, words in sorted(told))}."
    )


def _on_search(blocks: Sequence[Block]) -> str:
    ones = [block["ceilings"][0]["effect"] for block in blocks]
    most = [block["ceilings"][-1]["effect"] for block in blocks]
    hits = [len(set(block["ceilings"][-1]["heads"]) & set(block["planted"])) for block in blocks]
    size = blocks[0]["ceilings"][-1]["size"]
    return (
        f"**Where the bias was planted.** On {_and([short(block) for block in blocks])} the best single head takes "
        f"{_range(ones)} off V and the best set of {size} takes {_range(most)}, from "
        f"{_range([block['baseline'] for block in blocks])}. Of the heads of that best set {_whole(hits)} are planted."
    )


def _on_locator(blocks: Sequence[Block], locator: str) -> str:
    named = [(block, row) for block in blocks if (row := row_of(block, locator))["heads"]]
    silent = [short(block) for block in blocks if not row_of(block, locator)["heads"]]
    if not named:
        return f"**{locator}** names no head on {_and(silent)}."
    hits = sum(len(set(row["heads"]) & set(block["planted"])) for block, row in named)
    numbers = [len(row["heads"]) for _, row in named]
    shares = [100 * row["share"] for _, row in named if row["share"] is not None]
    most = [100 * row["effect"] / block["ceilings"][-1]["effect"] for block, row in named]
    size = blocks[0]["ceilings"][-1]["size"]
    none = f" On {_and(silent)} it names none." if silent else ""
    return (
        f"**{locator}** names {_whole(numbers)} head{'s' if max(numbers) > 1 else ''} on these models, {hits} of "
        f"{sum(numbers)} planted ones in all. Ablating them takes {_range([row['effect'] for _, row in named])} off V: "
        f"{_whole(shares)} % of the best set of as many heads, {_whole(most)} % of the best set of {size}.{none} "
        f"{REMARKS[locator]}"
    )


def _on_prompts(blocks: Sequence[Block]) -> str:
    silent = [block for block in blocks if not row_of(block, "textspan (prompts)")["heads"]]
    if not silent:
        return ""
    return (
        f"**Whole prompts in TextSpan** name no head on {_and([short(block) for block in silent])}, where the cosine "
        f"of the values' prototypes is {_range([block['cosine'] for block in silent], '{:.3f}')}. A prompt competes "
        "with all that it says, also with what the values have in common, and texts of the bank that speak of the same "
        "things may win; the concept vector competes with the difference alone."
    )


def _on_sweeps(blocks: Sequence[Block]) -> str:
    shares = {
        name: [100 * row["share"] for block in blocks if (row := row_of(block, name))["share"] is not None]
        for name in ("single-head sweep", "greedy sweep")
    }
    if not all(shares.values()):
        return ""
    return (
        f"**The sweeps** reach {_whole(shares['single-head sweep'])} % (single heads) and "
        f"{_whole(shares['greedy sweep'])} % (greedy) of the best set of as many heads. With labels for class and "
        "attribute at hand, and a measure that one is willing to optimise, they find heads to ablate; that these heads "
        "carry the attribute does not follow."
    )


def _on_diffuse(block: Block) -> str:
    one, last = block["ceilings"][0], block["ceilings"][-1]
    named = [row for row in block["rows"] if row["heads"] and "sweep" not in row["locator"]]
    told = _and([f"{row['locator']} {len(row['heads'])} ({row['effect']:+.2f})" for row in named] or ["none"])
    return (
        f"**Where nothing was planted.** On {short(block)} the best single head takes {one['effect']:.2f} off V and "
        f"the best set of {last['size']} takes {last['effect']:.2f}, from {block['baseline']:.2f}. Heads are named "
        f"all the same (how many, and how far V falls): {told}. A named head is a candidate; what its ablation "
        "does, next to random heads and next to how much there is to take away, makes it a finding or not."
    )


def _on_control(block: Block) -> str:
    named = [row for row in block["rows"] if row["heads"] and "planted" not in row["locator"]]
    told = _and([f"{row['locator']} {len(row['heads'])} ({row['effect']:+.2f})" for row in named] or ["none"])
    return (
        f"**An attribute that is independent of the classes.** V of {block['attribute']} on {short(block)} is "
        f"{block['baseline']:.2f} without ablation. Heads are named for it (how many, and how far V falls): {told}. "
        "Concept tests say what a head carries, not whether that biases anything."
    )


def _on_scores(blocks: Sequence[Block]) -> str:
    told = []
    for name, meaning in (
        ("part", "signed part in the groups' distance"),
        ("difference", "absolute difference in standard deviations"),
        ("auroc", "AUROC"),
        ("gap", "absolute gap"),
        ("share", "share of variance"),
    ):
        values = [block["scores"][name] for block in blocks if name in block["scores"]]
        if values:
            told.append(f"{meaning}, {_range([rho for rho, _ in values])} and {_whole([top for _, top in values])}")
    return (
        "**Which of the concept test's scores orders heads best?** Rank correlation with the single-head effect on V, "
        f"and heads in common among the top ones, over {_and([short(block) for block in blocks])}: {'; '.join(told)}. "
        "The two need not agree: where most heads do next to nothing, ρ is made of their order."
    )
