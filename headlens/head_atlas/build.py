"""Write the atlas: one page, its data as scripts that it loads when they are needed, and small pictures.

    atlas/index.html, app.js, style.css     the page, the same for every atlas
    atlas/data/index.js                     the map, the texts to search; written last
    atlas/data/L3H0.js                      one head; written head by head, and not again where it is there
    atlas/images/0000012.jpg                row 12 of the store, as the model sees it
    atlas/compare/data, atlas/compare/images   the same of another atlas

Data are scripts because a page from file:// may load scripts, but not fetch files. Nothing else is loaded by them.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from headlens.cells import cell_text
from headlens.errors import ImageError, ManifestError, OutputError
from headlens.explain import as_seen, own_maps
from headlens.extraction import HeadStore
from headlens.head_atlas.measured import AtlasQuestion, Measured
from headlens.heads import HeadId
from headlens.images import read_image
from headlens.manifest import image_files
from headlens.models import HookedCLIP
from headlens.progress import progress
from headlens.prompts import Attribute, TextBank, ZeroShotTask
from headlens.serialization import to_json

FORMAT = 1
SIDE = 96
"""Pixels of a thumbnail's longer side."""
MAPPED, MAPS = 48, 2
"""Images that token maps are chosen from, and maps at each end of a head's first pole."""
_CAPTIONS = ("label", "split")


def atlas(
    clip: HookedCLIP,
    store: HeadStore,
    folder: str | os.PathLike[str],
    *,
    task: ZeroShotTask | None = None,
    attribute: Attribute | None = None,
    bank: TextBank | None = None,
    splits: tuple[str, str] | None = None,
    compare: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a static site of a model's heads; open its index.html from the folder, or put it on any web host.

    Args:
        clip: the model.
        store: its head states of at least 20 images.
        folder: where to write. A build that was stopped goes on there, and ends with the same bytes; a finished one
            only gets what changed (`compare`).
        task: whose margin each head's part and ablation are measured on.
        attribute: whose share of each head's variance is shown.
        bank: texts to explain heads by; headlens' own by default.
        splits: (to explain on, to test labels on); random halves by default.
        compare: the folder of another finished atlas, of another model or of this one after a correction; a copy of its
            data comes into this site.

    Returns:
        The path of index.html.

    Raises:
        OutputError: for a folder that holds other files or another atlas, or a `compare` that is no finished atlas.
        StoreError: for a store of another model, or of fewer than 20 images.
    """
    store.check_model(clip)
    found = Measured(clip, store, AtlasQuestion(task, attribute, bank, splits))
    root, key = Path(folder), _key(found)
    other = None if compare is None else _finished(Path(compare))
    _claim(root, key)
    done = [head for head in found.heads if (root / "data" / f"{head}.js").is_file()]
    if len(done) < len(found.heads) or not (root / "data" / "index.js").is_file():
        pictures = _Pictures(found, root / "images")
        with progress("Writing the atlas", len(found.heads), "heads", done=len(done)) as advance:
            for head in found.heads:
                if not (root / "data" / f"{head}.js").is_file():
                    record = found.head(head)
                    record["captions"] = pictures.write(record["ends"])
                    record["maps"] = pictures.maps(head)
                    _write(root / "data" / f"{head}.js", _script(key, str(head), record))
                    advance(1)
        records = [_read(root / "data" / f"{head}.js")[2] for head in found.heads]
        _write(root / "data" / "index.js", _script(key, "index", _index(found, records, pictures.note(records))))
    _write(root / "data" / "compare.js", _script("", "compare", None if other is None else other[0]))
    shutil.rmtree(root / "compare", ignore_errors=True)
    if other is not None:
        for part in ("data", "images"):
            shutil.copytree(other[1] / part, root / "compare" / part)
    for name in ("app.js", "style.css", "index.html"):
        _write(root / name, files(__package__).joinpath("static", name).read_bytes())
    return root / "index.html"


class _Pictures:
    """Thumbnails and token maps, of images that are read when they are first needed."""

    def __init__(self, found: Measured, folder: Path):
        self.found, self.folder = found, folder
        frame = found.store.manifest
        self.names = [cell_text(path) or "" for path in frame["path"]]
        shown = [name for name in _CAPTIONS if name in frame.columns]
        self.cells = [[cell_text(cell) or "" for cell in row] for row in frame[shown].itertuples(index=False)]
        self.files = list(image_files(frame))
        self._maps: dict[HeadId, list[dict[str, Any]]] | None = None

    def note(self, records: list[dict[str, Any]]) -> str:
        """What could not be read, by what there is no thumbnail of."""
        rows = {row for one in records for pole in one["ends"] for end in pole for row, _ in end}
        missing = sum(not (self.folder / f"{row:07d}.jpg").is_file() for row in rows)
        return f"{missing} of the {len(rows)} images shown could not be read." if missing else ""

    def pixels(self, row: int) -> Float[Tensor, "channel height width"] | None:
        """An image as the model takes it; None where its file cannot be read."""
        try:
            return self.found.clip.preprocess(read_image(*self.files[row]))
        except (ImageError, ManifestError):
            return None

    def write(self, ends: list[Any]) -> dict[str, list[str]]:
        """Write the thumbnails of some rows, and return each row's caption: label, split, path."""
        rows = sorted({row for pole in ends for end in pole for row, _ in end})
        for row in rows:
            self.thumbnail(row)
        return {str(row): [*self.cells[row], self.names[row]] for row in rows}

    def thumbnail(self, row: int) -> None:
        path = self.folder / f"{row:07d}.jpg"
        if path.is_file() or (pixels := self.pixels(row)) is None:
            return
        picture = Image.fromarray(as_seen(self.found.clip, pixels))
        picture.thumbnail((SIDE, SIDE))
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=80, optimize=True)
        _write(path, encoded.getvalue())

    def maps(self, head: HeadId) -> list[dict[str, Any]]:
        """A head's maps along its first pole, on the images of a common few that lie furthest to both ends."""
        if self._maps is None:
            self._maps = dict(self._all_maps())
        return self._maps.get(head, [])

    def _all_maps(self) -> Iterator[tuple[HeadId, list[dict[str, Any]]]]:
        """One pass for each image, whatever the number of heads that are mapped on it."""
        found = self.found
        draw = np.random.default_rng([found.question.seed, 12]).permutation(len(found.store))[:MAPPED]
        few = torch.from_numpy(np.sort(draw))
        wanted: dict[int, list[HeadId]] = {}
        chosen: dict[HeadId, list[int]] = {}
        for head in found.heads:
            if found.poles(head):
                order = few[found.along(head)[few, 0].argsort(descending=True, stable=True)].tolist()
                chosen[head] = [*order[:MAPS], *order[-MAPS:]]
                for row in chosen[head]:
                    wanted.setdefault(row, []).append(head)
        drawn: dict[tuple[HeadId, int], dict[str, Any]] = {}
        vision = found.clip.vision
        with progress("Mapping tokens", len(wanted), "images") as advance:
            for row, heads in sorted(wanted.items()):
                if (pixels := self.pixels(row)) is not None:
                    self.thumbnail(row)
                    own = own_maps(vision, pixels.to(vision.device), {h: found.poles(h)[0].direction for h in heads})
                    for head, one in own.items():
                        caption = [*self.cells[row], self.names[row]]
                        drawn[head, row] = {"row": row, "caption": caption} | _packed(one.cpu().double().numpy())
                advance(1)
        for head, rows in chosen.items():
            yield head, [drawn[head, row] for row in rows if (head, row) in drawn]


def _packed(values: np.ndarray) -> dict[str, Any]:
    """A map as bytes: 127 times its value over its largest size, which stands beside; and the end of its own scale."""
    largest = float(np.abs(values).max()) or 1.0
    whole = np.rint(127 * values / largest).astype(np.int8)
    end = float(np.quantile(np.abs(values), 0.95)) or largest
    numbers = {"largest": float(f"{largest:.4g}"), "end": float(f"{end:.4g}")}
    return {"shape": list(values.shape), "values": base64.b64encode(whole.tobytes()).decode()} | numbers


# ---- the map and the search ------------------------------------------------------------------------------------------


def _index(found: Measured, records: list[dict[str, Any]], note: str) -> dict[str, Any]:
    store, question = found.store, found.question
    places: dict[str, int] = {}

    def place(text: str) -> int:
        return places.setdefault(text, len(places))

    heads = []
    for one in records:
        ends = [text for pole in one["poles"] for side in ("high", "low") for text in pole[side]]
        heads.append(
            {
                "id": one["head"], "label": one["label"], "clear": one["clear"], "ends": [place(t) for t in ends],
                "texts": [[place(text), share] for text, _, share in one["texts"]],
                "near": [[place(text), share] for text, _, share in one["near"]],
                "scores": [score(one) for _, _, score in _SCORES],
            }
        )  # fmt: skip
    category = dict(zip(found.bank.texts, found.bank.categories, strict=True))
    used = [i for i in range(len(_SCORES)) if any(head["scores"][i] is not None for head in heads)]
    for head in heads:
        head["scores"] = [head["scores"][i] for i in used]
    asked = question.attribute
    return {
        "model": store.model_name, "fingerprint": store.fingerprint, "layers": store.n_layers,
        "heads_a_layer": store.n_heads, "images": len(store), "explained_on": len(found.fit),
        "tested_on": len(found.test), "splits": question.splits, "bank": len(found.bank), "note": note,
        "labelled": sum(one["clear"] for one in records),
        "task": None if question.task is None else list(question.task.classes),
        "attribute": None if asked is None else {"name": asked.name, "values": dict(asked.values)},
        "scores": [_SCORES[i][:2] for i in used], "heads": heads,
        "texts": [[text, category.get(text, "")] for text in places],
    }  # fmt: skip


def _faithful(one: dict[str, Any]) -> float | None:
    return one["poles"][0]["faithful"]["rho"] if one["clear"] and one["poles"][0]["faithful"] else None


_SCORES: tuple[tuple[str, str, Any], ...] = (
    ("share of variance", "of the variance of all heads' contributions", lambda one: one["variance"]),
    ("faithfulness of the label", "rank correlation on held-out images; blank without a label", _faithful),
    ("first pole", "share of the head's own variance", lambda one: one["poles"][0]["share"] if one["poles"] else None),
    ("part of the margin", "mean contribution to class less other class",
     lambda one: one["task"] and one["task"]["part"]),
    ("predictions changed", "by mean ablation of this head", lambda one: one["task"] and one["task"]["changed"]),
    ("accuracy lost", "by mean ablation of this head; negative where accuracy rises",
     lambda one: round(one["task"]["accuracy"][0] - one["task"]["accuracy"][1], 6)
     if one["task"] and "accuracy" in one["task"] else None),
    ("attribute", "share of the head's variance along the attribute's texts",
     lambda one: one["attribute"] and one["attribute"]["share"]),
)  # fmt: skip


# ---- files -----------------------------------------------------------------------------------------------------------


def _key(found: Measured) -> str:
    """The name of this atlas: equal for the same model, images and question."""
    asked = found.question
    described = {
        "format": FORMAT, "model": found.store.fingerprint, "rows": found.store.rows.tolist(),
        "manifest": found.store.manifest_digest, "task": None if asked.task is None else asked.task.to_dict(),
        "attribute": None if asked.attribute is None else asked.attribute.to_dict(), "bank": found.bank.digest(),
        "splits": asked.splits, "seed": asked.seed,
    }  # fmt: skip
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def _claim(root: Path, key: str) -> None:
    """Make the folder this atlas's own. Raises `OutputError` where it is another's."""
    stamp = root / "data" / "atlas.json"
    if stamp.is_file():
        if json.loads(stamp.read_text(encoding="utf-8")).get("atlas") != key:
            raise OutputError(
                f"{str(root)!r} holds an atlas of another model, other images or another question.",
                "Name another folder, or remove this one.",
            )
        return
    partial = _partial(stamp)  # of a build that was killed before it had a name
    if root.exists() and (not root.is_dir() or any(path.is_file() and path != partial for path in root.rglob("*"))):
        raise OutputError(f"{str(root)!r} holds other files.", "Name a new or empty folder.")
    for part in ("data", "images"):
        (root / part).mkdir(parents=True, exist_ok=True)
    _write(stamp, (to_json({"atlas": key}) + "\n").encode())


def _finished(root: Path) -> tuple[str, Path]:
    if not (root / "data" / "index.js").is_file():
        raise OutputError(f"{str(root)!r} is no finished atlas.", "Build it first, and then name its folder here.")
    return _read(root / "data" / "index.js")[0], root


def _script(key: str, name: str, record: Any) -> bytes:
    # ASCII alone: U+2028 would end a line of a script.
    described = ", ".join(json.dumps(one, allow_nan=False, separators=(",", ":")) for one in (key, name, record))
    return f"headlensAtlas.add({described});\n".encode("ascii")


def _read(path: Path) -> list[Any]:
    text = path.read_text(encoding="ascii").removeprefix("headlensAtlas.add(").removesuffix(");\n")
    found: list[Any] = json.loads(f"[{text}]")
    return found


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a file that is there was finished."""
    partial = _partial(path)
    partial.write_bytes(content)
    partial.replace(path)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")
