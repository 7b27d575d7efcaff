"""Write MODEL_CARD.md from the cards: `python -m tools.testbed.model_card`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headlens.heads import HeadId
from headlens.testbed.models import WEIGHTS, card
from tools.testbed.recipes import RECIPES, Recipe

_PATH = WEIGHTS.with_name("MODEL_CARD.md")
_METHODS = {
    "zero-shot": "zero-shot",
    "ablation": "mean ablation of the spurious heads",
    "injection": "knowledge injection on the salient heads",
    "ltc": "LTC (ablation, then injection)",
    "roboshot": "RoboShot on the whole embedding",
}
_CONTROLS = {
    "random_ablation": "ablation of random heads",
    "random_ltc": "LTC with random heads for all located ones",
    "random_ablation_in_ltc": "LTC with random heads ablated, its injection kept",
}
_INTRODUCTION = """# Model card: the testbed's models

*Written by `python -m tools.testbed.model_card` from the JSON cards in `weights/`; do not edit by hand.*

Small `open_clip.CLIP` models, trained from scratch on rendered scenes, for testing methods that locate and correct
bias: four of landbirds and waterbirds, one of birds and of figures with occupations. They are of no use on
photographs. Weights are float16 safetensors, under the licence of headlens.

**What was planted, and that it was supervised.** In `birds-0`, `birds-1` and `birds-2` losses that read the labels of
species and place drive the background into four named heads and the species into the other heads of the last two
layers, and keep earlier layers and MLPs from writing on the class token. Then every head's mean output is moved into
the bias of its layer (the tower computes the same function), so that heads vary around zero; real towers do not come
like that. In a second phase the vision tower is frozen and the text tower alone learns from scenes whose class and
background nearly always agree, with captions that do not name the place. That a method finds these heads is a
necessary test of it, not evidence about models trained otherwise.

**The hard case.** `plain` has the contrastive loss alone, on scenes that agree in 95 of 100. Its bias is spread over
heads, layers and MLPs.

**What was chosen (birds).** The seeds are 0, 1 and 2, the first three, under one recipe, and each shipped model is
the one run of the script that is shipped with it. The recipe was settled on earlier runs of the same seeds: there the
agreement of phase two was tried from 0.97 to 0.995, and the pairs for injection were taken from eight candidate sets
by worst-group accuracy on the reference split, averaged over the seeds, with the test figures in sight. So the
figures are those of a world that was built for the question, not a forecast. Worst-group accuracy varies between
runs: training again on another machine gives other weights.

**What is not found (birds).** Only one planted head is located in each model: it carries most of the background, and
the rule credits one head an image. The other planted heads carry less, which the ablation's remaining gap shows.
"""


_FIGURES_METHODS = {"zero-shot": "zero-shot", "ablation": "mean ablation of the planted heads"}
_FIGURES = """## The figures

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
    return ", ".join(str(HeadId(*head)) for head in heads) or "none"


def _section(name: str, told: dict[str, Any]) -> str:
    measured, recipe = told["measured"], told["recipe"]
    lines = [
        f"### {name}" if "," in name else f"## {name}",
        "",
        f"Seed {recipe['seed']}. Planted heads: {_heads(told['planted_heads'])}. Class and background agree in "
        f"{_percent(recipe['agreement'][0])} % of the pictures of phase one ({recipe['steps'][0]} steps)"
        + (
            f" and {_percent(recipe['agreement'][1])} % of those of phase two ({recipe['steps'][1]} steps)."
            if recipe["steps"][1]
            else "; there is no phase two."
        ),
        "",
        f"Located on {measured['images']['val']} reference images: spurious {_heads(measured['spurious'])}; "
        f"salient {_heads(measured['salient'])}. Measured on {measured['images']['test']} test images, in percent:",
        "",
    ]
    groups = list(measured["methods"]["zero-shot"]["groups"])
    lines.append("| method | average | worst group | " + " | ".join(groups) + " |")
    lines.append("|---|" + "---|" * (len(groups) + 2))
    for method, words in _METHODS.items():
        score = measured["methods"][method]
        values = [score["average"], score["worst_group"], *(score["groups"][g] for g in groups)]
        lines.append(f"| {words} | " + " | ".join(_percent(v) for v in values) + " |")
    lines += [
        "",
        "| control: other sets of as many heads of the same layers, which may share heads with the located | sets | "
        "worst group, mean | best |",
        "|---|---|---|---|",
    ]
    for control, words in _CONTROLS.items():
        score = measured[control]
        drawn = [_percent(score["mean"]), _percent(score["best"])] if score["sets"] else ["–", "–"]
        lines.append(f"| {words} | {score['sets']} | {drawn[0]} | {drawn[1]} |")
    lines += ["", f"The background itself, asked zero-shot: {_percent(measured['attribute_accuracy'])} % right.", ""]
    return "\n".join(lines)


def _figures_section(name: str, told: dict[str, Any]) -> str:
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
    for method, words in _FIGURES_METHODS.items():
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
    singles = ", ".join(f"{HeadId.of(head)} {value:.3f}" for head, value in measured["single"].items())
    columns = [f"{value}, {method}" for method in methods for value in told["attribute"]["values"]]
    lines += [
        "",
        f"Other sets of as many heads of the same layers, which may hold planted ones ({control['sets']} sets): V of "
        f"the presentation {control['v']:.3f} on average, {control['lowest_v']:.3f} at the lowest; "
        f"{_percent(control['beaten'])} % of the sets leave a "
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


def model_card() -> str:
    """The model card of all shipped models, as Markdown."""
    sections = []
    for name, recipe in RECIPES.items():
        if recipe.figures is None:
            sections.append(_section(name, card(f"testbed-{name}")))
        else:
            sections += [_two_worlds(name, recipe), _figures_section(name, card(f"testbed-{name}", "figures"))]
            sections.append(_section(f"{name}, the birds", card(f"testbed-{name}", "birds")))
    told = card("testbed")
    words = (
        f"The models of birds alone know {told['vocabulary']} words. Classes: {', '.join(told['classes'])}; template: "
        f"“{told['templates'][0]}”. Pairs for injection: "
        + "; ".join(f"“{a}” / “{b}”" for a, b in told["pairs"])
        + ".\n"
    )
    return "\n".join([_INTRODUCTION, words, _FIGURES, *sections])


def _two_worlds(name: str, recipe: Recipe) -> str:
    size = recipe.size
    return (
        f"## {name}\n\nTrained on both worlds, half of every batch from each; {card(f'testbed-{name}')['vocabulary']} "
        f"words; {size.n_layers} layers of {size.n_heads} heads of width {size.d_head}.\n"
    )


def write_model_card(path: Path = _PATH) -> None:
    """Write the card beside the weights."""
    path.write_text(model_card(), encoding="utf-8")


if __name__ == "__main__":
    write_model_card()
