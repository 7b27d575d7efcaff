"""explorer.json: what an explorer showed, beside the audit that it was saved with.

    score, between, objective     what the heatmap shows
    selection, head, image        heads as "3.1", the image as its row in the store
    ablated                       whether the selection was ablated; that is done again on opening
    draws, bootstrap              of the ablation's controls and intervals

The question itself, its prompts, and the locator are the audit's, in audit.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlens.errors import HeadlensError, OutputError
from headlens.heads import HeadId
from headlens.serialization import write_json

if TYPE_CHECKING:
    from headlens.explore.state import ExplorerState

NAME = "explorer.json"
FORMAT = 1


def write(state: ExplorerState, folder: Path) -> Path:
    """Write the state beside its audit, and return the folder."""
    kept: dict[str, Any] = {
        "format": FORMAT,
        "identity": state.audit.identity,
        "score": state.score,
        "between": list(state.between),
        "objective": state.objective,
        "selection": [str(head) for head in state.selection],
        "head": None if state.head is None else str(state.head),
        "image": state.image,
        "ablated": state.ablated is not None,
        "draws": state.draws,
        "bootstrap": state.bootstrap,
    }
    write_json(folder / NAME, kept)
    return folder


def read(state: ExplorerState, folder: Path) -> bool:
    """Take up the state of a folder; False where there is none.

    Raises:
        OutputError: for a file that is damaged, or of another audit.
    """
    path = folder / NAME
    if not path.is_file():
        return False
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["format"] != FORMAT or kept["identity"] != state.audit.identity:
            raise ValueError(f"format {kept['format']}, audit {kept['identity']}")
        selection = [HeadId.of(head) for head in kept["selection"]]
        head = None if kept["head"] is None else HeadId.of(kept["head"])
        draws, bootstrap = int(kept["draws"]), int(kept["bootstrap"])
        state.show(kept["score"], kept["between"], kept["objective"])
        state.choose_image(kept["image"])
        state.select(selection)
        ablated = bool(kept["ablated"])
    except (ValueError, KeyError, TypeError, HeadlensError) as error:
        raise OutputError(
            f"an {NAME} of this audit ({state.audit.identity}), in format {FORMAT}",
            f"{path}: {error}",
            "Remove that file, and the explorer opens with the audit alone.",
        ) from error
    state.head, state.draws, state.bootstrap = head, draws, bootstrap
    if ablated:
        state.ablate()
    return True
