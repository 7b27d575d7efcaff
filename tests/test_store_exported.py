"""An audit of arrays that another tool exported is the audit of a store that headlens extracted itself."""

from pathlib import Path

import numpy as np
import pytest
import torch

import headlens as hl
from headlens.errors import StoreError


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    folder = tmp_path_factory.mktemp("exported")
    clip = hl.load("testbed")
    return clip, hl.extract(clip, hl.testbed.images(folder / "images", n=160), folder / "acts.zarr"), folder


def exported(store: hl.HeadStore, **options: object) -> hl.HeadStore:
    layers = [[store.heads(layer, head) for head in range(store.n_heads)] for layer in range(store.n_layers)]
    heads = torch.stack([torch.stack(layer, 1) for layer in layers], 1)
    given = {"convention": "separate", "normalized": True} | options
    return hl.HeadStore.from_arrays(heads.numpy(), store.rest.numpy(), store.manifest, **given)


def audited(clip: hl.HookedCLIP, store: hl.HeadStore) -> hl.Audit:
    card = hl.testbed.card("testbed")
    task = hl.ZeroShotTask(card["classes"], card["templates"])
    attribute = hl.Attribute(card["attribute"]["name"], card["attribute"]["values"])
    audit = hl.Audit(clip, store, task, attribute, pairs=card["pairs"])
    audit.locate("contrastive")
    audit.evaluate(["ablation", "ltc"])
    return audit


def test_it_finds_and_corrects_the_same(extracted: tuple) -> None:
    clip, store, folder = extracted
    arrays = exported(store, fingerprint=clip.fingerprint)
    one, other, third = (audited(clip, each) for each in (store, arrays, arrays.save(folder / "exported.zarr")))
    for audit in (other, third):
        assert audit.location.spurious == one.location.spurious
        assert audit.location.salient == one.location.salient
        ours, theirs = audit.results.table(wide=True), one.results.table(wide=True)
        numbers = theirs.select_dtypes("number").columns
        assert len(numbers)
        np.testing.assert_allclose(ours[numbers].to_numpy(), theirs[numbers].to_numpy(), rtol=1e-6, atol=1e-6)


def test_arrays_of_an_unknown_model_are_taken_on_trust(extracted: tuple) -> None:
    clip, store, _ = extracted
    with pytest.warns(UserWarning, match="does not record which model"):
        audited(clip, exported(store))
    with pytest.raises(StoreError, match="other"):
        audited(clip, exported(store, fingerprint="of another model"))


def test_a_store_in_memory_is_saved_before_its_audit(extracted: tuple, tmp_path: Path) -> None:
    clip, store, _ = extracted
    audit = audited(clip, exported(store, fingerprint=clip.fingerprint))
    with pytest.raises(StoreError, match=r"store\.save"):
        audit.save(tmp_path / "audit")
