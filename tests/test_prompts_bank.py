"""The text bank: what it holds, how its texts are made, and banks of one's own."""

import csv
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headlens.errors import TaskError
from headlens.prompts import TextBank, default_bank, load_bank
from headlens.prompts.bank import SOURCES, article, generate, read_sources, same_text

DOCS = Path(__file__).parents[1] / "docs" / "text-bank.md"
ASKED_FOR = """colour, texture, material, shape, pattern, scene, place, weather, light, season, time of day, animal,
plant, food, vehicle, clothing, body and pose, perceived age, perceived gender presentation, occupation, emotion,
action, count, letters and text, art style, photographic style, era, water, sky, tool, sport, music, architecture"""

SMALL = TextBank(
    ("a red ball", "a blue ball", "a dog", "a cat", "rain"), ("colour", "colour", "animal", "animal", "sky")
)


def test_the_bank_is_large_and_every_category_is() -> None:
    bank = default_bank()
    counts = bank.counts()
    assert len(bank) == sum(counts.values()) >= 3500
    assert len(counts) >= 28
    assert set(re.split(r",\s+", ASKED_FOR)) <= counts.keys()
    assert min(counts.values()) >= 60
    assert max(counts.values()) <= 0.05 * len(bank), "no category outweighs the others"


def test_every_text_is_one_of_its_kind_and_fit_to_read() -> None:
    bank = default_bank()
    assert len({" ".join(re.findall(r"[a-z0-9]+", text)) for text in bank.texts}) == len(bank), "for a tokenizer too"
    for text in bank.texts:
        assert re.fullmatch(r"[a-z0-9][a-z0-9' -]*[a-z0-9]", text), text
        assert "  " not in text and len(text.split()) <= 14, text
        assert not re.search(r"\b(\w+) \1\b", text), f"a doubled word: {text}"
        assert not re.search(r"\b(an?|the) (an?|the|some|two|people|children)\b", text), text
        assert not text.endswith((" a", " an", " the", " of", " with", " in")) or text.endswith("letter a"), text


def test_articles_follow_the_sound() -> None:
    sounds_like_a_consonant = {"uniform", "university", "ukulele"}
    sounds_like_a_vowel = {"x-ray"}
    found = 0
    for text in default_bank().texts:
        for used, word in re.findall(r"\b(an?) ([a-z0-9-]+)", text):
            vowel = (word[0] in "aeiou" and word not in sounds_like_a_consonant) or word in sounds_like_a_vowel
            assert used == ("an" if vowel else "a"), text
            found += 1
    assert found > 1000


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ("a", "dog unicorn uniform university union used ukulele utensil one-way euro user house hero European"),
        ("an", "apple egg ox umbrella hour hourglass honest heir x-ray upset usher onion Orange uninteresting unmade"),
        ("a", "unit useful usual ewe euphonium once utility"),
        ("an", "island only unidentified ulcer utter urn"),
    ],
)
def test_the_article_of_a_word(expected: str, words: str) -> None:
    assert {word: article(word) for word in words.split()} == dict.fromkeys(words.split(), expected)


def test_the_bank_is_made_the_same_each_time_and_in_order() -> None:
    bank = default_bank()
    again = generate(dict(reversed(read_sources().items())))
    assert again == bank and again.digest() == bank.digest()
    assert list(bank.counts()) == sorted(bank.counts())
    assert list(bank.categories) == sorted(bank.categories)
    assert default_bank() is bank


def test_no_template_is_left_open_and_no_item_is_waste() -> None:
    for category, items in read_sources().items():
        templates = [generate({category: [item]}).texts for item in items if isinstance(item, dict)]
        made = [*(text for texts in templates for text in texts), *(item for item in items if isinstance(item, str))]
        assert len(made) == len(set(made)), f"repeats in {category}"
        assert set(made) == set(default_bank().subset(category).texts)


def test_the_page_tells_the_counts() -> None:
    page = DOCS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z ]+) \| (\d+) \| (.+) \|$", page, flags=re.M)
    bank = default_bank()
    assert {category: int(count) for category, count, _ in rows} == bank.counts()
    for category, _, example in rows:
        assert example in bank.subset(category).texts
    assert f"{len(bank)} texts in {len(bank.counts())} categories" in page
    written = sum(isinstance(item, str) for items in read_sources().values() for item in items)
    assert "Four in five texts come from templates" in page and 0.75 < 1 - written / len(bank) < 0.85


def test_the_page_s_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), flags=re.S)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


# The generator


def test_each_way_and_in_turn() -> None:
    sources = {
        "b": [{"say each way": ["<a x> <y>", "<y> or <x>"], "x": "old, new", "y": "cup, urn"}, "one more"],
        "a": [{"say in turn": ["<a x> on <a y>", "<x> by <y>", "see <x> <y>"], "x": "ox, hen", "y": "hill, ash, elm"}],
    }
    bank = generate(sources)
    assert bank.texts == (
        *("an ox on a hill", "ox by ash", "see ox elm", "hen by hill", "see hen ash", "a hen on an elm"),
        *("an old cup", "cup or old", "an old urn", "urn or old", "a new cup", "cup or new", "a new urn", "urn or new"),
        "one more",
    )
    assert bank.counts() == {"a": 6, "b": 9}


def test_a_text_made_twice_in_a_category_is_kept_once() -> None:
    assert generate({"a": ["one cup", "two cups", "one  cup"]}).texts == ("one cup", "two cups")


@pytest.mark.parametrize(
    ("items", "match"),
    [
        ([], "category 'c' has no texts"),
        ([True], "True in 'c' is no text"),
        (["a <colour> dog"], "template 'a <colour> dog' in 'c' has no words"),
        ([{"say each way": ["<x>"]}], "is no list of templates"),
        ([{"say each way": [], "x": "red"}], "is no list of templates"),
        ([{"say each way": "<x>", "x": "red"}], "is no list of templates"),
        ([{"say each way": ["<x>"], "x": 7}], "is no list of templates"),
        ([{"say": ["<x>"], "x": "red"}], "is no list of templates"),
        ([{"say each way": ["<x>"], "say in turn": ["<x>"], "x": "red"}], "is no list of templates"),
        (
            [{"say each way": ["<x>", "<y>"], "x": "red"}],
            r"'<y>' in 'c' has the slots \['y'\], but there are words for \['x'\]",
        ),
        ([{"say each way": ["<x>"], "x": "red", "y": "blue"}], r"words for \['x', 'y'\]"),
        (
            ["a dog", "A  Dog in the sun", {"say each way": ["<x> dog"], "x": "a"}, "rain"],
            "'rain' is in two categories, 'a' and 'c'",
        ),
    ],
)
def test_refused_sources(items: list[object], match: str) -> None:
    with pytest.raises(TaskError, match=match):
        generate({"a": ["Rain"], "c": items} if items else {"c": items})


@pytest.mark.parametrize(
    ("files", "match"),
    [
        ({}, "no YAML file of categories"),
        ({"a.yaml": "colour: [[["}, "does not read as YAML"),
        ({"a.yaml": "- red"}, "a list of items for each category"),
        ({"a.yaml": "colour: red"}, "a list of items for each category"),
        ({"a.yaml": "colour: [red]", "b.yaml": "colour: [blue]"}, r"categories \['colour'\] are in two files"),
        ({"a.yaml": "a: !!python/object/apply:os.getcwd []"}, "does not read as YAML"),
    ],
)
def test_refused_source_files(tmp_path: Path, files: dict[str, str], match: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(TaskError, match=match):
        read_sources(tmp_path)


def test_the_sources_lie_inside_the_package() -> None:
    import headlens.prompts

    assert SOURCES.parent == Path(headlens.prompts.__file__).parent
    assert len(list(SOURCES.glob("*.yaml"))) >= 5


# The bank as an object


def test_parts_of_a_bank() -> None:
    assert len(SMALL) == 5 and SMALL.counts() == {"colour": 2, "animal": 2, "sky": 1}
    assert SMALL.subset("animal").texts == ("a dog", "a cat")
    assert SMALL.subset(["sky", "colour"]).texts == ("a red ball", "a blue ball", "rain")
    assert SMALL.take(np.array([3, 0])) == TextBank(("a cat", "a red ball"), ("animal", "colour"))
    assert SMALL.table().to_dict("list") == {"text": list(SMALL.texts), "category": list(SMALL.categories)}
    assert repr(SMALL) == f"TextBank(5 texts in 3 categories, digest {SMALL.digest()})"


def test_the_digest_sees_texts_categories_and_order() -> None:
    others = [
        SMALL.take([1, 0, 2, 3, 4]),
        SMALL.take(range(4)),
        TextBank(SMALL.texts, (*SMALL.categories[:-1], "weather")),
        TextBank((*SMALL.texts[:-1], "Rain"), SMALL.categories),
        TextBank(("a red ball", 'a blue ball", "a dog'), ("colour", "colour")),
    ]
    assert len({SMALL.digest(), *(bank.digest() for bank in others)}) == 6
    assert SMALL.digest() == SMALL.take(range(5)).digest()
    assert re.fullmatch(r"[0-9a-f]{16}", SMALL.digest())


def test_prototypes_join_at_the_end_and_replace_their_twins() -> None:
    extended = SMALL.extended(["a man", "A  dog", "a woman"], "attribute")
    assert extended.texts == ("a red ball", "a blue ball", "a cat", "rain", "a man", "A  dog", "a woman")
    assert extended.categories == ("colour", "colour", "animal", "sky", "attribute", "attribute", "attribute")
    assert len(SMALL) == 5, "the bank itself stays as it was"
    bank = default_bank().extended(["a photo of a woman", "a photo of a man"], "prototype")
    assert len(bank) == len(default_bank()) and bank.categories[-2:] == ("prototype", "prototype")
    assert (
        bank.counts()["perceived gender presentation"] == default_bank().counts()["perceived gender presentation"] - 2
    )


def test_texts_within_a_vocabulary() -> None:
    assert SMALL.within({"A", "red", "ball", "DOG"}).texts == ("a red ball", "a dog")
    assert TextBank(("a dog's ball!",), ("x",)).within(["a", "dog", "s", "ball"]).texts == ("a dog's ball!",)
    every = {word for text in SMALL.texts for word in text.split()}
    assert SMALL.within(every) == SMALL
    with pytest.raises(TaskError, match="None of 5 texts is made of the vocabulary"):
        SMALL.within(["red", "ball"])
    with pytest.raises(TaskError, match="is one text"):
        SMALL.within("a red ball")


def test_the_embedded_models_know_part_of_the_bank() -> None:
    from headlens import testbed

    bank = default_bank().within(testbed.vocabulary())
    assert len(bank) >= 100 and len(bank.counts()) >= 8
    assert {"water", "landscape", "colour", "animal"} <= bank.counts().keys()


@pytest.mark.parametrize(
    ("texts", "categories", "match"),
    [
        ((), (), "has no text"),
        (("a dog",), (), "has 1 texts and 0 categories"),
        (("a dog", " "), ("x", "x"), "Entry 1 of the text bank is empty: ' ' in category 'x'"),
        (("a dog", "a cat"), ("x", ""), "Entry 1"),
        (("a dog", "a cat", "A  DOG"), ("x", "x", "y"), "'A  DOG' is in the text bank twice, as entries 0 and 2"),
    ],
)
def test_refused_banks(texts: tuple[str, ...], categories: tuple[str, ...], match: str) -> None:
    with pytest.raises(TaskError, match=match):
        TextBank(texts, categories)


def test_refused_parts() -> None:
    with pytest.raises(TaskError, match=r"no category 'color'\. Did you mean 'colour'"):
        SMALL.subset(["sky", "color"])
    with pytest.raises(TaskError, match="has no text"):
        SMALL.subset([])
    for place in (5, -1):
        with pytest.raises(TaskError, match=f"has no text {place}. Its texts count from 0 to 4"):
            SMALL.take([0, place])
    with pytest.raises(TaskError, match="twice"):
        SMALL.extended(["a man", "a man"], "attribute")
    with pytest.raises(TaskError, match="is empty"):
        SMALL.extended(["a man"], "")
    with pytest.raises(TaskError, match="one text, not a list"):
        SMALL.extended("a man", "attribute")


# Banks of one's own

PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")  # a line break would be another line
LINES = st.lists(
    st.tuples(st.text(PRINTABLE, max_size=9).filter(str.strip), st.sampled_from(["x", "y, z", 'the "w"'])),
    min_size=1,
    max_size=7,
    unique_by=lambda line: same_text(line[0]),
)


@settings(max_examples=30, deadline=None)
@given(LINES)
def test_what_is_written_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("bank")
    expected = [(" ".join(text.split()), category) for text, category in lines]
    with (folder / "bank.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("category", "note", "text"), *((c, "n", t) for t, c in lines)])
    entries = [json.dumps({"text": t, "category": c, "more": 1}, ensure_ascii=False) for t, c in lines]
    (folder / "bank.JSONL").write_text("\n\n".join(entries), encoding="utf-8")
    (folder / "bank.txt").write_text("\n".join(t for t, _ in lines), encoding="utf-8")
    for name in ("bank.csv", "bank.JSONL"):
        bank = load_bank(folder / name)
        assert list(zip(bank.texts, bank.categories, strict=True)) == expected
    assert load_bank(folder / "bank.txt").texts == tuple(text for text, _ in expected)


def test_the_bank_s_own_table_is_read_back(tmp_path: Path) -> None:
    default_bank().table().to_csv(tmp_path / "bank.csv", index=False)
    assert load_bank(tmp_path / "bank.csv") == default_bank()


def test_a_plain_list(tmp_path: Path) -> None:
    (tmp_path / "bank.txt").write_bytes("\ufeffa dog, wet\r\n\r\n  a   cat  \r\n".encode())
    assert load_bank(tmp_path / "bank.txt") == TextBank(("a dog, wet", "a cat"), ("own", "own"))
    assert load_bank(str(tmp_path / "bank.txt"), category="pets").categories == ("pets", "pets")


def test_repeats_are_merged_and_told(tmp_path: Path) -> None:
    path = tmp_path / "bank.txt"
    path.write_text("a dog\na cat\nA  Dog\na dog", encoding="utf-8")
    with pytest.warns(UserWarning, match=r"bank\.txt: 2 repeated texts were merged \(lines 3, 4\)"):
        assert load_bank(path).texts == ("a dog", "a cat")
    path.write_text("a dog\na cat", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_bank(path)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("bank.json", "[]", r"bank\.json' is not a \.txt"),
        ("bank", "a dog", "is not a .txt"),
        ("bank.txt", "", "has no text"),
        ("bank.txt", "\n  \n", "has no text"),
        ("bank.csv", "", "is empty"),
        ("bank.csv", "text,category\n", "has no text"),
        ("bank.csv", "text\na dog", "no column 'category'; it has 'text'"),
        ("bank.csv", "caption,category\na dog,x", "no column 'text'; it has 'caption', 'category'"),
        ("bank.csv", "text,category,text\na,b,c", "has the column 'text' 2 times"),
        (
            "bank.csv",
            "text,category\na dog,x\na cat, wet,x",
            r"Line 3 of .* has 3 cells where the header names 2 columns .*'a cat'",
        ),
        ("bank.csv", "text,category\na dog", "Line 2 of .* has 1 cells"),
        ("bank.csv", "text,category\n,x", "Line 2 of .* has the text ''"),
        ("bank.csv", "text,category\na dog,", "Line 2 of .*category ''"),
        ("bank.csv", 'text,category\n"a dog,x', "Line 2 of .* does not read as CSV"),
        (
            "bank.csv",
            "text,category\na dog,x\n\nA dog,y",
            r"'A dog' is in two categories .*'x' \(line 2\), 'y' \(line 4\)",
        ),
        ("bank.jsonl", "", "has no text"),
        ("bank.jsonl", '{"text": "a dog", "category": "x"}\n{"text": ', "Line 2 of .* is no JSON object"),
        ("bank.jsonl", '\n{"text": "a dog"}', "Line 2 of .* is no JSON object"),
        ("bank.jsonl", '{"text": 3, "category": "x"}', "Line 1 of .* is no JSON object"),
        ("bank.jsonl", '["a dog", "x"]', "Line 1 of .* is no JSON object"),
        ("bank.jsonl", '{"text": " ", "category": "x"}', "Line 1 of .* has the text"),
    ],
)
def test_refused_files(tmp_path: Path, name: str, content: str, match: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(TaskError, match=match) as caught:
        load_bank(tmp_path / name)
    assert caught.value.remedy


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    for path in (tmp_path / "nowhere.txt", tmp_path / "latin.txt"):
        with pytest.raises(TaskError, match=r"UTF-8|cannot be read"):
            load_bank(path)
