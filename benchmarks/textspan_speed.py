"""How long TextSpan of every head takes from moments, next to the published method on rows.

    python benchmarks/textspan_speed.py --layers 24 --heads 16 --texts 3500 --count 20 --threads 2

Random states in a tower's shape, by default ViT-L-14's. The row-wise method is run on a few heads, the moment method
on those and on all, in turn in one process. Printed: the time for all heads, the time a head of both, the median
of the ratios round by round, and whether both choose the same texts. The moments themselves are counted too: once over
the images, whatever number of banks is asked afterwards.

With `--explain` instead: the whole explanation of every head, with its null and held-out images but no bootstrap of the
images, beside the plain product of bank and bases, which no method can do without.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from store_size import write_store

from headlens.explain import explain_heads, textspan_heads
from headlens.prompts import TextBank
from headlens.states import HeadBasis, Moments


def by_rows(contributions: torch.Tensor, texts: torch.Tensor, count: int, rank: int) -> list[int]:
    """The published steps: every choice projects every image on every text, in float32."""
    axes = torch.linalg.svd(contributions, full_matrices=False).Vh[:rank]
    texts = texts @ axes.mT @ axes
    rows = contributions - contributions.mean(0)
    chosen = []
    for _ in range(count):
        chosen.append(int((rows @ texts.mT).std(0).argmax()))
        direction = texts[chosen[-1]] / texts[chosen[-1]].norm()
        rows = rows - (rows @ direction)[:, None] * direction
        texts = texts - (texts @ direction)[:, None] * direction
    return chosen


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def explained(options: argparse.Namespace) -> None:
    """Measure and print the explanation of every head."""
    g = torch.Generator().manual_seed(0)
    sizes = {"layer": options.layers, "head": options.heads, "d_head": options.d_head, "embed": options.embed}
    bank = TextBank([f"text {i}" for i in range(options.texts)], [f"category {i % 25}" for i in range(options.texts)])
    texts = torch.randn(options.texts, options.embed, generator=g) + torch.randn(options.embed, generator=g)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "acts.zarr"
        # Spectra that fall, as a head's do, so that heads have poles.
        bases = torch.randn(options.layers, options.heads, options.d_head, options.embed, generator=g)
        bases *= (torch.arange(1, options.d_head + 1)[:, None] * options.embed**0.5) ** -1.0
        store = write_store(path, 2 * options.images, sizes, "float16", fingerprint="random", weights=bases)
        own, held_out = (store.subset(np.arange(options.images) + start) for start in (0, options.images))
        weights = bases.reshape(-1, options.embed)
        for _ in range(options.repeats):
            product = timed(lambda: weights @ texts.T)[0]
            seconds, found = timed(lambda: explain_heads(own, bank, texts, options.count, held_out=held_out, draws=0))
            poles = sum(len(one.poles) for one in found.values())
            print(
                f"{len(found)} heads, {options.texts} texts, {poles} poles tested, {torch.get_num_threads()} threads: "
                f"{seconds:.1f} s, {seconds / product:.1f} x the product ({product:.2f} s)"
            )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, size in (("layers", 24), ("heads", 16), ("d-head", 64), ("embed", 768), ("texts", 3500), ("count", 20)):
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--images", type=int, default=1000, help="images behind the moments and the rows")
    parser.add_argument("--row-heads", type=int, default=2, help="heads that the row-wise method explains")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; all cores without it")
    parser.add_argument("--explain", action="store_true", help="measure the explanation with its null instead")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.explain:
        explained(options)
        return

    g = torch.Generator().manual_seed(0)
    layers, heads, width, embed = options.layers, options.heads, options.d_head, options.embed
    # Spectra that fall, as a head's do: a few directions hold most of the variance.
    spread = torch.arange(1, width + 1) ** -0.5
    z = torch.randn(options.images, layers, heads, width, generator=g) * spread + torch.randn(width, generator=g)
    basis = HeadBasis.of_weights(torch.randn(layers, heads, width, embed, generator=g) / embed**0.5)
    texts = torch.randn(options.texts, embed, generator=g) + torch.randn(embed, generator=g)
    streaming, moments = timed(lambda: Moments.of(z))
    some = [(layers - 1 - i // heads, i % heads) for i in range(min(options.row_heads, layers * heads))]

    everything, per_row, per_head, ratios, same = [], [], [], [], True
    for _ in range(options.repeats):
        seconds, spans = timed(lambda: textspan_heads(moments, texts, options.count, basis=basis))
        everything.append(seconds)
        per_head.append(seconds / (layers * heads))
        rows = []
        for head in some:
            contributions = z[:, head[0], head[1]] @ basis.B[head]
            seconds, chosen = timed(lambda x=contributions: by_rows(x, texts, options.count, width))
            rows.append(seconds)
            same &= spans[head].texts.tolist() == chosen
        per_row.append(statistics.mean(rows))
        ratios.append(per_row[-1] / per_head[-1])
    print(
        f"{layers * heads} heads of {width}, {options.texts} texts, {options.count} chosen a head, "
        f"{options.images} images"
    )
    print(f"  moments, once:             {streaming:8.2f} s")
    print(f"  all heads, from moments:   {statistics.median(everything):8.2f} s (best {min(everything):.2f})")
    print(f"  a head, from moments:      {1000 * statistics.median(per_head):8.2f} ms")
    print(f"  a head, row by row:        {1000 * statistics.median(per_row):8.2f} ms")
    print(f"  ratio:                     {statistics.median(ratios):8.1f}")
    print(f"  same texts:                {'yes' if same else 'no'}")


if __name__ == "__main__":
    main()
