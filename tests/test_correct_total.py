"""Total ablation on a micro model whose every number can be worked out by hand."""

from types import SimpleNamespace

import pytest
import torch
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from headlens.correct import mean_z, total_ablation_hooks
from headlens.errors import CorrectionError


class MicroAttention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hook_z = HookPoint()


class MicroBlock(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.attn = MicroAttention()


class MicroTower(HookedRootModule):
    """Two layers of three heads of width two: z of a layer is its input, spread over heads; heads are then summed."""

    def __init__(self, pool="tok"):
        super().__init__()
        self.cfg = SimpleNamespace(n_layers=2, n_heads=3, pool=pool)
        self.blocks = torch.nn.ModuleList(MicroBlock() for _ in range(2))
        self.setup()

    def forward(self, x):  # [image token 2]
        for block in self.blocks:
            z = x[:, :, None, :] * torch.tensor([1.0, 2.0, 3.0])[:, None]
            x = block.attn.hook_z(z).sum(2) + x.mean(1, keepdim=True)
        return x[:, 0] if self.cfg.pool == "tok" else x.mean(1)


IMAGES = torch.arange(5 * 7 * 2).reshape(5, 7, 2).float()


def test_replaced_at_the_class_token_or_at_all():
    tower, value = MicroTower(), torch.tensor([10.0, 20.0])
    for tokens, where in (("class", slice(0, 1)), ("all", slice(None))):
        seen = {}

        def look(z, hook, seen=seen):
            seen[hook.name] = z

        hooks = [*total_ablation_hooks({(0, 1): value}, tokens), ("blocks.0.attn.hook_z", look)]
        hooks.append(("blocks.1.attn.hook_z", look))
        result = tower.run_with_hooks(IMAGES, fwd_hooks=hooks)
        expected = IMAGES[:, :, None, :] * torch.tensor([1.0, 2.0, 3.0])[:, None]
        expected[:, where, 1] = value
        assert torch.equal(seen["blocks.0.attn.hook_z"], expected)
        # Later layers react: the second layer's input is made of the edited first.
        second = expected.sum(2) + IMAGES.mean(1, keepdim=True)
        assert torch.equal(seen["blocks.1.attn.hook_z"][:, :, 0], second)
        assert torch.equal(result, 6 * second[:, 0] + second.mean(1))


def test_no_hook_outlives_the_call():
    tower = MicroTower()
    before = tower(IMAGES)
    with tower.hooks(fwd_hooks=total_ablation_hooks({(0, 0): torch.zeros(2), (1, 2): torch.zeros(2)}, "all")):
        assert not torch.equal(tower(IMAGES), before)
    assert torch.equal(tower(IMAGES), before)


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_means(pool):
    tower = MicroTower(pool)
    batches = [IMAGES[:2], IMAGES[2:]]
    first = {t: mean_z(tower, batches, [(0, 2), (1, 0)], t) for t in ("class", "all")}
    scaled, second = 3 * IMAGES.double(), 6 * IMAGES.double() + IMAGES.double().mean(1, keepdim=True)
    torch.testing.assert_close(first["class"][(0, 2)], scaled[:, 0].mean(0))
    torch.testing.assert_close(first["all"][(0, 2)], scaled.mean((0, 1)))
    torch.testing.assert_close(first["class"][(1, 0)], second[:, 0].mean(0))
    # In the last layer of a tower that pools the class token, only the class token matters.
    last = second[:, 0].mean(0) if pool == "tok" else second.mean((0, 1))
    torch.testing.assert_close(first["all"][(1, 0)], last)


def test_in_the_last_layer_of_a_class_token_tower_both_are_the_same():
    tower = MicroTower()
    results = []
    for tokens in ("class", "all"):
        means = mean_z(tower, [IMAGES], [(1, 1)], tokens)
        results.append(tower.run_with_hooks(IMAGES, fwd_hooks=total_ablation_hooks(means, tokens)))
    assert torch.equal(*results)


def test_refusals():
    tower = MicroTower()
    with pytest.raises(CorrectionError, match="a head below 3"):
        tower.run_with_hooks(IMAGES, fwd_hooks=total_ablation_hooks({(0, 3): torch.zeros(2)}, "all"))
    with pytest.raises(CorrectionError, match="a value of width 2"):
        tower.run_with_hooks(IMAGES, fwd_hooks=total_ablation_hooks({(0, 1): torch.zeros(3)}, "all"))
    with pytest.raises(CorrectionError, match="no head L2H0"):
        mean_z(tower, [IMAGES], [(2, 0)], "all")
    with pytest.raises(CorrectionError, match="reference images"):
        mean_z(tower, [], [(0, 0)], "all")
