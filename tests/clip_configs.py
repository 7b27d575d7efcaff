"""Architectures of our own in open_clip's lists, for tests of loading."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from headlens.models.open_clip_import import open_clip

CONFIG = {
    "embed_dim": 7,
    "vision_cfg": {"image_size": 12, "layers": 2, "width": 10, "head_width": 5, "patch_size": 4},
    "text_cfg": {"context_length": 11, "vocab_size": 49408, "width": 6, "heads": 2, "layers": 1},
}


def changed(**changes: Any) -> dict[str, Any]:
    """`CONFIG` with some values replaced; tables are merged."""
    config = copy.deepcopy(CONFIG)
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    return config


@contextmanager
def architectures(folder: Path, **configs: dict[str, Any]) -> Iterator[None]:
    """Have open_clip list architectures, `headlens_test=…` as "headlens-test", and forget them afterwards.

    Meanwhile tokenizers of one context are one object: reading their vocabulary is most of what loading costs here.
    """
    factory = open_clip().factory
    tokenizer = factory.SimpleTokenizer
    factory.SimpleTokenizer = cache(tokenizer)
    names = [name.replace("_", "-") for name in configs]
    for name, config in zip(names, configs.values(), strict=True):
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip().add_model_config(folder)
    try:
        yield
    finally:
        factory.SimpleTokenizer = tokenizer
        factory._MODEL_CONFIG_PATHS.remove(folder)
        for name in names:
            del factory._MODEL_CONFIGS[name]
