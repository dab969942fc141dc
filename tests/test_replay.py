"""Steps recorded once and replayed give the plain loop's trajectory to the last bit; what could not, is refused or caught."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from cases import problem, rng, uniform
from recording import Recorded, maker
from test_contracts import build, yamls
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernelsr import losses, replay, solvers
from kernelsr.abreast import Lanes
from kernelsr.learner import BUILDING, KernelPrior, Learner, Restorer
from kernelsr.priors import Dynamic, Softmax
from kernelsr.problem import Problem, Progress, Truth
from kernelsr.progress import Recorder
from kernelsr.restorers import Dip
from kernelsr.solvers.joint import _step as joint_step

STEPS, SSIM_STEPS = 90, 60
PRIORS = ("softmax", "gaussian", "inr", "double_dip", "fkp", "dkp")
Path = list[tuple[Tensor, ...]]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(replay.RECORDERS, "cpu", maker)


def small(posed: Problem, **settings: object) -> Dip:
    return Dip(posed, rng(1), channels=4, skip=2, scales=3, sparsity=1e-3, **settings)


def prior_of(name: str, posed: Problem) -> KernelPrior:
    """A prior that rests, accumulates and moves in the few steps of a test, and listens where it can."""
    extra = ["prior.listen_every=5", "prior.every=3", "+prior.base.hidden=50"] if name == "dkp" else []
    prior = build("prior", name, posed, extra=extra)
    assert isinstance(prior, KernelPrior)
    if prior.start:
        prior.start = 9
    return prior


def path_of(posed: Problem, prior: KernelPrior, restorer: Restorer, **settings: object) -> Path:
    """Loss, image and kernel of every step."""
    path: Path = []
    shown: list[Progress] = []

    def keep(progress: Progress) -> None:
        assert progress.image is not None
        shown[:] = [progress]
        path.append(tuple(values.clone() for values in (progress.loss, progress.image, progress.kernel)))

    estimate = solvers.joint(posed, prior, restorer, steps=STEPS, ssim_steps=SSIM_STEPS, on_step=keep, **settings)
    assert torch.equal(estimate.image, path[-1][1]) and torch.equal(estimate.kernel, path[-1][2])
    if prior.replays and settings.get("graph") is True:  # what a recording writes into goes with it
        assert estimate.image.data_ptr() != shown[0].image.data_ptr()
        assert estimate.kernel.data_ptr() != shown[0].kernel.data_ptr()
    return path


def plain(posed: Problem, prior: KernelPrior, restorer: Restorer, **settings: object) -> Path:
    """The loop as it stands, with the same optimisers as a recorded one."""
    for part in (prior, restorer):
        replay.hold(part)
    return path_of(posed, prior, restorer, graph=False, **settings)


def differing(first: Path, second: Path) -> list[int]:
    """Steps at which two trajectories differ by a bit."""
    assert len(first) == len(second)
    pairs = zip(first, second, strict=True)
    return [step for step, (a, b) in enumerate(pairs) if not all(map(torch.equal, a, b))]


@pytest.mark.parametrize("name", PRIORS)
def test_replayed_steps_are_the_plain_loops_to_the_last_bit(recorded: None, name: str) -> None:
    posed = problem(2, 12, dtype=torch.float32)
    expected = plain(posed, prior_of(name, posed), small(posed))
    found = path_of(posed, prior_of(name, posed), small(posed), graph=True)
    assert differing(expected, found) == []
    assert not torch.equal(found[0][2], found[-1][2])  # the kernel did move


@pytest.mark.parametrize("settings", [{"precision": "bf16"}, {"checkpoint": True}])
def test_so_are_they_with_an_hourglass_that_saves_time_or_memory(recorded: None, settings: dict[str, object]) -> None:
    posed = problem(2, 12, dtype=torch.float32)
    expected = plain(posed, prior_of("softmax", posed), small(posed, **settings))
    found = path_of(posed, prior_of("softmax", posed), small(posed, **settings), graph=True)
    assert differing(expected, found) == []


def test_every_prior_that_promises_is_tested_here() -> None:
    posed = problem(2, 24, dtype=torch.float32)
    promising = {name for name in yamls("prior") if build("prior", name, posed).replays}
    assert promising == {*PRIORS} | ({"repeated"} & promising)
    assert build("restorer", "dip", posed).replays


def test_a_prior_inside_others_is_replayed(recorded: None) -> None:
    posed = problem(4, 12, dtype=torch.float32)

    def repeated() -> KernelPrior:
        return build("prior", "repeated", posed, extra=["prior@prior.base=dkp", "prior.base.rehearsal=2"])

    assert repeated().replays
    expected = plain(posed, repeated(), small(posed))
    assert differing(expected, path_of(posed, repeated(), small(posed), graph=True)) == []


def test_a_step_runs_once_whether_plain_recorded_or_replayed(recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    record, again = Recorded.record, Recorded.replay
    monkeypatch.setattr(Recorded, "record", lambda self, body: (ran.append("record"), record(self, body))[1])
    monkeypatch.setattr(Recorded, "replay", lambda self: (ran.append("replay"), again(self))[1])
    posed = problem(2, 12, dtype=torch.float32)
    prior, calls = prior_of("dkp", posed), []
    prior.register_forward_hook(lambda *_: calls.append(None))
    steps = STEPS
    assert len(path_of(posed, prior, small(posed))) == steps
    # Of an hourglass that always moves: SSIM or squares, accumulate or move (every 3), silent or listening (every 5).
    phases = Counter((i < SSIM_STEPS, (i + 1) % 3 == 0, i % 5 == 0) for i in range(steps))
    recorded_phases = [phase for phase, count in phases.items() if count > replay.WARM_UP]
    assert len(phases) == 8 and ran.count("record") == len(recorded_phases) == 7
    plain_steps = sum(min(count, replay.WARM_UP) for count in phases.values())
    assert ran.count("replay") == steps - plain_steps
    assert len(calls) == 2 * (plain_steps + len(recorded_phases))  # a step asks for the kernel twice


# --- what is not as it says


class Stiff(Softmax):
    """Counts in Python, which a recording cannot see."""

    def __init__(self, posed: Problem):
        super().__init__(posed, rng(), start=0)
        self.moves = 0

    def move(self) -> None:
        self.moves += 1
        self.logits.grad.mul_(1 + self.moves % 2)
        super().move()


class Liar(Softmax):
    """Does at step 20 what it does not tell."""

    def step(self, i: int) -> None:
        if i == 20:
            with torch.no_grad():
                self.logits[3] += 1
        super().step(i)


class Wanderer(Softmax):
    """Puts its logits elsewhere at each move."""

    def __init__(self, posed: Problem):
        super().__init__(posed, rng(), start=0)
        self.optimizer = None

    def move(self) -> None:
        self.logits.data = self.logits.data - 0.1 * self.logits.grad
        self.zero_grad()


@pytest.mark.parametrize("part", [Stiff, lambda posed: Liar(posed, rng(), start=0), Wanderer])
def test_a_learner_that_does_not_keep_its_promise_is_seen(recorded: None, part: type[Softmax]) -> None:
    posed = problem(2, 12, dtype=torch.float32)
    expected = plain(posed, part(posed), small(posed))
    assert differing(expected, path_of(posed, part(posed), small(posed), graph=True))


def test_a_learner_that_makes_the_device_wait_is_seen(recorded: None) -> None:
    class Waiting(Softmax):
        def penalty(self, kernel: Tensor) -> Tensor:
            return kernel.new_tensor(float(kernel.detach().max()))

    posed = problem(2, 12, dtype=torch.float32)
    with pytest.raises(AssertionError, match="wait for each other"):
        path_of(posed, Waiting(posed, rng()), small(posed), graph=True)


def test_a_phase_that_hides_when_it_listens_is_seen(recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    posed = problem(2, 12, dtype=torch.float32)
    expected = plain(posed, prior_of("dkp", posed), small(posed))
    monkeypatch.setattr(Dynamic, "phase", Dynamic.duty)
    assert differing(expected, path_of(posed, prior_of("dkp", posed), small(posed), graph=True))


# --- what keeps its place


def test_gradients_that_accumulate_are_held_and_others_are_not(recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    posed = problem(2, 12, dtype=torch.float32)
    steady, slow = prior_of("softmax", posed), prior_of("dkp", posed)
    for prior in (steady, slow):
        replay.hold(prior)
    assert not steady.held and slow.held and slow.base.held
    places = [parameter.grad.data_ptr() for parameter in slow.base.parameters()]
    slow().sum().backward()
    slow.base.zero_grad()
    assert [parameter.grad.data_ptr() for parameter in slow.base.parameters()] == places
    assert not any(parameter.grad.any() for parameter in slow.base.parameters())
    expected = plain(posed, prior_of("dkp", posed), small(posed))
    monkeypatch.setattr(KernelPrior, "zero_grad", nn.Module.zero_grad)
    assert differing(expected, path_of(posed, prior_of("dkp", posed), small(posed), graph=True))


def test_held_or_not_the_trajectory_is_the_same() -> None:
    posed = problem(2, 12)
    free = path_of(posed, prior_of("dkp", posed), small(posed))
    held = plain(posed, prior_of("dkp", posed), small(posed))
    for before, after in zip(free[:30], held[:30], strict=True):  # afterwards chaos has grown
        for first, second in zip(before, after, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=1e-7)  # Adam fused or not


def test_adam_goes_on_where_it_was_when_it_becomes_one_operation() -> None:
    targets = uniform(30, 5)
    ends = []
    for turn in (None, 10):
        point = nn.Parameter(torch.zeros(5, dtype=torch.float64))
        adam = torch.optim.Adam([point], 0.1, betas=(0.8, 0.99))
        for step, target in enumerate(targets):
            if step == turn:
                replay._count_on_the_device(adam)
            adam.zero_grad()
            (point - target).square().sum().backward()
            adam.step()
        ends.append(point.detach().clone())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-14)


def test_proposals_come_into_one_place_and_are_drawn_as_before() -> None:
    posed = problem(2)
    prior, drawn = prior_of("dkp", posed), []
    family = prior.family

    def watched(n: int, posed: Problem, source: torch.Generator) -> Tensor:
        drawn.append(family(n, posed, source))
        return drawn[-1]

    prior.family, places = watched, set()
    for i in range(11):
        assert prior.phase(i) == ("accumulate" if (i + 1) % 3 else "move", i % 5 == 0)
        prior.prepare()
        if i % 5 == 0:
            assert torch.equal(prior.proposals, drawn[-1]) and prior.proposals is not drawn[-1]
        places.add(prior.proposals.data_ptr())
    assert len(drawn) == 3 and len(places) == 1


def test_a_trace_is_read_before_the_next_step_overwrites_it() -> None:
    posed, seen = problem(2), []
    kernels = torch.softmax(uniform(9, 121), 1).view(9, 1, 1, 11, 11)
    loss, kernel = torch.zeros(()), torch.zeros(1, 1, 11, 11).double()
    recorder = Recorder(9, Truth(None, kernels[4]), "", shown=False, track=seen.append)
    for step in range(9):
        loss.fill_(step)
        kernel.copy_(kernels[step])
        recorder(Progress(step, loss, None, kernel))
    assert [row["loss"] for row in recorder.trace] == [*range(9)] == [row["loss"] for row in seen]
    scores = [row["kernel_psnr"] for row in recorder.trace]
    assert max(scores) == scores[4] and len({*scores}) == 9 and posed.kernel_size == 11


# --- where it is done


@pytest.mark.parametrize(
    ("graph", "restorer", "said"),
    [
        (True, small, "CUDA graphs on CUDA only, not on cpu; choose auto"),
        ("yes", small, "solver.graph is 'yes'; choose auto, true or false"),
    ],
)
def test_a_setting_that_cannot_be_is_said(graph: object, restorer: type[Restorer], said: str) -> None:
    posed = problem(2, 12, dtype=torch.float32)
    with pytest.raises(ValueError, match=said):
        path_of(posed, prior_of("softmax", posed), restorer(posed), graph=graph)


def test_parts_that_promise_nothing_run_as_they_stand(recorded: None) -> None:
    class Own(Softmax):
        replays = False

    posed = problem(2, 12, dtype=torch.float32)
    with pytest.raises(ValueError, match="the steps of Own cannot be recorded; choose auto"):
        path_of(posed, Own(posed, rng()), small(posed), graph=True)
    assert replay.replay_of("auto", posed.lr.device, Own(posed, rng()), small(posed)) is None
    assert replay.replay_of(False, posed.lr.device, small(posed)) is None
    assert replay.replay_of("auto", posed.lr.device, small(posed)) is not None


def test_on_a_cpu_every_step_runs_as_it_stands() -> None:
    posed = problem(2, 12, dtype=torch.float32)
    assert replay.replay_of("auto", posed.lr.device, prior_of("softmax", posed), small(posed)) is None


@pytest.fixture
def no_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@needs_cuda
@pytest.mark.parametrize("name", PRIORS)
def test_a_cuda_graph_retraces_the_plain_loop(no_tf32: None, name: str) -> None:
    # In float64 and short, as the golden trajectories: atomic additions come in any order on a GPU.
    posed = problem(2, 12)
    posed = Problem(posed.lr.cuda(), 2)
    expected = plain(posed, prior_of(name, posed), small(posed))
    found = path_of(posed, prior_of(name, posed), small(posed), graph=True)
    for before, after in zip(expected[:30], found[:30], strict=True):
        for first, second in zip(before, after, strict=True):
            torch.testing.assert_close(first, second, rtol=0, atol=1e-7)
    assert all(torch.isfinite(values).all() for values in found[-1])


@needs_cuda
def test_images_side_by_side_record_and_replay_each_on_its_stream(no_tf32: None) -> None:
    def kernel(number: int) -> Tensor:
        posed = problem(2, 12 + 2 * number)
        posed = Problem(posed.lr.cuda(), 2)
        return path_of(posed, prior_of("dkp", posed), small(posed), graph=True)[29][2].cpu()

    together = Lanes(3, torch.device("cuda")).each(kernel, range(6))
    for number, found in enumerate(together):
        torch.testing.assert_close(found, kernel(number), rtol=0, atol=1e-7)


# --- where it fails


def test_where_a_step_cannot_be_recorded_the_steps_run_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Recorded):
        def record(self, body: replay.Body) -> replay.Outputs:
            for parameter in restorer.parameters():
                parameter.grad = torch.full_like(parameter, torch.nan)  # of memory that nothing wrote
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setitem(replay.RECORDERS, "cpu", lambda: Broken)
    posed = problem(2, 12, dtype=torch.float32)
    expected = plain(posed, prior_of("dkp", posed), small(posed))
    restorer = small(posed)
    with pytest.warns(UserWarning, match=r"could not be recorded \(operation not permitted when stream is capturing\)"):
        found = path_of(posed, prior_of("dkp", posed), restorer, graph="auto")
    assert differing(expected, found) == []
    restorer = small(posed)
    with pytest.raises(RuntimeError, match="operation not permitted"):
        path_of(posed, prior_of("dkp", posed), restorer, graph=True)


def test_while_one_image_is_recorded_no_other_is_built_or_runs_a_step(recorded: None) -> None:
    free: list[tuple[bool, bool]] = []

    def look(_: int) -> tuple[bool, bool]:
        locks = (replay.RECORDING, BUILDING)
        return tuple(lock.acquire(blocking=False) and not lock.release() for lock in locks)

    def body() -> replay.Outputs:
        free.append(Lanes(2, torch.device("cpu")).each(look, range(2))[0])
        return (torch.zeros(()),) * 3

    run = replay.Replay("cpu")
    for _ in range(5):
        run("phase", body)
    assert free == [(False, True)] * replay.WARM_UP + [(False, False)]


# --- what of CUDA can be tried without a GPU


class OneDevice(TorchDispatchMode):
    """No operation takes a tensor from another device than meta, which stands for a GPU; single numbers may."""

    def __torch_dispatch__(self, operation: Any, types: Any, positional: Any = (), named: Any = None) -> Any:
        leaves = tree_leaves((positional, named or {}))
        assert {leaf.device.type for leaf in leaves if isinstance(leaf, Tensor) and leaf.dim()} <= {"meta"}, operation
        return operation(*positional, **(named or {}))


@pytest.mark.parametrize("name", PRIORS)
def test_a_step_stays_on_its_device(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # which meta has not
    posed = problem(2, 12, dtype=torch.float32)
    prior, restorer = prior_of(name, posed), small(posed)
    prior.prepare()
    elsewhere = copy.copy(posed)
    object.__setattr__(elsewhere, "lr", posed.lr.to("meta"))
    for part in (prior, restorer):
        part.to("meta")
        for learner in part.modules():
            if isinstance(learner, Learner):
                learner.optimizer = None
    if isinstance(prior, Dynamic):
        prior.problem, prior.proposals = elsewhere, prior.proposals.to("meta")
    losses._window(3, torch.float32, elsewhere.lr.device)  # made once, in a step that runs as it stands
    with OneDevice():
        for ssim_steps in (0, 100):
            shown = joint_step(9, prior.listen, elsewhere, prior, restorer, ssim_steps)
            assert {values.device.type for values in shown} == {"meta"}


GRAPH = inspect.signature(torch.cuda.graph.__init__)


class Cuda:
    """Stands for torch.cuda and writes down what is asked of it; a graph is asked for as the real one wants it."""

    def __init__(self, current: str):
        self.said: list[str] = []
        self.streams = [Stream(self, current)]

    def current_stream(self, device: object = None) -> Stream:
        return self.streams[-1]

    def default_stream(self, device: object = None) -> Stream:
        return Stream(self, "default")

    def Stream(self, device: object) -> Stream:  # noqa: N802
        return Stream(self, "new")

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        self.streams.append(stream)
        yield
        self.streams.pop()

    def graph_pool_handle(self) -> str:
        return "pool"

    def CUDAGraph(self) -> Cuda:  # noqa: N802
        return self

    def replay(self) -> None:
        self.said.append("replay")

    @contextlib.contextmanager
    def graph(self, *positional: object, **named: object) -> Iterator[None]:
        asked = GRAPH.bind(None, *positional, **named).arguments
        assert asked["pool"] == "pool" and asked["capture_error_mode"] == "thread_local"
        self.said.append(f"record on {asked['stream'].name}")
        yield


class Stream:
    """A stream by name."""

    def __init__(self, cuda: Cuda, name: str):
        self.cuda, self.name = cuda, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.name == other.name

    __hash__ = None  # type: ignore[assignment]

    def wait_stream(self, other: Stream) -> None:
        self.cuda.said.append(f"{self.name} waits for {other.name}")

    def synchronize(self) -> None:
        self.cuda.said.append(f"host waits for {self.name}")


@pytest.mark.parametrize(("current", "used"), [("default", "new"), ("a lane's", "a lane's")])
def test_graphs_are_recorded_on_a_stream_that_is_not_the_default(
    monkeypatch: pytest.MonkeyPatch, current: str, used: str
) -> None:
    cuda = Cuda(current)
    for name in ("current_stream", "default_stream", "Stream", "stream", "graph_pool_handle", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    run, body = replay.Replay("cuda"), lambda: (torch.zeros(()),) * 3
    with replay.own_stream(torch.device("cuda")):
        for _ in range(4):
            run("phase", body)
    assert cuda.said == [f"{used} waits for {current}", f"record on {used}", *["replay"] * 2, f"host waits for {used}"]
