"""A solver's steps as recordings: on a GPU a step of a thousand small operations is then one launch.

A step is told by its phase (see ``Learner.phase``). The first steps of a phase run as they stand, which warms up what the
device makes on first use and is real work; the next one is recorded, and from then on the recording is replayed. A recording
knows addresses and not Python: what a step reads and writes stays where it is, and what it does to Python's variables is
lost.
"""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from kernelsr.learner import BUILDING, Learner

Outputs = tuple[Tensor, Tensor, Tensor]
"""Loss, image and kernel of a step, detached."""
Body = Callable[[], Outputs]
WARM_UP = 2
"""Steps of each phase that run as they stand. One would do for the optimiser's state; the backward pass likes a second."""
RECORDING = threading.Lock()
"""Of images side by side one is recorded at a time, and meanwhile none is built or runs a step as it stands: both may make
the libraries wait for the whole device, which a recording forbids. The others' replays go on."""


class Recording(Protocol):
    """One step, recorded."""

    def record(self, body: Body) -> Outputs:
        """The tensors into which the step writes what it returns; they keep their place."""

    def replay(self) -> None:
        """Run it; asked once after ``record`` too, since to record is not to run."""


class CudaGraph:
    """A step as a CUDA graph.

    Args:
        pool: memory that the graphs of one image share, for they run one after another.
    """

    def __init__(self, pool: Any):
        self.graph, self.pool = torch.cuda.CUDAGraph(), pool

    def record(self, body: Body) -> Outputs:
        # The default mode would fail on whatever the threads of other images do meanwhile.
        stream = torch.cuda.current_stream()
        with torch.cuda.graph(self.graph, self.pool, stream, capture_error_mode="thread_local"):
            return body()

    def replay(self) -> None:
        self.graph.replay()


def _cuda() -> Callable[[], Recording]:
    pool = torch.cuda.graph_pool_handle()
    return lambda: CudaGraph(pool)


RECORDERS: dict[str, Callable[[], Callable[[], Recording]]] = {"cuda": _cuda}
"""What records on a kind of device, one maker an image. Tests put one for the CPU here."""


class Replay:
    """Runs an image's steps: ``(phase, body)``, where bodies of one phase are interchangeable, -> what the body returns.

    The returned tensors may be overwritten by the next step.

    Args:
        forget: called where a step could not be recorded, which is then no error: this and all later steps run as they stand.
            None makes it an error.
    """

    def __init__(self, kind: str, forget: Callable[[], None] | None = None):
        self.new, self.forget, self.broken = RECORDERS[kind](), forget, False
        self.seen: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, tuple[Recording, Outputs]] = {}

    def __call__(self, phase: Hashable, body: Body) -> Outputs:
        if phase not in self.recorded:
            self.seen[phase] += 1
            with RECORDING:
                if self.broken or self.seen[phase] <= WARM_UP or not self._recorded(phase, body):
                    return body()
        recording, outputs = self.recorded[phase]
        recording.replay()
        return outputs

    def _recorded(self, phase: Hashable, body: Body) -> bool:
        recording = self.new()
        try:
            with BUILDING:
                self.recorded[phase] = recording, recording.record(body)
        except RuntimeError as error:
            if self.forget is None:
                raise
            reason = str(error).splitlines()[0]
            warnings.warn(f"a step could not be recorded ({reason}); steps run as they stand", stacklevel=2)
            self.forget()
            self.broken = True
        return not self.broken


def replay_of(graph: bool | str, device: torch.device, *parts: Learner) -> Replay | None:
    """What replays the steps of these parts, made ready for it; None where every step runs as it stands.

    Args:
        graph: ``auto``, where device and parts allow; True, or an error; False, never.

    Raises:
        ValueError: ``graph`` is true and cannot be, or it is none of these.
    """
    if graph not in ("auto", True, False):
        raise ValueError(f"solver.graph is {graph!r}; choose auto, true or false")
    stiff = [type(part).__name__ for part in parts if not part.replays]
    if graph is True and device.type not in RECORDERS:
        raise ValueError(f"solver.graph is true, and there are CUDA graphs on CUDA only, not on {device}; choose auto")
    if graph is True and stiff:
        raise ValueError(
            f"solver.graph is true, and the steps of {' and '.join(stiff)} cannot be recorded; choose auto"
        )
    if not graph or stiff or device.type not in RECORDERS:
        return None
    for part in parts:
        hold(part)

    def forget() -> None:
        for part in parts:
            if not any(learner.held for learner in _learners(part)):
                part.zero_grad()  # what a broken recording has left, which nothing ever computed

    return Replay(device.type, None if graph is True else forget)


def hold(part: Learner) -> None:
    """Let what a part's recorded steps share keep its place: gradients that accumulate, and the optimiser's count."""
    learners = _learners(part)
    # Where every step moves, its gradients come and go within the recording, which costs nothing.
    part_holds = any(learner.every > 1 for learner in learners)
    for learner in learners:
        learner.held = part_holds
        if learner.optimizer is not None:
            _count_on_the_device(learner.optimizer)
    if part_holds:
        for parameter in part.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


def _learners(part: Learner) -> list[Learner]:
    return [module for module in part.modules() if isinstance(module, Learner)]


def _count_on_the_device(optimizer: torch.optim.Optimizer) -> None:
    """Adam as one operation for all parameters, with its count of steps beside them, also where it has begun."""
    for group in optimizer.param_groups:
        if "fused" in group:
            on_gpu = all(parameter.is_cuda for parameter in group["params"])
            group |= {"fused": True, "foreach": False, "capturable": on_gpu}
    for parameter, state in optimizer.state.items():
        if "step" in state:
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32, device=parameter.device)


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """On a GPU, inside, work goes to a stream that can be recorded: the current one, unless that is the default."""
    if device.type != "cuda":
        yield
        return
    outer = torch.cuda.current_stream(device)
    stream = outer if outer != torch.cuda.default_stream(device) else torch.cuda.Stream(device)
    stream.wait_stream(outer)
    with torch.cuda.stream(stream):
        yield
        stream.synchronize()
