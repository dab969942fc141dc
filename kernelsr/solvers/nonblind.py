"""Non-blind restoration: the image that a known kernel implies."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import mse_loss

from kernelsr.degradation import degrade
from kernelsr.learner import Restorer
from kernelsr.problem import Problem


def nonblind(problem: Problem, kernel: Tensor, restorer: Restorer) -> Tensor:
    """The image (1, C, sh, sw) that a restorer makes with a kernel that rests; FKP's and DKP's last step.

    A restorer that learns (a deep image prior) descends the squared data error between its calls.
    """
    kernel = kernel.detach().to(problem.lr)
    for call in range(restorer.calls):
        image = restorer(kernel)
        if restorer.optimizer is not None:
            loss = mse_loss(degrade(image, kernel, problem.scale), problem.lr) + restorer.penalty(image)
            loss.backward()
            restorer.step(call)
    return image.detach()
