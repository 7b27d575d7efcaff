"""kill -9 at random moments of the shell's commands: the same command, typed again, ends with the same result.

`make test` kills each command once; `HEADLENS_KILLS=20`, which `make test-all` sets, is how often it does.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_clip import contents

import headlens as hl

KILLS = int(os.environ.get("HEADLENS_KILLS", "1"))
_RUNS = """
import json, os, signal, sys, time
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
import headlens as hl
from headlens import benchmark
from headlens.cli import app
from headlens.datasets import Dataset

asked = benchmark.suite("testbed")
classes = tuple(hl.testbed.card("testbed")["classes"])
asked = replace(asked, read=lambda root: Dataset(hl.testbed.images(root, n=80), classes), extras=())
benchmark.SUITES.add("testbed", lambda: asked)
import headlens.benchmark.report as report
report.caption_figure = lambda *a: None

def run(arguments, moment=None, pages=None):
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        log = os.open(os.devnull, os.O_WRONLY)
        os.dup2(log, 1)
        code = 1
        try:
            app(arguments, standalone_mode=False)
            code = 0
        finally:
            os._exit(code)
    if pages is not None:  # killed as soon as so many head pages are there, and the next ones are being written
        while not os.waitpid(child, os.WNOHANG)[0]:
            if len(list(Path(pages[0]).glob("data/L*.js"))) >= pages[1]:
                os.kill(child, signal.SIGKILL)
                return os.waitpid(child, 0)[1], time.monotonic() - began
            time.sleep(0.0002)
        raise AssertionError("the build ended before its pages were counted")
    if moment is not None:
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1], time.monotonic() - began

for line in sys.stdin:
    whole, others = json.loads(line)
    status, seconds = run(whole)
    assert status == 0, status
    for share, arguments in others:
        pages = int(1 + share * 30)  # of 32
        killed, _ = run(arguments, share * seconds, (arguments[-1], pages) if arguments[0] == "atlas" else None)
        again, _ = run(arguments)
        print(json.dumps([share, killed, again]), flush=True)
"""


def commands(folder: Path, data: Path) -> dict[str, list[str]]:
    quick = ["--draws", "3", "--bootstrap", "20", "--methods", "ablation"]
    table = ["--model", "testbed", "--data", str(data), "--classes", "landbird,waterbird", "--attribute", "background"]
    own = ["--root", str(data.parent / "own")]
    return {
        "extract": ["extract", "--model", "testbed", "--data", str(data), "--out", str(folder / "extract")],
        "audit": ["audit", *table, *quick, "--out", str(folder / "audit")],
        "benchmark": ["benchmark", "testbed", *own, *quick, "--out", str(folder / "benchmark")],
        "atlas": ["atlas", *table[:4], "--out", str(folder / "atlas")],
    }


def results(folder: Path) -> dict[str, object]:
    """What a command left: the bytes of each store and site, and the numbers of everything else."""
    ends = ("complete.json", "index.html")
    stores = {path.parent: contents(path.parent) for name in ends for path in folder.rglob(name)}
    found = {str(path.relative_to(folder)): held for path, held in stores.items()}
    for path in folder.rglob("*.json"):
        if not any(store in path.parents for store in stores):
            found[str(path.relative_to(folder))] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize("command", ["extract", "audit", "benchmark", "atlas"])
def test_a_command_that_is_killed_and_typed_again_ends_with_the_same_result(tmp_path: Path, command: str) -> None:
    frame = hl.testbed.images(tmp_path / "birds", n=80)
    frame["path"] = [str(tmp_path / "birds" / path) for path in frame["path"]]
    frame.to_csv(tmp_path / "birds.csv", index=False)
    generator = random.Random(command)
    shares = [generator.uniform(0.02, 0.98) for _ in range(KILLS)]
    others = [(s, commands(tmp_path / str(i), tmp_path / "birds.csv")[command]) for i, s in enumerate(shares)]
    whole = commands(tmp_path / "whole", tmp_path / "birds.csv")[command]
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _RUNS],
        input=json.dumps([whole, others]),
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(lines) == KILLS
    assert any(os.WIFSIGNALED(killed) for _, killed, _ in lines)
    expected = results(tmp_path / "whole")
    assert expected
    for number, (share, _, again) in enumerate(lines):
        assert again == 0, f"killed at {share:.2f}: {told.stderr[-2000:]}"
        assert results(tmp_path / str(number)) == expected, f"killed at {share:.2f}"
