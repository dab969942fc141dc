"""`kernelsr.estimate`, and how a configuration becomes parts."""

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from PIL import Image

import kernelsr
from kernelsr.configure import compose_config, device_of, part, scenario_of
from kernelsr.images import read_image
from kernelsr.metrics import kernel_psnr
from kernelsr.official import HERE
from kernelsr.paths import CONF
from kernelsr.problem import Problem, Progress
from kernelsr.restorers import Bicubic

TINY = ["restorer.channels=8", "restorer.skip=4"]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "lr.png"
    with Image.open(HERE / "photos" / "coffee.png") as picture:
        picture.crop((0, 0, 24, 28)).save(path)
    return path


def test_path_array_and_tensor_give_the_same_estimate(photo):
    with Image.open(photo) as picture:
        array = np.asarray(picture)
    sources = [photo, str(photo), array, read_image(photo)]
    results = [kernelsr.estimate(source, 4, "softmax", steps=3, overrides=TINY) for source in sources]
    for result in results:
        assert result.image.shape == (1, 3, 112, 96) and result.kernel.shape == (1, 1, 19, 19)
        assert torch.equal(result.kernel, results[0].kernel) and torch.equal(result.image, results[0].image)


def test_a_nonblind_restorer_makes_an_image_with_the_kernel_and_leaves_the_estimate_as_it_is(photo):
    alone = kernelsr.estimate(photo, 2, "gaussian", steps=2, overrides=TINY)
    both = kernelsr.estimate(photo, 2, "gaussian", nonblind="bicubic", steps=2, overrides=TINY)
    assert alone.nonblind is None and alone.restored is alone.image
    assert torch.equal(alone.image, both.image) and torch.equal(alone.kernel, both.kernel)
    posed = Problem(read_image(photo), 2)
    assert both.restored is both.nonblind and torch.equal(both.nonblind, Bicubic(posed, torch.Generator())(both.kernel))


def test_a_nonblind_restorer_that_cannot_be_built_fails_before_the_solver(photo):
    seen = []
    words = [*TINY, "nonblind.steps=0"]
    with pytest.raises(ValueError, match="steps is 0"):
        kernelsr.estimate(photo, 2, "gaussian", nonblind="zssr", steps=2, overrides=words, on_step=seen.append)
    assert not seen


def test_a_prior_starts_where_it_is_told(photo):
    own = kernelsr.estimate(photo, 2, "gaussian", steps=1, overrides=TINY)
    there = kernelsr.estimate(photo, 2, "gaussian", start="spectral", steps=1, overrides=TINY)
    spectral = kernelsr.estimate(photo, 2, "spectral", overrides=["nonblind=none"])
    assert kernel_psnr(there.kernel, spectral.kernel) > 80 > kernel_psnr(own.kernel, spectral.kernel)


def test_steps_reach_the_caller(photo):
    seen = []
    last = kernelsr.estimate(photo, 2, "fkp", steps=3, overrides=TINY, on_step=seen.append)
    assert [progress.step for progress in seen] == [0, 1, 2]
    assert torch.equal(seen[-1].kernel, last.kernel) and last.kernel.shape[-1] == 11


def test_an_experiment_is_the_papers_schedule(photo):
    seen = []

    def stop_early(progress):
        seen.append(progress)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kernelsr.estimate(photo, 4, experiment="dip_softmax", overrides=TINY, on_step=stop_early)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", ["experiment=dip_dkp"])
    assert (cfg.solver.steps, cfg.solver.ssim_steps, cfg.restorer.sparsity) == (1000, 405, 2e-4)


@pytest.mark.parametrize("experiment", ["dip_fkp", "dip_dkp", "double_dip", "dip_softmax"])
def test_an_experiment_has_the_papers_hourglass(experiment):
    """The reduced size of the default is for a first look."""
    cfg = compose_config([f"experiment={experiment}"])
    assert (cfg.restorer.channels, cfg.restorer.skip, cfg.restorer.scales, cfg.solver.steps) == (128, 16, 5, 1000)


@pytest.mark.parametrize("base", ["fkp", "gaussian", "inr", "softmax", "double_dip"])
def test_kernelgan_fkps_settings_of_its_flow_leave_another_base_alone(base):
    game = compose_config(["experiment=kernelgan_fkp", f"prior@prior.base={base}", "scale=2"])
    assert game.prior.base == compose_config([f"prior={base}"]).prior
    assert part(game, "prior", Problem(torch.full((1, 3, 24, 24), 0.5), 2), torch.Generator())().shape[-1] == 11
    published = compose_config(["experiment=kernelgan_fkp", "prior.base.beta1=0.6"]).prior.base
    assert (published.lr, published.beta1, published.start, published.latent_seed) == (5e-4, 0.6, 0, 1)
    assert published.keys() == compose_config(["prior=fkp"]).prior.keys()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.full((24, 24, 3), np.nan), "NaN"),
        (np.zeros((3, 3, 3), np.uint8), "smaller than the kernel"),
        (np.full((24, 24), 7.0), r"\[0, 1\]"),
        (np.zeros((4, 4, 4, 4, 4)), "shape|dimension"),
    ],
)
def test_bad_images_are_named(image, message):
    with pytest.raises(ValueError, match=message):
        kernelsr.estimate(image, 4, steps=1)


def test_an_image_too_small_for_the_hourglass_says_what_to_do():
    with pytest.raises(ValueError, match="scales|bicubic"):
        kernelsr.estimate(np.zeros((14, 14), np.uint8), 2, "softmax", steps=1)


def test_devices():
    assert device_of("cpu").type == "cpu"
    assert device_of("auto").type in ("cpu", "cuda")
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        device_of("abacus")


def test_scenario_of_a_data_group():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", ["data=demo_iso", "scale=2", "data.only=[camera,coffee]", "data.noise_std=0.02"])
    scenario = scenario_of(cfg)
    assert [case.name for case in scenario] == ["camera", "coffee"]
    problem, truth = next(iter(scenario)).load()
    assert problem.scale == 2 and problem.noise_std == pytest.approx(0.01)
    assert torch.allclose(truth.kernel, truth.kernel.mT, atol=1e-12)


def test_a_flow_of_another_size_is_refused(photo):
    with pytest.raises(ValueError, match="kernel_size"):
        kernelsr.estimate(photo, 4, "fkp", kernel_size=15, steps=1, overrides=TINY)


def composed(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(words))


def test_the_command_line_wins_over_an_experiment():
    assert composed("experiment=dip_fkp").latent_seed == 5
    assert composed("experiment=dip_fkp", "seeds=own").latent_seed is None
    assert composed("experiment=dip_dkp", "solver.steps=7").solver.steps == 7
    assert composed("experiment=dip_dkp").prior.family.variances == "released"


@pytest.mark.parametrize("only", ["3096", "[3096]"])
def test_a_name_of_digits_is_a_name(tmp_path, only):
    Image.new("RGB", (48, 48), "white").save(tmp_path / "3096.png")
    cfg = composed("data=folder", f"data.folder={tmp_path}", f"data.only={only}")
    assert [case.name for case in scenario_of(cfg)] == ["3096"]


def test_no_name_at_all_is_an_error():
    with pytest.raises(ValueError, match="names no image"):
        scenario_of(composed("data.only=[]"))


@pytest.mark.parametrize(
    ("prior", "setting", "message"),
    [
        ("dkp", "samples=0", "samples is 0; prior=dkp needs at least 1"),
        ("dkp", "listen_every=0", "listen_every is 0; prior=dkp needs at least 1"),
        ("dkp", "every=-1", "every is -1; prior=dkp needs at least 1"),
        ("inr", "layers=0", "layers is 0; prior=inr needs at least 1"),
        ("inr", "hidden=0", "hidden is 0; prior=inr needs at least 1"),
        ("inr", "frequency=0", "frequency is 0; it must be positive"),
    ],
)
def test_numbers_that_make_no_prior_are_errors(photo, prior, setting, message):
    with pytest.raises(ValueError, match=message):
        kernelsr.estimate(photo, 2, prior, "bicubic", steps=1, overrides=[f"prior.{setting}"])


@pytest.mark.parametrize("words", [["prior=inr"], ["prior=dkp", "family@prior.family=motion"]], ids=str)
def test_a_range_without_variances_says_what_it_is_for(photo, words):
    with pytest.raises(ValueError, match="range= is for prior=dkp with Gaussian proposals"):
        kernelsr.estimate(photo, 2, restorer="bicubic", steps=1, overrides=[*words, "range=matched"])


def test_the_name_of_a_part_inside_a_part_is_told_where_it_belongs(photo):
    with pytest.raises(ValueError, match="as in prior@prior.base=inr"):
        kernelsr.estimate(photo, 2, "dkp", overrides=["prior.base=inr"])


def test_settings_that_do_not_fit_are_named(photo):
    for words, group in ((["restorer.channels=many"], "restorer"), (["prior.rehearsal=[]"], "prior")):
        with pytest.raises(ValueError, match=f"setting of {group}"):
            kernelsr.estimate(photo, 4, "dkp", steps=1, overrides=words)
    with pytest.raises(ValueError, match="'sparsity'"):
        kernelsr.estimate(photo, 4, restorer="bicubic", experiment="dip_dkp", steps=1)
    with pytest.raises(ValueError, match="softmax"):
        kernelsr.estimate(photo, 4, "nonsense")
    with pytest.raises(ValueError, match="arguments"):
        kernelsr.estimate(photo, 4, overrides=["scale=2"])


def test_it_works_inside_a_program_that_uses_hydra(photo):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        before = GlobalHydra.instance().hydra
        kernelsr.estimate(photo, np.int64(4), "softmax", "bicubic", steps=1)
        assert GlobalHydra.instance().hydra is before
        assert compose("config").scale == 4


def test_the_global_generator_is_left_alone(photo):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    kernelsr.estimate(photo, 4, "fkp", steps=1, overrides=TINY)
    assert torch.equal(torch.get_rng_state(), before)


def test_python_multiplies_as_the_command_line_and_leaves_the_program_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU PyTorch's convolutions take TF32 unless told otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def watch(progress: Progress) -> None:
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))

    image = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    kernelsr.estimate(image, 2, prior="gaussian", restorer="bicubic", steps=1, on_step=watch)
    assert seen == [(False, False)]
    assert torch.backends.cudnn.allow_tf32


def test_the_solver_has_the_threads_that_it_is_given_and_the_program_has_its_own_back() -> None:
    seen: list[int] = []

    def watch(progress: Progress) -> None:
        seen.append(torch.get_num_threads())

    image = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    for more in ([], [f"threads={before + 1}"]):
        kernelsr.estimate(image, 2, prior="gaussian", restorer="bicubic", steps=1, overrides=more, on_step=watch)
    assert seen == [before, before + 1] and torch.get_num_threads() == before
    with pytest.raises(ValueError, match="threads is -1"):
        kernelsr.estimate(image, 2, prior="gaussian", restorer="bicubic", steps=1, overrides=["threads=-1"])

    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kernelsr.estimate(image, 2, prior="gaussian", restorer="bicubic", steps=1, overrides=more, on_step=stop)
    assert torch.get_num_threads() == before
