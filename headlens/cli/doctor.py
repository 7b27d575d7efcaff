"""`headlens doctor`: is everything here, and does the hooked model agree with the original?"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, version

import torch

from headlens._version import __version__
from headlens.cli import show
from headlens.errors import ModelWarning

_PACKAGES = (
    "torch",
    "torchvision",
    "open_clip_torch",
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


def run_doctor(
    model: str | None, pretrained: str | None, pretrained_tag: str | None, device: str, as_json: bool
) -> None:
    """Print versions, devices and what is registered; where a model is named, its description and parity report."""
    facts: dict[str, object] = {"headlens": __version__, "python": platform.python_version()}
    facts |= {package: _installed(package) for package in _PACKAGES}
    facts["cpu threads"] = torch.get_num_threads()
    facts["devices"] = ["cpu"] + [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    if model is None:
        from headlens.audit import LOCATORS, METHODS
        from headlens.benchmark import SUITES
        from headlens.datasets import available

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
            clip = load(model, pretrained=pretrained, device=device, pretrained_tag=pretrained_tag)
        report = parity(clip)
        facts |= {"model": clip.name} | clip.description.facts()
        if as_json:
            facts["description"] = clip.description.as_dict()
        facts |= {"fingerprint": clip.fingerprint, "images compared": report.images}
        facts["parity"] = "passed" if report.passed else "FAILED"
        rows = report.table().to_dict(orient="records")
        facts["report"] = rows if as_json else report.table().to_string(index=False)
    show.facts(facts, as_json=as_json)


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
