# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Quickstart: what kernel blurred this image?
#
# A low-resolution image is modelled as
#
# $$ y = (x \star k)\downarrow_s + n . $$
#
# The unknown image $x$ is correlated with an unknown blur kernel $k$, one pixel in $s \times s$ is kept, and noise $n$ is
# added. *Blind super-resolution* asks for $x$ and $k$ from $y$ alone.
#
# This notebook makes such a $y$ from a bundled photograph, estimates $k$ and $x$ with three kernel priors, and then judges
# the estimates. Because we made $y$ ourselves, we know the truth and can measure the errors.
#
# **The budget is small.** To end within a minute or so on two CPU cores it uses a crop of 96x96 pixels, a small image
# network and 300 steps. The papers use whole images, a network of 2.4 million parameters and 1000 steps. So the numbers
# below show how the parts work. They say nothing about how good the methods are.

# %%
import matplotlib.pyplot as plt
import torch

from kernelsr import Problem, Truth, flows, metrics
from kernelsr.data import floor_to_8_bits
from kernelsr.degradation import degrade
from kernelsr.families import AnisotropicGaussian, gaussian_kernel, mean_kernel
from kernelsr.images import read_image
from kernelsr.official import find_image_set
from kernelsr.priors import Dynamic, Flow, Softmax
from kernelsr.restorers import Bicubic, Dip
from kernelsr.seeds import generator
from kernelsr.solvers import joint


def show(axis, image, title=""):
    """Draw an image (1, 3, H, W) in [0, 1], or a kernel (1, 1, K, K) in colours from 0 to its peak."""
    pixels = image[0].permute(1, 2, 0).clamp(0, 1) if image.shape[1] == 3 else image[0, 0]
    axis.imshow(pixels, vmin=0, interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])


# %% [markdown]
# ## 1. An image, a kernel, and the problem they make
#
# Images are tensors $(1, C, H, W)$ in $[0, 1]$. Kernels are tensors $(1, 1, K, K)$ with sum 1, on the grid of the
# high-resolution (HR) image. The kernel here is an anisotropic Gaussian: variances 8 and 3 along its axes, in HR pixels
# squared, turned by 2.3 radians. At scale 4 the papers' support is $K = \min(4s + 3, 21) = 19$.
#
# `degrade` is the forward model without noise. The result is clipped and *floored* to 8 bits, as in the FKP protocol.

# %%
scale, kernel_size = 4, 19

photo = read_image(find_image_set("demo") / "coffee.png")
hr = photo[..., 48:144, 48:144]

first_variance, second_variance, angle = torch.tensor([[8.0], [3.0], [2.3]], dtype=torch.float64)
true_kernel = gaussian_kernel(first_variance, second_variance, angle, kernel_size=kernel_size, scale=scale)

lr = floor_to_8_bits(degrade(hr, true_kernel.float(), scale))

figure, axes = plt.subplots(1, 4, figsize=(10, 2.8))
show(axes[0], photo, "the photograph")
show(axes[1], hr, "x: a crop of it, 96x96")
show(axes[2], true_kernel, "k: 19x19 HR pixels")
show(axes[3], lr, "y: 24x24")
figure.tight_layout()

# %% [markdown]
# The kernel does not sit in the middle of its support. In the FKP protocol its centre of mass is at $(K - s)/2$. That
# moves the LR grid by $s - 1$ HR pixels against the grid of bicubic downscaling. The convention is part of the problem
# (`centre="fkp"`); the other one is `aligned`.
#
# A solver is given a `Problem` and nothing else. What we know beyond it is a `Truth`, and only metrics may see one.

# %%
problem = Problem(lr, scale, kernel_size, centre="fkp")
truth = Truth(hr=hr, kernel=true_kernel)
print("unknown image:", problem.hr_size, "unknown kernel:", (problem.kernel_size, problem.kernel_size))

# %% [markdown]
# ## 2. Families: distributions one draws from
#
# Millions of pairs $(x, k)$ explain the same $y$. To choose among them, FKP and DKP use what is known about blur kernels: a
# *family*, a distribution over kernels. In the FKP protocol both variances are uniform in $[0.175 s, \min(2.5 s, 10)]$ and
# the angle is uniform.
#
# The rows below are draws from
#
# 1. that family, `matched`: the test kernels of the papers come from it;
# 2. the family that DKP's released code draws from, `released`. Its variances start at 3.7 at this scale, so our kernel,
#    with a variance of 3, lies outside it. Wide kernels are cut off: the shift to the protocol's centre leaves the last rows
#    and columns empty;
# 3. FKP's normalizing flow. It was trained on draws of row 1 and turns a Gaussian latent into a kernel. Here the latents are
#    random points of the sphere that FKP searches.

# %%
rng = generator(0, "draws")
flow = flows.bundled(scale)
latents = torch.randn(8, kernel_size**2, generator=rng)
latents *= (kernel_size - 1) / latents.norm(dim=1, keepdim=True)
draws = {
    "matched": AnisotropicGaussian("matched")(8, problem, rng),
    "released": AnisotropicGaussian("released")(8, problem, rng),
    "flow": flow.decode(latents),
}

figure, axes = plt.subplots(3, 8, figsize=(10, 4))
for row, (name, kernels) in zip(axes, draws.items(), strict=True):
    for axis, kernel in zip(row, kernels, strict=True):
        show(axis, kernel[None])
    row[0].set_ylabel(name)
figure.tight_layout()

# %% [markdown]
# ## 3. Floors: what one gets for nothing
#
# Before any estimate, look at what a method has to clear.
#
# - *Mean kernel*: one constant Gaussian of the family's mean variance. It never looks at the image.
# - *Bicubic, aligned*: bicubic enlargement, moved to the grid of the convention. *Unaligned* is the same without the move.
#
# The measures of a kernel are its PSNR and its *variance error*, the mean relative error of the two principal variances
# (0.05 is 5 %). The second matters more: with kernels of the wrong width, images lose visible quality long before the kernel
# PSNR looks bad.

# %%
floors = metrics.floors(problem, truth, metrics.Scoring(border=scale))
for floor in floors:
    print({key: round(value, 2) if isinstance(value, float) else value for key, value in floor.items()})

# %% [markdown]
# ## 4. Priors: points one optimises
#
# A *prior* is a point among kernels that gradient steps can move. Three of them:
#
# - `Softmax`: one logit for each kernel pixel. Positive, unit sum, otherwise free. This is DIP-Softmax.
# - `Flow`: a latent of the frozen flow, kept on a sphere, where most points decode to kernels like those of row 3. This is
#   FKP. It starts at the mean kernel, and rests for the first 76 steps, until there is an image to learn from.
# - `Dynamic`: a small network from fixed noise to a kernel. Every five steps, five random kernels of a family are scored by
#   degrading the current image with them, and the network takes a step towards them, by weights that favour small errors.
#   In between it follows the gradient of the loss, as the others do. This is DKP. We give it the matched family.
#
# The image comes from a *restorer*. `Dip` is the deep image prior: an untrained hourglass network with fixed noise at its
# input, whose weights are fitted to this one image.
#
# The solver `joint` couples the two. Each step it makes image and kernel, degrades the one by the other, compares with $y$
# (by SSIM at first, then by the mean squared error), and moves both down the gradient:
#
#     image  = restorer(kernel)
#     prior.advance(misfit)               # only DKP listens to the image here
#     kernel = prior()
#     loss   = data(degrade(image, kernel, s), y) + penalties
#     loss.backward();  restorer.step();  prior.step()
#
# `on_step` is called after each step. We use it to keep snapshots.

# %%
STEPS = 300
SNAPSHOTS = (1, 76, 100, 150, 200, 300)

priors = {
    "softmax": lambda rng: Softmax(problem, rng),
    "fkp": lambda rng: Flow(problem, rng),
    "dkp": lambda rng: Dynamic(problem, rng, family=AnisotropicGaussian("matched")),
}

estimates, snapshots, curves = {}, {}, {}
for name, make_prior in priors.items():
    rng = generator(0, name)
    prior = make_prior(rng)
    restorer = Dip(problem, rng, channels=32, skip=4)
    kept, curve = {}, []

    def record(progress, kept=kept, curve=curve):
        step = progress.step + 1
        if step in SNAPSHOTS:
            kept[step] = progress.kernel, progress.image
        if step % 5 == 0:
            curve.append((step, float(progress.loss), metrics.kernel_psnr(progress.kernel, true_kernel)))

    estimates[name] = joint(problem, prior, restorer, steps=STEPS, ssim_steps=80, on_step=record)
    snapshots[name], curves[name] = kept, curve

# %% [markdown]
# ## 5. The kernel as it converges
#
# Up to step 76 the softmax and the flow rest while the image network learns from their first kernel. The network of DKP
# starts from a rehearsal on random kernels and moves from the first step on.

# %%
figure, axes = plt.subplots(len(priors), len(SNAPSHOTS) + 1, figsize=(10, 4.6))
for row, (name, kept) in zip(axes, snapshots.items(), strict=True):
    for axis, kernel in zip(row, [kernel for kernel, _ in kept.values()] + [true_kernel], strict=True):
        show(axis, kernel)
    row[0].set_ylabel(name)
for axis, title in zip(axes[0], [f"step {step}" for step in SNAPSHOTS] + ["true"], strict=True):
    axis.set_title(title, fontsize=9)
figure.tight_layout()

# %% [markdown]
# The loss falls for all of them. A low loss does not tell a good kernel from a bad one: image and kernel can be wrong
# together and still explain $y$. That is why a prior is needed. (The loss drops at step 80, where it changes from
# 1 - SSIM to the squared error.)

# %%
mean_kernel_psnr = floors[0]["kernel_psnr"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
for name, curve in curves.items():
    steps, losses, psnrs = zip(*curve, strict=True)
    left.semilogy(steps, losses, label=name)
    right.plot(steps, psnrs, label=name)
right.axhline(mean_kernel_psnr, color="grey", linestyle="--", label="floor: mean kernel")
left.set(xlabel="step", ylabel="loss")
right.set(xlabel="step", ylabel="kernel PSNR (dB)")
left.legend()
right.legend()
figure.tight_layout()

# %% [markdown]
# ## 6. The image as it converges

# %%
figure, axes = plt.subplots(len(priors), len(SNAPSHOTS) + 1, figsize=(10, 4.6))
for row, (name, kept) in zip(axes, snapshots.items(), strict=True):
    for axis, image in zip(row, [image for _, image in kept.values()] + [hr], strict=True):
        show(axis, image)
    row[0].set_ylabel(name)
for axis, title in zip(axes[0], [f"step {step}" for step in SNAPSHOTS] + ["true"], strict=True):
    axis.set_title(title, fontsize=9)
figure.tight_layout()

# %%
bicubic = Bicubic(problem, generator(0, "bicubic"))(true_kernel)
pictures = {"y, enlarged": lr, "bicubic, aligned": bicubic}
pictures |= {name: estimate.image for name, estimate in estimates.items()} | {"x": hr}
figure, axes = plt.subplots(1, len(pictures), figsize=(10, 2.2))
for axis, (name, image) in zip(axes, pictures.items(), strict=True):
    show(axis, image, name)
figure.tight_layout()

# %% [markdown]
# ## 7. The table
#
# One row for each method, the floors first. PSNR is that of the image on the luma channel with a border of $s$ pixels shaved.
# LR PSNR compares $y$ with the degraded estimate: it is what the solver can see.

# %%
columns = ("kernel_psnr", "variance_error", "centroid_error", "psnr", "lr_psnr")
rows = {floor["method"]: floor for floor in floors}
scoring = metrics.Scoring(border=scale)
rows |= {name: metrics.score(estimate, problem, truth, scoring) for name, estimate in estimates.items()}
print(f"{'':26}" + "".join(f"{column:>16}" for column in columns))
for name, row in rows.items():
    print(f"{name:26}" + "".join(f"{row[column]:16.2f}" if column in row else f"{'':16}" for column in columns))

# %% [markdown]
# How to read it:
#
# - **Kernel PSNR has a high floor.** Kernels are small numbers, so any smooth kernel is close to any other in squared error.
#   Values above 50 dB look excellent and are not.
# - **A high LR PSNR proves nothing.** It says how well image and kernel together explain $y$, not how good either is.
# - **The two kernel measures can disagree.** A kernel PSNR above the floor may come with a variance error no better than
#   the floor's. The next figure shows a reason.
# - **One image and one seed are no evidence.** The optimisation is chaotic: another machine gives other numbers. A claim
#   needs paired differences over images and seeds.

# %%
row_of_peak = true_kernel[0, 0].max(1).values.argmax()
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
profiles = {"true": true_kernel, "mean kernel": mean_kernel(problem)}
profiles |= {name: estimate.kernel for name, estimate in estimates.items() if name != "softmax"}
for name, kernel in profiles.items():
    left.plot(kernel[0, 0, row_of_peak], label=name)
    right.semilogy(kernel[0, 0, row_of_peak].clamp(min=1e-9), label=name)
left.set(xlabel="column (HR pixels)", ylabel="kernel", title="one row of each kernel")
right.set(xlabel="column (HR pixels)", title="the same on a logarithmic scale", ylim=(1e-6, 1e-1))
left.legend(fontsize=8)
figure.tight_layout()

# %% [markdown]
# A variance weighs each value by its squared distance from the centre, so faint tails count. Kernels of the flow have a
# pedestal and stray pixels: it was trained on kernels with a little uniform noise added to each pixel (dequantisation).
# The network of DKP starts from an almost flat kernel, and a remainder of that is left far from the centre. Kernel PSNR
# hardly sees either.
#
# ## 8. Where to go from here
#
# On an image of your own, the whole of this is one call:
#
# ```python
# import kernelsr
#
# estimate = kernelsr.estimate("photo.png", scale=4, prior="fkp")      # estimate.kernel, estimate.image
# estimate = kernelsr.estimate("photo.png", scale=4, experiment="dip_fkp")  # the paper's full schedule
# ```
#
# On sets of images, with a report that compares everything with the floors, use the command line:
#
#     python run.py                                     # the bundled photographs
#     python run.py prior=fkp data=set5_aniso scale=2   # vary one thing
#     python run.py experiment=dip_dkp data=set5_aniso  # a paper's whole schedule
#     python run.py -m prior=fkp,dkp seed=0,1,2         # a sweep
#
# The pages in `docs/methods` say what each method is, which settings it has, and where it differs from its paper.
#
# Things to try here: the `released` family for DKP; the prior `Gaussian`, which has only three parameters; another kernel;
# a larger crop with `Dip(problem, rng)` at its full size and 1000 steps.
