"""The commands beside the audit: filling a store, the benchmark, and what is installed."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from headlens._version import __version__
from headlens.cli.app import app, show_facts
from headlens.cli.options import (
    EXTRACTION,
    FOLDER,
    JSON,
    MODEL,
    Typed,
    WholeNumber,
    arguments,
    check_known,
    command,
    head_names,
    listed,
    of_call,
    option,
    out,
)
from headlens.errors import CorrectionError, ModelWarning, StoreError, TaskError

if TYPE_CHECKING:
    from headlens.prompts import ZeroShotTask

SUITES = ("testbed", "waterbirds", "celeba", "counteranimal", "counteranimal-imagenet", "genderbias-vl", "fairface")
_PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
    "timm",
    "transformers",
    "transformer_lens",
    "einops",
    "jaxtyping",
    "plotly",
    "zarr",
    "pandas",
    "fairlearn",
    "scipy",
    "safetensors",
)


@command(
    app,
    "extract",
    MODEL,
    option("--data -d", "CSV with a column path: a file, or an address (s3://…).", "Data", required=True),
    option("--out -o", "The store to fill, such as acts.zarr, or its address.", "Output", required=True),
    EXTRACTION,
    option(
        "--dtype",
        "Number format of what is kept.",
        "Output",
        type=click.Choice(["float32", "float16", "bfloat16", "float64"]),
        default="float32",
    ),
    option("--moments", "Keep moments alone: constant space.", "Output", is_flag=True),
    option("--groups", "With --moments: columns to keep them by, separated by commas.", "Output", default=""),
    option(
        "--engine",
        "This process, or the actors of a Ray cluster.",
        "Method",
        type=click.Choice(["local", "ray"]),
        default="local",
    ),
    option("--address", "Of a running Ray cluster, or auto.", "Method"),
    option("--devices", "That share the work, on this machine: cuda:0,cuda:1.", "Method", default=""),
    option("--workers", "Threads that read images; with Ray, actors.", "Method", type=WholeNumber(1)),
    option("--shard", "K/N: write the K-th of N shares, counted from 0, beside N - 1 other processes.", "Method"),
    JSON,
    example="headlens extract --model ViT-B-16 --pretrained laion2b_s34b_b88k --data birds.csv --out birds.zarr",
)
def extract(typed: Typed) -> None:
    """Fill a store with the head states of a data set; a run that was stopped goes on where it stopped."""
    from headlens.cli.inputs import load_model
    from headlens.manifest import read_manifest

    if typed["model"] is None:
        raise TaskError("There is no --model.", "Name an open_clip model, a checkpoint, or testbed.")
    for alone, name, needed in (
        (typed["groups"] and not typed["moments"], "--groups", "--moments"),
        (typed["address"] and typed["engine"] != "ray", "--address", "--engine ray"),
        (typed["devices"] and typed["engine"] == "ray", "--devices", "--engine local; with Ray an actor takes one GPU"),
        (typed["moments"] and typed["dtype"] != "float32", "--dtype", "no --moments, which are added up in float64"),
    ):
        if alone:
            raise StoreError(f"{name} needs {needed}.", f"Add that, or leave out {name}.")
    shard = None if typed["shard"] is None else _shard(typed["shard"])
    manifest = read_manifest(typed["data"])

    from headlens.extraction import Devices, Ray, extract_moments
    from headlens.extraction import extract as fill

    how: dict[str, Any] = {name: typed[name] for name in ("batch_size", "on_error", "workers")} | {"shard": shard}
    if typed["engine"] == "ray":
        how |= {"engine": Ray(typed["address"], typed["workers"]), "workers": None}
    elif typed["devices"]:
        how["engine"] = Devices(listed(typed["devices"]))
    clip = load_model(typed)
    store: Any
    if typed["moments"]:
        store = extract_moments(clip, manifest, typed["out"], listed(typed["groups"]), **how)
    else:
        store = fill(clip, manifest, typed["out"], dtype=typed["dtype"], **how)
    if store is None:
        show_facts({"store": typed["out"], "shard": typed["shard"], "complete": False}, as_json=typed["as_json"])
        return
    facts = {
        "store": typed["out"],
        "images": len(store),
        "skipped": len(store.skipped),
        "layers": store.n_layers,
        "heads": store.n_heads,
        "model": store.model_name,
        "fingerprint": store.fingerprint,
    }
    if typed["moments"]:
        facts["groups"] = len(store.cells)
    show_facts(facts, as_json=typed["as_json"])


@command(
    app,
    "benchmark",
    (click.RichArgument(["suite"]),),
    option("--root", "The data set's folder; testbed draws its own images.", "Data", type=click.Path(path_type=Path)),
    MODEL,
    option("--methods", "Methods, separated by commas; all that are registered.", "Method"),
    option(
        "--heads-from",
        "Use heads located elsewhere: the --out folder of another benchmark of this model, a saved audit, a "
        "located.json, or heads written as L10H10,L11H3.",
        "Method",
    ),
    of_call("evaluate", ["n_random_sets", "n_bootstrap", "n_null"]),
    option(
        "--store", "Where head states are kept; by default OUT/store.zarr.", "Data", type=click.Path(path_type=Path)
    ),
    EXTRACTION,
    option("--seed", "Of every random draw.", "Data", type=int, default=0),
    out("benchmark"),
    JSON,
    example="headlens benchmark testbed",
)
def benchmark(typed: Typed) -> None:
    """Score every method on a data set: one table, in five forms and with figures, beside published numbers.

    SUITE is testbed, waterbirds, celeba, counteranimal, counteranimal-imagenet, genderbias-vl or fairface. Everything
    is written to --out: the table (Markdown, CSV, JSON, LaTeX), further measures, the located heads, and a report. A
    run that was stopped goes on where it stopped. `headlens benchmark testbed` needs no data.
    """
    if typed["suite"] not in SUITES:
        raise TaskError(f"one of the suites {', '.join(SUITES)}", repr(typed["suite"]), "Choose one of these.")
    check_known("method", listed(typed["methods"] or ""))
    if typed["root"] is None and typed["suite"] != "testbed":
        raise TaskError("The folder of the data set is missing.", "Write --root FOLDER; nothing is downloaded.")
    from headlens.benchmark.shell import run_benchmark

    run_benchmark(typed.values, arguments(typed, "evaluate"))


@command(
    app,
    "atlas",
    FOLDER,
    MODEL,
    option("--data -d", "CSV with a column path; with label and --classes, heads are measured on that task.", "Data"),
    option("--store", "Where head states are kept; by default OUT.zarr. With one, --data may be left out.", "Data"),
    option("--classes", "Class names as in the label column, separated by commas; or a file, one a line.", "Data"),
    option("--template", "Prompt with {} for the class; may be repeated.", "Data", multiple=True),
    option("--attribute -a", "NAME:VALUE=PROMPT,VALUE=PROMPT; or a YAML file.", "Data"),
    option("--bank", "Texts to explain heads by: TXT, CSV (text,category) or JSONL.", "Data"),
    option(
        "--split", "EXPLAIN,TEST: the splits to explain on and to test labels on; random halves by default.", "Data"
    ),
    EXTRACTION,
    option(
        "--compare",
        "The folder of another finished atlas, to stand beside this one.",
        "Output",
        type=click.Path(path_type=Path),
    ),
    out("atlas"),
    JSON,
    example="headlens atlas --model testbed --data images.csv --out atlas/",
)
def write_atlas(typed: Typed) -> None:
    """Write a static site of all heads, a page a head: what each encodes, how well that predicts it, what it does.

    It opens from the folder and asks no server for anything. A build that was stopped goes on where it stopped. With a
    saved audit's FOLDER, its model, store, task and attribute are taken where none are named.
    """
    from headlens.cli.inputs import load_model, manifest_of, saved_audit, two_splits
    from headlens.extraction import HeadStore
    from headlens.extraction import extract as fill
    from headlens.head_atlas import atlas
    from headlens.manifest import parse_attribute, read_manifest
    from headlens.prompts import Attribute, load_bank

    _folder_alone(typed, "data", "store")
    if typed["data"] is None and typed["store"] is None and typed["folder"] is None:
        raise StoreError("There are no images.", "Name --data, an earlier run's --store, or a saved audit's folder.")
    manifest = None if typed["data"] is None else read_manifest(typed["data"])
    place = typed["store"] or f"{typed['out']}.zarr"
    task = attribute = None
    if typed["folder"] is not None:
        one = saved_audit(typed, typed["folder"])
        clip, store, task, attribute = one.clip, one.store, one.task, one.attribute
        assert clip is not None
    else:
        if manifest is None and typed["classes"] is not None:
            manifest_of(place)
        clip = load_model(typed)
        if manifest is None:
            store = HeadStore.open(place, clip)
        else:
            store = fill(clip, manifest, place, batch_size=typed["batch_size"], on_error=typed["on_error"])
    task = _task(typed, task)
    if typed["attribute"] is not None:
        name, values = parse_attribute(typed["attribute"], store.manifest)
        attribute = Attribute(name, dict(values))
    page = atlas(
        clip, store, typed["out"], task=task, attribute=attribute,
        bank=None if typed["bank"] is None else load_bank(typed["bank"]),
        splits=None if typed["split"] is None else two_splits(typed["split"]), compare=typed["compare"],
    )  # fmt: skip
    show_facts(
        {"page": str(page), "heads": store.n_layers * store.n_heads, "images": len(store)}, as_json=typed["as_json"]
    )


@command(
    app,
    "bake",
    FOLDER,
    MODEL,
    option("--store", "A store of this model, whose image files give the means.", "Data"),
    option("--heads", "Heads to ablate, such as L10H10,L11H3.", "Method", required=True),
    option("--classes", "Class names as in the label column, separated by commas.", "Data"),
    option("--template", "Prompt with {} for the class; may be repeated.", "Data", multiple=True),
    option("--attribute -a", "Column that makes groups with the label.", "Data"),
    out("baked"),
    JSON,
    example="headlens bake --model testbed --store acts.zarr --heads L2H1 --out baked",
)
def bake_heads(typed: Typed) -> None:
    """Write the mean ablation of heads into the weights: a folder that open_clip loads, and how far it is from the
    direct edit.

    With a saved audit's FOLDER, its model, store, classes and attribute are taken where none are named.
    """
    heads = head_names(typed["heads"])
    _folder_alone(typed, "store")
    if typed["store"] is None and typed["folder"] is None:
        raise StoreError("There are no images.", "Name the --store of an earlier run, or a saved audit's folder.")
    from headlens.baking import bake, baking_distance
    from headlens.cli.inputs import load_model, saved_audit
    from headlens.extraction import HeadStore

    task, attribute = None, typed["attribute"]
    if typed["folder"] is not None:
        one = saved_audit(typed, typed["folder"])
        clip, store, task = one.clip, one.store, one.task
        assert clip is not None
        attribute = attribute or (None if one.data.inferred else one.attribute.name)
    else:
        clip = load_model(typed)
        store = HeadStore.open(typed["store"], clip)
    task = _task(typed, task)
    rows = None if task is None else task.classifier(clip.encode_text)
    baked = bake(clip, heads, store)
    classes = [] if task is None else list(task.classes)
    found = baking_distance(clip, baked, heads, store, rows, classes, attribute)
    folder = baked.save(typed["out"], found.card(heads))
    show_facts({"folder": str(folder), "heads": ", ".join(heads)} | found.facts(), as_json=typed["as_json"])


@command(
    app,
    "embed",
    MODEL,
    option("--correction", "A folder that a correction was saved to.", "Method", required=True),
    option("--data -d", "CSV with a column path.", "Data", required=True),
    option("--out -o", "embeddings.parquet or embeddings.npy.", "Output", required=True),
    option("--batch-size", "Images that go through the model at once.", "Data", type=WholeNumber(1), default=64),
    JSON,
    example="headlens embed --model testbed --correction ltc/ --data images.csv --out embeddings.parquet",
)
def embed(typed: Typed) -> None:
    """Write plain and corrected embeddings of images; a run that was stopped goes on where it stopped."""
    from headlens.cli.inputs import load_model
    from headlens.manifest import read_manifest

    manifest = read_manifest(typed["data"])
    if not (Path(typed["correction"]) / "correction.json").is_file():
        beside = [str(one.parent) for one in sorted(Path(typed["correction"]).parent.glob("*/correction.json"))]
        raise CorrectionError(
            f"There is no saved correction in {typed['correction']}.",
            f"There are {', '.join(beside[:6])}."
            if beside
            else "Name a folder that `headlens correct` printed, such as audit/corrections/ltc-….",
        )

    from headlens.correct import load_correction
    from headlens.embedding import embed_images

    correction = load_correction(typed["correction"])
    path = embed_images(load_model(typed), correction, manifest, typed["out"], typed["batch_size"])
    show_facts({"embeddings": str(path), "images": len(manifest)}, as_json=typed["as_json"])


@command(
    app,
    "doctor",
    (click.RichArgument(["model"], required=False),),
    tuple(one for one in MODEL if one.name in ("pretrained", "pretrained_tag", "device")),
    JSON,
    example="headlens doctor ViT-B-16 --pretrained openai",
)
def doctor(typed: Typed) -> None:
    """Print versions and devices; of a model, what decides its numbers, and how exactly its conversion agrees."""
    import torch

    as_json = typed["as_json"]
    facts: dict[str, object] = {"headlens": __version__, "python": platform.python_version()}
    facts |= {package: _installed(package) for package in _PACKAGES}
    facts["cpu threads"] = torch.get_num_threads()
    facts["devices"] = ["cpu"] + [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if typed["model"] is None:
        from headlens.benchmark import SUITES
        from headlens.datasets import available
        from headlens.steps import LOCATORS, METHODS

        names: dict[str, Collection[str]] = {
            "locators": LOCATORS,
            "methods": METHODS,
            "data sets": available(),
            "benchmark suites": SUITES,
        }
        facts |= {what: list(known) if as_json else ", ".join(known) for what, known in names.items()}
    else:
        from headlens.loading import load
        from headlens.models import parity

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ModelWarning)  # the description says all of it
            clip = load(
                typed["model"],
                pretrained=typed["pretrained"],
                device=typed["device"],
                pretrained_tag=typed["pretrained_tag"],
            )
        found = parity(clip)
        facts |= {"model": clip.name} | clip.description.facts()
        if as_json:
            facts["description"] = clip.description.as_dict()
        facts |= {"fingerprint": clip.fingerprint, "images compared": found.images}
        facts["parity"] = "passed" if found.passed else "FAILED"
        rows = found.table().to_dict(orient="records")
        facts["report"] = rows if as_json else found.table().to_string(index=False)
    show_facts(facts, as_json=as_json)


def _task(typed: Typed, saved: ZeroShotTask | None) -> ZeroShotTask | None:
    """The task that was typed, with what was not typed from a saved audit's; None where there is none."""
    from headlens.cli.inputs import class_names
    from headlens.prompts import ZeroShotTask

    if typed["classes"] is None and saved is None:
        return None
    classes = saved.classes if typed["classes"] is None and saved else class_names(typed["classes"])
    templates = saved.templates if saved else ("a photo of a {}",)
    return ZeroShotTask(classes, typed["template"] or templates)


def _folder_alone(typed: Typed, *others: str) -> None:
    """Raise `TaskError` where a saved audit's folder was named, and what it knows as well."""
    if typed["folder"] is not None and (beside := [f"--{name}" for name in others if typed[name] is not None]):
        raise TaskError(
            f"Both the folder {typed['folder']} and {', '.join(beside)} were named.",
            "Leave one out: the folder knows its store.",
        )


def _shard(text: str) -> tuple[int, int]:
    k, slash, n = text.partition("/")
    if not slash or not k.strip().isdecimal() or not n.strip().isdecimal():
        raise StoreError(f"--shard {text!r} is not written as K/N.", "For the first of four shares write --shard 0/4.")
    return int(k), int(n)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
