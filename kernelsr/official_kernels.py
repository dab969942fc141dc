"""The border to other people's kernels: found on disk or fetched by SHA-256, and turned round for our correlation."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from kernelsr.families import KernelFolder
from kernelsr.official import GITHUB, cache_folder, reason, verified

URL = f"{GITHUB}cszn/KAIR/fc1732f4a4514e42ce15e5b3a1e18c828af47a1e/kernels/"


@dataclass(frozen=True)
class KernelPool:
    """Where a published set of kernels is found, and how it is stored.

    Args:
        file: its name.
        sha256: of the file.
        source: what to tell who does not have it.
        convolution: it is stored for convolution, so that it has to be mirrored to correlate.
    """

    file: str
    sha256: str
    source: str
    convolution: bool = True


POOLS = {
    # Both are convolved with in USRNet's released tests, which hand them to the network as they are.
    "usrnet12": KernelPool(
        "kernels_12.mat",
        "20a43a8b8b1a7922dcfe0e106e40f8d68be3fabd4e647c063e6f005937a4d8a9",
        "the 12 kernels USRNet is tested on, MIT",
    ),
    "levin": KernelPool(
        "Levin09.mat",
        "377ce2fa5c95784cf454eb1c6e286038dc2ace76fb94a15ba6383a8f7b48aa1d",
        "the 8 camera shakes that Levin et al. (2009) measured, MIT",
    ),
}


def pool(name: str, index: int | None = None) -> KernelFolder:
    """A published set of kernels as a family: ``usrnet12`` or ``levin``; one of them where ``index`` is given."""
    return KernelFolder(find_kernels(name), flip=POOLS[name].convolution, index=index)


def find_kernels(name: str) -> Path:
    """The file of a published set of kernels, its SHA-256 verified: in KERNELSR_DATA/kernels, the cache, or the network.

    Raises:
        ValueError: no such set, or a file of that name with other content.
        FileNotFoundError: it is neither here nor to be had; says where to get it and which variable points to it.
    """
    if name not in POOLS:
        raise ValueError(f"no kernels are called {name!r}; choose one of {', '.join(POOLS)}, or give a folder")
    return find(POOLS[name])


def find(wanted: KernelPool) -> Path:
    """The file itself, as ``find_kernels`` does it."""
    home = os.environ.get("KERNELSR_DATA")
    for folder in ("kernels", ".") if home else ():
        place = Path(home or "").expanduser() / folder / wanted.file
        if place.is_file():
            return verified(place, wanted.sha256)
    try:
        import pooch

        known_hash, cache = f"sha256:{wanted.sha256}", cache_folder() / "kernels"
        return Path(pooch.retrieve(URL + wanted.file, known_hash, fname=wanted.file, path=cache))
    except (OSError, ValueError, ImportError) as error:
        raise FileNotFoundError(
            f"{wanted.file} ({wanted.source}) is not here: KERNELSR_DATA is {home or 'not set'}, and the cache "
            f"{cache_folder() / 'kernels'} lacks it. {reason(error, URL + wanted.file)} Put {wanted.file} into "
            "a folder kernels and set KERNELSR_DATA to the folder that contains kernels."
        ) from error
