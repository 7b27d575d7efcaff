"""Facts in the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def facts(pairs: Mapping[str, Any], *, as_json: bool) -> None:
    """Names and values, one a line, or as JSON."""
    console = Console()
    if as_json:
        console.print_json(json.dumps(pairs))
        return
    table = Table(show_header=False, box=None)
    for name, value in pairs.items():
        table.add_row(Text(name, style="bold"), Text(str(value)))
    console.print(table)
