"""The page that `oracle_table.py` writes, from what it measured: how to read it, the tables, and what they teach."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from oracle_lessons import Block, about_v, lessons, listed, percent, row_of, short

MEASURES = {
    "cramers_v": "Cramér's V of {attribute} × predicted class",
    "worst_group": "worst-group accuracy",
    "average": "average accuracy",
}

OPENING = """# The oracle table

After this page you know how much of what the best set of heads could do each locator's heads achieve.

*Written by `python benchmarks/oracle_table.py`, which measures everything again; do not edit by hand.*

A locator names heads. Whether these are the heads that matter is a question of its own, and on the testbed it has an
answer: ablating any set of heads costs one addition a head, so that the best set of a size can be searched for. This
page sets what each locator's heads do against what the best set of as many heads does.

## How to read it

Heads are located on the reference split; all effects are measured on the test split, under direct mean ablation with
the means of the reference split. In the reference split classes and attribute go together, as in found data, and in the
test split they do not. On the reference split searches therefore lower the *balanced* V, in which all values weigh the
same within a class: plain V counts right predictions as bias there, and a search that lowers it pays with accuracy.

- **effect**: how far Cramér's V falls, or worst-group accuracy rises; below zero where the ablation makes it worse. In
  brackets, its paired 95 % bootstrap interval.
- **of the best set**: the effect as a share of what the best set of *as many* heads reaches. That set is searched for
  on the *reference* split, so it is an honest oracle: on the test split a locator may do better, and its share then
  exceeds 100 %. No share is given where that set gains less than a hundredth; `< 0` where the heads make it worse.
- **of the bound**: the same with the set searched for on the *test* split itself. Where the search is exhaustive no
  choice of as many heads can do more.
- **random sets**: other sets of as many heads of the same layers, some of which may hold named heads, that have a
  smaller effect, of all that were tried: 100 seeded draws, or every set where fewer exist; a dash where none does.
- **accuracy**: the change of the average accuracy, in points.
- **ρ**: Spearman's rank correlation, over all heads, of the locator's scores with the effect of ablating each head
  alone. It says whether the order is right, not whether the threshold is, and counts the many heads that hardly matter
  as much as the few that do. **top {top}** looks at these alone: of the {top} heads with the largest effects, how many
  are among the {top} with the largest scores.

The **single-head sweep** names every head whose ablation alone improves the measure by more than {minimum} on the
reference split; the **greedy sweep** adds heads one by one while the best step gains more than that, up to {most}. Both
optimise the very measure that they are judged by, and read labels, attribute and measure at once: they are oracles, not
evidence, and stand here for comparison. **textspan** lets the attribute's concept vectors compete with the text bank,
**textspan (prompts)** its whole prompts.

Every set is tried where no more than {limit:,} exist. Beyond that the search is greedy selection with exchanges of one
head and eight seeded restarts, and what it finds is a lower bound of the best set.
"""

LIMITS = """## Limits

- The testbed is small, and in all models but `testbed-plain` the bias was planted by losses that read the labels. A
  locator that fails here has no claim elsewhere; one that succeeds has passed a necessary test.
- The effects are direct ones. What later layers make of an ablation is not in this table.
- A best set is best for one measure. Ablation that frees the predictions from an attribute may cost accuracy elsewhere:
  read the column *accuracy* with it.
- The thresholds of the concept and TextSpan tests were chosen with the three planted bird models in sight.
- The figures' model was trained with this question in sight. In an earlier run its two strongest planted heads nearly
  cancelled each other: there the concept test named the three planted heads, and V fell from 0.193 to 0.033, while
  TextSpan, which sees one head at a time, named none of them. The shipped recipe ends phase one with a stretch in which
  the planted heads are made to write in one direction.
"""


def page(blocks: Sequence[Block], minimum: float, most: int, top: int, limit: int) -> str:
    """The whole page, as Markdown."""
    told = [_filled(f"- {lesson}", "  ") for lesson in lessons(blocks)]
    parts = [OPENING.format(minimum=minimum, most=most, top=top, limit=limit), _glance(blocks)]
    parts += ["\n".join(["## What it teaches", "", *told, ""])]
    parts += [_section(block, top) for block in blocks]
    return "\n".join([*parts, LIMITS])


def _filled(text: str, indent: str = "") -> str:
    # A number and its percent sign stay on one line.
    lines = textwrap.fill(text.replace(" %", "\0%"), 120, subsequent_indent=indent, break_on_hyphens=False)
    return lines.replace("\0", " ")


def _glance(blocks: Sequence[Block]) -> str:
    chosen = about_v(blocks)
    opening = (
        "How far Cramér's V falls on the test split, as a share of what the best set of as many heads reaches "
        "(searched for on the reference split); in brackets, how many heads are named, and how many of them were "
        "planted."
    )
    lines = [
        "## At a glance",
        "",
        _filled(opening),
        "",
        "| locator | " + " | ".join(f"{short(block)}, {block['attribute']}" for block in chosen) + " |",
        "|---|" + "---|" * len(chosen),
    ]
    for locator in [row["locator"] for row in chosen[0]["rows"] if not row["locator"].startswith("the ")]:
        cells = []
        for block in chosen:
            row = row_of(block, locator)
            hits = len(set(row["heads"]) & set(block["planted"]))
            told = f"{len(row['heads'])}, {hits} planted" if block["planted"] else f"{len(row['heads'])}"
            cells.append(f"{percent(row['share'])} ({told})" if row["heads"] else "none named")
        lines.append(f"| {locator} | " + " | ".join(cells) + " |")
    lines += ["| *V without ablation* | " + " | ".join(f"{block['baseline']:.3f}" for block in chosen) + " |", ""]
    return "\n".join(lines)


def _section(block: Block, top: int) -> str:
    planted = f"Planted heads: {listed(block['planted'])}." if block["planted"] else "No heads were planted."
    control = " The attribute is independent of the classes." if block["asked"] == "control" else ""
    opening = (
        f"Without ablation {block['baseline']:.3f}, at an average accuracy of {100 * block['accuracy']:.1f} %, on "
        f"{block['images']['test']:,} test images; located on {block['images']['reference']:,} reference images, among "
        f"{block['n_heads']} heads. {planted}{control}"
    )
    lines = [
        f"## {block['model']}: {MEASURES[block['measure']].format(attribute=block['attribute'])}",
        "",
        _filled(opening),
        "",
        f"| locator | heads | effect | of the best set | of the bound | random sets | accuracy | ρ | top {top} |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in block["rows"]:
        rank = "– | –" if row["rank"] is None else f"{row['rank']:.2f} | {row['top']}"
        if not row["heads"]:
            named = "refused" if row["note"] else "none"
            lines.append(f"| {row['locator']} | {named} | – | – | – | – | – | {rank} |")
            continue
        low, high = row["interval"]
        beaten = "–" if row["beaten"] is None else f"{row['beaten']} of {row['sets']}"
        lines.append(
            f"| {row['locator']} | {listed(row['heads'])} | {row['effect']:+.3f} ({low:+.3f} to {high:+.3f}) "
            f"| {percent(row['share'])} | {percent(row['upper_share'])} | {beaten} | {100 * row['accuracy']:+.1f} "
            f"| {rank} |"
        )
    for note in dict.fromkeys(row["note"] for row in block["rows"] if row["note"]):
        which = ", ".join(row["locator"] for row in block["rows"] if row["note"] == note)
        lines += ["", _filled(f"Refused by {which}: {note.partition('. ')[0]}.")]
    lines += [
        "",
        "| heads | best set on the reference split | effect | best set on the test split | effect |",
        "|---|---|---|---|---|",
    ]
    for one in block["ceilings"]:
        lines.append(
            f"| {one['size']} | {listed(one['heads'])} | {one['effect']:+.3f} | {listed(one['upper_heads'])} "
            f"| {one['upper_effect']:+.3f} |"
        )
    return "\n".join([*lines, ""])
