"""What heads encode: the texts of one, the overview of all, and pictures in rows."""

import base64
import html
import io

import numpy as np
import pytest
import torch
from PIL import Image

from headlens import plots
from headlens.errors import HeadlensError, LocateError
from headlens.explain import Explanation, Faithfulness, LabelRule, Pole, TextSpan
from headlens.heads import HeadId
from headlens.plots.pictures import SIDE, data_uri

HOSTILE = '<script>alert("1")</script> %{x} $y$'


def explanation(
    head=(3, 1), texts=("a red boat", "a lake", "blue"), categories=("vehicle", "water", "colour"), again=True
):
    count = len(texts)
    variance = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25][:count], dtype=torch.float64)
    span = TextSpan(torch.arange(count), variance, 10.0, torch.zeros(11), torch.eye(11)[:count])
    seen = Faithfulness(90, 0.7, (0.6, 0.8), 0.9, (0.8, 0.95), 0.4)
    pole = Pole(torch.eye(11)[0], 0.6, texts[:2], texts[-2:], (1.0, 0.5)[:count], (-1.0, -0.5)[:count],
                (texts[0], texts[-1]) if texts else None, 0.9, seen, 0.001, 0.01, clear=bool(texts))  # fmt: skip
    return Explanation(
        HeadId(*head), span, tuple(texts), tuple(categories), (1, 3, 2, 1, 1)[:count], 5,
        {"vehicle": 0.25, "water": 0.5, "colour": 0.25} | dict.fromkeys(categories, 0.1),
        (1.0, 0.5, 0.0, 0.5, 0.5)[:count] if again else None, 0.75, LabelRule(), (pole,), (0.1, 0.2, 0.3),
    )  # fmt: skip


def test_texts_stand_in_the_order_of_choice_beside_their_categories():
    one = explanation(categories=("vehicle", "water", "vehicle"))
    texts, categories, bank = plots.textspan(one).data
    np.testing.assert_allclose(texts.x, [0.4, 0.2, 0.1])
    np.testing.assert_allclose(categories.x, [0.5, 0.2])
    np.testing.assert_allclose(bank.x, np.multiply([0.1, 0.1], 0.7))  # the bank's share, of what is explained
    layout = plots.textspan(one).layout
    assert layout.yaxis.ticktext == ("a red boat", "a lake", "blue")
    assert layout.yaxis2.ticktext == ("vehicle", "water")
    assert layout.xaxis.range[1] > max(texts.x)


def test_the_title_names_head_label_and_variance_explained():
    figure = plots.textspan(explanation())
    assert figure.layout.title.text == "L3H1: a red boat ↔ blue"
    notes = [note.text for note in figure.layout.annotations]
    assert any(
        note.startswith(
            "70% of its variance explained by 3 texts<br>the first 3 explain 70%, random directions 30%<br>"
        )
        for note in notes
    )
    assert any("halves of the bank agree by 75%" in note for note in notes)
    words = plots.describe(figure)
    assert "3 texts explain 70.0% of its variance" in words
    assert "a red boat (vehicle, 40.0%)" in words


def test_the_pointer_tells_how_many_heads_chose_a_text_and_how_often_again():
    texts = plots.textspan(explanation()).data[0]
    assert texts.customdata[1].endswith("60.0% up to here<br>chosen by 3 of 5 heads<br>chosen again in 50% of samples")
    assert plots.textspan(explanation(again=False)).data[0].customdata[1].endswith("chosen by 3 of 5 heads")


def test_a_head_without_texts_is_drawn():
    figure = plots.textspan(explanation(texts=(), categories=()))
    assert "no clear meaning" in figure.layout.title.text
    assert "In the order of choice: none" in plots.describe(figure)


def test_the_overview_places_every_head_and_leaves_the_others_blank():
    figure = plots.overview({HeadId(0, 2): explanation((0, 2)), HeadId(4, 1): explanation((4, 1))}, shape=(5, 7))
    values = np.array(figure.data[0].z)
    assert values.shape == (5, 7)
    assert np.isfinite(values).sum() == 2
    assert values[4, 1] == pytest.approx(0.7)
    assert "a lake" in figure.data[0].text[4][1]
    assert figure.data[0].text[3][3].endswith("not explained")
    marks = figure.data[1]
    assert list(zip(marks.x, marks.y, marks.text, strict=True)) == [
        (2, 0, "a red boat<br>blue"),
        (1, 4, "a red boat<br>blue"),
    ]
    assert "2 heads are explained, 0 of them without a clear meaning" in plots.describe(figure)


def test_a_head_without_a_clear_meaning_gets_a_dash_at_every_size():
    empty = explanation((1, 1), texts=(), categories=())
    for heads in (7, 16):
        marks = plots.overview({HeadId(1, 1): empty, HeadId(0, 0): explanation((0, 0))}, shape=(3, heads)).data[1]
        assert ("–", 1, 1) in list(zip(marks.text, marks.x, marks.y, strict=True))
        assert len(marks.text) == (2 if heads == 7 else 1)


def test_an_overview_of_nothing_or_outside_the_tower_is_refused():
    with pytest.raises(HeadlensError, match="No head was explained"):
        plots.overview({})
    with pytest.raises(LocateError, match=r"head L4H1"):
        plots.overview({HeadId(4, 1): explanation((4, 1))}, shape=(3, 7))


def pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


@pytest.mark.parametrize("shape", [(300, 200), (31, 47)])
def test_pictures_are_embedded_small(shape):
    image = decoded(data_uri(pixels(*shape)))
    assert max(image.size) == min(SIDE, max(shape))
    assert len(data_uri(pixels(*shape))) < 14_000


def test_small_pictures_keep_every_pixel_and_other_modes_are_taken():
    flat = Image.new("L", (13, 17), 99)
    assert np.array_equal(np.asarray(decoded(data_uri(flat))), np.full((17, 13, 3), 99))


def test_pictures_stand_in_rows_with_their_captions():
    rows = {"most": [pixels(13, 17), Image.new("RGB", (17, 13))], "least": [pixels(19, 11, 1)]}
    figure = plots.gallery(rows, {"most": ["a cook", "a nurse"], "least": ["a farmer"]}, title="Head 3.1")
    assert len(figure.layout.images) == 3
    assert [image.x for image in figure.layout.images] == [figure.layout.images[0].x, figure.layout.images[1].x, 4]
    assert figure.layout.images[0].y == figure.layout.images[1].y < figure.layout.images[2].y
    assert figure.layout.images[2].source == data_uri(pixels(19, 11, 1))
    notes = {note.text for note in figure.layout.annotations}
    assert {"most", "least", "a cook", "a nurse", "a farmer"} <= notes
    assert plots.describe(figure) == "most: 2 images (a cook; a nurse). least: 1 images (a farmer)."


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("cook/feminine +0.213", "cook/feminine<br>+0.213"),
        ("police officer/masculine +0.05", "police officer/<br>masculine +0.05"),
        ("short", "short"),
        ("a" * 40, "<br>".join(("a" * 16, "a" * 16, "a" * 8))),
        ("a" * 60, f"{'a' * 16}<br>{'a' * 8}…{'a' * 7}<br>{'a' * 16}"),
        ("<b>bold</b> and more", "&lt;b&gt;bold&lt;/b&gt; and<br>more"),
    ],
)
def test_captions_break_between_words_and_after_a_slash(caption, shown):
    figure = plots.gallery({"most": [pixels(13, 17)]}, {"most": [caption]})
    assert shown in [note.text for note in figure.layout.annotations]


def test_a_missing_picture_leaves_a_labelled_blank():
    figure = plots.gallery({"most": [None, pixels(13, 17)]}, {"most": ["gone", "here"]})
    assert len(figure.layout.images) == len(figure.layout.shapes) == 1
    assert "image<br>not found" in [note.text for note in figure.layout.annotations]
    assert "gone" in figure.data[0].text[0]
    assert plots.describe(figure).endswith("1 not found.")


def test_four_galleries_of_sixteen_stay_small():
    rows = {end: [pixels(224, 224, i) for i in range(8)] for end in ("most", "least")}
    captions = {end: ["a caption of some length"] * 8 for end in rows}
    assert 4 * len(plots.gallery(rows, captions).to_json()) < 1_500_000  # noise: real pictures are smaller


def test_captions_have_to_be_as_many_as_the_pictures():
    with pytest.raises(HeadlensError, match="1 pictures, with 1 captions"):
        plots.gallery({"most": [None]}, {"least": ["a"]})
    with pytest.raises(HeadlensError, match="0 pictures"):
        plots.gallery({})


@pytest.mark.parametrize(
    "figure",
    [
        plots.textspan(explanation(texts=(HOSTILE, "b"), categories=(HOSTILE, "c"))),
        plots.textspan(explanation(texts=(HOSTILE * 9, "b"), categories=(HOSTILE * 9, "c")), title=HOSTILE),
        plots.overview({HeadId(0, 0): explanation((0, 0), (HOSTILE, "b"), (HOSTILE, "c"))}, title=HOSTILE),
        plots.gallery({HOSTILE: [None, pixels(13, 17)]}, {HOSTILE: [HOSTILE, HOSTILE * 9]}, title=HOSTILE),
    ],
    ids=["textspan", "long textspan", "overview", "gallery"],
)
def test_hostile_text_is_shown_as_text(figure):
    parts = figure.to_plotly_json()
    parts["layout"]["meta"] = None
    drawn = str(parts)
    assert "<script" not in drawn
    assert "%{x}" not in drawn
    assert "$y$" not in drawn
    assert "<script>" in html.unescape(drawn)  # it is there, letter by letter
    assert HOSTILE in plots.describe(figure)
