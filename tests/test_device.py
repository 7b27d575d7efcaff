"""Every public step on a device of its own: no tensor is left on the other one."""

import pytest
import torch
from PIL import Image
from pretended_device import Pretended, pretended

import headlens as hl
from headlens.embedding import embed_images


def test_the_pretended_device_catches_what_a_gpu_would():
    with pretended() as device:
        here, there = torch.ones(3), torch.ones(3, device=device)
        assert there.device == device and (there + there * 2.0).sum().item() == 9
        assert isinstance(here.to(device), Pretended) and not isinstance(there.cpu(), Pretended)
        assert torch.equal((there + torch.tensor(1.0)).cpu(), here + 1)  # a single number may lie anywhere
        for misplaced in (
            lambda: here + there,
            lambda: here @ there,
            lambda: torch.cat([here, there]),
            lambda: torch.nn.Linear(3, 2)(there),
            lambda: torch.where(here > 0, there, there),
            lambda: here.add_(there),
        ):
            with pytest.raises(RuntimeError, match="same device"):
                misplaced()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        with pytest.raises(RuntimeError, match="generator"):
            torch.randn(3, device=device, generator=torch.Generator())
        module = torch.nn.Linear(3, 2).to(device)
        assert module(there).device == device
        leaf = torch.ones(3, requires_grad=True)
        module(leaf.to(there)).sum().cpu().backward()
        assert isinstance(module.weight.grad, Pretended) and not isinstance(leaf.grad, Pretended)
        assert torch.equal(leaf.grad, module.weight.detach().sum(0).cpu())


def _gradient(clip: hl.HookedCLIP, pixels: torch.Tensor) -> torch.Tensor:
    """Of one head's part and of the embedding, added up, with respect to the pixels."""
    asked = pixels.clone().requires_grad_()
    parts = hl.decompose(clip, asked)
    (parts.heads[:, 1, 0].square().sum() + clip.encode_image(asked, normalize=True).sum()).backward()
    assert asked.grad is not None
    return asked.grad


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")  # torch knows that there is no GPU
def test_every_step_leaves_no_tensor_on_the_other_device(tmp_path):
    """Load, hook, decompose, extract, project, locate, correct, explain, audit, use and bake; as on the CPU."""
    drawn = hl.testbed.images(tmp_path / "birds", n=160)
    here = hl.load("testbed")
    with pretended() as device, torch.random.fork_rng():
        clip = hl.load("testbed", device=device)
        assert all(isinstance(one, Pretended) for one in (*clip.vision.parameters(), *clip.text.parameters()))
        paths = [tmp_path / "birds" / path for path in drawn["path"][:5]]
        pixels = torch.stack([clip.preprocess(Image.open(path).convert("RGB")) for path in paths])
        there = pixels.to(device)
        plain, cache = clip.run_with_cache(there)
        assert all(isinstance(one, Pretended) for one in (plain, *cache.values()))
        with torch.no_grad():
            torch.testing.assert_close(plain.detach().cpu(), here.vision(pixels), rtol=1e-4, atol=1e-5)
        gradients = [_gradient(*one) for one in ((clip, there), (here, pixels))]
        assert isinstance(gradients[0], Pretended)
        torch.testing.assert_close(gradients[0].cpu(), gradients[1], rtol=1e-3, atol=1e-5)
        clip.run_with_hooks(there, fwd_hooks=[("blocks.0.attn.hook_z", lambda z, hook: z * 0)])
        for per_token in (False, True):
            parts = hl.decompose(clip.vision, there, per_token, "spread", normalize=True)
            torch.testing.assert_close(parts.total().norm(dim=-1).cpu(), torch.ones(5))
        texts = clip.encode_text(["a landbird", "a waterbird"], normalize=True)
        assert isinstance(texts, Pretended)
        clip.probabilities(clip.encode_image(pixels), texts)
        assert hl.models.parity(clip).passed
        assert clip.fingerprint == here.fingerprint
        hl.explain.token_maps(clip.vision, there, [(0, 0), (1, 1)], texts[:1].expand(5, -1))
        hl.explain.textspan(parts.heads.sum(3)[:, 0, 1], texts, 2)

        store = hl.extract(clip, drawn, tmp_path / "states.zarr", batch_size=64)
        hl.extract_moments(clip, drawn, tmp_path / "moments", ["background"], batch_size=64)
        store.project(texts)
        task = hl.ZeroShotTask(["landbird", "waterbird"], "a photo of a {}")
        background = hl.Attribute("background", {"land": "a photo of the land", "water": "a photo of the water"})
        audit = hl.Audit(clip, store, task, background)
        audit.locate()
        audit.correct()
        audit.evaluate(n_random_sets=2, n_bootstrap=2, total=20)
        audit.fairness(n_bootstrap=2, n_permutations=2)
        audit.explain()
        audit.collateral()
        audit.report(tmp_path / "report.html")
        correction = hl.correct.MeanAblation([(0, 0), (1, 1)]).fit(store)
        corrected = clip.corrected(correction)
        assert isinstance(corrected.encode_image(pixels), Pretended)
        corrected(there, clip.tokenizer(["a landbird"]).to(device))
        embed_images(clip, correction, store.manifest[:9], tmp_path / "embeddings.parquet")
        baked = hl.bake(clip, [(0, 0)], store)
        hl.baking_distance(clip, baked, [(0, 0)], store, texts, task.classes, "background")
        baked.save(tmp_path / "baked")
