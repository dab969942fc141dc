"""What a GPU makes of the papers' step, in under 8 minutes: `python -m experiments.bench.gpu [--append CSV]`.

The reference configuration and ours, step by step as it stands, as one CUDA graph, in fewer bits, and with several images at
once; Set5 at x4 with 1000 steps; and whether the device finds what the CPU finds. `--device cpu --small` tries the script
where there is no GPU; its times mean nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch

from experiments.bench import measure, reference
from experiments.bench.agreement import long_runs, short_runs
from kernelsr import priors, restorers, results, runs, solvers
from kernelsr.abreast import Lanes
from kernelsr.configure import compose_config
from kernelsr.jobs import Job
from kernelsr.learner import BUILDING
from kernelsr.meter import Meter
from kernelsr.precision import multiplying
from kernelsr.problem import Problem, Progress

WARM = 10
"""Steps before the clock starts: those that run as they stand, the recording, and a few replays."""
LATEST, LIMIT = 240, 450
"""Seconds after which no further section begins; and by which the last one, whose length is guessed, must end."""
# Name: whether it is the reference, is recorded, how it multiplies, settings of the hourglass.
VARIANTS: dict[str, tuple[bool, bool, dict[str, bool], dict[str, Any]]] = {
    "reference": (True, False, {}, {}),
    "reference, tf32": (True, False, {"tf32": True}, {}),
    "as it stands": (False, False, {}, {}),
    "graph": (False, True, {}, {}),
    "graph, tf32": (False, True, {"tf32": True}, {}),
    "graph, tf32, searched": (False, True, {"tf32": True, "search": True}, {}),
    "graph, bf16": (False, True, {"tf32": True}, {"precision": "bf16"}),
    "graph, bf16, searched": (False, True, {"tf32": True, "search": True}, {"precision": "bf16"}),
}
TOGETHER = ("graph, tf32", "graph, bf16")
"""What is also tried with several images at once."""


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        # This thread's stream only: others may be recording.
        torch.cuda.current_stream(device).synchronize()


def descend(name: str, device: torch.device, size: dict[str, Any], steps: int, on_step: Any) -> None:
    """Steps of DIP-FKP as a variant makes them."""
    plain, graph, _, dip = VARIANTS[name]
    side, channels = size["side"], {"channels": size["channels"], "skip": max(size["channels"] // 8, 2)}
    problem, rng = measure.blurred(side), torch.Generator().manual_seed(0)
    with BUILDING:
        problem = Problem(problem.lr.to(device), problem.scale)
        prior, restorer = priors.Flow(problem, rng, start=0), restorers.Dip(problem, rng, **channels, **dip)
        slow = reference.PlainDip(problem, restorer, **channels) if plain else None
    if slow is not None:
        del restorer
        reference.joint(problem, prior, slow, steps=steps, ssim_steps=0, on_step=on_step)
    else:
        graph = graph and device.type == "cuda"
        solvers.joint(problem, prior, restorer, steps=steps, ssim_steps=0, graph=graph, on_step=on_step)


def step_row(name: str, device: torch.device, size: dict[str, Any], steps: int, together: int = 1) -> dict[str, Any]:
    """Seconds of a step, and of a step of one of the images that are at work together."""
    meter, began = Meter(device), [0.0]
    everybody = threading.Barrier(together, action=lambda: began.__setitem__(0, time.perf_counter()))

    def on_step(progress: Progress) -> None:
        if progress.step == WARM - 1:
            wait(device)
            everybody.wait(120)
        elif progress.step == WARM + steps - 1:
            wait(device)

    def work(_: int) -> None:
        try:
            descend(name, device, size, WARM + steps, on_step)
        except BaseException:
            everybody.abort()
            raise

    with multiplying(**VARIANTS[name][2]):
        Lanes(together, device).each(work, range(together))
        seconds = (time.perf_counter() - began[0]) / steps
    row = {"variant": name, "images": together, **size, "step_seconds": seconds, "image_seconds": seconds / together}
    return row | {"peak_mb": round(meter.read()["peak_memory_mb"])}


def step_rows(device: torch.device, size: dict[str, Any], steps: int, images: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row a variant, and a number of images at once; one for which there is no memory is left out, and said."""
    rows = []
    wanted = [(name, 1) for name in VARIANTS] + [(name, count) for name in TOGETHER for count in images if count > 1]
    for name, count in wanted:
        try:
            rows.append(step_row(name, device, size, steps, count))
        except (torch.cuda.OutOfMemoryError, threading.BrokenBarrierError) as error:
            print(f"left out: {count} images of {name}, for {str(error) or 'one of them failed'}")
            torch.cuda.empty_cache()
    return [row | {"faster": rows[0]["image_seconds"] / row["image_seconds"]} for row in rows]


def set_row(device: torch.device, words: list[str], name: str) -> dict[str, Any]:
    """Seconds of a whole run at x4, from the files to the report, and its mean kernel PSNR."""
    data = "set5_aniso" if os.environ.get("KERNELSR_DATA") else "demo_aniso"
    with tempfile.TemporaryDirectory() as folder:
        own = [f"data={data}", "scale=4", f"device={device.type}", f"cells={folder}/cells", "references=false"]
        cfg = compose_config(["experiment=dip_fkp", *own, "progress=false", *words])
        began = time.perf_counter()
        with contextlib.redirect_stdout(io.StringIO()):  # the table of a folder that goes
            failed = runs.run(cfg, Path(folder) / "run", Job(data, "dip_fkp", "", 0), "")
        seconds = time.perf_counter() - began
        rows = [row for row in results.read_rows(Path(folder) / "run" / "rows.csv") if not row["error"]]
    scores = [row["kernel_psnr"] for row in rows]
    return {
        "run": f"{data} x4, {cfg.solver.steps} steps, {name}",
        "images": len(rows),
        "failed": len(failed),
        "seconds": seconds,
        "kernel_psnr": sum(scores) / max(len(scores), 1),
    }


def say(title: str, rows: list[dict[str, Any]], append: Path | None) -> None:
    print(f"\n{title}\n{measure.table(rows)}", flush=True)
    gpu = {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else ""}
    measure.keep(append, [gpu | {"part": title} | row for row in rows])


def main(words: list[str] | None = None) -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes, to try the script")
    options = parser.parse_args(words)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA device is here; run this on a machine with a GPU, or try it with --device cpu --small")
    began, device = time.monotonic(), torch.device(options.device)
    graphs = [False, True] if device.type == "cuda" else [False]
    tiny = {"channels": 8, "skip": 4}

    def late(section: str, end: float, needs: float = 0) -> bool:
        gone = time.monotonic() - began
        if gone + needs > end:
            print(f"\n{section}: left out, for this GPU took {gone:.0f} s so far")
        return gone + needs > end

    rows = short_runs(device, 48 if options.small else 96, graphs, **tiny)
    say("short runs against the CPU's", rows, options.append)
    checks = rows

    size = {"side": 48, "channels": 8} if options.small else {"side": 252, "channels": 128}
    images = (1, 2) if options.small else (1, 2, 4, 8)
    say("a step of DIP-FKP", step_rows(device, size, 3 if options.small else 60, images), options.append)

    if not late("kernel PSNR", LATEST):
        graph: dict[str, Any] = {"graph": graphs[-1]}
        ways = {"as it stands": {}, "graph": graph, "tf32": graph | {"tf32": True}}
        ways["bf16"] = graph | {"precision": "bf16"}
        dip = tiny if options.small else {"channels": 32, "skip": 4}
        rows = long_runs(device, 48 if options.small else 96, 20 if options.small else 200, ways, **dip)
        say("kernel PSNR against the CPU's", rows, options.append)
        checks = checks + rows

    # The bundled photographs serve where the data sets are not.
    only = [] if os.environ.get("KERNELSR_DATA") else ["data.only=coffee"]
    less = ["restorer.channels=8", "restorer.skip=4", "solver.steps=4", *only] if options.small else []
    fast, guessed = "bf16, batch=auto", 0.0
    if not late(fast, LATEST):
        row = set_row(device, ["tf32=true", "restorer.precision=bf16", *less], fast)
        say("a whole run", [row], options.append)
        guessed = 4 * row["seconds"]
    if not late("float32, one by one", LIMIT, guessed):
        say("a whole run", [set_row(device, ["batch=1", *less], "float32, one by one")], options.append)

    print(f"\n{time.monotonic() - began:.0f} s in all")
    if wrong := [row["check"] for row in checks if not row["ok"]]:
        sys.exit(f"the device does not agree with the CPU: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
