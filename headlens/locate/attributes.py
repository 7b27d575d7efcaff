"""The heads that recognise an attribute, found by the attribute's own zero-shot task.

Follows Yeo et al. 2025 (arXiv 2505.17425): V[l,h] is the share of the rightly classified images whose top head is
(l, h), and Z_S = {V > 1 / |{heads with V > 0}|}. The same rule on the images of any one set is the *single* rule.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headlens.errors import LocateError
from headlens.heads import HeadId
from headlens.locate.decisions import check_inputs, head_credit, head_scores, weigh
from headlens.locate.location import Location


def attribute_heads(
    head_logits: Float[Tensor, "image layer head class"],
    logits: Float[Tensor, "image class"],
    labels: Int[Tensor, "image"],
) -> Location:
    """Locate the heads that decide the rightly classified images of a task, such as an attribute's values.

    Args:
        head_logits: every head's contribution along each value's prototype, `store.project(prototypes)`.
        logits: the whole embedding along each prototype.
        labels: each image's value; where the data do not say, pass the zero-shot prediction and report that.

    Returns:
        A location with V in `correct`, zero in `wrong`, and Z_S in `salient` (also `heads`), largest share first.

    Raises:
        LocateError: as `contrastive` does for its arrays, and where no image is classified rightly.
    """
    check_inputs(head_logits, logits, labels)
    weighed = weigh(logits, labels)
    n_right = int(weighed.right.sum())
    if n_right == 0:
        raise LocateError(
            "rightly classified images",
            f"none among {labels.shape[0]}",
            "Check the prompts, and that labels are numbered in the order of the values.",
        )
    credits = head_credit(head_scores(head_logits, weighed))[weighed.right]
    counts = credits.sum(dim=0, dtype=torch.float64)
    active = [HeadId(int(i), int(j)) for i, j in (counts > 0).nonzero().tolist()]
    threshold = Fraction(1, len(active))
    chosen = [h for h in active if Fraction(int(counts[h]), n_right) > threshold]
    share = (counts / n_right).to(credits.dtype)
    return Location(
        correct=share,
        wrong=torch.zeros_like(share),
        threshold=float(threshold),
        spurious=[],
        salient=sorted(chosen, key=lambda h: (-int(counts[h]), h)),
        n_correct=n_right,
        n_wrong=0,
        method="attribute",
    )
