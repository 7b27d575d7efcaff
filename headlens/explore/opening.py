"""Opening the explorer in a notebook."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headlens.errors import HeadlensError, OutputError

if TYPE_CHECKING:
    from headlens.explore.state import Audit

NEEDED = ("ipywidgets", "anywidget")


def explore(audit: Audit, folder: str | Path | None = None) -> Any:
    """The explorer of an audit, as a widget: the last line of a notebook cell shows it.

    Args:
        audit: the audit.
        folder: what `ExplorerState.save` wrote, to go on from; by default the folder that the audit was loaded from.

    Raises:
        HeadlensError: where ipywidgets or anywidget are not installed.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise HeadlensError(
            f"The explorer is drawn by ipywidgets and anywidget, and there is no {' and no '.join(missing)}.",
            'Install the extra: pip install "headlens[notebook]", and restart the kernel.',
        )
    from headlens.explore.state import ExplorerState
    from headlens.explore.view import Explorer

    state = ExplorerState(audit)
    trouble = ""
    place = audit.folder if folder is None else Path(folder)
    if place is not None:
        try:
            state.restore(place)
        except OutputError as error:
            trouble = str(error)
    return Explorer(state, place, trouble)
