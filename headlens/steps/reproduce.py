"""How to repeat an audit, from its question and its record alone: as Python, as shell commands, as a settings table.

Each call becomes one call of `Audit` and one shell command, each field that differs from its default one argument and
one option. What cannot be written down, a correction of the user's own, is loaded from the saved audit by its name.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from headlens._version import __version__
from headlens.heads import HeadId
from headlens.prompts import Attribute
from headlens.steps.data import AuditData
from headlens.steps.evaluate import question_of
from headlens.steps.options import CALLS
from headlens.steps.record import GIVEN, Call, Correct, Evaluate, Fairness, Record, Step, corrections
from headlens.steps.verdicts import Asked

PAIRS, BANK, ATTRIBUTE, CLASSES = "pairs.yaml", "bank.csv", "attribute.yaml", "classes.txt"
TABLE = "manifest.parquet"
"""Files beside a saved audit, for what a shell option cannot hold, and its table where that is not the store's own."""
IN_MEMORY = "acts.zarr"
"""Where a store in memory would have to be saved."""

_HOMES = {"Asked": "hl.steps", "ConceptRule": "hl.locate", "FairnessRule": "hl.steps", "LabelRule": "hl.explain"}
_POSITIONAL = {
    "locate": "locator",
    "evaluate": "methods",
    "fairness": "locator",
    "explain": "heads",
    "collateral": "attributes",
    "ablate": "heads",
}
_ALWAYS = {"evaluate": ("controls",), "collateral": ("heads",)}
"""What is written even where it is the call's default, since the method's own default is another one."""


@dataclass(frozen=True)
class ModelName:
    """How a model is named to `hl.load`: its name, and its weights where these have a name of their own."""

    name: str
    pretrained: str | None

    @classmethod
    def of(cls, label: str) -> ModelName:
        """From a model's label, which is its name, followed in brackets by its weights."""
        name, _, weights = label.removesuffix(")").partition(" (")
        return cls(name, weights or None)


# ---- Python ---------------------------------------------------------------------------------------------------------


def script(data: AuditData, record: Record, folder: Path | None = None, asked: Sequence[Asked] = ()) -> str:
    """Python that repeats the audit from its store.

    Args:
        data: the question.
        record: its steps.
        folder: where the audit is saved; corrections of the user's own are loaded from there.
        asked: every question that a verdict answered on these test images, in their order.
    """
    question, model = data.question, ModelName.of(data.question.model)
    pretrained = "" if model.pretrained is None else f", pretrained={literal(model.pretrained)}"
    table = literal("FOLDER" if folder is None else str(folder / TABLE))
    edited = f".with_manifest({table})" if data.store.edited else ""
    lines = [
        "import headlens as hl",
        "",
        f"clip = hl.load({literal(model.name)}{pretrained})",
        f"store = hl.HeadStore.open({literal(str(data.store.path or IN_MEMORY))}, clip){edited}",
        f"task = hl.ZeroShotTask({literal(question.task.classes)}, {literal(question.task.templates)})",
        f"attribute = {literal(question.attribute)}",
    ]
    changed = [
        f"    {one.name}={literal(value)},"
        for one in fields(question)
        if one.default is not MISSING and (value := getattr(question, one.name)) != one.default
    ]
    if changed:
        lines += ["audit = hl.Audit(", "    clip,", "    store,", "    task,", "    attribute,", *changed, ")"]
    else:
        lines.append("audit = hl.Audit(clip, store, task, attribute)")
    if any(isinstance(step.call, Correct) and step.call.method is None for step in record):
        place = "FOLDER" if folder is None else literal(str(folder))
        lines.append(f"saved = hl.Audit.load({place}, clip)  # for corrections that no script can write down")
    for step, before in _asked_before(data, record, asked):
        lines += [f"audit.asked += {literal(before)}"] if before else []
        lines.append(f"audit.{step.call.verb}({_arguments(step.call)})")
    return "\n".join(lines) + "\n"


def _asked_before(data: AuditData, record: Record, asked: Sequence[Asked]) -> Iterator[tuple[Step, list[Asked]]]:
    """Each step with the questions that were asked before it and that no step of the record asks: those of calls that
    were replaced, and those of other audits of the same test images. A verdict counts them, too."""
    named: list[Asked] = []
    for step in record:
        before: list[Asked] = []
        if (own := _question(data, record, step)) is not None:
            others = [one for one in asked if one != own][: step.result.verdict.questions - 1]
            before = [one for one in others if one not in named]
            named += [*before, own]
        yield step, before


def _question(data: AuditData, record: Record, step: Step) -> Asked | None:
    """What the step's verdict answers; None for a step without one."""
    if isinstance(step.call, Fairness):
        return Asked(data.question.attribute.name, step.call.locator, "fairness", step.result.candidates)
    if isinstance(step.call, Evaluate) and step.call.judged is not None:
        return question_of(data, step.call.judged, corrections(record)[step.call.judged].result)
    return None


def _arguments(call: Call) -> str:
    if isinstance(call, Correct):
        if call.method is None:
            return f"saved.corrections[{literal(call.name)}], name={literal(call.name)}"
        return literal(call.method) + ("" if call.name == call.method else f", name={literal(call.name)}")
    written: list[str] = []
    for one in fields(call):
        value = getattr(call, one.name)
        # Heads that are named take the place of a locator.
        named = one.name == "locator" and getattr(call, "locator", "") == GIVEN
        if named or (value == _default(one) and one.name not in _ALWAYS.get(call.verb, ())):
            continue
        if one.name == "options":
            written += [f"{name}={literal(each)}" for name, each in value]
        elif one.name == _POSITIONAL.get(call.verb):
            written.insert(0, literal(value))
        else:
            written.append(f"{one.name}={literal(value)}")
    return ", ".join(written)


def literal(value: Any) -> str:
    """A value as Python writes it, with `hl` for the package."""
    if isinstance(value, HeadId):
        return literal(str(value))
    if isinstance(value, Attribute):
        return f"hl.Attribute({literal(value.name)}, {literal(value.values)})"
    if is_dataclass(value) and not isinstance(value, type):
        name = type(value).__name__
        changed = [
            f"{one.name}={_inside(getattr(value, one.name))}"
            for one in fields(value)
            if getattr(value, one.name) != _default(one)
        ]
        return f"{_HOMES.get(name, 'hl.prompts')}.{name}({', '.join(changed)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(_inside, value)) + "]"
    return repr(value)


def _inside(value: Any) -> str:
    """The same within another value: a tuple stays one."""
    if type(value) is not tuple:
        return literal(value)
    return f"({', '.join(map(_inside, value))}{',' * (len(value) == 1)})"


def _default(one: Field[Any]) -> Any:
    if one.default_factory is not MISSING:
        return one.default_factory()
    return one.default


# ---- shell ----------------------------------------------------------------------------------------------------------


def commands(data: AuditData, record: Record, folder: Path, out: str = "audit-again") -> str:
    """The shell commands that repeat a saved audit from its store, into another folder.

    Args:
        data: the question.
        record: its steps.
        folder: where the audit is saved; what an option cannot hold is read from there.
        out: the folder to write to.

    Limits: verdicts count the questions of the record alone, not those of calls that were replaced or of other audits.
    """
    lines = [["headlens", "new", *_question_options(data, folder), "--out", out]]
    lines += [["headlens", step.call.verb, out, *_shell_arguments(step.call, folder)] for step in record]
    return "".join(f"{shlex.join(line)}\n" for line in lines)


def _question_options(data: AuditData, folder: Path) -> list[str]:
    question, model = data.question, ModelName.of(data.question.model)
    written = ["--model", model.name]
    if model.pretrained is not None:
        written += ["--pretrained", model.pretrained]
    written += ["--store", str(data.store.path or IN_MEMORY)]
    if data.store.edited:
        written += ["--data", str(folder / TABLE)]
    names = ",".join(question.task.classes)
    plain = not any(mark in name for name in question.task.classes for mark in ",\n")
    written += ["--classes", names if plain else str(folder / CLASSES)]
    for template in question.task.templates:
        written += ["--template", template]
    typed = typed_attribute(question.attribute)
    written += ["--attribute", str(folder / ATTRIBUTE) if typed is None else typed]
    written += ["--split", f"{question.reference},{question.test}", "--seed", str(question.seed)]
    if any(pairs is not None for pairs in (question.pairs, question.spurious_pairs, question.crossed_pairs)):
        written += ["--pairs", str(folder / PAIRS)]
    if question.bank is not None:
        written += ["--bank", str(folder / BANK)]
    if question.skip_unlabelled:
        written.append("--skip-unlabelled")
    return written


def typed_attribute(attribute: Attribute) -> str | None:
    """An attribute as a shell option, name:value=prompt|prompt,value=prompt; None where its texts do not allow it."""
    texts = [text for prompts in attribute.values.values() for text in prompts]
    if ":" in attribute.name or any(mark in text for text in (*attribute.values, *texts) for mark in ",|=\n"):
        return None
    values = ",".join(f"{value}={'|'.join(prompts)}" for value, prompts in attribute.values.items())
    return f"{attribute.name}:{values}"


def _shell_arguments(call: Call, folder: Path) -> list[str]:
    if isinstance(call, Correct):
        how = ["--saved", str(folder)] if call.method is None else ["--methods", call.method]
        return how if call.name == call.method else [*how, "--name", call.name]
    written: list[str] = []
    defaults = {one.name: _default(one) for one in fields(call)}
    for name, option in CALLS[call.verb].items():
        if (value := getattr(call, name)) != defaults[name] or name in _ALWAYS.get(call.verb, ()):
            for text in _typed(value, option.kind):
                written += [option.flag, text]
    return written


def _typed(value: Any, kind: str) -> list[str]:
    """A value as it is typed, once for each time that its option is repeated."""
    if kind == "setting":
        pairs = value if isinstance(value, tuple) else [(one.name, getattr(value, one.name)) for one in fields(value)]
        return [f"{name}={each}" for name, each in pairs if each is not None]
    if kind == "group":
        return ["/".join(one) for one in value]
    if kind == "attribute":
        return [typed_attribute(one) or one.name for one in value]
    return [",".join(map(str, value)) if isinstance(value, tuple) else str(value)]


# ---- settings -------------------------------------------------------------------------------------------------------


def settings(data: AuditData, record: Record) -> dict[str, str]:
    """Everything needed to repeat the result, name and value, in words."""
    question = data.question
    whose = "the testbed's own for these classes" if data.testbed_pairs else "given"
    pairs = "the class prompts" if question.pairs is None else f"{len(question.pairs)}, {whose}"
    table = {
        "headlens": __version__,
        "model": question.model,
        "model fingerprint": question.fingerprint,
        "images": f"{len(data.store):,}, manifest {question.manifest}",
        "audit": question.identity,
        "classes": ", ".join(question.task.classes),
        "templates": "; ".join(question.task.templates),
        "attribute": question.attribute.name,
        "attribute values": "inferred zero-shot" if data.inferred else "from the manifest",
        "attribute prompts": "; ".join(
            f"{value}: {' | '.join(prompts)}" for value, prompts in question.attribute.values.items()
        ),
        "splits": f"{question.reference} (reference), {question.test} (scored)",
        "text pairs": pairs,
        "text bank": "headlens' own" if question.bank is None else f"{len(question.bank)} texts given",
        "images without a value": "left out" if question.skip_unlabelled else "none allowed",
        "seed": str(question.seed),
    }
    for step in record:
        call = step.call
        name = f"correction {call.name}" if isinstance(call, Correct) else call.verb
        own = {one.name: getattr(call, one.name) for one in fields(call) if one.name not in ("name", "located")}
        table[name] = "; ".join(f"{key} {_in_words(value)}" for key, value in own.items() if _in_words(value))
    return table


def _in_words(value: Any) -> str:
    if value is None or value == "" or (isinstance(value, tuple | dict) and not value):
        return ""
    if isinstance(value, Attribute):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        return ", ".join(_typed(value, "setting"))
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, tuple) and not isinstance(value, HeadId):
        return ", ".join("/".join(map(str, one)) if type(one) is tuple else _in_words(one) for one in value)
    return str(value)
