"""What the model card says of the figures."""

from __future__ import annotations

from typing import Any

_METHODS = {"zero-shot": "zero-shot", "ablation": "mean ablation of the planted heads"}


def figures_introduction() -> str:
    """What the world of the figures is, what is planted in it, and how that was done."""
    return _INTRODUCTION


_INTRODUCTION = """## The figures

**What they are.** Drawings of a figure with an occupation (an outfit, a hat and a tool of its own), a *perceived
gender presentation* and a *perceived age*. The presentation is drawn by clichés on purpose: hair, outline of the
clothes, bag, beard, each of which may also speak against it; the age by gray hair, a stoop and a stick. These are
cues of a drawing and say nothing about people. Skin tone is drawn independently of everything and never named.

**What was planted, and that it was supervised.** In phase one occupation, presentation and age are independent, and
losses that read their labels drive the presentation into the planted heads and the age into two others: the share of
a planted head's variance that lies between the values is raised, what it carries of the other labels is penalised,
and so is what every other head of the last two layers carries of the presentation. In phase two the vision tower is
frozen, and the text tower alone learns from pictures in which some occupations nearly always go with one
presentation, with captions that seldom name it. Age stays independent: it is the negative control, and a method that
claims a bias for it is wrong.

**What was chosen (figures).** The seed is 0, the first; the recipe was settled on runs of that seed, with the test
figures in sight. Without the term that raises the presentation's share, 700 steps left the presentation unlearnt
(AUROC 0.54, asked zero-shot) while the occupations were learnt; with it and a third cue, the bag, it was learnt
within 100 steps. The planted heads then wrote it against one another (cosine −0.63), which hid it from tests by
prompts; hence the last stretch of phase one, `settle`, in which they are made to write it in one direction and to
be quiet on the birds. Phase two was tried with an agreement of 0.98 (V 0.19) before the one with 0.995 that is
shipped. While recipes were tried, phase one was kept; the script, run as a whole from its seed, then gave the shipped
weights again, byte for byte. So the figures are those of a world that was built for the question.
"""


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _heads(heads: list[list[int]]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in heads) or "none"


def figures_section(name: str, told: dict[str, Any]) -> str:
    """The facts of one model about the figures, as Markdown."""
    measured, recipe = told["measured"], told["recipe"]
    control, methods = measured["random_ablation"], measured["methods"]
    leaning: dict[str, list[str]] = {}
    for occupation, way in told["leanings"].items():
        leaning.setdefault(way, []).append(occupation)
    lines = [
        f"### {name}, the figures",
        "",
        f"Seed {recipe['seed']}. Planted heads, presentation: {_heads(told['planted_heads'])}; age: "
        f"{_heads(told['control_heads'])}. Occupations that lean to one presentation in phase two: "
        + "; ".join(f"{way}: {', '.join(names)}" for way, names in leaning.items())
        + f". There {_percent(recipe['figures']['agreement'][1])} % of their pictures follow it; Cramér's V of "
        f"presentation and occupation is {told['training_v'][0]:.2f} in phase one ({recipe['steps'][0]} steps) and "
        f"{told['training_v'][1]:.2f} in phase two ({recipe['steps'][1]} steps).",
        "",
        f"Measured on {measured['images']['test']} test images, balanced over occupation, presentation and age; means "
        f"for ablation from {measured['images']['val']} reference images. V is Cramér's V of the attribute and the "
        "predicted occupation; in brackets the bias-corrected form. Accuracies in percent.",
        "",
        "| method | average | worst group | V, presentation | V, age |",
        "|---|---|---|---|---|",
    ]
    for method, words in _METHODS.items():
        score = methods[method]
        values = [
            f"{score['v'][name]:.3f} ({score['corrected_v'][name]:.3f})"
            for name in (told["attribute"]["name"], told["control"]["name"])
        ]
        lines.append(
            f"| {words} | {_percent(score['average'])} | {_percent(score['worst_group'])} | "
            + " | ".join(values)
            + " |"
        )
    singles = ", ".join(f"{head} {value:.3f}" for head, value in measured["single"].items())
    columns = [f"{value}, {method}" for method in methods for value in told["attribute"]["values"]]
    lines += [
        "",
        f"As many random heads of the same layers ({control['sets']} sets): V of the presentation {control['v']:.3f} "
        f"on average, {control['lowest_v']:.3f} at the lowest; {_percent(control['beaten'])} % of the sets leave a "
        f"higher V than the planted heads do; accuracy {_percent(control['average'])}. V with one planted head "
        f"ablated: {singles}.",
        "",
        "| occupation | leans to | " + " | ".join(columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for occupation in told["classes"]:
        values = [
            _percent(methods[method]["groups"][f"{occupation}/{value}"])
            for method in methods
            for value in told["attribute"]["values"]
        ]
        lines.append(f"| {occupation} | {told['leanings'][occupation]} | " + " | ".join(values) + " |")
    lines += [
        "",
        f"The presentation itself, asked zero-shot: {_percent(measured['attribute_accuracy'])} % right; the age: "
        f"{_percent(measured['control_accuracy'])} %.",
        "",
    ]
    return "\n".join(lines)
