"""The configuration that settings make, and what is wrong with them in the user's words."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from kernelsr.learner import BUILDING
from kernelsr.paths import CONF


def compose_config(words: Sequence[str]) -> DictConfig:
    """The configuration with settings as on the command line; also inside a program that uses Hydra itself."""
    with BUILDING:  # Hydra is one for all threads
        return _composed(words)


def _composed(words: Sequence[str]) -> DictConfig:
    before = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose("config", list(words))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explained(error)) from error
    finally:
        GlobalHydra.instance().hydra = before


def explained(error: BaseException) -> str:
    """An error of the configuration with its cause, and the choices where a key is unknown."""
    # Where Hydra looked for its files is of no use to who mistyped a name.
    said = str(error).partition("\nConfig search path:")[0]
    if "Could not override 'family@data.family'" in said:
        return "a protocol sets the kernels, and this data group has none; choose another data=, or protocol=none"
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
        choices = ", ".join(str(key) for key in cause.parent_node if not str(key).startswith("_"))
        return f"{said.splitlines()[0]} There is no such setting; choose one of {choices}."
    return f"{said}\n{cause}" if cause else said


def refuse_two_schedules(preset: str | None, experiment: str | None) -> None:
    """A ValueError where a preset and an experiment are both chosen: each is a schedule, and a mixture would be neither."""
    if preset not in (None, "none") and experiment is not None:
        raise ValueError(
            f"preset={preset} and experiment={experiment} are two schedules; choose one of them (preset=faithful with "
            "prior=fkp or dkp is the papers')"
        )
