"""What can be said of a model's name and its device before any model, or a library that reads one, is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten

from headlens.errors import ModelError


def testbed_names() -> list[str]:
    """The names of the models that come with headlens."""
    cards = sorted((Path(__file__).parent / "testbed" / "weights").glob("*.json"))
    return ["testbed", "testbed-figures", *(f"testbed-{card.stem}" for card in cards)]


def check_device(device: object) -> None:
    """Raise `ModelError` for a device that torch cannot put a number on, before anything is fetched or read."""
    import torch

    try:
        torch.zeros(1, device=device).item()  # type: ignore[call-overload]  # on "meta" there are no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        here = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise ModelError(
            f"There is no device {str(device)!r} here ({shorten(str(error), 120)}).",
            f"Choose one of {', '.join(here)}; a GPU also needs a torch that was built for it.",
        ) from error


def no_model(name: str, architectures: Iterable[str]) -> ModelError:
    """The error for a model that is neither a known name nor a file."""
    lowered = {one.lower(): one for one in (*architectures, *testbed_names())}
    near = [lowered[each] for each in get_close_matches(name.lower(), lowered, n=4, cutoff=0.5)]
    return ModelError(
        f"There is no model, folder or checkpoint file {name!r}.",
        (f"Near it are {', '.join(near)}. " if near else "")
        + "open_clip.list_models() lists every architecture; hubs are named as hf-hub:organisation/model.",
    )
