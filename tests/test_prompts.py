"""Classes, attributes and text pairs."""

import json
import zlib

import pytest
import torch

from headlens.errors import TaskError
from headlens.prompts import Attribute, ZeroShotTask, encode_pairs, load_pairs

EMBED = 11


def encode(texts):
    """A text tower of its own kind: a fixed random vector, of any length, for every text."""
    rows = [torch.randn(EMBED, generator=torch.Generator().manual_seed(zlib.crc32(t.encode()))) for t in texts]
    return 3 * torch.stack(rows)


def test_classifier_is_the_unit_mean_over_templates():
    templates = ["a photo of a {}", "a {} in the wild", "art of the {}"]
    task = ZeroShotTask(["landbird", "waterbird", "none of {these}"[:4]], templates)
    rows = task.classifier(encode)
    assert rows.shape == (3, EMBED)
    for name, row in zip(task.classes, rows, strict=True):
        mean = encode([t.format(name) for t in templates]).mean(0)
        torch.testing.assert_close(row, mean / mean.norm())


def test_one_template_as_text():
    task = ZeroShotTask(("a", "b"))
    assert task.prompts() == ("a photo of a a", "a photo of a b")
    assert task.prompts_of("b") == ("a photo of a b",)
    assert ZeroShotTask(["a", "b"], "{}").prompts() == ("a", "b")


def test_task_and_attribute_survive_json():
    task = ZeroShotTask(["a", "b"], ["one {}", "two {}"])
    again = ZeroShotTask(**json.loads(json.dumps(task.to_dict())))
    assert again == task and hash(again) == hash(task) and repr(again) == repr(task)
    assert task != ZeroShotTask(["b", "a"], ["one {}", "two {}"])
    attribute = Attribute("background", {"land": "on land", "water": ["on water", "at sea"]})
    other = Attribute(**json.loads(json.dumps(attribute.to_dict())))
    assert other == attribute and hash(other) == hash(attribute) and repr(other) == repr(attribute)
    assert attribute != Attribute("background", {"water": ["on water", "at sea"], "land": "on land"})
    assert attribute != task


def test_prototypes_average_over_prompts():
    attribute = Attribute("background", {"land": "on land", "water": ["on water", "at sea"], "air": ("flying",)})
    assert attribute.value_names == ("land", "water", "air")
    assert attribute.first_prompts() == ("on land", "on water", "flying")
    mean = encode(["on water", "at sea"]).mean(0)
    torch.testing.assert_close(attribute.prototypes(encode)[1], mean / mean.norm())
    torch.testing.assert_close(attribute.prototypes(encode, unit=False)[1], mean)


def test_labels_by_name():
    task = ZeroShotTask(["a", "b", "c"])
    assert task.index(["c", "a", "c"]) == [2, 0, 2]
    with pytest.raises(TaskError, match="'d' is not among the classes a, b, c"):
        task.index(["a", "d"])


@pytest.mark.parametrize(
    ("classes", "templates", "match"),
    [
        (["a"], "{}", "two classes or more"),
        ([], "{}", "two classes or more"),
        ("ab", "{}", "two classes or more"),
        (["a", "b", "a"], "{}", "named more than once: 'a'"),
        (["a", " "], "{}", "at least one word"),
        (["a", "b"], "a photo", "one {}"),
        (["a", "b"], "a {} and a {}", "one {}"),
        (["a", "b"], "a {name}", "one {}"),
        (["a", "b"], "a {} in {place}", "one {}"),
        (["a", "b"], [], "at least one word"),
        (["a", "b"], ["a {}", ""], "at least one word"),
    ],
)
def test_refused_tasks(classes, templates, match):
    with pytest.raises(TaskError, match=match) as caught:
        ZeroShotTask(classes, templates)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("name", "values", "match"),
    [
        ("", {"a": "x", "b": "y"}, "The name of an attribute"),
        ("place", {"a": "x"}, "two values or more"),
        ("place", {"a": "x", "b": ""}, "(A prompt of|no prompt for) 'b'"),
        ("place", {"a": "x", "b": []}, "(A prompt of|no prompt for) 'b'"),
    ],
)
def test_refused_attributes(name, values, match):
    with pytest.raises(TaskError, match=match):
        Attribute(name, values)


def test_directions_that_coincide():
    with pytest.raises(TaskError, match="does not distinguish the values 'land' and 'sea'"):
        Attribute("place", {"air": "sky", "land": "word", "sea": "word"}).prototypes(encode)
    with pytest.raises(TaskError, match="does not distinguish the classes"):
        ZeroShotTask(["a", "b"]).classifier(lambda texts: torch.ones(len(texts), EMBED))


def test_unusable_embeddings():
    task = ZeroShotTask(["a", "b"])
    with pytest.raises(TaskError, match="NaN or infinite"):
        task.classifier(lambda texts: torch.full((len(texts), EMBED), torch.nan))
    with pytest.raises(TaskError, match=r"2 embeddings of \[text embed\]"):
        task.classifier(lambda texts: torch.ones(EMBED))
    with pytest.raises(TaskError, match=r"4 embeddings of \[text embed\]"):
        encode_pairs([("a", "b"), ("c", "d")], lambda texts: torch.ones(3, EMBED))


PAIRS = [("a bird with webbed feet", "a bird with talons"), ("a long beak", "a short beak")]


@pytest.mark.parametrize(
    ("name", "text", "key"),
    [
        ("pairs.json", json.dumps(PAIRS), None),
        ("pairs.json", json.dumps({"true": PAIRS}), None),
        ("pairs.json", json.dumps({"spurious": [["x", "y"]], "true": PAIRS}), "true"),
        ("pairs.yaml", "\n".join(f"- [{a}, {b}]" for a, b in PAIRS), None),
        ("pairs.YML", "spurious:\n- [x, y]\naccept:\n" + "\n".join(f"- [{a}, {b}]" for a, b in PAIRS), "accept"),
    ],
)
def test_pairs_from_a_file(tmp_path, name, text, key):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert load_pairs(tmp_path / name, key) == PAIRS


def test_pairs_are_not_normalised():
    rows = encode_pairs(PAIRS, encode)
    assert rows.shape == (2, 2, EMBED)
    assert torch.equal(rows[1, 0], encode(["a long beak"])[0])


@pytest.mark.parametrize(
    ("name", "text", "key", "match"),
    [
        ("pairs.txt", "[]", None, "is no .yaml or .json file"),
        ("pairs.json", "[[", None, "do not read"),
        ("pairs.yaml", "[[", None, "do not read"),
        ("pairs.yaml", "!!python/object/apply:os.getcwd []", None, "do not read"),
        ("pairs.json", "[]", None, "no list of pairs"),
        ("pairs.json", '"text"', None, "no list of pairs"),
        ("pairs.json", '[["a", "b"], ["c"]]', None, "Pair 1 of .* is not two different texts"),
        ("pairs.json", '[["a", "a"]]', None, "Pair 0 of .* is not two different texts"),
        ("pairs.json", '[["a", 3]]', None, "Pair 0 of .* is not two different texts"),
        ("pairs.json", '["ab"]', None, "Pair 0 of .* is not two different texts"),
        (
            "pairs.json",
            '{"accept": [], "false": []}',
            None,
            "holds the sets accept, false, .*Name one .*pairs.json:accept",
        ),
        ("pairs.json", '{"true": []}', "spurious", "'spurious'"),
        ("pairs.json", '[["a", "b"]]', "true", "a plain list"),
    ],
)
def test_refused_files(tmp_path, name, text, key, match):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(TaskError, match=match):
        load_pairs(tmp_path / name, key)


def test_a_missing_file(tmp_path):
    with pytest.raises(TaskError, match=r"do not read: No such file"):
        load_pairs(tmp_path / "nowhere.yaml")
