"""Downloads from Hugging Face's hub that fail within seconds where it cannot be reached.

Its client tries every file again and again for half a minute, and a model has several. Here one short request comes
first; where it fails, the client answers from its cache alone, as under HF_HUB_OFFLINE=1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from threading import Thread

from huggingface_hub import constants
from huggingface_hub.utils import get_session

_PATIENCE = 5  # seconds


@contextmanager
def hub() -> Iterator[None]:
    """Where code inside fetches files of the hub.

    Raises:
        ConnectionError: for a file that is not in the cache while the hub cannot be reached.
    """
    before = constants.HF_HUB_OFFLINE
    unreachable = None if before else _unreachable()
    constants.HF_HUB_OFFLINE = before or unreachable is not None
    try:
        yield
    except OSError as error:
        if unreachable is None:
            raise
        raise ConnectionError(f"{constants.ENDPOINT} cannot be reached: {unreachable}") from error
    finally:
        constants.HF_HUB_OFFLINE = before


def _unreachable() -> str | None:
    """Why the hub cannot be reached; None where it answers, whatever it says."""
    said: list[str | None] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
            said.append(None)
        except Exception as error:  # requests or httpx below, by the client's version
            said.append(shorten(str(error) or type(error).__name__, 120))

    # In a thread, since its limit counts for each address anew, and for the look-up of the name not at all.
    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return said[0] if said else f"no answer within {_PATIENCE} seconds"
