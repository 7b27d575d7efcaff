"""Draw the pictures of the README and the docs from a saved demo: `python docs/make_images.py demo docs/images`.

Needs the extra `figures` (kaleido) and a Chrome or Chromium, which kaleido finds or is told of by BROWSER_PATH.
"""

import sys
from pathlib import Path

import headlens as hl


def main(demo: Path, folder: Path) -> None:
    audit = hl.Audit.load(demo)
    assert audit.location is not None
    assert audit.results is not None
    control = audit.results.controls["ltc"]
    figures = {
        "location": hl.plots.location(audit.location),
        "groups": hl.plots.groups(list(audit.results.evaluations.values()), chance=0.5),
        "controls": hl.plots.controls(control.worst_group, control.observed, control.baseline),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        width, height = figure.layout.width or 900, figure.layout.height or 420
        figure.write_image(folder / f"{name}.png", width=width, height=height, scale=1.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
