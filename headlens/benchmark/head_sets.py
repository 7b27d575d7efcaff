"""The sets of heads that LTC speaks of, where in an image they read, and which words of its caption they go with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Int

from headlens import plots
from headlens.audit import Audit
from headlens.document.figures import decided, token_figure
from headlens.explain.caption_shares import CaptionShares, caption_shares
from headlens.heads import HeadId, as_heads
from headlens.locate import Location, attribute_heads
from headlens.manifest import as_text

HeadSets = dict[str, list[HeadId]]
_MOST_WORDS = 9  # of a caption that is looked at: 2⁹ texts each


def attribute_location(audit: Audit) -> Location:
    """V of the attribute's own zero-shot task over the reference split, and the heads Z_S that decide it.

    Raises:
        LocateError: where no image's value is predicted correctly.
    """
    prototypes = audit.attribute.prototypes(audit.data.texts)
    store, rows = audit.data.reference, audit.splits.reference
    logits = store.embedding @ prototypes.T.to(store.embedding)
    return attribute_heads(store.project(prototypes), logits, torch.as_tensor(audit.data.values[rows]))


def head_sets(audit: Audit, attribute: Location | None) -> HeadSets:
    """Z_S less Z_Y, Z_SY, Z_Y and all heads, by names for a figure; sets without a head are left out."""
    located = audit.location
    assert located is not None
    salient = set(located.salient)
    sets = {
        "Z_S: the attribute": [] if attribute is None else [h for h in attribute.salient if h not in salient],
        "Z_SY: spurious": list(located.spurious),
        "Z_Y: salient": list(located.salient),
        "all heads": list(as_heads(None, audit.store.n_layers, audit.store.n_heads)),
    }
    return {name: heads for name, heads in sets.items() if heads}


def examples(audit: Audit, count: int) -> Int[np.ndarray, "image"]:
    """Rows of the store to look at: from the groups that zero-shot gets worst, a wrong image of each where there is."""
    assert audit.results is not None
    rows, evaluation = audit.splits.test, audit.results.evaluations["zero-shot"]
    wrong, names = audit.data.zero_shot != audit.data.test_labels, audit.data.test_groups
    ranked = sorted(evaluation.groups, key=lambda name: evaluation.groups[name])[:count]
    return np.asarray([rows[np.flatnonzero(names == name)[int(np.argmax(wrong[names == name]))]] for name in ranked])


def set_maps(audit: Audit, sets: Mapping[str, Sequence[HeadId]], count: int = 4) -> go.Figure:
    """Per-token maps of whole sets of heads along t_p − t_o, p the predicted class, o the candidate compared with it.

    Raises:
        ImageError: for an image that cannot be read again.
    """
    rows = examples(audit, count)
    predicted, other, titles = decided(audit.data, rows)
    directions = audit.data.classifier[predicted] - audit.data.classifier[other]
    return token_figure(audit.data, rows, sets, directions, titles)


def caption_figure(
    audit: Audit, sets: Mapping[str, Sequence[HeadId]], kinds: Mapping[str, Sequence[str]], count: int = 24
) -> tuple[go.Figure, CaptionShares] | None:
    """Shares of caption words for sets of heads, over scored images whose captions name most kinds of words.

    None where the manifest has no column `caption`, or no caption that is short enough and names two kinds.

    Raises:
        ExplainError: where `shap` is not installed.
    """
    manifest = audit.store.manifest
    if "caption" not in manifest.columns or audit.clip is None:
        return None
    captions = as_text(manifest["caption"])
    order = np.random.default_rng(audit.question.seed).permutation(audit.splits.test)
    named = {row: _kinds_named(captions.iloc[row], kinds) for row in order}
    # Captions that name every kind tell most; of equal ones the seeded order decides.
    chosen = sorted((row for row in order if named[row] >= 2), key=lambda row: -named[row])[:count]
    if not chosen:
        return None
    view = audit.store.subset(np.asarray(chosen))
    outputs = {name: torch.stack([view.heads(*head) for head in heads]).sum(dim=0) for name, heads in sets.items()}
    texts = [str(captions.iloc[row]) for row in chosen]
    shares = caption_shares(audit.clip.encode_text, outputs, texts, kinds, seed=audit.question.seed)
    return plots.shapley(shares.shares(), len(chosen)), shares


def _kinds_named(caption: object, kinds: Mapping[str, Sequence[str]]) -> int:
    """How many kinds of words a caption names; none where it is too long to be computed for many sets."""
    if not isinstance(caption, str) or not 2 <= len(caption.split()) <= _MOST_WORDS:
        return 0
    text = f" {caption.casefold()} "
    return sum(any(f" {phrase.casefold()} " in text for phrase in phrases) for phrases in kinds.values())
