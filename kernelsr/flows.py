"""FKP's normalizing flow over kernels: a bijection between kernels and a Gaussian latent, on normflows.

It owns how a kernel becomes data for the flow (scaling, dequantisation, logit) and the file format of trained flows.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from normflows import NormalizingFlow
from normflows.distributions import DiagGaussian
from normflows.flows import Flow, MaskedAffineFlow
from torch import Tensor, nn

from kernelsr import stored

ALPHA = 1e-6
HIDDEN = {2: 15, 3: 20, 4: 25, 8: 25}
SHAPE = ("kernel_size", "hidden", "normalization", "couplings", "centre")


class BatchNormFlow(Flow):
    """Batch normalisation as a layer of a flow, with running statistics, for normflows' direction latent -> data.

    Dinh et al. (2017), RealNVP, section 3.7. While training, ``inverse`` (data -> latent) normalises by the batch and
    updates the running statistics; ``forward`` and evaluation use the running ones.
    """

    def __init__(self, size: int, momentum: float = 0.9, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.log_gamma = nn.Parameter(torch.zeros(size))
        self.beta = nn.Parameter(torch.zeros(size))
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_var", torch.ones(size))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.sqrt(self.running_var + self.eps)
        x = (z - self.beta) * torch.exp(-self.log_gamma) * scale + self.running_mean
        return x, (scale.log() - self.log_gamma).sum().expand(len(z))

    def inverse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            variance, mean = torch.var_mean(x, 0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, 1 - self.momentum)
                self.running_var.lerp_(variance, 1 - self.momentum)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = torch.sqrt(variance + self.eps)
        z = (x - mean) / scale * self.log_gamma.exp() + self.beta
        return z, (self.log_gamma - scale.log()).sum().expand(len(x))


class Coupling(MaskedAffineFlow):
    """normflows' coupling, whose ``forward`` makes no constant on the way: a step recorded on a GPU cannot have one."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        masked, free = self.b * z, 1 - self.b
        log_scale, translate = (
            values.masked_fill(~torch.isfinite(values), torch.nan) for values in (self.s(masked), self.t(masked))
        )
        return masked + free * (z * torch.exp(log_scale) + translate), (free * log_scale).sum(1)


def _perceptron(size: int, hidden: int, activation: type[nn.Module]) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, hidden), activation(), nn.Linear(hidden, hidden), activation(), nn.Linear(hidden, size)
    )


class KernelFlow(nn.Module):
    """FKP's flow: five RealNVP couplings with alternating masks, each with batch norm; Liang et al. (2021), section 3.2.

    Args:
        kernel_size: K; the flow has K*K dimensions.
        hidden: width of the couplings' networks; the paper's are 15/20/25/25 for x2/x3/x4/x8.
        normalization: kernels are divided by it to lie in [0, 1]; about the peak of the family's narrowest kernel.
        centre: the convention of the kernels it was trained on.
    """

    def __init__(self, kernel_size: int, hidden: int, normalization: float, couplings: int = 5, centre: str = "fkp"):
        super().__init__()
        self.kernel_size, self.hidden, self.normalization = kernel_size, hidden, float(normalization)
        self.couplings, self.centre = couplings, centre
        size = kernel_size**2
        layers: list[Flow] = []
        # normflows lists layers from latent to data; FKP numbers its couplings from data to latent, hence the reversal.
        for number in reversed(range(couplings)):
            kept = (torch.arange(size) + number + 1) % 2 == 0
            translate, log_scale = _perceptron(size, hidden, nn.ReLU), _perceptron(size, hidden, nn.Tanh)
            layers += [BatchNormFlow(size), Coupling(kept.float(), translate, log_scale)]
        self.flow = NormalizingFlow(DiagGaussian(size, trainable=False), layers)

    def decode(self, latent: Tensor) -> Tensor:
        """Kernels (n, 1, K, K) of latents (n, K*K). They do not sum to one exactly, and FKP uses them so."""
        data = self.flow.forward(latent)
        kernel = (torch.sigmoid(data) - ALPHA) / (1 - 2 * ALPHA) * self.normalization
        return kernel.view(-1, 1, self.kernel_size, self.kernel_size)

    def encode(self, kernel: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Latents (n, K*K) of kernels (n, 1, K, K); with ``rng`` dequantised as in training."""
        return self.flow.inverse(self.to_data(kernel, rng))

    def to_data(self, kernel: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Kernels as the flow's data (n, K*K): clamped, scaled into [0, 1], dequantised by U(0, 1)/720, logit.

        A pixel of zero has the logit of ALPHA, and one above the normalization, narrower than the family's narrowest
        kernel, that of 1 - ALPHA.
        """
        share = kernel.flatten(1).clamp(min=0) / self.normalization
        if rng is not None:
            share = share + torch.rand(share.shape, generator=rng, dtype=share.dtype, device=share.device) / 720
        return torch.logit(ALPHA + (1 - 2 * ALPHA) * share.clamp(max=1))

    def log_prob(self, data: Tensor) -> Tensor:
        """Log-density (n,) of data (n, K*K) as ``to_data`` makes it (of the logits; the logit's Jacobian left out)."""
        return self.flow.log_prob(data)


def save(flow: KernelFlow, path: Path, **metadata: object) -> None:
    """Write a flow as safetensors; what it needs to be rebuilt, and ``metadata``, travel in the header."""
    stored.save(flow, SHAPE, path, metadata)


def load(path: Path) -> KernelFlow:
    """A trained flow from a file that ``save`` wrote."""
    return stored.load(KernelFlow, SHAPE, path, "flow that experiments/train_flow.py wrote")


def bundled(scale: int) -> KernelFlow:
    """Our flow for x2, x3, x4 or x8, trained by experiments/train_flow.py on the FKP protocol's Gaussian kernels."""
    path = Path(str(files("kernelsr") / "weights" / f"flow_x{scale}.safetensors"))
    if not path.is_file():
        raise ValueError(
            f"no flow is bundled for scale {scale}, only for 2, 3, 4 and 8; "
            f"train one with `python -m experiments.train_flow scale={scale}` and pass its path as weights"
        )
    return load(path)
