"""Pairs that are packaged, crossed, filled in, proposed from a bank, and asked for."""

import itertools
import json
import zlib

import pytest
import torch

from headlens.correct import basis_of_pairs
from headlens.errors import TaskError
from headlens.prompts import (
    Attribute,
    TextBank,
    ZeroShotTask,
    ask_pairs,
    cross_pairs,
    encode_pairs,
    fill_pairs,
    load_pairs,
    pair_sets,
    propose_pairs,
    question,
)
from headlens.prompts.pairs import PAIR_SETS
from headlens.prompts.propose import attribute_words, read_pairs
from headlens.testbed import vocabulary
from headlens.testbed.figures import figure_vocabulary
from tools.testbed import questions

EMBED = 29
TASK = ZeroShotTask(["landbird", "waterbird"])
PLACE = Attribute("background", {"land": ["a photo of the land", "dry ground"], "water": "a photo of the water"})


def encode(texts):
    rows = [torch.randn(EMBED, generator=torch.Generator().manual_seed(zlib.crc32(t.encode()))) for t in texts]
    return 3 * torch.stack(rows)


# ---- packaged sets --------------------------------------------------------------------------------------------------


def test_the_sets_that_come_with_headlens():
    assert set(pair_sets()) == {
        "animals",
        "celeba-hair",
        "occupations",
        "testbed-birds",
        "testbed-figures",
        "waterbirds",
    }
    for name in pair_sets():
        assert load_pairs(name) == load_pairs(name, "true") == load_pairs(PAIR_SETS / f"{name}.yaml")
        assert len(load_pairs(name)) >= 4 and load_pairs(name, "spurious")


@pytest.mark.parametrize("name", pair_sets())
def test_their_crossed_pairs_name_one_class_each(name):
    for first, second in load_pairs(name, "crossed"):
        assert first != second and len(set(first.split()) & set(second.split())) >= 4


@pytest.mark.parametrize(("name", "forbidden"), [
    ("waterbirds", "water land sea lake forest bamboo shore ocean ground"),
    ("celeba-hair", "woman man female male lady gentleman beard"),
    ("animals", "snow grass water sand trees sky rocks indoors outdoors ground"),
    ("occupations", "woman man women men"),
    ("testbed-figures", "woman man female male"),
])  # fmt: skip
def test_true_pairs_do_not_speak_of_the_attribute(name, forbidden):
    said = {word.strip(",.").casefold() for pair in load_pairs(name) for text in pair for word in text.split()}
    assert not said & set(forbidden.split())


def test_the_testbeds_pairs_are_its_own_and_in_its_words():
    assert load_pairs("testbed-birds") == [tuple(pair) for pair in questions.PAIRS]
    assert load_pairs("testbed-birds", "spurious") == [tuple(pair) for pair in questions.SPURIOUS_PAIRS]
    for name, known in (("testbed-birds", vocabulary()), ("testbed-figures", figure_vocabulary())):
        pairs = [pair for key in ("true", "spurious", "crossed") for pair in load_pairs(name, key)]
        assert {word for pair in pairs for text in pair for word in text.split()} <= set(known)


def test_every_set_gives_usable_directions():
    for name in pair_sets():
        pairs = load_pairs(name)
        if name == "occupations":
            pairs = fill_pairs(pairs, first="nurse", second="surgeon")
        assert basis_of_pairs(encode_pairs(pairs, encode)).shape == (len(pairs), EMBED)


def test_a_file_of_ones_own_wins_and_a_bare_true_is_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waterbirds.yaml").write_text("true:\n- [a, b]\nspurious:\n- [c, d]\n")
    assert load_pairs("waterbirds.yaml") == load_pairs("waterbirds.yaml", "true") == [("a", "b")]
    assert load_pairs("waterbirds.yaml", "spurious") == [("c", "d")]
    assert len(load_pairs("waterbirds")) > 1
    (tmp_path / "waterbirds").mkdir()
    with pytest.raises(TaskError, match=r"is no \.yaml or \.json file"):  # what exists is taken for what was meant
        load_pairs("waterbirds")


def test_names_and_kinds_that_there_are_not():
    with pytest.raises(TaskError, match=r"'landbirds' is no .*waterbirds"):
        load_pairs("landbirds")
    with pytest.raises(TaskError, match="'against'"):
        load_pairs("waterbirds", "against")


# ---- crossed and filled in ------------------------------------------------------------------------------------------


def test_crossed_pairs_keep_the_class_and_change_the_value():
    task = ZeroShotTask(["a", "b", "c"], ["one {}", "two {}"])
    attribute = Attribute("place", {"x": ["at x", "near x"], "y": "at y", "z": "at z"})
    pairs = cross_pairs(task, attribute, "{value}: {class_prompt}")
    assert len(pairs) == 3 * 3
    assert pairs[:3] == [("at x: one a", "at y: one a"), ("at x: one a", "at z: one a"), ("at y: one a", "at z: one a")]
    assert cross_pairs(TASK, PLACE, "{class_prompt} {value}", ["on land", "on water"])[1] == (
        "a photo of a waterbird on land",
        "a photo of a waterbird on water",
    )


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a photo of the land", "a photo of a landbird, the land"),
        ("A photo of a woman", "a photo of a landbird, a woman"),
        ("dry ground", "a photo of a landbird, dry ground"),
        ("a photo", "a photo of a landbird, a photo"),
        ("a photo of a landbird", "a photo of a landbird, a landbird"),
    ],
)
def test_what_both_prompts_open_with_is_said_once(prompt, said):
    attribute = Attribute("place", {"x": prompt, "y": "elsewhere"})
    assert cross_pairs(TASK, attribute)[0] == (said, "a photo of a landbird, elsewhere")


@pytest.mark.parametrize("join", ["{class_prompt}", "{value}", "{class_prompt} {class_prompt} {value}"])
def test_uncrossable(join):
    with pytest.raises(TaskError, match="each once"):
        cross_pairs(TASK, PLACE, join)
    with pytest.raises(TaskError, match="words for 1 of the 2 values"):
        cross_pairs(TASK, PLACE, values=["on land"])


def test_slots_are_filled_or_refused():
    pairs = load_pairs("occupations", "crossed")
    filled = fill_pairs(pairs, first="nurse", second="surgeon")
    assert filled[0] == ("a photo of a woman who works as a nurse", "a photo of a man who works as a nurse")
    assert fill_pairs([("a {x}", "b")], x="{y}") == [("a {y}", "b")]  # what is filled in is not filled again
    with pytest.raises(TaskError, match="slots first, second, and there are words for first"):
        fill_pairs(pairs, first="nurse")
    with pytest.raises(TaskError, match="slots none, and there are words for first"):
        fill_pairs([("a", "b")], first="nurse")
    with pytest.raises(TaskError, match=r"slot to fill.*Fill \{first\}"):
        encode_pairs(pairs, encode)


# ---- proposed from a bank -------------------------------------------------------------------------------------------

CLASSES = torch.nn.functional.one_hot(torch.tensor([0, 1]), EMBED).float()
VALUES = torch.nn.functional.one_hot(torch.tensor([2, 3]), EMBED).float()


def planted(text):
    """'0 +3' is axis 0 plus axis 3; each text has a small part of its own."""
    own = encode([text])[0] * 0.002
    return sum((torch.eye(EMBED)[abs(int(term))] * (-1 if "-" in term else 1) for term in text.split()), own)


def tower(texts):
    return torch.stack([planted(text) for text in texts])


def bank(*texts):
    return TextBank(texts, tuple("one" for _ in texts))


def test_the_pair_that_tells_classes_and_not_values_apart_comes_first():
    found = propose_pairs(bank("1 5", "0 5", "1 3", "0 2", "2 5", "3 5", "7 5", "8 5"), tower, CLASSES, VALUES, count=3)
    assert found.pairs[0] == ("1 5", "0 5")
    assert found.separation[0] == pytest.approx(1, abs=0.01) and found.spurious[0] == pytest.approx(0, abs=0.01)
    # The pair that mixes both scores zero, but for its own parts.
    assert ("2 5", "3 5") not in found.pairs and ("7 5", "8 5") not in found.pairs
    assert list(found.table().columns) == ["first", "second", "category", "separation", "spurious"]
    assert "1 5" in found._repr_html_()
    mixed = propose_pairs(bank("1 3", "0 2"), tower, CLASSES, VALUES, weight=0)
    assert mixed.separation[0] == pytest.approx(mixed.spurious[0], abs=0.01) == pytest.approx(0.5**0.5, abs=0.01)


def test_scores_are_the_formula():
    texts = [f"text {i}" for i in range(17)]
    categories = tuple("ab"[i % 2] for i in range(17))
    classes, values = encode(["x", "y", "z"]), encode(["u", "v"])
    found = propose_pairs(TextBank(tuple(texts), categories), encode, classes, values, count=1, weight=0.7)
    best = -1.0
    for a, b in itertools.combinations(range(17), 2):
        if categories[a] == categories[b]:
            d = encode([texts[a]])[0] - encode([texts[b]])[0]
            c, s = classes - classes.mean(0), values - values.mean(0)
            apart, spurious = ((m @ d).norm() / d.norm() / m.norm() for m in (c, s))
            if float(apart - 0.7 * spurious) > best:
                best, expected = float(apart - 0.7 * spurious), (apart, spurious)
    assert found.separation[0] == pytest.approx(float(expected[0]), rel=1e-5)
    assert found.spurious[0] == pytest.approx(float(expected[1]), rel=1e-5)


def test_no_text_twice_and_each_pair_adds_a_direction_of_its_own():
    texts = ("1", "0", "1 5", "0 5", "1 -6", "0 6", "1 9", "0 -9")
    found = propose_pairs(bank(*texts), tower, CLASSES, VALUES, count=8, novelty=0.5)
    said = [text for pair in found.pairs for text in pair]
    assert len(said) == len(set(said))
    rows = torch.stack([planted(a) - planted(b) for a, b in found.pairs]).double()
    for number in range(1, len(rows)):
        basis = torch.linalg.qr(rows[:number].T)[0]
        rest = rows[number] - basis @ (basis.T @ rows[number])
        assert rest.norm() >= 0.5 * rows[number].norm() - 1e-9
    # "1 5" − "0 5" is "1" − "0" again, and is passed over.
    assert len(found.pairs) < 4
    assert len(propose_pairs(bank(*texts), tower, CLASSES, VALUES, count=8, novelty=1e-6).pairs) == 4


def test_texts_of_two_categories_are_no_pair():
    mixed = TextBank(("1", "0", "7", "8 1"), ("one", "two", "two", "one"))
    assert propose_pairs(mixed, tower, CLASSES, VALUES).pairs[0] != ("1", "0")


@pytest.mark.parametrize(
    ("texts", "change", "match"),
    [
        (("2", "3"), {}, "None of 1 pairs"),
        (("7", "8"), {}, "None of 1 pairs"),
        (("1", "0"), {"count": 0}, "a count of one"),
        (("1", "0"), {"weight": -1}, "weight of zero"),
        (("1", "0"), {"novelty": 0}, "novelty above 0"),
        (("1", "0"), {"classes": CLASSES[:1]}, "The classes are not two finite rows"),
        (("1", "0"), {"attribute": VALUES * torch.nan}, "The values of the attribute are not two finite rows"),
        (("1", "0"), {"classes": CLASSES[:, 1:]}, f"of width {EMBED}"),
        (("1", "0"), {"encode_text": lambda texts: tower(texts) * torch.nan}, "NaN or infinite"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_nothing_to_propose(texts, change, match):
    known = {"encode_text": lambda t: torch.stack([torch.eye(EMBED)[int(x)] for x in t]), "classes": CLASSES}
    with pytest.raises(TaskError, match=match):
        propose_pairs(bank(*texts), **({"attribute": VALUES} | known | change))


# ---- asked for ------------------------------------------------------------------------------------------------------

GOOD = [["a bird with talons", "a bird with webbed feet"], ["a pointed beak", "a flat bill"]]


@pytest.mark.parametrize(
    "answer",
    [
        json.dumps(GOOD),
        "Here you are [as asked]:\n```json\n" + json.dumps(GOOD, indent=2) + "\n```\nGood luck!",
        json.dumps([{"first": a, "second": b} for a, b in GOOD]),
        "Sure:\n1. a bird with talons | a bird with webbed feet\n2) a pointed beak — a flat bill\n\nAnything else?",
        '- "a bird with talons" - "a bird with webbed feet"\n* a pointed beak -> a flat bill',
        "| a bird with talons | a bird with webbed feet |\n|---|---|\n| a pointed beak | a flat bill |",
    ],
)
def test_answers_in_many_forms(answer):
    assert read_pairs(answer) == GOOD
    assert ask_pairs(lambda q: answer, TASK, PLACE, count=2, attempts=1) == [tuple(pair) for pair in GOOD]


def test_the_question_says_what_is_wanted():
    asked = question(TASK, PLACE, 5)
    for said in ("'landbird' and 'waterbird'", "'background'", "land, water", "5 pairs", "JSON"):
        assert said in asked
    assert "alpha, beta, gamma, delta" in question(ZeroShotTask(["alpha", "beta", "gamma", "delta"]), PLACE)


def test_words_of_the_attribute_are_those_that_its_values_do_not_share():
    assert attribute_words(TASK, PLACE) == {"land", "dry", "ground", "water"}
    assert attribute_words(ZeroShotTask(["dry land", "b"]), PLACE) == {"ground", "water"}


def test_what_cannot_be_used_is_said_back_and_asked_again():
    asked = []
    answers = iter(
        [
            "I cannot help with that.",
            json.dumps([["a bird on water", "a bird"], GOOD[0], ["same", "Same "], ["w " * 30, "b"]]),
            json.dumps([GOOD[0][::-1], ["a forest bird", "a sea bird"], GOOD[1]]),
        ]
    )

    def ask(text):
        asked.append(text)
        return next(answers)

    assert ask_pairs(ask, TASK, PLACE, count=2, avoid=["Forest"]) == [tuple(pair) for pair in GOOD]
    assert "could not be used: no pair" in asked[1] and "mentions water" in asked[2]


def test_fewer_than_asked_may_come_and_never_none():
    assert ask_pairs(lambda q: json.dumps(GOOD), TASK, PLACE, count=8) == [tuple(pair) for pair in GOOD]
    assert len(ask_pairs(lambda q: json.dumps(GOOD), TASK, PLACE, count=1)) == 1
    for answer, match in (
        ("no", "no pair of captions"),
        ("[[1, 2]]", "no pair of captions"),
        (json.dumps([["land", "beak"]]), "mentions land"),
        (json.dumps([["beak", "beak"]]), "not two different captions"),
        (json.dumps([["...", "beak"]]), "not two different captions"),
        (json.dumps([["a " * 21, "beak"]]), "more than 20 words"),
    ):
        with pytest.raises(TaskError, match=match):
            ask_pairs(lambda q, answer=answer: answer, TASK, PLACE, attempts=2)
    with pytest.raises(TaskError, match="the attempts are 0"):
        ask_pairs(lambda q: "", TASK, PLACE, attempts=0)


@pytest.mark.usefixtures("without_shape_checks")
def test_an_answer_that_is_no_text():
    with pytest.raises(TaskError, match="a NoneType"):
        ask_pairs(lambda q: None, TASK, PLACE)
