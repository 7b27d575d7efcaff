"""Located heads as a file, so that another benchmark can use them.

A benchmark writes the heads that it located to `located.json` in its output folder. The heads of one data set may serve
another: LTC (arXiv 2505.17425) takes the spurious heads of CounterAnimal from Waterbirds, and those of FairFace from
GenderBias-VL. They hold for one model, whose fingerprint stands beside them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headlens._version import __version__
from headlens.audit import Audit
from headlens.errors import LocateError
from headlens.fingerprint import same_model
from headlens.heads import HeadId, as_heads
from headlens.locate import Located
from headlens.models import HookedCLIP
from headlens.serialization import write_json

LOCATED = "located.json"
_AUDIT = "audit.json"
_FORMAT = 1
_HEAD = r"\s*(?:L\d+H\d+|\d+\.\d+)\s*"
_WRITTEN = re.compile(f"{_HEAD}(,{_HEAD})*", re.IGNORECASE)
_REMEDY = (
    "Name the output folder of headlens benchmark, a saved audit's folder or a located.json, or write heads, separated "
    "by commas: L10H10,L11H3."
)


@dataclass(frozen=True)
class TransferredHeads:
    """Heads that were located elsewhere.

    Attributes:
        spurious: Z_SY, what is ablated.
        salient: Z_Y, where knowledge is injected.
        source: where they come from, as it stands under a table.
        model: the model's name.
        fingerprint: of that model; None for heads that nobody measured here, such as published ones.
        by_class: the salient heads of each class by its name, where they were located class by class. A record: another
            data set has other classes, and does not use them.
    """

    spurious: tuple[tuple[int, int], ...]
    salient: tuple[tuple[int, int], ...] = ()
    source: str = "the caller"
    model: str = ""
    fingerprint: str | None = None
    by_class: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def located(self, clip: HookedCLIP) -> Located:
        """The heads as a locator's result, for this model.

        Raises:
            LocateError: for heads of another model, heads that its tower does not have, and no head at all.
        """
        if self.fingerprint is not None and not same_model(self.fingerprint, clip.fingerprint):
            raise LocateError(
                f"heads that were located in this model, {clip.name} ({clip.fingerprint})",
                f"those of {self.model or 'another one'} ({self.fingerprint}), from {self.source}",
                "Head numbers mean nothing in another model: locate them there, or take the model they come from.",
            )
        cfg = clip.vision.cfg
        spurious, salient = (as_heads(heads, cfg.n_layers, cfg.n_heads) for heads in (self.spurious, self.salient))
        if not spurious and not salient:
            raise LocateError("at least one located head to transfer", f"none, from {self.source}", _REMEDY)
        return Located("transferred", spurious, salient)

    def write(self, path: str | Path) -> Path:
        """Write them as JSON, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "format": _FORMAT,
            "headlens": __version__,
            "source": self.source,
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "spurious": _texts(self.spurious),
            "salient": _texts(self.salient),
            "by_class": {name: _texts(heads) for name, heads in self.by_class.items()},
        }
        write_json(path, record)
        return path


def heads_of(audit: Audit, source: str, by_class: Mapping[str, Iterable[tuple[int, int]]]) -> TransferredHeads:
    """What an audit located, to be transferred."""
    located = audit.location
    assert located is not None
    return TransferredHeads(
        tuple(located.spurious),
        tuple(located.salient),
        source,
        audit.store.model_name,
        audit.store.fingerprint,
        {name: tuple(HeadId(*head) for head in heads) for name, heads in by_class.items()},
    )


def read_heads(source: str | Path | TransferredHeads) -> TransferredHeads:
    """Heads from a benchmark's output folder, a saved audit's folder, a located.json, or written out: "L10H10,L11H3".

    Raises:
        LocateError: for anything else.
    """
    if isinstance(source, TransferredHeads):
        return source
    path = Path(source)
    if not path.exists() and _WRITTEN.fullmatch(str(source)):
        return TransferredHeads(_heads(str(source).split(",")), source=f"the caller ({source})")
    if path.is_dir():
        path = next((path / name for name in (LOCATED, _AUDIT) if (path / name).is_file()), path)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return _of_audit(record) if "question" in record else _of_record(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, LocateError) as error:
        raise LocateError("located heads to transfer", f"{str(source)!r} ({error})", _REMEDY) from error


def _of_record(record: dict[str, Any]) -> TransferredHeads:
    if record["format"] != _FORMAT:
        raise ValueError(f"format {record['format']}, not {_FORMAT}")
    return TransferredHeads(
        _heads(record["spurious"]),
        _heads(record["salient"]),
        record["source"],
        record["model"]["name"],
        record["model"]["fingerprint"],
        {name: _heads(heads) for name, heads in record["by_class"].items()},
    )


def _of_audit(record: dict[str, Any]) -> TransferredHeads:
    located = [step["result"]["located"] for step in record["record"] if step["call"]["type"] == "Locate"]
    if not located:
        raise ValueError("an audit that located nothing yet")
    question = record["question"]
    return TransferredHeads(
        _heads(located[-1]["spurious"]),
        _heads(located[-1].get("salient", ())),
        f"an audit of {question['attribute']['name']} over {', '.join(question['task']['classes'][:3])}",
        question["model"],
        question["fingerprint"],
    )


def _heads(texts: Iterable[str]) -> tuple[HeadId, ...]:
    return tuple(HeadId.of(text) for text in texts)


def _texts(heads: Iterable[tuple[int, int]]) -> list[str]:
    return [str(HeadId(*head)) for head in heads]
