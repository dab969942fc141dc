"""The flow against the authors' numbers, its log-determinant against the true Jacobian, the bundled flows, the training."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import golden, normal, problem, released_flow, rng, uniform
from omegaconf import OmegaConf
from safetensors import safe_open
from torch import Tensor

from experiments import train_flow
from kernelsr import flows, kernels, official, official_flow
from kernelsr.families import AnisotropicGaussian, Disk, KernelFamily, LinearMotion, RandomMotion

SCALES = [2, 3, 4, 8]
# Of the authors' weights on our validation grid, nats.
AUTHORS_LIKELIHOOD = {2: 52.23, 3: 19.14, 4: 7.60}


def small_flow(kernel_size: int = 5, seed: int = 0, spread: float = 0.4) -> flows.KernelFlow:
    """A flow away from initialisation: random parameters and running statistics, float64, in evaluation mode."""
    flow = flows.KernelFlow(kernel_size, 6, 0.3).double()
    source = rng(seed)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.copy_(spread * torch.randn(parameter.shape, generator=source, dtype=torch.float64))
        for name, buffer in flow.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=source, dtype=torch.float64))
            if name.endswith("running_var"):
                buffer.copy_(0.3 + 2 * torch.rand(buffer.shape, generator=source, dtype=torch.float64))
    return flow.eval()


@pytest.fixture
def in_float64() -> Iterator[None]:
    """PyTorch's default, for normflows adds log-determinants up in the default dtype, whatever the data's."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


# --- golden: the authors' weights


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_authors_flow_decodes_their_kernels(scale: int) -> None:
    stored, flow = golden(f"flow_x{scale}"), released_flow(scale)
    latent = torch.from_numpy(stored["z"]).requires_grad_()
    kernel = flow.decode(latent)
    np.testing.assert_allclose(kernel.detach().numpy(), stored["kernel"], rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad((kernel**2).sum(), latent)
    np.testing.assert_allclose(gradient.numpy(), stored["grad_z_of_sum_kernel_squared"], rtol=0, atol=1e-7)
    assert flow.normalization == pytest.approx(float(stored["normalization"]), abs=1e-9)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_authors_flow_has_their_densities(scale: int) -> None:
    stored, flow = golden(f"flow_x{scale}"), released_flow(scale)
    data, log_det = flow.flow.forward_and_log_det(torch.from_numpy(stored["z"]))
    np.testing.assert_allclose(data.numpy(), stored["x"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(log_det.numpy(), stored["inverse_logdet"], rtol=2e-6)
    latent, log_det = flow.flow.inverse_and_log_det(torch.from_numpy(stored["x"]))
    np.testing.assert_allclose(latent.numpy(), stored["z"], rtol=0, atol=2e-3)
    np.testing.assert_allclose(-log_det.numpy(), stored["inverse_logdet"], rtol=2e-6)
    # Sums of hundreds of float32 numbers of either sign: rounding of up to 5e-4, by the number of threads.
    np.testing.assert_allclose(
        flow.log_prob(torch.from_numpy(stored["x"])).numpy(), stored["log_prob"], rtol=1e-5, atol=2e-3
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_authors_flow_is_frozen_and_runs_on_running_statistics(scale: int) -> None:
    flow = released_flow(scale)
    assert not flow.training and not any(parameter.requires_grad for parameter in flow.parameters())
    assert (flow.kernel_size, flow.hidden) == ({2: 11, 3: 15, 4: 19}[scale], flows.HIDDEN[scale])
    assert sum(p.numel() for p in flow.parameters()) == {2: 41270, 3: 98900, 4: 194470}[scale]


# --- the bijection


def test_decode_and_encode_are_inverse() -> None:
    # Latents whose data lie within the logit's range, +-13.8: beyond it kernels are clamped.
    flow, latent = small_flow(spread=0.1), 0.2 * normal(8, 25)
    assert flow.flow.forward(latent).abs().max() < 13
    torch.testing.assert_close(flow.encode(flow.decode(latent)), latent, rtol=0, atol=1e-7)
    kernel = flow.normalization * (0.05 + 0.9 * uniform(8, 1, 5, 5, seed=1))
    torch.testing.assert_close(flow.decode(flow.encode(kernel)), kernel, rtol=0, atol=1e-10)


def _compare_with_jacobian(transform: Callable[[Tensor], tuple[Tensor, Tensor]], points: Tensor) -> None:
    _, log_det = transform(points)
    for point, claimed in zip(points, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda p: transform(p[None])[0][0], point)
        torch.testing.assert_close(claimed, torch.linalg.slogdet(jacobian).logabsdet, rtol=0, atol=1e-8)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("seed", [0, 1])
def test_the_log_determinant_is_that_of_the_jacobian(seed: int) -> None:
    flow, points = small_flow(seed=seed), normal(3, 25, seed=seed)
    _compare_with_jacobian(flow.flow.forward_and_log_det, points)
    _compare_with_jacobian(flow.flow.inverse_and_log_det, points)


@pytest.mark.parametrize("layer", [0, 1])
def test_each_layers_log_determinant_is_that_of_its_jacobian(layer: int) -> None:
    part, points = small_flow().flow.flows[layer], normal(3, 25)
    _compare_with_jacobian(part.forward, points)
    _compare_with_jacobian(part.inverse, points)


@pytest.mark.usefixtures("in_float64")
def test_the_density_is_the_latents_times_the_jacobian() -> None:
    flow, data = small_flow(), normal(4, 25)
    latent, log_det = flow.flow.inverse_and_log_det(data)
    gaussian = torch.distributions.Normal(0.0, 1.0).log_prob(latent).sum(1)
    torch.testing.assert_close(flow.log_prob(data), gaussian + log_det, rtol=0, atol=1e-9)


def test_couplings_keep_even_and_odd_entries_in_turn_from_data_to_latent() -> None:
    kept = [layer.b.flatten()[:4].tolist() for layer in reversed(small_flow().flow.flows) if hasattr(layer, "b")]
    assert kept == [[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]


def test_batch_norm_trains_on_the_batch_and_runs_on_running_statistics() -> None:
    layer, data = flows.BatchNormFlow(6).double(), 3 + 2 * normal(50, 6)
    with torch.no_grad():
        layer.log_gamma.copy_(0.3 * normal(6, seed=1))
        layer.beta.copy_(normal(6, seed=2))
    latent, log_det = layer.train().inverse(data)
    variance, mean = data.var(0), data.mean(0)
    torch.testing.assert_close(latent.mean(0), layer.beta.detach())
    torch.testing.assert_close(latent.std(0), layer.log_gamma.exp().detach(), rtol=1e-5, atol=0)
    torch.testing.assert_close(log_det, (layer.log_gamma - 0.5 * (variance + 1e-5).log()).sum().expand(50))
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.running_var, 0.9 + 0.1 * variance)
    still, _ = layer.eval().inverse(data)
    expected = (data - 0.1 * mean) / (0.9 + 0.1 * variance + 1e-5).sqrt() * layer.log_gamma.exp() + layer.beta
    torch.testing.assert_close(still, expected)
    torch.testing.assert_close(layer.running_mean, 0.1 * mean)
    torch.testing.assert_close(layer.forward(still)[0], data)


def test_dequantisation_adds_less_than_one_level() -> None:
    flow, kernel = small_flow(), 0.3 * (0.1 + 0.8 * uniform(4, 1, 5, 5))

    def share(data: Tensor) -> Tensor:
        return (torch.sigmoid(data) - flows.ALPHA) / (1 - 2 * flows.ALPHA)

    added = share(flow.to_data(kernel, rng())) - share(flow.to_data(kernel))
    assert added.min() > -1e-12 and 0.9 / 720 < added.max() < 1 / 720
    assert torch.equal(flow.to_data(kernel, rng(4)), flow.to_data(kernel, rng(4)))
    assert torch.isfinite(flow.to_data(torch.zeros(1, 1, 5, 5).double() - 1e-3)).all()


# --- files


def test_a_flow_survives_its_file(tmp_path: Path) -> None:
    flow, latent = small_flow().float(), normal(3, 25).float()
    flows.save(flow, tmp_path / "flow.safetensors", scale=2, family={"noise": 0.4}, commit="abc")
    with safe_open(tmp_path / "flow.safetensors", framework="pt") as file:
        header = {key: json.loads(value) for key, value in file.metadata().items()}
    assert header["scale"] == 2 and header["family"] == {"noise": 0.4} and header["commit"] == "abc"
    again = flows.load(tmp_path / "flow.safetensors")
    assert (again.kernel_size, again.hidden, again.normalization) == (5, 6, 0.3)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in flow.state_dict().items())
    assert torch.equal(again.decode(latent), flow.decode(latent))
    assert not again.training and not any(parameter.requires_grad for parameter in again.parameters())


def test_files_that_are_no_flows_are_errors(tmp_path: Path) -> None:
    text = tmp_path / "flow.safetensors"
    with pytest.raises(ValueError, match="is no flow that experiments/train_flow.py wrote"):
        flows.load(text)
    text.write_text("no tensors")
    with pytest.raises(ValueError, match="is no flow that experiments/train_flow.py wrote"):
        flows.load(text)
    with pytest.raises(ValueError, match="no flow is bundled for scale 5, only for 2, 3, 4 and 8"):
        flows.bundled(5)
    with pytest.raises(ValueError, match="is no flow"):
        official_flow.load(2, str(text))


def test_foreign_files_that_are_no_flows_are_errors(tmp_path: Path) -> None:
    contents = {"text": b"no pickle", "empty": b""}
    for name, content in contents.items():
        (tmp_path / f"{name}.pt").write_bytes(content)
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"weights": {}}, tmp_path / "keys.pt")
    torch.save({"model_state": {"kernel_size": torch.tensor(5)}}, tmp_path / "bare.pt")
    for path in tmp_path.glob("*.pt"):
        with pytest.raises(ValueError, match="is no flow of FKP's released code"):
            official_flow.load(2, str(path))


def test_a_released_file_that_lacks_layers_is_an_error(tmp_path: Path) -> None:
    whole = _as_released(small_flow().float())
    torch.save({"model_state": whole}, tmp_path / "whole.pt")
    flow = official_flow.load(2, str(tmp_path / "whole.pt"))
    assert torch.equal(flow.decode(normal(2, 25).float()), small_flow().float().decode(normal(2, 25).float()))
    for missing in ("net.9.", "net.4.t_net.0.weight"):
        torch.save({"model_state": {k: v for k, v in whole.items() if not k.startswith(missing)}}, tmp_path / "part.pt")
        with pytest.raises(ValueError, match="is no flow of FKP's released code"):
            official_flow.load(2, str(tmp_path / "part.pt"))


def _as_released(flow: flows.KernelFlow) -> dict[str, Tensor]:
    """A flow under the names and in the order of FKP's released files."""
    state = {"kernel_size": torch.tensor(flow.kernel_size), "normalization": torch.tensor(flow.normalization).double()}
    last = len(flow.flow.flows) - 1
    for key, value in flow.state_dict().items():
        if key.startswith("flow.flows."):
            number, name = key.removeprefix("flow.flows.").split(".", 1)
            theirs = {"s": "s_net", "t": "t_net", "b": "mask"}
            first, _, rest = name.partition(".")
            name = theirs.get(first, first) + ("." + rest if rest else "")
            state[f"net.{last - int(number)}.{name}"] = value.flatten() if name == "mask" else value
    return state


def test_weights_that_are_nowhere_are_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="choose bundled, official or the path of a flow"):
        official_flow.load(2, str(tmp_path / "none.pt"))
    with pytest.raises(ValueError, match="released no flow for scale 8"):
        official_flow.load(8, "official")
    asked: list[str] = []
    monkeypatch.setattr(official_flow, "fetch_weights", lambda name: asked.append(name) or tmp_path / name)
    with pytest.raises(ValueError, match="FKP_x3.pt is no flow"):
        official_flow.load(3, "official")
    assert asked == ["FKP_x3.pt"] and asked[0] in official.WEIGHTS


# --- the bundled flows


def weights_file(scale: int) -> Path:
    return Path(str(files("kernelsr") / "weights" / f"flow_x{scale}.safetensors"))


def bundled(scale: int) -> flows.KernelFlow:
    assert weights_file(scale).is_file()
    return flows.bundled(scale)


@cache
def samples(scale: int) -> tuple[Tensor, Tensor]:
    """300 kernels of the bundled flow and of the family it was trained on."""
    flow, posed = bundled(scale), problem(scale, dtype=torch.float32)
    latent = normal(300, flow.kernel_size**2, dtype=torch.float32)
    return flow.decode(latent), AnisotropicGaussian()(300, posed, rng(1))


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_a_bundled_flow_of_its_size(scale: int) -> None:
    flow = bundled(scale)
    assert (flow.kernel_size, flow.hidden) == (problem(scale).kernel_size, flows.HIDDEN[scale])


@pytest.mark.parametrize("scale", SCALES)
def test_samples_of_the_bundled_flow_look_like_the_family(scale: int) -> None:
    decoded, drawn = samples(scale)
    found, wanted = (torch.linalg.eigvalsh(kernels.moments(batch)) for batch in (decoded, drawn))
    # Measured at x2 and x4: means 1.08-1.32 and standard deviations 0.8-1.27 times the family's, sums 1.02-1.04 in the
    # mean and 0.69-1.86 each, centroids 0.08 pixels off.
    assert (0.7 * wanted.mean(0) < found.mean(0)).all() and (found.mean(0) < 1.45 * wanted.mean(0)).all()
    assert (0.6 * wanted.std(0) < found.std(0)).all() and (found.std(0) < 1.5 * wanted.std(0)).all()
    target = kernels.centre("fkp", decoded.shape[-1], scale)
    assert (kernels.centroid(decoded).mean(0) - target).abs().max() < 0.2
    sums = decoded.sum((1, 2, 3))
    assert 0.9 < sums.mean() < 1.1 and sums.min() > 0.5 and sums.max() < 2.5


@cache
def likelihood(scale: int) -> float:
    """The bundled flow's mean log-density on the whole grid; a second or less on an idle core."""
    flow = bundled(scale)
    return train_flow.mean_log_likelihood(flow, train_flow.validation_grid(scale, flow.kernel_size))


@pytest.mark.parametrize("scale", AUTHORS_LIKELIHOOD)
def test_the_bundled_flow_is_at_least_as_likely_as_the_authors(scale: int) -> None:
    assert likelihood(scale) >= AUTHORS_LIKELIHOOD[scale]


@pytest.mark.parametrize("scale", SCALES)
def test_the_likelihood_in_the_file_is_what_the_grid_says(scale: int) -> None:
    with safe_open(weights_file(scale), framework="pt") as file:
        stored = json.loads(file.metadata()["validation_log_likelihood"])
    assert likelihood(scale) == pytest.approx(stored, abs=0.05)


@pytest.mark.parametrize("scale", AUTHORS_LIKELIHOOD)
def test_the_authors_likelihood_is_what_we_compare_with(scale: int) -> None:
    flow = released_flow(scale)
    grid = train_flow.validation_grid(scale, flow.kernel_size)
    assert train_flow.mean_log_likelihood(flow, grid) == pytest.approx(AUTHORS_LIKELIHOOD[scale], abs=0.02)


# --- training


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Settings of a training that takes a second, validated on every 20th kernel of the grid."""
    grid = train_flow.validation_grid
    monkeypatch.setattr(train_flow, "validation_grid", lambda *arguments: grid(*arguments)[::20])
    return {
        "scale": 2,
        "hidden": 4,
        "kernels": 600,
        "batch": 20,
        "lr": 1e-2,
        "weight_decay": 1e-6,
        "milestones": [1],
        "seed": 0,
    }


def _trained(settings: dict[str, object], epochs: int, checkpoint: Path) -> tuple[flows.KernelFlow, list[list[float]]]:
    posed = problem(2, dtype=torch.float32, kernel_size=7)
    with torch.random.fork_rng():
        return train_flow.train(
            OmegaConf.create({**settings, "epochs": epochs}), AnisotropicGaussian(), posed, checkpoint
        )


def test_training_raises_the_likelihood_and_resumes_to_the_same_numbers(
    tiny: dict[str, object], tmp_path: Path
) -> None:
    straight, curve = _trained(tiny, 2, tmp_path / "straight.checkpoint")
    assert [row[0] for row in curve] == [1, 2]
    # Measured: 25 nats from the first epoch's end to the second's.
    assert curve[1][1] > curve[0][1] + 10 and curve[1][2] > curve[0][2] + 10
    _trained(tiny, 1, tmp_path / "broken.checkpoint")
    resumed, again = _trained(tiny, 2, tmp_path / "broken.checkpoint")
    assert [row[:3] for row in again] == [row[:3] for row in curve]
    assert all(torch.equal(value, resumed.state_dict()[key]) for key, value in straight.state_dict().items())
    assert not straight.training


@pytest.mark.parametrize("family", [LinearMotion(), RandomMotion(), Disk()], ids=str)
def test_a_flow_learns_any_family(
    family: KernelFamily, tiny: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 200 kernels, not of 50,000: some that come later lie above it.
    monkeypatch.setattr(train_flow, "peak", lambda family, problem, seed: family(200, problem, rng(seed)).max().item())
    posed = problem(2, dtype=torch.float32, kernel_size=9)
    cfg = OmegaConf.create({**tiny, "epochs": 2})
    with torch.random.fork_rng():
        flow, curve = train_flow.train(cfg, family, posed, tmp_path / "x.checkpoint")
    # Measured: 5 (random motion) to 30 nats (disks) from the first epoch's end to the second's.
    assert curve[1][2] > curve[0][2] + 3 and curve[1][1] > curve[0][1] + 3
    kernel = family(50, posed, rng(9))
    # Most pixels are zero, and what lies above the peak is cut and not lost.
    assert torch.isfinite(flow.to_data(kernel)).all() and torch.isfinite(flow.to_data(3 * kernel, rng())).all()
    torch.testing.assert_close(flow.decode(flow.encode(kernel)), kernel, rtol=0, atol=2e-3)


def test_a_checkpoint_of_another_training_is_refused(tiny: dict[str, object], tmp_path: Path) -> None:
    posed, checkpoint = problem(2, dtype=torch.float32, kernel_size=7), tmp_path / "x.checkpoint"
    cfg = OmegaConf.create({**tiny, "epochs": 1})
    with torch.random.fork_rng():
        train_flow.train(cfg, Disk(2.0), posed, checkpoint)
        with pytest.raises(ValueError, match=r"of another training \(Disk\(radius=2.0\).*remove it, or set name="):
            train_flow.train(cfg, LinearMotion(3.0), posed, checkpoint)


@pytest.mark.parametrize(("kernels", "batch"), [(199, 20), (600, 0)])
def test_an_epoch_without_kernels_is_an_error(
    kernels: int, batch: int, tiny: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=f"kernels is {kernels} and batch is {batch}; .* set more kernels or a smaller"
    ):
        _trained({**tiny, "kernels": kernels, "batch": batch}, 1, tmp_path / "x.checkpoint")


@pytest.mark.parametrize(
    ("choice", "family", "kernel_size", "centre", "name"),
    [
        ("aniso", AnisotropicGaussian(), 0, "fkp", "kernelsr/weights/flow_x3"),
        ("aniso", AnisotropicGaussian("released"), 0, "fkp", "outputs/flows/flow_aniso_x3"),
        ("aniso", AnisotropicGaussian(), 0, "aligned", "outputs/flows/flow_aniso_x3_k15_aligned"),
        ("motion", LinearMotion(), 0, "fkp", "outputs/flows/flow_motion_x3"),
        ("motion", LinearMotion(), 23, "fkp", "outputs/flows/flow_motion_x3_k23_fkp"),
    ],
)
def test_only_the_bundled_recipe_writes_the_bundled_flows(
    choice: str, family: KernelFamily, kernel_size: int, centre: str, name: str, tmp_path: Path
) -> None:
    posed = problem(3, 24, kernel_size=kernel_size, centre=centre)
    empty = {"scale": 3, "name": None, "out": None, "results": None, "overwrite": True}
    out, stem, results = train_flow.destination(OmegaConf.create(empty), family, choice, posed)
    assert (out / stem).as_posix() == name
    assert results.as_posix() == ("experiments/results" if "weights" in name else "outputs/flows")
    (tmp_path / "mine.safetensors").write_text("a flow of last week")
    own = OmegaConf.create({**empty, "name": "mine", "out": str(tmp_path), "overwrite": False})
    with pytest.raises(ValueError, match=r"mine\.safetensors is there already; set name="):
        train_flow.destination(own, family, choice, posed)
