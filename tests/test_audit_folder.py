"""What an audit writes is JSON by the standard, whatever numbers came out, and comes back as it was."""

import json
from dataclasses import replace
from math import isnan, nan
from pathlib import Path

import fairness_example
import pytest

import headlens as hl
from headlens.steps import Step


def refuse(constant: str) -> None:
    pytest.fail(f"{constant} is not JSON")


def read(text: str) -> object:
    return json.loads(text, parse_constant=refuse)


def test_an_audit_of_a_class_without_images_is_saved_as_standard_json(tmp_path: Path) -> None:
    audit = fairness_example.audit(tmp_path / "images")
    found = audit.fairness_results
    assert found is not None
    empty = replace(found.by_class[0], images=0, accuracy_before=nan, accuracy_after=nan, gap_before=nan)
    step = next(step for step in audit.record if step.result is found)
    audit.record = (Step(step.call, replace(found, by_class=(empty, *found.by_class[1:]))),)
    folder = audit.save(tmp_path / "kept")
    for path in sorted(folder.glob("*.json")):
        read(path.read_text(encoding="utf-8"))
    again = hl.Audit.load(folder).fairness_results
    assert again is not None
    assert isnan(again.by_class[0].accuracy_before)
    assert again.by_class[1:] == found.by_class[1:]
    assert again.table().equals(found.table())
