"""What is written is JSON by the standard and safetensors, comes back as it was, and has a digest of its own."""

import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf, isnan, nan
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from headlens import serialization
from headlens.errors import HeadlensError
from headlens.heads import HeadId, HeadLike
from headlens.registry import Registry
from headlens.serialization import Arrays, digest, pack, read_arrays, unpack, write_arrays, write_json


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


def read(text: str) -> Any:
    return json.loads(text, parse_constant=refuse)


def again(value: Any, kind: Any) -> Any:
    """A value after it was written and read."""
    arrays: Arrays = {}
    return unpack(read(json.dumps(pack(value, kind, arrays), allow_nan=False)), kind, arrays)


# ---- numbers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [nan, inf, -inf, 0.25])
def test_numbers_that_json_does_not_know_come_back(value: float) -> None:
    found = again(Numbers(value, value, value, value, {"a": value}, (value, 0.5)), Numbers)
    for one in (found.plain, found.either, found.named["a"], found.ends[0]):
        assert one == value or (isnan(one) and isnan(value))
    assert found.ends[1] == 0.5
    # Where a field may be None, "not a number" is that.
    assert found.perhaps == (None if isnan(value) else value)
    assert found.number_or_none == (None if isnan(value) else value)


def test_whole_numbers_and_none_stay_what_they_are() -> None:
    made = Numbers(1.0, 3, None, None, {}, (0.0, 1.0))
    assert again(made, Numbers) == made
    assert isinstance(again(made, Numbers).either, int)


def test_a_record_for_people_has_null_where_there_is_no_number(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": nan, "b": [inf, {"c": -inf}], "d": (1.5, None), "e": "NaN"})
    assert read((tmp_path / "a.json").read_text()) == {
        "a": None,
        "b": [None, {"c": None}],
        "d": [1.5, None],
        "e": "NaN",
    }
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


# ---- every kind of field ---------------------------------------------------------------------------------------------


class Animal:
    """The base of a family."""


@dataclass(frozen=True)
class Cat(Animal):
    lives: int


@dataclass(frozen=True, eq=False)
class Dog(Animal):
    tricks: Float[Tensor, "trick level"]
    friend: Animal | None = None


KINDS = Registry[type[Animal]]("animal", {"cat": Cat, "dog": Dog})
serialization.family(Animal, KINDS)


@dataclass(frozen=True)
class Left:
    size: int


@dataclass(frozen=True)
class Right:
    size: int


@dataclass(frozen=True, eq=False)
class Everything:
    text: str = "a"
    flag: bool = True
    count: int = 3
    share: float = 0.1
    maybe: str | None = None
    mixed: str | int | float | bool | None = 2
    choice: Literal["split", "self"] = "split"
    heads: tuple[HeadId, ...] = (HeadId(1, 2),)
    loose: Sequence[HeadLike] = (HeadId(0, 1), HeadId(3, 2))
    by_head: dict[HeadId, tuple[str, ...]] = field(default_factory=lambda: {HeadId(0, 1): ("x",)})
    side: Left | Right | None = Right(5)
    animal: Animal = Cat(9)
    animals: tuple[Animal, ...] = (Cat(7), Dog(torch.ones(2, 3), Cat(1)))
    tensor: Float[Tensor, "image embed"] | None = field(default_factory=lambda: torch.arange(6.0).reshape(2, 3))
    array: Int[np.ndarray, "image"] = field(default_factory=lambda: np.arange(5))
    plain: np.ndarray = field(default_factory=lambda: np.zeros((2, 0)))
    anything: dict[str, Any] = field(default_factory=lambda: {"a": [1, "b"]})


OTHERS: dict[str, tuple[Any, ...]] = {
    "text": ("b", ""),
    "flag": (False,),
    "count": (4, -3),
    "share": (0.1 + 1e-16, nan, inf, -inf, 1.0),
    "maybe": ("", "None"),
    "mixed": (2.5, "2", True, None),
    "choice": ("self",),
    "heads": ((), (HeadId(2, 1),), (HeadId(1, 2), HeadId(1, 3))),
    "loose": ((), (HeadId(0, 1),), (HeadId(3, 2), HeadId(0, 1))),
    "by_head": ({}, {HeadId(0, 1): ("y",)}, {HeadId(0, 2): ("x",)}),
    "side": (Left(5), Right(6), None),
    "animal": (Cat(8), Dog(torch.ones(1, 1))),
    "animals": ((), (Dog(torch.ones(2, 3), Cat(1)), Cat(7)), (Cat(7), Dog(torch.ones(2, 3)))),
    "tensor": (None, torch.arange(6.0).reshape(3, 2), torch.arange(6.0).reshape(2, 3).double(), torch.zeros(2, 3)),
    "array": (np.arange(6), np.arange(5)[::-1], np.arange(5).astype(np.int32)),
    "plain": (np.zeros((0, 2)), np.ones((1, 1))),
    "anything": ({"a": [1, "c"]}, {"b": [1, "b"]}, {}),
}


def same(a: Any, b: Any) -> bool:
    """Equal in every field, arrays in their type too; NaN equals itself."""
    if isinstance(a, Tensor | np.ndarray):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


VARIANTS = [replace(Everything(), **{name: value}) for name, values in OTHERS.items() for value in values]


def test_every_field_has_another_value_to_try() -> None:
    assert set(OTHERS) == {one.name for one in fields(Everything)}


@pytest.mark.parametrize("number", range(len(VARIANTS)))
def test_every_field_comes_back_and_keeps_its_digest(number: int) -> None:
    made = VARIANTS[number]
    found = again(made, Everything)
    assert same(found, made)
    assert digest(found) == digest(made)


def test_digests_differ_wherever_a_field_does() -> None:
    assert len({digest(one) for one in [Everything(), *VARIANTS]}) == len(VARIANTS) + 1
    assert digest(Everything()) == digest(Everything())
    assert digest(Left(5)) != digest(Right(5))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=5,
)


def shape_of(value: Any) -> Any:
    """A value in which True and 1, and mappings of another order, are not equal."""
    if isinstance(value, tuple):
        return ("tuple", *map(shape_of, value))
    if isinstance(value, dict):
        return ("dict", *((key, shape_of(one)) for key, one in value.items()))
    return (isinstance(value, bool), value)


@given(VALUES, VALUES)
def test_two_values_share_a_digest_where_they_are_equal_and_nowhere_else(a: Any, b: Any) -> None:
    assert (digest(a) == digest(b)) == (shape_of(a) == shape_of(b))
    assert digest((a, b)) != digest((a, (b,)))


def test_what_cannot_be_written_down_has_no_digest() -> None:
    with pytest.raises(HeadlensError, match="cannot be made of a function"):
        digest({"a": refuse})


# ---- arrays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool]
)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_of_every_type_have_digests_and_come_back(
    dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    array = torch.ones(shape, dtype=dtype)
    assert digest(array) == digest(array.clone()) != digest(torch.ones((*shape, 1), dtype=dtype))
    write_arrays(tmp_path / "a.safetensors", {"a": array})
    found = read_arrays(tmp_path / "a.safetensors")["a"]
    assert found.dtype == dtype and torch.equal(found, array)


def test_layout_in_memory_and_inference_mode_do_not_count() -> None:
    plain = torch.arange(6.0).reshape(2, 3)
    with torch.inference_mode():
        made = Dog(torch.arange(6.0).reshape(3, 2).mT.contiguous().clone() * 0 + plain)
    assert digest(made) == digest(Dog(plain)) == digest(Dog(plain.T.contiguous().T))
    assert torch.equal(again(made, Dog).tricks, plain)
    assert digest(torch.tensor([0.0])) != digest(torch.tensor([-0.0]))


def test_what_is_packed_is_a_copy() -> None:
    array, arrays = torch.zeros(3), {}
    pack(Dog(array[None]), Dog, arrays)
    array += 1
    assert torch.equal(arrays["0"], torch.zeros(1, 3))


def test_a_file_of_arrays_can_be_read_by_others_and_is_never_rewritten_under_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"a": torch.zeros(1000), "part": torch.zeros(1000)[:3]})
    old = read_arrays(path)["a"]
    write_arrays(path, {"a": torch.ones(1000)})
    assert torch.equal(old, torch.zeros(1000)) and torch.equal(read_arrays(path)["a"], torch.ones(1000))
    (plain := tmp_path / "plain").write_text("")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "plain"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(path := tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": refuse})
    assert read(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


# ---- what a file may name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Everything", "builtins.dict", "os.system", ""])
def test_a_file_cannot_name_a_class_that_the_annotation_does_not_allow(name: str) -> None:
    with pytest.raises(KeyError):
        unpack({"type": name, "size": 1}, Left | Right, {})
    with pytest.raises(KeyError):
        unpack({"type": name, "lives": 1}, Animal, {})


def test_a_field_too_many_or_too_few_is_refused() -> None:
    for saved in ({"size": 1, "more": 2}, {}):
        with pytest.raises(Exception, match="Left"):
            unpack(saved, Left, {})


def test_a_class_outside_the_family_is_refused_when_it_is_saved() -> None:
    @dataclass(frozen=True)
    class Ghost(Animal):
        age: int

    with pytest.raises(HeadlensError, match="A Ghost cannot be saved here"):
        pack((Ghost(1),), tuple[Animal, ...], {})


def test_an_error_within_another_is_a_clause() -> None:
    inside = ExceptionGroup("of a structure", [HeadlensError("It is cut.", "Fetch it again."), KeyError("mean")])
    assert serialization.reasons(inside) == "It is cut; KeyError: 'mean'"
