"""What a saved correction is: every field of it, also unfitted, also one that an earlier version wrote."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from conftest import GOLDEN
from safetensors.torch import load_file

from headlens import benchmark
from headlens.correct import (
    CORRECTIONS,
    ByClass,
    Compose,
    Correction,
    EmbeddingErasure,
    ErmProbe,
    HeadErasure,
    JustTrainTwice,
    KnowledgeInjection,
    LastLayerRetraining,
    MeanAblation,
    OrthoCali,
    PrototypeAblation,
    ResampleAblation,
    RoboShot,
    ZeroAblation,
    load_correction,
)
from headlens.errors import CorrectionError, HeadlensError
from headlens.serialization import digest

LAYERS, HEADS, EMBED = 3, 5, 13
SAVED = GOLDEN / "corrections_format_1"


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class View:
    n_layers, n_heads, fingerprint = LAYERS, HEADS, "model-a"

    def __init__(self, contributions: torch.Tensor):
        self.contributions = contributions
        self.embedding = contributions.sum((1, 2)) + 0.25

    def heads(self, layer: int, head: int) -> torch.Tensor:
        return self.contributions[:, layer, head]

    def subset(self, rows: object) -> "View":
        return View(self.contributions[torch.as_tensor(rows)])


REFERENCE, TEST = View(normal(7, 29, LAYERS, HEADS, EMBED)), View(normal(0, 17, LAYERS, HEADS, EMBED))
CLASSIFIER = torch.nn.functional.normalize(normal(5, 2, EMBED), dim=1)
PAIRS, LABELS, VALUES = normal(99, 2, 2, EMBED), torch.arange(29) % 2, torch.arange(29) // 2 % 3
MEMBERS = torch.arange(29) < 11


# ---- an earlier version ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", sorted(p.name for p in SAVED.iterdir() if p.is_dir()))
def test_corrections_of_version_0_1_load_and_score_the_same(folder: str, tmp_path: Path) -> None:
    """Fitted there on `REFERENCE`; the scores are those of `TEST` along `CLASSIFIER`."""
    one = load_correction(SAVED / folder)
    assert json.loads((SAVED / folder / "correction.json").read_text())["format"] == 1
    again = load_correction(one.save(tmp_path / "again"))
    assert digest(again) == digest(one)
    if folder.startswith("unfitted"):
        assert not one.fitted and one.fit(REFERENCE).fitted
        return
    expected = load_file(SAVED / "logits.safetensors")[folder]
    assert one.fitted
    torch.testing.assert_close(one.logits(TEST, CLASSIFIER), expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(again.logits(TEST, CLASSIFIER), expected, atol=1e-12, rtol=1e-12)


# ---- every field -----------------------------------------------------------------------------------------------------

EVERY = {
    "mean-ablation": MeanAblation([(0, 1), (2, 4)]),
    "prototype-ablation": PrototypeAblation([(0, 1)], MEMBERS),
    "zero-ablation": ZeroAblation([(1, 1)]),
    "resample-ablation": ResampleAblation([(0, 1), (2, 2)], count=7, seed=3),
    "knowledge-injection": KnowledgeInjection([(1, 0)], PAIRS),
    "roboshot": RoboShot(PAIRS[:1], PAIRS[1:]),
    "ortho-cali": OrthoCali(normal(2, 3, EMBED), normal(3, 4, 2, EMBED), 7),
    "leace": EmbeddingErasure(VALUES),
    "leace-heads": HeadErasure([(1, 2), (0, 0)], VALUES),
    "erm-probe": ErmProbe(LABELS, 2, 0.7),
    "jtt-probe": JustTrainTwice(LABELS, 2, VALUES, first=[0.1], upweights=[20]),
    "last-layer-retraining": LastLayerRetraining(LABELS, 2, VALUES, strengths=[0.3], draws=2, seed=5),
    "compose": Compose([MeanAblation([(0, 1)]), KnowledgeInjection([(1, 0)], PAIRS), ErmProbe(LABELS, 2)]),
    "by class": ByClass([MeanAblation([(0, 1)]), ZeroAblation([(1, 1)])], (0, 1), CLASSIFIER, torch.tensor([0, -1])),
    "by candidates": benchmark.ByCandidates([ZeroAblation([(1, 1)])], ((0, 1),), ("gull", "wren")),
}
OTHER = {
    "fingerprint": "model-b", "heads": [(2, 0)], "reference": "self", "members": ~MEMBERS, "count": 5, "seed": 4,
    "pairs": PAIRS + 1, "reject": PAIRS[1:], "accept": PAIRS[:1], "spurious": normal(4, 3, EMBED), "weight": 8,
    "values": VALUES.flip(0), "labels": 1 - LABELS, "n_classes": 3, "strength": 0.9, "first": [0.2],
    "upweights": [10, 20], "strengths": [0.1], "draws": 3, "chosen": {"strength": 1.0},
    "corrections": [ZeroAblation([(0, 0)])], "classifier": -CLASSIFIER, "route": torch.tensor([1, -1]),
    "twos": ((0, 2),), "classes": ("gull", "owl"), "constants": "spread",
}  # fmt: skip
MADE_OF = {
    "by class": {"parts": EVERY["by class"].parts[::-1], "labels": (1, 0)},
    "by candidates": {"parts": [MeanAblation([])]},
}
LEARNT = {"means", "rows", "eraser", "erasers", "linear"}


def test_every_registered_correction_is_tried() -> None:
    assert {name for name, one in CORRECTIONS.items() if one.__module__.startswith("headlens.")} == set(EVERY)


@pytest.mark.parametrize("name", EVERY)
def test_a_digest_differs_wherever_a_field_does_and_survives_saving(name: str, tmp_path: Path) -> None:
    one = EVERY[name]
    others = {**OTHER, **MADE_OF.get(name, {})}
    changed = [replace(one, **{f.name: others[f.name]}) for f in fields(one) if f.name not in LEARNT]
    if name != "by candidates":
        fitted = one.fit(REFERENCE)
        assert fitted.fitted
        changed.append(replace(fitted, fingerprint=None) if LEARNT & {f.name for f in fields(one)} else fitted)
    assert len({digest(each) for each in [one, *changed]}) == len(changed) + 1
    for number, each in enumerate([one, *changed]):
        assert digest(load_correction(each.save(tmp_path / str(number)))) == digest(each)


def test_a_prototype_is_saved_with_its_members() -> None:
    assert digest(PrototypeAblation([(0, 1)], MEMBERS)) != digest(PrototypeAblation([(0, 1)], ~MEMBERS))
    assert digest(PrototypeAblation([(0, 1)], MEMBERS)) != digest(PrototypeAblation([(0, 1)]))


def test_an_unfitted_correction_is_loaded_and_fits_to_the_same(tmp_path: Path) -> None:
    for name, one in EVERY.items():
        if name == "by candidates":
            continue
        fitted = load_correction(one.save(tmp_path / name)).fit(REFERENCE)
        assert digest(fitted) == digest(one.fit(REFERENCE)), name
        assert torch.equal(fitted.logits(TEST, CLASSIFIER), one.fit(REFERENCE).logits(TEST, CLASSIFIER))


def test_a_fitted_correction_carries_its_heads_and_its_model() -> None:
    ltc = Compose([MeanAblation(["L0H1", "2.4"]), KnowledgeInjection([(1, 0), (2, 4)], PAIRS)]).fit(REFERENCE)
    assert [str(head) for head in ltc.edited] == ["L0H1", "L2H4", "L1H0"]
    assert {one.fingerprint for one in ltc.corrections} == {"model-a"}
    assert RoboShot(PAIRS).edited == ErmProbe(LABELS, 2).edited == ()


def test_what_is_made_under_inference_mode_can_be_saved_and_used_afterwards(tmp_path: Path) -> None:
    with torch.inference_mode():
        ltc = Compose([MeanAblation([(0, 1)]), KnowledgeInjection([(1, 0)], PAIRS * 1)]).fit(
            View(REFERENCE.contributions * 1)
        )
    plain = Compose([MeanAblation([(0, 1)]), KnowledgeInjection([(1, 0)], PAIRS)]).fit(REFERENCE)
    assert digest(ltc) == digest(plain) == digest(load_correction(ltc.save(tmp_path / "ltc")))
    images = TEST.contributions.clone().requires_grad_()
    ltc.apply(images).sum().backward()
    assert images.grad is not None and not images.grad[:, 0, 1].any()


def test_what_is_held_does_not_change_with_what_it_was_made_of() -> None:
    pairs = PAIRS.clone()
    one = KnowledgeInjection([(0, 0)], pairs)
    before = digest(one)
    pairs += 1
    assert digest(one) == before
    with pytest.raises(AttributeError):
        one.pairs = pairs


# ---- one's own -------------------------------------------------------------------------------------------------------


def test_a_class_of_ones_own_is_saved_by_its_fields_and_needs_a_name(tmp_path: Path) -> None:
    class Unnamed(ZeroAblation):
        pass

    assert "unnamed" not in CORRECTIONS
    with pytest.raises(HeadlensError, match="A Unnamed cannot be saved here"):
        Unnamed([(0, 1)]).save(tmp_path / "a")
    try:

        class Named(ZeroAblation):
            name: ClassVar[str] = "named"

        found = load_correction(Named([(0, 1)]).save(tmp_path / "b"))
        assert type(found) is Named and found.edited == ((0, 1),)
    finally:
        del CORRECTIONS._entries["named"]
    with pytest.raises(CorrectionError, match=r"'named'"):
        load_correction(tmp_path / "b")


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Correction()
