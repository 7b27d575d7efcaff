"""What an audit writes is JSON by the standard, whatever numbers came out, and comes back as it was."""

import json
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from pathlib import Path

import fairness_example
import pytest

import headlens as hl
from headlens.audit.folder import write_json
from headlens.audit.pack import pack, unpack


@dataclass(frozen=True)
class Numbers:
    plain: float
    either: float | int
    perhaps: float | None
    number_or_none: float | int | None
    named: dict[str, float]
    ends: tuple[float, float]


def refuse(constant: str) -> None:
    pytest.fail(f"{constant} is not JSON")


def read(text: str) -> object:
    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("value", [nan, inf, -inf, 0.25])
def test_numbers_that_json_does_not_know_come_back(value: float) -> None:
    made = Numbers(value, value, value, value, {"a": value}, (value, 0.5))
    arrays: dict[str, object] = {}
    again = unpack(read(json.dumps(pack(made, Numbers, arrays), allow_nan=False)), Numbers, arrays)
    for name in ("plain", "either"):
        assert getattr(again, name) == value or isnan(getattr(again, name)) == isnan(value) is True
    assert again.named["a"] == value or isnan(again.named["a"])
    assert again.ends[0] == value or isnan(again.ends[0])
    assert again.ends[1] == 0.5
    # Where a field may be None, "not a number" is that.
    assert again.perhaps == (None if isnan(value) else value)
    assert again.number_or_none == (None if isnan(value) else value)


def test_whole_numbers_and_none_stay_what_they_are() -> None:
    made = Numbers(1.0, 3, None, None, {}, (0.0, 1.0))
    again = unpack(pack(made, Numbers, {}), Numbers, {})
    assert again == made
    assert isinstance(again.either, int)


def test_a_record_for_people_has_null_where_there_is_no_number(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": nan, "b": [inf, {"c": -inf}], "d": (1.5, None), "e": "NaN"})
    assert read((tmp_path / "a.json").read_text()) == {
        "a": None,
        "b": [None, {"c": None}],
        "d": [1.5, None],
        "e": "NaN",
    }


def test_an_audit_of_a_class_without_images_is_saved_as_standard_json(tmp_path: Path) -> None:
    audit = fairness_example.audit(tmp_path / "images")
    found = audit.fairness_results
    assert found is not None
    empty = replace(found.by_class[0], images=0, accuracy_before=nan, accuracy_after=nan, gap_before=nan)
    audit.fairness_results = replace(found, by_class=(empty, *found.by_class[1:]))
    folder = audit.save(tmp_path / "kept")
    for path in sorted(folder.glob("*.json")):
        read(path.read_text(encoding="utf-8"))
    again = hl.Audit.load(folder).fairness_results
    assert again is not None
    assert isnan(again.by_class[0].accuracy_before)
    assert again.by_class[1:] == found.by_class[1:]
    assert again.table().equals(found.table())
