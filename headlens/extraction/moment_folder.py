"""The folder of moments: what lies in it, and how a run that was stopped goes on.

    moments/
        moments.json           the plan: model, images, sizes, the group columns
        basis.safetensors      the weights that z is read through
        state.safetensors      the moments of every cell over the first blocks, how many blocks those are, and which of
                               their images were skipped

The state is replaced as a whole, in one step, so that it always is that of some first blocks; its size does not depend
on how many they are. A run that is stopped loses what it did since the last state was put in place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from headlens.errors import StoreError
from headlens.extraction.basis_file import basis_bytes, load_basis
from headlens.extraction.layout import Skip, refuse_strangers
from headlens.extraction.moment_totals import Totals
from headlens.extraction.place import LOCK, Place, told
from headlens.extraction.plan import Plan
from headlens.states.basis import HeadBasis

_PLAN, _BASIS, _STATE, _FORMAT = "moments.json", "basis.safetensors", "state.safetensors", 1
OURS = {_PLAN, _BASIS, _STATE, LOCK}


class MomentFolder:
    """Moments that have been begun.

    Attributes:
        place: where.
        path: the folder, or its address.
        plan: identity and sizes.
        columns: the group columns.
    """

    def __init__(self, place: Place, plan: Plan, columns: tuple[str, ...]):
        self.place = place
        self.path = place.path
        self.plan = plan
        self.columns = columns

    @staticmethod
    def begun(place: Place) -> bool:
        """Whether there are moments, complete or not."""
        return place.exists(_PLAN)

    @classmethod
    def open(cls, place: Place) -> MomentFolder:
        """Raises `StoreError` where there are no moments of this format."""
        try:
            record = json.loads(place.read(_PLAN))
            version, columns = record.pop("format"), tuple(record.pop("columns"))
            plan = Plan(**record) if version == _FORMAT else None
        except (OSError, KeyError, ValueError, TypeError) as error:
            whole = place.exists("zarr.json")
            raise StoreError(
                "moments that headlens wrote",
                f"{str(place.path)!r}, which {'is a store of head states' if whole else 'holds none'}",
                "Open it with HeadStore.open, and take head_moments of it." if whole else "Run extract to make them.",
            ) from error
        if plan is None:
            raise StoreError(
                f"moments in format {_FORMAT}",
                f"format {version!r} at {str(place.path)!r}",
                "Read them with the version of headlens that wrote them, or extract again into another folder.",
            )
        return cls(place, plan, columns)

    @classmethod
    def create(cls, place: Place, plan: Plan, columns: Sequence[str], basis: HeadBasis) -> MomentFolder:
        """Begin moments in an absent or empty folder, or in one where a beginning was cut short."""
        refuse_strangers(place, OURS - {_PLAN})
        place.sweep("")
        for name in sorted(place.names() & (OURS - {LOCK})):
            place.remove(name)
        if isinstance(place.path, Path):
            place.path.mkdir(parents=True, exist_ok=True)
        place.write(_BASIS, basis_bytes(basis))
        record = {"format": _FORMAT, "columns": list(columns), **asdict(plan)}
        place.create(_PLAN, json.dumps(record).encode())
        return cls.open(place)

    def sweep(self) -> None:
        """Remove what a killed run left half-written."""
        self.place.sweep("")

    @property
    def complete(self) -> bool:
        return self.state()[1] == self.plan.n_blocks

    def state(self) -> tuple[Totals, int, list[Skip]]:
        """The cells of the first blocks, how many those are, and their skipped images."""
        if not self.place.exists(_STATE):
            return Totals(), 0, []
        totals, record = Totals.from_bytes(self.place.read(_STATE))
        return totals, record["blocks"], [Skip(**skip) for skip in record["skipped"]]

    def save(self, totals: Totals, blocks: int, skipped: list[Skip]) -> None:
        """Put a state in place.

        Raises:
            StoreError: when the disk, or the storage, does not take it.
        """
        content = totals.to_bytes({"blocks": blocks, "skipped": [asdict(skip) for skip in skipped]})
        try:
            if isinstance(self.path, Path):
                self.place.write(_STATE, content)
            else:
                with told(str(self.path)):
                    self.place.write(_STATE, content)
        except OSError as error:
            raise StoreError(
                f"the moments of {blocks} blocks to be written to {str(self.path)!r}",
                f"{error.strerror or error}",
                "Make room (or mend the disk) and run extract again: it goes on after the last state that is there.",
            ) from error

    def basis(self) -> HeadBasis:
        return load_basis(self.place.read(_BASIS))
