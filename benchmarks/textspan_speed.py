"""How long TextSpan of every head takes from moments, next to the published method on rows.

    python benchmarks/textspan_speed.py --layers 24 --heads 16 --texts 3500 --count 20 --threads 2

Random states in a tower's shape (ViT-L-14 unless told otherwise). The row-wise method is run on a few heads, the moment
method on those and on all, in turn in one process. Printed: the time for all heads, the time a head of both, the median
of the ratios round by round, and whether both choose the same texts. The moments themselves are counted too: once over
the images, whatever number of banks is asked afterwards.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from headlens.explain import textspan_heads
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, size in (("layers", 24), ("heads", 16), ("d-head", 64), ("embed", 768), ("texts", 3500), ("count", 20)):
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument("--images", type=int, default=1000, help="images behind the moments and the rows")
    parser.add_argument("--row-heads", type=int, default=2, help="heads that the row-wise method explains")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--threads", type=int, default=None, help="torch threads; all cores without it")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)

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
