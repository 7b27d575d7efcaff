"""Load a model of open_clip so that it computes what its weights were trained with, and say what that is.

Steps: find the weights and all that is said about them (the tag's record, the configuration of a folder or a hub, the
user's options, files beside the weights); settle nonlinearity and preprocessing from these, most explicit first; build
the architecture with open_clip; read the file as data and put each tensor in its place; describe the result.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any, NoReturn

import torch

from headlens.errors import ModelError, ModelWarning
from headlens.model_names import no_model
from headlens.models.checkpoints import CONFIGURATIONS, Checkpoint, explain_folder, read_checkpoint, weights_in
from headlens.models.clip import HookedCLIP
from headlens.models.description import SPELLED, LoadOptions, ModelDescription, Nonlinearity, Preprocessing
from headlens.models.families.layout import refusal
from headlens.models.hub import hub
from headlens.models.open_clip_import import open_clip
from headlens.models.state_dicts import Stretched, fit, fitting_architectures

RANDOM = "random"
RANDOM_SEED = 0
SCHEMES = ("hf-hub:", "local-dir:")
PRECISIONS = ("fp32", "fp16", "bf16", "pure_fp16", "pure_bf16")
_CONFIG = CONFIGURATIONS[0]
_PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")
_LOCAL_WAY = (
    "Without a network, fetch the checkpoint elsewhere and pass its file: "
    'hl.load("ViT-B-16", pretrained="/path/to/open_clip_model.safetensors", pretrained_tag="laion2b_s34b_b88k"), or a '
    'folder that holds open_clip_config.json and the weights: hl.load("/path/to/folder"). In a shell: '
    "--model ViT-B-16 --pretrained /path/to/open_clip_model.safetensors, or --model /path/to/folder."
)


@dataclass
class _Found:
    """A model before it is built: where its weights are, and who says what about them.

    Attributes:
        name: as open_clip names it.
        source: "tag", "file", "folder", "hub" or "random".
        config: open_clip's `model_cfg`.
        weights: the tag or the file, as it was given.
        path: the file of weights, where there is one.
        quick_gelu: what the weights were trained with, and who says so; None where nobody does.
        preprocessing: the same of each value of the preprocessing.
        said_by: who says the preprocessing.
        notes: sentences about what was switched.
        assumptions: sentences about what nobody says.
        doubts: those of them, and of the notes, that the user has to hear of at once.
    """

    name: str
    source: str
    config: dict[str, Any]
    weights: str | None = None
    path: Path | None = None
    checkpoint: Checkpoint | None = None
    quick_gelu: tuple[bool, str] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    said_by: str = ""
    notes: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    @property
    def file(self) -> str:
        return self.weights or self.name


def load_open_clip(
    name: str,
    pretrained: str | os.PathLike[str] | None = None,
    precision: str = "fp32",
    pretrained_tag: str | None = None,
    options: LoadOptions | None = None,
) -> HookedCLIP:
    """Load a model that open_clip can build; see `headlens.load` for the arguments and errors."""
    options = LoadOptions() if options is None else options
    if not isinstance(options, LoadOptions):
        raise ModelError(f"options is {options!r}, not a LoadOptions.", "Write options=hl.LoadOptions(mean=0.5).")
    if precision not in PRECISIONS:
        raise ModelError(f"There is no precision {precision!r}.", f"Choose one of {', '.join(PRECISIONS)}.")
    found = _find(name, pretrained, pretrained_tag)
    if pretrained_tag is not None:
        _stated_by_tag(found, pretrained_tag)
    # Google's own archives of SigLIP, which open_clip reads by itself.
    archive = found.path is not None and found.path.suffix == ".npz" and "timm_model_name" in found.config["vision_cfg"]
    if found.path is not None and not archive:
        found.checkpoint = found.checkpoint or _read(found)
    quick_gelu, nonlinearity_from = _settle_nonlinearity(found, options)
    preprocessing = _settle_preprocessing(found, options)
    with _explained(found), _hub_for(found, "hf_model_name"):
        model, preprocess = _build(found, quick_gelu, preprocessing, precision, options)
    stretched = _put_weights(found, model, options)
    tokenizer = None
    if found.checkpoint is None or not found.checkpoint.weights.vision_alone:
        # Last: some are fetched.
        with _explained(found, tokenizer=True), _quiet_root_logger(), _hub_for(found, "hf_tokenizer_name"):
            tokenizer = open_clip().get_tokenizer(found.name, context_length=options.context_length)
    else:
        found.assumptions.append(f"{found.file} holds a vision tower alone: what needs texts is refused.")
        found.doubts.append(found.assumptions[-1])
    clip = HookedCLIP.from_open_clip(model, preprocess, tokenizer, copy=False)
    clip.open_clip_config = found.config
    clip.description = ModelDescription(
        name=found.name,
        weights=found.weights,
        source=found.source,
        call=_call(name, pretrained, precision, pretrained_tag, options),
        nonlinearity=clip.description.nonlinearity,
        nonlinearity_from=nonlinearity_from,
        preprocessing=clip.description.preprocessing,
        preprocessing_from=found.said_by,
        positions=stretched.positions,
        context=stretched.context,
        notes=tuple(found.notes),
        assumptions=tuple(found.assumptions),
    )
    if found.doubts:
        warnings.warn(f"{clip.name}: {' '.join(found.doubts)}", ModelWarning, stacklevel=3)
    return clip


def _call(name: str, pretrained: object, precision: str, pretrained_tag: str | None, options: LoadOptions) -> str:
    parts = [json.dumps(name, ensure_ascii=False)]
    if pretrained is not None:
        parts.append(f"pretrained={json.dumps(os.fspath(pretrained), ensure_ascii=False)}")  # type: ignore[call-overload]
    if precision != "fp32":
        parts.append(f'precision="{precision}"')
    if pretrained_tag is not None:
        parts.append(f"pretrained_tag={json.dumps(pretrained_tag, ensure_ascii=False)}")
    if options != LoadOptions():
        parts.append(f"options={options.written()}")
    return f"hl.load({', '.join(parts)})"


def check_model_config(config: Mapping[str, Any], name: str) -> None:
    """Refuse an architecture by open_clip's own description of it, before anything is downloaded.

    Raises:
        ModelError: for a tower that has no decomposition by heads.
    """
    kind = config["vision_cfg"].get("timm_model_name", "")
    if (why := refusal(kind)) is not None:
        raise ModelError(
            f"{name} has no decomposition by heads: its vision tower is timm's {kind}, and {why}.",
            "Choose a vision transformer or a ResNet of OpenAI's; docs/models.md lists them.",
        )


# --- where the weights are -------------------------------------------------------------------------------------------


def _find(name: str, pretrained: str | os.PathLike[str] | None, pretrained_tag: str | None) -> _Found:
    if name.startswith(SCHEMES):
        if pretrained is not None:
            raise ModelError(
                f"{name} holds its own weights, and pretrained={os.fspath(pretrained)!r} was passed as well.",
                "Leave `pretrained` out.",
            )
        return _find_configured(name)
    checkpoint = None
    if pretrained is None and Path(name).is_file():
        checkpoint = read_checkpoint(Path(name))
        name, pretrained = _guess(checkpoint, pretrained_tag), name
    given, name = name, name.replace("/", "-")
    if name not in open_clip().list_models():
        raise no_model(given, open_clip().list_models())
    config = open_clip().get_model_config(name)
    check_model_config(config, name)
    if pretrained is None:
        raise ModelError(
            f"{name} is an architecture without weights.",
            f"{_listed_tags(name)}; a checkpoint file can be passed in place of a tag, "
            'pretrained="/path/to/file.safetensors", or "random" for untrained weights.',
        )
    pretrained = os.fspath(pretrained)
    if pretrained == RANDOM:
        return _Found(
            name, "random", config, RANDOM, notes=[f"The weights are untrained, drawn with seed {RANDOM_SEED}."]
        )
    if open_clip().pretrained.is_pretrained_cfg(name, pretrained):
        return _find_tag(name, config, pretrained)
    if not Path(pretrained).exists():
        raise ModelError(f"{name} has no weights {pretrained!r}: no tag and no file.", f"{_listed_tags(name)}.")
    return _Found(name, "file", config, pretrained, Path(pretrained), checkpoint)


def _find_configured(name: str) -> _Found:
    """A folder or a hub, which hold open_clip_config.json beside the weights."""
    scheme, _, where = name.partition(":")
    factory, source = open_clip().factory, "hub" if scheme == "hf-hub" else "folder"
    found = _Found(name, source, {})
    if source == "folder" and not (Path(where) / _CONFIG).is_file():
        if not Path(where).is_dir():
            raise ModelError(f"There is no folder {where}.", "Check the path.")
        explain_folder(Path(where))
    with _explained(found), _quiet_root_logger(), hub() if source == "hub" else nullcontext():
        fetch = factory.download_pretrained_from_hf
        path = Path(fetch(where, filename=_CONFIG) if source == "hub" else Path(where) / _CONFIG)
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or not {"vision_cfg", "text_cfg"} <= (config.get("model_cfg") or {}).keys():
            raise ModelError(
                f"{path} does not describe a model: it has no entry 'model_cfg' with both towers.",
                "Fetch the whole folder again from its hub.",
            )
        found.config = config["model_cfg"]
        check_model_config(found.config, name)
        found.path = Path(fetch(where)) if source == "hub" else weights_in(Path(where))
    said = f"{_CONFIG} of the {source}"
    found.quick_gelu = (bool(found.config.get("quick_gelu")), said)
    stated = LoadOptions(**_values(config.get("preprocess_cfg") or {}))
    found.preprocessing, found.said_by = stated.preprocessing(), said
    return found


def _find_tag(name: str, config: dict[str, Any], tag: str) -> _Found:
    record = open_clip().pretrained.get_pretrained_cfg(name, tag)
    found = _Found(name, "tag", config, tag)
    with _explained(found), _quiet_root_logger(), hub() if record.get("hf_hub") else nullcontext():
        path = open_clip().factory.download_pretrained(record)
    found.path = Path(path)
    _said_by_record(found, name, tag)
    return found


def _said_by_record(found: _Found, name: str, tag: str) -> None:
    """Take over what open_clip's record of an architecture's tag says."""
    record, said = open_clip().pretrained.get_pretrained_cfg(name, tag), f"open_clip's record of {tag}"
    # A record that is silent about QuickGELU means none, except under an architecture that is configured with it.
    if "quick_gelu" in record or not (open_clip().get_model_config(name) or {}).get("quick_gelu"):
        found.quick_gelu = (bool(record.get("quick_gelu")), said)
    found.preprocessing = {name: record[name] for name in _PREPROCESSING if name in record}
    found.said_by = said


def _stated_by_tag(found: _Found, tag: str) -> None:
    """What the user states: these weights stem from a tag of this architecture."""
    if found.source != "file":
        raise ModelError(
            f"pretrained_tag={tag!r} states where a file comes from, and {found.file} is no file.",
            "Pass the tag as pretrained=, without pretrained_tag."
            if found.source in ("tag", "random")
            else "Leave it out; options=hl.LoadOptions(…) changes what the configuration says.",
        )
    for name in _siblings(found.name):
        if open_clip().pretrained.is_pretrained_cfg(name, tag):
            _said_by_record(found, name, tag)
            found.said_by = f"{found.said_by}, which pretrained_tag names"
            if found.quick_gelu is not None:
                found.quick_gelu = (found.quick_gelu[0], found.said_by)
            return
    raise ModelError(f"There is no tag {tag!r} of {found.name}.", f"{_listed_tags(found.name)}.")


def _siblings(name: str) -> list[str]:
    """An architecture, and the one that differs from it by its nonlinearity alone."""
    other = name.removesuffix("-quickgelu") if name.endswith("-quickgelu") else f"{name}-quickgelu"
    return [name, other]


def _records(name: str) -> dict[str, Mapping[str, Any]]:
    """What open_clip records of every tag of an architecture and its sibling."""
    pretrained = open_clip().pretrained
    return {
        tag: pretrained.get_pretrained_cfg(one, tag)
        for one in _siblings(name)
        for tag in open_clip().list_pretrained_tags_by_model(one)
    }


def _listed_tags(name: str) -> str:
    tags = open_clip().list_pretrained_tags_by_model(name)
    return f"Known tags of {name} are {', '.join(tags)}" if tags else f"open_clip knows no weights for {name}"


def _guess(checkpoint: Checkpoint, tag: str | None) -> str:
    """The one architecture of open_clip that a checkpoint's shapes belong to; of those with a tag, if one is named."""
    matching = fitting_architectures(checkpoint.weights)
    if tag is not None:
        matching = [name for name in matching if open_clip().pretrained.is_pretrained_cfg(name, tag)]
        # Of an architecture and its sibling either will do: the tag says which nonlinearity is meant.
        matching = [name for name in matching if name.removesuffix("-quickgelu") not in matching or name == matching[0]]
    if len(matching) == 1:
        return matching[0]
    fits = f"several architectures: {', '.join(matching)}" if matching else "none that open_clip lists"
    remedy = 'Name the architecture: hl.load("ViT-B-16", pretrained="/path/to/checkpoint.safetensors").'
    folder = checkpoint.path.parent
    if any((folder / name).is_file() for name in CONFIGURATIONS):
        remedy = f"Its folder holds a configuration: load that, hl.load({str(folder)!r})."
    raise ModelError(f"The shapes of {checkpoint.path} fit {fits}.", remedy)


def _read(found: _Found) -> Checkpoint:
    assert found.path is not None
    try:
        return read_checkpoint(found.path)
    except ModelError as error:
        if found.source in ("tag", "hub"):
            raise ModelError(
                error.problem, f"Delete it and load again: it is fetched anew. ({error.remedy})"
            ) from error
        raise


# --- what they were trained with -------------------------------------------------------------------------------------


def _spelled(quick: bool) -> str:
    kind: Nonlinearity = "quick_gelu" if quick else "gelu"
    return SPELLED[kind]


def _settle_nonlinearity(found: _Found, options: LoadOptions) -> tuple[bool, str]:
    """Whether QuickGELU is used, and who says so."""
    configured = bool(found.config.get("quick_gelu"))
    by_file = None if found.checkpoint is None else found.checkpoint.nonlinearity
    if options.nonlinearity is not None:
        quick, said = options.nonlinearity == "quick_gelu", "the options passed to load"
    elif found.quick_gelu is not None:
        quick, said = found.quick_gelu
    elif by_file is not None:
        quick, said = by_file[0] == "quick_gelu", by_file[1]
    else:
        return configured, _assume_nonlinearity(found, configured)
    if quick != configured and "timm_model_name" not in found.config["vision_cfg"]:
        found.notes.append(
            f"{found.name} is configured with {_spelled(configured)}, but {found.file} was trained with "
            f"{_spelled(quick)} (from {said}): {_spelled(quick)} is used."
        )
        found.doubts.append(found.notes[-1])
    return quick, said


def _assume_nonlinearity(found: _Found, configured: bool) -> str:
    said = f"the configuration of {found.name}"
    if found.source == "random" or "timm_model_name" in found.config["vision_cfg"]:
        return said
    used, other = _spelled(configured), _spelled(not configured)
    if found.source == "tag":
        sentence = (
            f"open_clip's record of {found.weights} does not say which nonlinearity it was trained with; the "
            f"configuration of {found.name}, with which it was released, says {used}, which is used."
        )
        found.doubts.append(sentence)
    else:
        sentence = (
            f"{found.file} does not say which nonlinearity it was trained with: {used} is assumed, as {found.name} is "
            "configured."
        )
        differing = [tag for tag, one in _records(found.name).items() if bool(one.get("quick_gelu")) != configured]
        if differing or any(one in open_clip().list_models() for one in _siblings(found.name)[1:]):
            stem = ", ".join(differing) or "OpenAI's, DFN's or MetaCLIP's weights"
            sentence += (
                f" A checkpoint that stems from {stem} needs {other}: say so with pretrained_tag=, or with "
                f"options=hl.LoadOptions(nonlinearity={'gelu' if configured else 'quick_gelu'!r})."
            )
            found.doubts.append(sentence)
    found.assumptions.append(sentence)
    return f"{said}, assumed"


def _settle_preprocessing(found: _Found, options: LoadOptions) -> dict[str, Any]:
    """Mean, standard deviation, interpolation and resize mode, and in `found.said_by` who says them."""
    stated, said = _values(found.preprocessing), [found.said_by]
    if not stated:
        beside = None if found.checkpoint is None else found.checkpoint.preprocessing
        stated, said = ({}, []) if beside is None else (_values(beside[0]), [beside[1]])
    if chosen := options.preprocessing():
        stated |= chosen
        said = ["the options passed to load", *(said if set(stated) - set(chosen) else [])]
    usual = _values(asdict(open_clip().transform.PreprocessCfg()))
    records = _records(found.name) if found.source in ("file", "random") else {}
    known = {tag: usual | _values(record) for tag, record in records.items()}
    first = next(iter(known.values()), None)
    agreed = first is not None and all(one == first for one in known.values())
    result = (first if first is not None and agreed else usual) | stated
    missing = [name for name in _PREPROCESSING if name not in stated]
    if missing and found.source != "tag":
        who = f"all known weights of {found.name}" if agreed else "open_clip's usual values"
        said.append(f"{who}, assumed")
        if found.source != "random":
            others = {tag: one for tag, one in known.items() if any(one[name] != result[name] for name in missing)}
            unusual = any(result[name] != usual[name] for name in missing)
            _assume_preprocessing(found, missing, who, result, others, unusual)
    found.said_by = " and ".join(said) or "open_clip's usual values"
    return result


def _values(said: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the preprocessing, with lists as tuples, as which they compare."""
    stated = {name: said[name] for name in _PREPROCESSING if name in said}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in stated.items()}


def _assume_preprocessing(
    found: _Found,
    missing: list[str],
    who: str,
    result: Mapping[str, Any],
    others: Mapping[str, Mapping[str, Any]],
    unusual: bool,
) -> None:
    what = "its preprocessing" if len(missing) == len(_PREPROCESSING) else f"all of its preprocessing ({missing})"
    sentence = f"{found.file} does not say {what}: {who} are assumed ({_written(result)})."
    if others:
        tag, theirs = next(iter(others.items()))
        more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
        sentence += (
            f" Weights that stem from {tag}{more} need another preprocessing ({_written(theirs)}): say so with "
            "pretrained_tag=, or with options=hl.LoadOptions(mean=…, std=…)."
        )
    silent = bool({"mean", "std"} & set(missing)) and found.source in ("folder", "hub")
    if others or unusual or silent:
        found.doubts.append(sentence)
    found.assumptions.append(sentence)


def _written(values: Mapping[str, Any]) -> str:
    return Preprocessing.of_config({**values, "size": 0}).values()


# --- building --------------------------------------------------------------------------------------------------------


def _build(
    found: _Found, quick_gelu: bool, preprocessing: Mapping[str, Any], precision: str, options: LoadOptions
) -> tuple[Any, Any]:
    """The model without its weights and its validation transform, made by open_clip."""
    further: dict[str, Any] = {"quick_gelu": quick_gelu}
    weights = found.checkpoint.weights if found.checkpoint is not None else None
    if weights is not None and "logit_bias" in weights.tensors and found.config.get("init_logit_bias") is None:
        further["init_logit_bias"] = 0.0  # open_clip gives a model this parameter only where its configuration does
        found.notes.append(f"{found.file} has a trained logit_bias, which was kept.")
    size = options.image_size or found.config["vision_cfg"].get("image_size")
    patch = found.config["vision_cfg"].get("patch_size") or 1
    if options.image_size is not None and min(size if isinstance(size, list | tuple) else (size,)) < patch:
        raise ModelError(f"image_size={size} is less than a patch of {patch} pixels.", "Choose a larger one.")
    with _quiet_root_logger(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)  # what is random about untrained weights is the same every time
        model, _, preprocess = open_clip().create_model_and_transforms(
            found.name,
            None,
            load_weights=False,
            precision=precision,
            # JSON has lists for pairs; in a transform's repr, and so in the fingerprint, they are not the same.
            force_image_size=tuple(size) if isinstance(size, list) else options.image_size,
            force_context_length=options.context_length,
            image_mean=preprocessing["mean"],
            image_std=preprocessing["std"],
            image_interpolation=preprocessing["interpolation"],
            image_resize_mode=preprocessing["resize_mode"],
            pretrained_text=False,
            **further,
        )
        decoder: Any = getattr(model, "text_decoder", None)
        if found.source == "random" and getattr(decoder, "text_projection", None) is not None:
            torch.nn.init.normal_(decoder.text_projection, std=0.02)  # open_clip leaves CoCa's as memory was found
    vision, text = ({**found.config[key]} for key in ("vision_cfg", "text_cfg"))
    if options.image_size is not None:
        vision["image_size"] = options.image_size
    if options.context_length is not None:
        text["context_length"] = options.context_length
    found.config = {**found.config, **further, "vision_cfg": vision, "text_cfg": text}
    return model, preprocess


def _put_weights(found: _Found, model: Any, options: LoadOptions) -> Stretched:
    if found.path is None:
        return Stretched()
    if found.checkpoint is None:
        with _explained(found), _quiet_root_logger():  # NumPy files of big_vision, which open_clip converts
            open_clip().factory.load_checkpoint(model, str(found.path))
        return Stretched()
    chosen = options.stretch_positions or options.image_size is not None or options.context_length is not None
    allowed = chosen or found.source in ("tag", "hub", "folder")
    with _quiet_root_logger():
        stretched, weights = fit(model, found.checkpoint.weights, found.name, allowed)
    found.notes += weights.notes
    found.doubts += weights.notes
    for what, change in (("position embeddings", stretched.positions), ("text position embeddings", stretched.context)):
        if change != "as trained":
            found.notes.append(f"The {what} of {found.file} were {change}.")
            found.doubts.append(found.notes[-1])
    return stretched


def _hub_for(found: _Found, part: str) -> AbstractContextManager[None]:
    """The hub, for a model of it or a part of the text side that comes from there; a folder has its tokenizer in it."""
    inside = found.source == "folder" and part == "hf_tokenizer_name"
    return hub() if found.source == "hub" or (found.config["text_cfg"].get(part) and not inside) else nullcontext()


@contextmanager
def _explained(found: _Found, tokenizer: bool = False) -> Iterator[None]:
    """Raise what open_clip meets as an error that says what to do."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        _explain(error, found, tokenizer)


def _explain(error: Exception, found: _Found, tokenizer: bool) -> NoReturn:
    said = str(error).strip()
    first = shorten(said.splitlines()[0] if said else type(error).__name__, 300, placeholder=" …").rstrip(".")
    if found.source == "folder":
        raise ModelError(
            f"The folder {found.name.removeprefix('local-dir:')} cannot be loaded: {first}.",
            "A folder is written by clip.save or open_clip.push_to_hf_hub, or downloaded from a hub as a whole.",
        ) from error
    if tokenizer:
        raise ModelError(
            f"The tokenizer of {found.name} is not at hand and cannot be fetched: {first}.",
            "Load it once with a network; a folder that clip.save wrote there holds it for use elsewhere.",
        ) from error
    text = found.config.get("text_cfg", {}).get("hf_model_name")
    raise ModelError(
        f"{found.name}{f' ({found.weights})' if found.weights else ''} is not at hand and cannot be fetched or built: "
        f"{first}.",
        _LOCAL_WAY
        if text is None
        else f"Its text tower is built from {text} of the hub: load it once with a network, or bring the hub's cache "
        "from a machine where it was loaded.",
    ) from error


@contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Keep open_clip's calls of the root logger from installing a handler, and from warning of random weights."""

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return "open_clip" not in Path(record.pathname).parts

    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(from_elsewhere)
    try:
        yield
    finally:
        root.removeFilter(from_elsewhere)
        root.removeHandler(handler)
