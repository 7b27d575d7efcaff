"""How the fields of an audit's calls are written in the shell: one declaration for the options that `headlens.cli`
offers and for the commands that repeat an audit.

This module imports nothing, so that `headlens --help` answers at once. Defaults are the calls' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "number", "names", "heads", "group", "setting", "attribute", "choice"]


@dataclass(frozen=True)
class Option:
    """One field as a shell option.

    Attributes:
        flag: the option.
        help: what it is, in a sentence.
        kind: how it is typed: "names" and "heads" are separated by commas; a "group" (class/value), a "setting"
            (NAME=VALUE) and an "attribute" (name:value=prompt,…) may be repeated.
        least: of a number, the smallest that is allowed.
        choices: of a choice.
        known: "locator" or "method", where it names these.
    """

    flag: str
    help: str
    kind: Kind = "text"
    least: int = 0
    choices: tuple[str, ...] = ()
    known: str = ""


KNOWN: dict[str, tuple[str, ...]] = {
    "locator": (
        "contrastive",
        "contrastive-full",
        "contrastive-soft",
        "contrastive (published)",
        "contrastive-full (published)",
        "calibrated",
        "contrastive-inferred",
        "concept",
        "textspan",
        "concept+textspan",
        "single-head sweep",
        "greedy sweep",
    ),
    "method": (
        "ablation",
        "ablation (self)",
        "zero ablation",
        "resample ablation",
        "prototype ablation",
        "ablation textspan",
        "ltc without ablation",
        "ltc",
        "ltc (self)",
        "ltc full (self)",
        "ablation (published)",
        "zero ablation (published)",
        "ltc without ablation (published)",
        "ltc (published)",
        "ltc full (published)",
        "ltc full",
        "ltc inferred",
        "ltc soft",
        "roboshot",
        "roboshot reject",
        "roboshot accept",
        "ortho-cali",
        "leace",
        "leace heads",
        "erm probe",
        "erm probe + ltc",
        "jtt probe",
        "jtt probe + ltc",
        "last-layer retraining",
        "last-layer retraining + ltc",
    ),
}
"""What headlens registers under these kinds, so that the shell answers a mistyped name before it imports any of it."""

_DRAWS = Option("--draws", "Layer-matched random head sets to compare with.", "number")
_BOOTSTRAP = Option("--bootstrap", "Bootstrap resamples behind the intervals that need them.", "number", 10)
_NULL = Option(
    "--null", "Repetitions of the verdict with the attribute permuted within the true classes; 0 for none.", "number"
)
_TOTAL = Option("--total", "Images passed through the model again for the total effect; 0 leaves it out.", "number")
_RULE = Option("--rule", "A threshold of the concept test, NAME=NUMBER; may be repeated.", "setting")
_OPTION = Option("--option", "Another option of the locator, NAME=VALUE; may be repeated.", "setting")

CALLS: dict[str, dict[str, Option]] = {
    "locate": {
        "locator": Option(
            "--locator", "How heads are located: contrastive, concept, textspan, concept+textspan, …", known="locator"
        ),
        "conflicting": Option(
            "--conflicting", "A group where attribute and class conflict, class/value; may be repeated.", "group"
        ),
        "rule": _RULE,
        "options": _OPTION,
        "spurious": Option("--spurious", "Spurious heads that were located elsewhere, separated by commas.", "heads"),
        "salient": Option("--salient", "Salient heads that were located elsewhere.", "heads"),
        "source": Option("--source", "Where these heads come from."),
        "n_bootstrap": Option(
            "--resamples", "Resamples of the images behind the locator's stability; 0 leaves it out.", "number"
        ),
    },
    "correct": {
        "method": Option("--methods", "Corrections to fit, such as ltc,roboshot.", "names", known="method"),
        "name": Option("--name", "What to call a single correction in tables."),
    },
    "evaluate": {
        "methods": Option("--methods", "Corrections to fit and score, separated by commas.", "names"),
        "controls": Option("--controls", "Those to compare with random heads; by default all that use heads.", "names"),
        "judged": Option("--judge", "The method that the verdict is about."),
        "n_random_sets": _DRAWS,
        "n_bootstrap": _BOOTSTRAP,
        "n_null": _NULL,
        "total": _TOTAL,
    },
    "fairness": {
        "locator": Option(
            "--locator", "How candidates are located: concept, textspan, concept+textspan, …", known="locator"
        ),
        "rule": _RULE,
        "options": _OPTION,
        "heads": Option("--heads", "The candidates themselves, separated by commas.", "heads"),
        "n_random_sets": _DRAWS,
        "n_bootstrap": _BOOTSTRAP,
        "n_permutations": Option("--permutations", "Permutations of the attribute within each class.", "number", 1),
        "total": _TOTAL,
        "tokens": Option(
            "--tokens", "Where the total ablation replaces the heads.", "choice", choices=("class", "all")
        ),
        "verdict_rule": Option(
            "--verdict-rule", "A threshold of the verdict, NAME=NUMBER; may be repeated.", "setting"
        ),
        "n_null": _NULL,
    },
    "explain": {
        "heads": Option("--heads", "The heads, separated by commas; all by default.", "heads"),
        "k": Option("--texts", "Texts that each head is explained by, at most.", "number", 1),
        "n_bootstrap": Option("--bootstrap", "Bootstrap samples behind the texts' stability.", "number"),
        "rule": Option("--rule", "A threshold of the label, NAME=NUMBER; may be repeated.", "setting"),
    },
    "collateral": {
        "methods": Option("--methods", "Fitted corrections, separated by commas; all by default.", "names"),
        "heads": Option("--heads", "Heads whose mean ablation is measured, too.", "heads"),
        "attributes": Option(
            "--other", "Another attribute, COLUMN:value=prompt,value=prompt; may be repeated.", "attribute"
        ),
        "k": Option("--neighbours", "Nearest images that are compared.", "number", 1),
        "n_bootstrap": _BOOTSTRAP,
    },
    "ablate": {
        "heads": Option("--heads", "The heads, separated by commas.", "heads"),
        "n_random_sets": _DRAWS,
        "n_bootstrap": _BOOTSTRAP,
    },
}
"""By the verb of a call (a method of `Audit`, a shell command), its fields that the shell can set."""
