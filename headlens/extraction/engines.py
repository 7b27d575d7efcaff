"""What does the work of an extraction: an engine is given blocks and does what `Engine` says.

What is begun, checked, saved and told is the same for all. The one here is this process, on the model's own device.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Protocol, runtime_checkable

import pandas as pd

from headlens.extraction.filling import Piece, Way, fill
from headlens.extraction.layout import Skip, StoreFolder
from headlens.extraction.moment_totals import Totals, keys_of
from headlens.extraction.numbers import from_disk
from headlens.extraction.plan import Model, Plan

Advance = Callable[[int], None]
MOMENT_NAMES = ("z", "embedding")


@runtime_checkable
class Engine(Protocol):
    """Does the blocks of an extraction."""

    def store(
        self, clip: Model, frame: pd.DataFrame, folder: StoreFolder, blocks: Sequence[int], way: Way, advance: Advance
    ) -> None:
        """Write blocks of a store, in whatever order."""
        ...

    def moments(
        self,
        clip: Model,
        frame: pd.DataFrame,
        plan: Plan,
        columns: Sequence[str],
        blocks: Sequence[int],
        way: Way,
        advance: Advance,
    ) -> Generator[tuple[Totals, list[Skip]]]:
        """The moments of each block and its skipped images, in the order of the blocks."""
        ...


class Local:
    """This process."""

    def store(
        self, clip: Model, frame: pd.DataFrame, folder: StoreFolder, blocks: Sequence[int], way: Way, advance: Advance
    ) -> None:
        for _ in write_blocks(clip, frame, folder, blocks, way, advance):
            pass

    def moments(
        self,
        clip: Model,
        frame: pd.DataFrame,
        plan: Plan,
        columns: Sequence[str],
        blocks: Sequence[int],
        way: Way,
        advance: Advance,
    ) -> Generator[tuple[Totals, list[Skip]]]:
        return block_moments(clip, frame, plan, columns, blocks, way, advance)


def write_blocks(
    clip: Model,
    frame: pd.DataFrame,
    folder: StoreFolder,
    blocks: Sequence[int],
    way: Way,
    advance: Advance,
    first: int = 0,
) -> Iterator[int]:
    """Write blocks of a store, and name each as it is whole. `frame` is the manifest from row `first` on."""
    plan = folder.plan
    ranges = [plan.rows_of(block) for block in blocks]
    written: Future[int] | None = None
    # The model works on while a block is compressed and pushed to the disk. Leaving waits for that, whatever happened.
    with (
        ThreadPoolExecutor(1) as writer,
        closing(fill(clip, frame, plan, plan.names, ranges, way, advance, first)) as all_,
    ):
        for block, piece in zip(blocks, all_, strict=True):
            if written:
                yield written.result()
            written = writer.submit(_write, folder, block, piece)
        if written:
            yield written.result()


def _write(folder: StoreFolder, block: int, piece: Piece) -> int:
    folder.write(block, piece.arrays, piece.skipped)
    return block


def block_moments(
    clip: Model,
    frame: pd.DataFrame,
    plan: Plan,
    columns: Sequence[str],
    blocks: Sequence[int],
    way: Way,
    advance: Advance,
    first: int = 0,
) -> Generator[tuple[Totals, list[Skip]]]:
    """Moments of each block, by piece. `frame` is the manifest from row `first` on."""
    ranges = [pieces_of(plan, block) for block in blocks]
    every = [piece for pieces in ranges for piece in pieces]
    with closing(fill(clip, frame, plan, MOMENT_NAMES, every, way, advance, first)) as pieces:
        for expected in ranges:
            totals, skipped = Totals(), []
            for piece in islice(pieces, len(expected)):
                lost = {skip.row for skip in piece.skipped}
                kept = [place for place, row in enumerate(piece.rows) if row not in lost]
                rows = frame.iloc[piece.rows.start - first : piece.rows.stop - first].iloc[kept]
                if kept:
                    z, embedding = (from_disk(piece.arrays[name][kept], plan.type_of(name)) for name in MOMENT_NAMES)
                    totals.add(keys_of(rows, columns), z, embedding)
                skipped += piece.skipped
            yield totals, skipped


def pieces_of(plan: Plan, block: int) -> list[range]:
    """A block of moments in pieces whose head states fit in memory."""
    rows = plan.rows_of(block)
    return [range(start, min(start + plan.chunk, rows.stop)) for start in range(rows.start, rows.stop, plan.chunk)]
