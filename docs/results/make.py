"""Write testbed.md, testbed.json and its pictures: `make benchmark`, or `python docs/results/make.py [WORK_FOLDER]`.

Needs the extras `figures` (kaleido, and a Chrome or Chromium, which it finds, or BROWSER_PATH names) and
`captions` (shap). The work folder keeps images and head states, so that a second run is faster.
"""

import re
import sys
from pathlib import Path

from PIL import Image

import headlens as hl
from headlens import benchmark, plots
from headlens.benchmark.report import figures

HERE = Path(__file__).parent
SUITE = "testbed"
HEADING = """# The benchmark on the testbed

*Written by `make benchmark`, which measures everything again; do not edit by hand.* What the methods are and what the
table teaches is in [The benchmark](../benchmark.md).

"""


def main(work: Path) -> None:
    asked = benchmark.suite(SUITE)
    table, audit = benchmark.run(asked, hl.load(asked.model), work / "images", work / "store.zarr")
    parts = [HEADING, table.markdown()]
    for old in HERE.glob(f"{SUITE}-*.png"):
        old.unlink()
    for section in figures(audit, kinds=asked.caption_kinds):
        figure = section.figure
        if figure is None:
            continue
        name = f"{SUITE}-{re.sub('[^a-z]+', '-', section.title.lower()).strip('-')}.png"
        width = figure.layout.width or max(860, figure.layout.meta["min_width"])
        pictures = bool(figure.layout.images)
        figure.write_image(HERE / name, width=width, height=figure.layout.height, scale=1 if pictures else 1.25)
        if not pictures:  # a drawing has few colours: 256 of them take a third of the room
            with Image.open(HERE / name) as drawn:
                small = drawn.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            small.save(HERE / name, optimize=True)
        text = f"{section.text}\n\n" if section.text else ""
        parts.append(f"\n## {section.title}\n\n{text}![{plots.describe(figure)}]({name})\n")
        if section.caption:
            parts.append(f"\n{section.caption}\n")
    (HERE / f"{SUITE}.md").write_text("".join(parts), encoding="utf-8")
    (HERE / f"{SUITE}.json").write_text(table.json() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/benchmark"))
