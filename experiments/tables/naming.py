"""What the rows call data, noise and method, from the command that made them.

Rows from before the column ``data`` count too, and settings other than the usual ones make another method.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Container, Iterable

UNTOLD = ("progress", "resume", "cells", "shard", "batch", "references", "device", "data.only", "hydra", "track")
"""Settings that change no number of a row."""
NAMED = (
    "data",
    "prior",
    "restorer",
    "nonblind",
    "start",
    "solver",
    "preset",
    "experiment",
    "protocol",
    "scale",
    "seed",
)
"""Settings that a row's other columns say."""
KERNEL_NOISE = ("data.family.noise", "data.family.level")
IMAGE_NOISE = ("data.noise_std", "data.noise", "data.jpeg")
FAMILY = "family@data.family"
NOISY = {"family@data.family.family": "motion", "data.family.level": "0.4"}
"""Of family@data.family=noisy, which is another family with noise: which, and how much where the command does not say."""
FAMILIES = ("aniso", "iso", "iso8", "motion", "random_motion", "disk", "levin", "usrnet12", "div2krk", "realesrgan")
PROTOCOLS = {"fkp2021": "aniso", "dkp2024": "aniso", "aligned": "aniso", "kernelgan": "div2krk", "div2krk": "div2krk"}
PROTOCOLS |= {"dkp2024_motion": "motion", "fkp2021_kernelgan": "twice"}


def words_of(command: str) -> dict[str, str]:
    """The overrides of a command, without those that change no number."""
    try:
        words = [word.lstrip("+").partition("=") for word in shlex.split(command) if "=" in word]
    except ValueError:
        print(f"a command is no shell's: {command}", file=sys.stderr)
        return {}
    return {key: value for key, _, value in words if not key.startswith(UNTOLD)}


def data_of(name: str, parts: dict[str, str]) -> tuple[str, str]:
    """What the data are called, and the family of their kernels."""
    name = "demo_aniso" if name == "demo" else name
    images, family = name, "aniso"
    for suffix in sorted((*FAMILIES, *PROTOCOLS), key=len):
        if name.endswith(f"_{suffix}"):
            images, family = name.removesuffix(f"_{suffix}"), suffix
    chosen = parts.get("protocol", "none")
    if chosen != "none":
        name, family = f"{images}_{chosen}", chosen
    family = PROTOCOLS.get(family, family)
    parts = _without_noise(parts, family)
    family = parts.get(FAMILY, family)
    others = {key: value for key, value in parts.items() if key.startswith("data.") or "@data." in key}
    others = {key: value for key, value in others.items() if key not in (*KERNEL_NOISE, *IMAGE_NOISE)}
    return " ".join([name, *(f"{key}={value}" for key, value in sorted(others.items()))]), family


def _without_noise(parts: dict[str, str], usual: str) -> dict[str, str]:
    """The settings of the family that family=noisy gives noise to, as without noise; ``usual`` is that of the group."""
    if parts.get(FAMILY) != "noisy":
        return parts
    inner = NOISY | parts
    plain = {key.replace("data.family.family", "data.family"): value for key, value in inner.items() if key != FAMILY}
    return {key: value for key, value in plain.items() if (key, value) != (FAMILY, usual)}


def method_of(name: str, parts: dict[str, str]) -> str:
    """The method's name with the settings that are not usual; rows from before name an experiment by its parts."""
    if experiment := parts.get("experiment"):
        nonblind = parts.get("nonblind", "none")
        if not name.startswith(experiment):
            name = experiment if nonblind == "none" else f"{experiment}+{nonblind}"
    # An experiment's name does not say which of its parts the command changes.
    told = [key for key in NAMED if not experiment or key not in ("prior", "restorer", "solver")]
    others = {key: value for key, value in parts.items() if key not in told}
    others = {key: value for key, value in others.items() if not (key.startswith("data.") or "@data." in key)}
    return " ".join([name, *(f"{key}={value}" for key, value in sorted(others.items()))])


def beside_of(name: str, parts: dict[str, str]) -> str:
    """A floor's or bound's name with how it was scored, and a bound's with its restorer's settings, where not usual."""
    moving = ("scoring.", "nonblind.") if f"+ {parts.get('nonblind')}" in name else ("scoring.",)
    others = sorted(f"{key}={value}" for key, value in parts.items() if key.startswith(moving))
    return " ".join([name, *others])


def without_settings(method: str, settings: Container[str] | None = None) -> str:
    """A method's name without these settings, or without any."""
    return " ".join(
        word for word in method.split(" ") if "=" not in word or settings is not None and word not in settings
    )


def common_settings(methods: Iterable[str]) -> list[str]:
    """The settings that all of several methods have, so that they need to be said once only."""
    words = [method.split(" ") for method in methods]
    if len(words) < 2:
        return []
    return [word for word in words[0] if "=" in word and all(word in others for others in words)]


def noise_of(parts: dict[str, str]) -> tuple[str, str]:
    """The noise of the kernel and of the image as the command sets them; "" for none."""
    usual = NOISY if parts.get(FAMILY) == "noisy" else {}
    kernel, image = (" ".join(_said(usual | parts, keys)) for keys in (KERNEL_NOISE, IMAGE_NOISE))
    return kernel, image


def _said(parts: dict[str, str], keys: Iterable[str]) -> list[str]:
    """Settings of a noise by value, or by name and value where they are not its strength; of strength 0 there is none."""
    plain = (*KERNEL_NOISE, "data.noise_std")
    return [
        parts[key] if key in plain else f"{key.removeprefix('data.')}={parts[key]}"
        for key in keys
        if parts.get(key, "null") not in ("null", "0", "0.0", "drawn")
    ]
