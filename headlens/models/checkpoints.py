"""Read a checkpoint file as data, without executing anything in it; and where that cannot be, name what the file is.

Files are recognised by their content, not by their suffix. PyTorch's own reader runs with `weights_only=True` always.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from headlens.cells import other_kind
from headlens.errors import ModelError
from headlens.models.description import INTERPOLATIONS, Nonlinearity, Preprocessing
from headlens.models.state_dicts import LOADED, Weights, one_table, read_weights, tables
from headlens.models.torchscript import BROKEN_ZIP, read_torchscript
from headlens.models.transformers_clip import is_folder

_AGAIN = "Fetch it again."
#: What a folder of open_clip, and one of transformers, describes its model in.
CONFIGURATIONS = ("open_clip_config.json", "config.json")
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")
# The names of weights in a folder that open_clip prefers, in its order.
_USUAL = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    *("open_clip_pytorch_model.pth", "model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth"),
)
_INSIDE = ("*", "*/*", "*/snapshots/*")  # where models are in a run's folders and in a hub's cache
# What files of other kinds begin with, beside those of `other_kind`: what they are, and the line that helps.
_OTHER_KINDS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89hdf", "an HDF5 file, as Keras and TensorFlow write", "Fetch the PyTorch weights of the model."),
    (b"gguf", "a GGUF file", "Fetch the PyTorch weights of the model."),
    (b"\xfd7zxz", "compressed with xz", "Unpack it: xz -d, or tar xJf."),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "Unpack it: zstd -d."),
    (b"7z\xbc\xaf", "a 7-Zip archive", "Unpack it."),
    (b"rar!", "a RAR archive", "Unpack it."),
    (b"bzh", "compressed with bzip2", "Unpack it: bzip2 -d, or tar xjf."),
    (b"\x08", "no PyTorch or safetensors file; it begins as ONNX files do", "Fetch the PyTorch weights of the model."),
)
_LONGEST_HEADER = 100_000_000  # of a safetensors file; longer ones are not read by its own library
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # what torch.save wrote before its zip format


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds, and what it or the files beside it say about how the weights were trained.

    Attributes:
        path: the file.
        weights: its tensors.
        nonlinearity: where it is stated, with the file that states it.
        preprocessing: the same, under open_clip's names.
    """

    path: Path
    weights: Weights
    nonlinearity: tuple[Nonlinearity, str] | None = None
    preprocessing: tuple[dict[str, Any], str] | None = None


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of weights: safetensors, PyTorch's formats, TorchScript archives, or an index of parts.

    Raises:
        ModelError: for a file that is missing, damaged, incomplete or of another kind, or that could be read only by
            executing what is in it.
    """
    content, nonlinearity = _content(path)
    weights = read_weights(content, str(path))
    stated, preprocessing = _said_beside(path, weights)
    return Checkpoint(path, weights, nonlinearity or stated, preprocessing)


def tensors_of(checkpoint: Any, within: str = "") -> dict[str, torch.Tensor]:
    """The weights of one model inside a checkpoint, to be written to a file of their own.

    Args:
        checkpoint: a file, which is read as data; a model; or what was loaded from a file that holds more than data,
            and whose source you trust: `torch.load("run.pt", map_location="cpu", weights_only=False)`.
        within: the table ("state_dict_ema") or the beginning of the names ("student.") that is meant, where there are
            several models.

    Raises:
        ModelError: for a checkpoint without the weights of a model, or with those of several.
    """
    origin = LOADED
    if isinstance(checkpoint, str | os.PathLike):
        origin = os.fspath(checkpoint)
        checkpoint = _content(Path(checkpoint))[0]
    elif isinstance(checkpoint, torch.nn.Module):
        checkpoint = checkpoint.state_dict()
    if within:
        found = dict(tables(checkpoint))
        flat = {name: tensor for table in found.values() for name, tensor in table.items() if name.startswith(within)}
        checkpoint = found.get(within, flat)
    return one_table(checkpoint, origin)


def _content(path: Path) -> tuple[Any, tuple[Nonlinearity, str] | None]:
    """What a file holds, and the nonlinearity that a program in it has."""
    if path.is_dir():
        explain_folder(path)
    if not path.is_file():
        raise ModelError(f"There is no file {path}.", "Check the path.")
    with path.open("rb") as file:
        kind = _kind(path, file.read(512))
    if kind == "safetensors":
        return _safetensors(path), None
    if kind == "index":
        return _parts(path), None
    if kind != "TorchScript":
        return _torch(path, zipped=kind == "zip"), None
    content, classes = read_torchscript(path)
    said = f"the program in {path.name}"
    if any(name.endswith("QuickGELU") for name in classes):
        return content, ("quick_gelu", said)
    return content, ("gelu", said) if any(name.endswith(".GELU") for name in classes) else None


def weights_in(folder: Path) -> Path:
    """The weights of a folder's one model: under a usual name, as an index of parts, or the only file of weights.

    Raises:
        ModelError: for a folder without any, or with several.
    """
    names = sorted(one.name for one in folder.iterdir())
    usual = [one for one in _USUAL if one in names] + [one for one in names if one.endswith(".index.json")]
    found = usual or [one for one in names if one.endswith(_SUFFIXES)]
    if not usual and len(found) != 1:
        what = f"several files of weights ({', '.join(found[:5])})" if found else "no file of weights"
        raise ModelError(
            f"{folder} has {what} beside its configuration.",
            f"Name the one that is meant {_USUAL[0]}." if found else "Fetch the whole folder again.",
        )
    return folder / found[0]


def explain_folder(folder: Path) -> NoReturn:
    """Name a folder that is no model by itself for what it is.

    Raises:
        ModelError: always.
    """
    names = sorted(one.name for one in folder.iterdir())
    weights = [one for one in names if one.endswith(_SUFFIXES)]
    places = [folder, *(place for pattern in _INSIDE for place in sorted(folder.glob(pattern)))]
    models = [str(one) for one in places if any((one / name).is_file() for name in CONFIGURATIONS)]
    what = "holds neither open_clip_config.json nor config.json"
    remedy = (
        "A folder is written by clip.save(folder) or open_clip.push_to_hf_hub, or downloaded from a hub as a whole."
    )
    if not names:
        what, remedy = "is an empty folder", "Check the path, or fetch the model into it."
    elif "adapter_config.json" in names:
        what = "holds an adapter of peft alone"
        remedy = "Save the merged model: model.merge_and_unload().save_pretrained(folder)."
    elif "data.pkl" in names:
        what = "is a PyTorch file that was unpacked into a folder"
        remedy = f"{_AGAIN} Some browsers unpack what they fetch."
    elif CONFIGURATIONS[1] in names and CONFIGURATIONS[0] not in names and not is_folder(folder):
        what = "has a config.json of neither open_clip nor transformers, such as timm's"
        remedy = (
            "Build the model with the library that wrote it: hl.HookedCLIP.from_open_clip(model, preprocess, None)."
        )
    elif models:
        own, others = models[0] == str(folder), f" Others in it are {', '.join(models[1:4])}."
        what = "is a folder, not a checkpoint file" if own else "holds its model in a folder further inside"
        remedy = f"Name the model's folder alone: hl.load({models[0]!r}).{others * (len(models) > 1)}"
    elif weights:
        what += ", which say what its weights are of"
        file = str(folder / weights[0])
        remedy = f'Name the file and its architecture: hl.load("ViT-B-16", pretrained={file!r}).'
    raise ModelError(f"{folder} {what}.", remedy)


def _kind(path: Path, head: bytes) -> str:
    """What a file is, by what it begins with. Raises `ModelError` for anything that is not a checkpoint."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    size = path.stat().st_size
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head.startswith(_LEGACY):
        return "legacy"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LONGEST_HEADER:
        return "safetensors"
    if start.startswith(b"{") and b'"weight_map"' in path.read_bytes()[: 1 << 24]:
        return "index"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        what = "a pickled Python object, and reading it would run code"
        remedy = (
            "If its source is trusted, write the weights to a file of their own: import pickle, torch; from "
            f"headlens.models import tensors_of; torch.save(tensors_of(pickle.load(open({str(path)!r}, 'rb'))), "
            "'weights.pt')"
        )
    elif head[257:262] == b"ustar":
        what, remedy = "a tar archive", "Unpack it: tar xf."
    elif head.startswith(b"\x93NUMPY"):
        what, remedy = "a NumPy array", "Fetch the PyTorch weights of the model."
    elif size == 0:
        what, remedy = "empty", _AGAIN
    elif not head.strip(b"\0"):
        what, remedy = "damaged: it begins with zeros, as a download does that broke off", _AGAIN
    else:
        own = next(((what, help_) for first, what, help_ in _OTHER_KINDS if start.startswith(first)), None)
        found = own or other_kind(head)
        text = " ".join(start[:60].decode("ascii", "replace").split())
        if not start[:60].isascii() or not text.isprintable():
            text = ""
        other = f"text that begins with {text[:40]!r}" if text else "damaged, or of a format that is not known here"
        what, remedy = found or (other, _AGAIN)
    raise ModelError(f"{path} is no checkpoint: it is {what} ({size:,} bytes).", remedy)


def _zip_kind(path: Path) -> str:
    """ "zip" for torch.save's format, "TorchScript", or an error for other archives and damaged ones."""
    size = path.stat().st_size
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path} is incomplete: it begins as a PyTorch file does, but its end is missing ({size:,} bytes).", _AGAIN
        )
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for entry in archive.infolist():
                if entry.CRC:  # torch can be set to write none
                    with archive.open(entry) as file:
                        while file.read(1 << 20):
                            pass
    except (*BROKEN_ZIP, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{path} is damaged: {error}.", _AGAIN) from error
    if not any(name.endswith("data.pkl") for name in names):
        what, remedy = f"a zip archive of other files ({', '.join(names[:3])})", "Unpack it."
        if all(name.endswith(".npy") for name in names):
            what, remedy = "a zip archive of NumPy arrays", "Fetch the PyTorch weights of the model."
        elif any(name.endswith("archive_format") for name in names):
            what = "a program that torch.export wrote"
            remedy = (
                "If its source is trusted, write its weights to a file of their own: import torch; "
                f"torch.save(torch.export.load({str(path)!r}).state_dict, 'weights.pt')"
            )
        raise ModelError(f"{path} is no checkpoint: it is {what}.", remedy)
    return "TorchScript" if any(name.endswith("constants.pkl") for name in names) else "zip"


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length < size else b""
    try:
        ends = [one["data_offsets"][1] for name, one in json.loads(header).items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError):
        whole = None
    if whole is None or whole > size:
        much = f"{size:,} bytes" + (f" of {whole:,}" if whole else "")
        raise ModelError(f"{path} is an incomplete or damaged safetensors file ({much}).", _AGAIN)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is a damaged safetensors file: {error}.", _AGAIN) from error


def _parts(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint in several files, from the index that names them."""
    try:
        files = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{path} is a damaged index of a checkpoint's parts.", _AGAIN) from error
    if missing := [name for name in files if not (path.parent / name).is_file()]:
        raise ModelError(f"{path} names parts that are not beside it: {', '.join(missing[:3])}.", "Fetch them too.")
    tensors: dict[str, torch.Tensor] = {}
    for name in files:
        part = path.parent / name
        with part.open("rb") as file:
            kind = _kind(part, file.read(512))
        tensors |= _safetensors(part) if kind == "safetensors" else _torch(part, zipped=kind == "zip")
    return tensors


def _torch(path: Path, zipped: bool) -> Any:
    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray
    # Numbers that training runs leave beside the weights: NumPy's arrays and scalars are data, under old names and new.
    numpy: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(code)) for code in np.typecodes["All"].replace("O", "")}]
    for place in ("numpy.core.multiarray", "numpy._core.multiarray"):
        numpy += [(getattr(multiarray, name), f"{place}.{name}") for name in ("scalar", "_reconstruct")]
    try:
        # By its content: torch goes by the suffix of a path.
        with warnings.catch_warnings(), torch.serialization.safe_globals(numpy), path.open("rb") as file:
            warnings.simplefilter("ignore")  # about old formats, which are read as safely
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        _explain_torch(path, zipped, error)


def _explain_torch(path: Path, zipped: bool, error: Exception) -> NoReturn:
    said = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    held = set(re.findall(r"GLOBAL (\S+)", said))
    if zipped:
        held |= {name for name in torch.serialization.get_unsafe_globals_in_checkpoint(path) if "numpy" not in name}
    if not held:
        what = (said.strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{path} is damaged or incomplete: {what.rstrip('.')}.", _AGAIN) from error
    # open_clip's classes, where they are among them, are found in every environment only behind this import.
    first = "from headlens.models.open_clip_import import open_clip; open_clip(); "
    first = first if any(name.startswith("open_clip.") for name in held) else ""
    raise ModelError(
        f"{path} holds more than data, {', '.join(sorted(held)[:5])}, and reading these objects would run code.",
        "If its source is trusted, write the weights to a file of their own: import torch; from headlens.models import "
        f"tensors_of; {first}torch.save(tensors_of(torch.load({str(path)!r}, map_location='cpu', weights_only=False)), "
        "'weights.pt')",
    ) from error


def _said_beside(
    path: Path, weights: Weights
) -> tuple[tuple[Nonlinearity, str] | None, tuple[dict[str, Any], str] | None]:
    """What the configuration in a checkpoint's folder says, where it describes weights of these shapes."""
    patch, projection = (weights.tensors.get(f"visual.{name}") for name in ("conv1.weight", "proj"))
    if patch is None or projection is None:
        return None, None
    sizes = (patch.shape[0], patch.shape[-1], projection.shape[1])
    nonlinearity: tuple[Nonlinearity, str] | None = None
    preprocessing = None
    try:
        if (own := path.parent / "open_clip_config.json").is_file():
            config = json.loads(own.read_text(encoding="utf-8"))
            model = config["model_cfg"]
            vision = model["vision_cfg"]
            if (vision["width"], vision["patch_size"], model["embed_dim"]) == sizes:
                said = f"{own.name} beside the file"
                nonlinearity = ("quick_gelu" if model.get("quick_gelu") else "gelu", said)
                preprocessing = (dict(config.get("preprocess_cfg", {})), said)
        elif weights.format.startswith("transformers") and (own := path.parent / "config.json").is_file():
            config = json.loads(own.read_text(encoding="utf-8"))
            vision = config.get("vision_config", config)
            if (vision.get("hidden_size", 768), vision.get("patch_size", 32)) == sizes[:2]:
                act = vision.get("hidden_act", "quick_gelu")
                if act in ("gelu", "quick_gelu"):
                    nonlinearity = (act, f"{own.name} beside the file")
                preprocessing = _processor(path.parent / "preprocessor_config.json")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None  # a configuration that is not one of these says nothing
    return nonlinearity, preprocessing


def _processor(path: Path) -> tuple[dict[str, Any], str] | None:
    """The preprocessing of transformers' image processors, as far as open_clip has the same."""
    if not path.is_file():
        return None
    found = Preprocessing.of_processor(json.loads(path.read_text(encoding="utf-8")), (0, 0)).as_open_clip()
    if found["interpolation"] not in INTERPOLATIONS:
        del found["interpolation"]
    return found, f"{path.name} beside the file"
