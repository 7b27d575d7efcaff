"""Heads and pairs of the class that an image is taken for: which image gets which, what is shared, what is not read."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from benchmark_trees import QUICK, counteranimal, run_case, small_clip

import headlens as hl
from headlens import benchmark
from headlens.audit import Audit
from headlens.benchmark import per_image
from headlens.benchmark.report import write_report
from headlens.correct import ByClass, ErmProbe, MeanAblation, load_correction
from headlens.errors import CorrectionError, LocateError
from headlens.steps.evaluate import ingredients


@pytest.fixture(scope="module")
def clip():
    return small_clip()


@pytest.fixture(scope="module")
def run_once(clip, tmp_path_factory):
    found = {}

    def run(name):
        if name not in found:
            found[name] = run_case(name, clip, tmp_path_factory.mktemp(name))
        return found[name]

    return run


def test_an_animal_gets_heads_and_pairs_of_the_class_that_it_is_taken_for(run_once) -> None:
    table, audit = run_once("counteranimal")
    ltc = audit.corrections["ltc"]
    assert isinstance(ltc, ByClass)
    assert set(ltc.labels) == {0, 1, 2}
    rows = audit.splits.reference
    common = audit.data.values[rows] == audit.attribute.value_names.index("common")
    scores = (audit.data.reference.embedding @ audit.data.classifier.T)[common]
    labels = audit.data.labels[rows][common]
    for label, part in zip(ltc.labels, ltc.parts, strict=True):
        ablation, injection = part.corrections
        assert set(ablation.heads) == set(audit.location.spurious)
        assert not set(injection.heads) & set(audit.location.spurious)
        name = audit.task.classes[label]
        assert list(injection.heads) == [hl.heads.HeadId(*one) for one in table.heads.by_class[name]]
        mistaken = [int(s.argmax()) for s, true in zip(scores, labels, strict=True) if true == label != int(s.argmax())]
        if mistaken:
            rival = audit.task.classes[max(sorted(set(mistaken)), key=mistaken.count)]
            texts = [f"the body shape of the {one}" for one in (name, rival)]
            body = injection.pairs[1, 0] - injection.pairs[1, 1]
            torch.testing.assert_close(body, -torch.diff(audit.data.texts(texts), dim=0)[0])
    # Each image by itself, with nothing but its zero-shot prediction.
    found = audit.data.among(ltc.logits(audit.data.test, audit.data.classifier), audit.splits.test).argmax(dim=-1)
    assert found.tolist() == audit.results.predictions["ltc"].tolist()
    for i in (0, 3, 7):
        one = audit.data.test.subset([i])
        taken_for = int((one.embedding @ audit.data.classifier.T).argmax())
        torch.testing.assert_close(
            ltc.logits(one, audit.data.classifier),
            ltc.parts[ltc.labels.index(taken_for)].logits(one, audit.data.classifier),
        )


def test_the_report_lists_the_heads_of_each_class(run_once, tmp_path) -> None:
    table, audit = run_once("counteranimal")
    page = write_report(table, audit, tmp_path / "report.html", images=0).read_text(encoding="utf-8")
    assert "Salient heads of each class" in page
    for name, heads in table.heads.by_class.items():
        assert name in page
        assert ", ".join(map(str, heads)) in page


def test_no_label_of_a_scored_image_is_read(run_once) -> None:
    _, audit = run_once("counteranimal")
    manifest = audit.data.test.manifest.copy()
    manifest["label"] = audit.task.classes[0]
    manifest["background"] = "common"
    other = audit.data.test.with_manifest(manifest)
    for name, correction in audit.corrections.items():
        before, after = (correction.logits(target, audit.data.classifier) for target in (audit.data.test, other))
        torch.testing.assert_close(before, after, msg=name)


def test_what_does_not_go_by_class_is_fitted_once_and_a_probe_reads_what_all_classes_leave(run_once) -> None:
    _, audit = run_once("counteranimal")
    assert isinstance(audit.corrections["ablation"], MeanAblation)
    assert isinstance(audit.corrections["erm probe"], ErmProbe)
    by_class, probe = audit.corrections["erm probe + ltc"].corrections
    assert isinstance(by_class, ByClass)
    assert isinstance(probe, ErmProbe)
    full = audit.corrections.get("ltc full")
    if full is not None:  # its own locator's heads, and the pairs of each class
        assert len({part.corrections[1].heads for part in full.parts}) == 1


def test_a_correction_by_class_is_saved_and_loaded(run_once, tmp_path) -> None:
    _, audit = run_once("counteranimal")
    for name in ("ltc", "erm probe + ltc"):
        again = load_correction(audit.corrections[name].save(tmp_path / name.replace(" ", "-")))
        found, expected = (
            one.logits(audit.data.test, audit.data.classifier) for one in (again, audit.corrections[name])
        )
        torch.testing.assert_close(found, expected)


def test_an_image_taken_for_a_class_without_heads_gets_the_highest_scored_one_that_has_some() -> None:
    embedding = torch.eye(3)[[2, 1, 0]] + 0.1 * torch.eye(3)[[1, 0, 2]]
    parts = MeanAblation([(0, 0)]), MeanAblation([(0, 1)])
    for route, chosen in (([0, 1, -1], [1, 1, 0]), ([0, 1, 0], [0, 1, 0])):
        assert ByClass(parts, (0, 1), torch.eye(3), torch.tensor(route)).choose(embedding).tolist() == chosen
    with pytest.raises(CorrectionError, match="none for class 2"):
        ByClass(parts, (0, 1), torch.eye(3), torch.tensor([0, 1, 2]))


def test_random_heads_by_class_are_as_many_of_the_same_layers(run_once) -> None:
    _, audit = run_once("counteranimal")
    known = ingredients(audit.data, audit.fitted["ltc"].located)
    rivals = per_image.class_rivals(audit, "common")
    of = hl.heads.HeadId
    heads = {0: [of(2, 0), of(2, 1), of(0, 3)], 1: [of(1, 3)], 2: []}
    plain = Audit.of(audit.data, audit.record)
    methods = per_image.methods_by_class(plain, rivals, heads, benchmark.suite("counteranimal").pairs, None)
    n_layers, n_heads = audit.store.n_layers, audit.store.n_heads
    seen = set()
    for layer, head in product(range(n_layers), range(n_heads)):
        ablated = of(layer, head)
        cast = {"spurious": [ablated], "salient": [of(layer, (head + 1) % n_heads)]}
        drawn = methods["ltc"].build(known.recast(cast))
        for label, part in zip(drawn.labels, drawn.parts, strict=True):
            own = part.corrections[1].heads
            left = [n_heads - (layer == one) for one in range(n_layers)]
            wanted = [sum(h.layer == one for h in heads[label]) for one in range(n_layers)]
            assert [sum(h.layer == one for h in own) for one in range(n_layers)] == list(map(min, wanted, left))
            assert part.corrections[0].heads == (ablated,) and ablated not in own and len(set(own)) == len(own)
            seen |= {(label, one) for one in own}
    # Located heads are drawn too: sets of the others alone would be worse by construction.
    assert any((label, head) in seen for label in heads for head in heads[label])
    # Where the salient heads alone are drawn, every draw has sets of its own.
    pairs = product(range(4), range(4))
    casts = [{"spurious": [of(0, 0)], "salient": [of(1, head), of(2, other)]} for head, other in pairs]
    sets = {methods["ltc"].build(known.recast(cast)).parts[0].corrections[1].heads for cast in casts}
    assert len(sets) > 4


def test_salient_heads_are_located_on_a_value_that_there_is(clip, tmp_path) -> None:
    counteranimal(tmp_path / "data")
    asked = replace(benchmark.suite("counteranimal"), salient_on="usual")
    with pytest.raises(LocateError, match=r"'usual'.*common, counter"):
        benchmark.run(asked, clip, tmp_path / "data", tmp_path / "acts.zarr", methods=["ltc"], **QUICK)
