"""The border to other people's files: image sets and weights are found on disk, or fetched by SHA-256, never bundled.

Looked for in this order: what the environment variable points to (KERNELSR_DATA, KERNELSR_WEIGHTS), the cache
(KERNELSR_CACHE, else XDG_CACHE_HOME/kernelsr, else ~/.cache/kernelsr), and last the network.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from kernelsr.images import image_files

HERE = Path(__file__).parent
DENOISING_SETS = "majedelhelou/denoising_datasets/58234876fef6f1b56306705c78dfd40cdb837b86"
BSDS500 = "BIDS/BSDS500/a04b7c6c3a9f0ace74bf205c72a43d32e1c72722"
SCNET = "Guaishou74851/SCNet/ce50ef4266c99ab68e7edf8e8657c362a9f4f5cf"
GITHUB = "https://raw.githubusercontent.com/"


@dataclass(frozen=True)
class ImageSet:
    """Where a set of HR images is found.

    Args:
        folders: how it is spelled on disk, in either case; the first is its folder in the cache.
        source: what to tell who does not have it.
        url: what the names in ``registry/<name>.txt`` are appended to (ends in /), or one archive that holds folders[0].
        sha256: of the archive.
        images: how many the archive holds.
    """

    folders: tuple[str, ...]
    source: str
    url: str = ""
    sha256: str = ""
    images: int = 0


IMAGE_SETS = {
    "set5": ImageSet(("Set5",), "5 images, no licence file", f"{GITHUB}{DENOISING_SETS}/CSet5/"),
    "set14": ImageSet(("Set14",), "14 images, no licence file", f"{GITHUB}{DENOISING_SETS}/CSet14/"),
    "bsd100": ImageSet(
        ("BSD100", "B100", "BSDS100"),
        "the 100 validation images of BSDS500, for non-commercial research",
        f"{GITHUB}{BSDS500}/BSDS500/data/images/val/",
    ),
    "urban100": ImageSet(("Urban100",), "100 images, linked from https://github.com/jbhuang0604/SelfExSR"),
    "div2k": ImageSet(
        ("DIV2K_valid_HR", "DIV2K"),
        "DIV2K 0801-0900, 449 MB, for academic research",
        "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_valid_HR.zip",
        "20dd31fd84d777bc1cf5d6b7654a3f569c0aec74458ae094122ad1d0489900fc",
        100,
    ),
    "div2k_crop256": ImageSet(
        ("DIV2K_valid_crop256",),
        "256x256 centre crops of DIV2K 0801-0900, not the full images, for academic research",
        f"{GITHUB}{SCNET}/data/DIV2K/",
    ),
}

WEIGHTS_URL = f"{GITHUB}JingyunLiang/FKP/127c12103ebbfca7b4a6cf4f03c0c44dd24c10bb/data/pretrained_models/"
WEIGHTS = {
    "FKP_x2.pt": "6e361944816c35b8e8ed62772b3bad37c3fbaf2f1cb3976ffbcbe64789b3d794",
    "FKP_x3.pt": "6b06812400da0bd90e2584fac98031261001907c11a51be3b4692e2fd1bae27d",
    "FKP_x4.pt": "ec52371cba7a8bdad6e1ac21cce9a55773cbb3356de29bf001353fac338a268e",
    "usrnet_tiny.pth": "d82929fc053d6bbe181adba9e2be3d23548eeca8b7b4232eb122f020352295cf",
}


def cache_folder() -> Path:
    """Where downloads are kept: KERNELSR_CACHE, else XDG_CACHE_HOME/kernelsr, else ~/.cache/kernelsr."""
    if own := os.environ.get("KERNELSR_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kernelsr"


def find_image_set(name: str) -> Path:
    """The folder that holds an image set's HR images; ``demo`` is the bundled photographs.

    Raises:
        ValueError: no such set; names the sets.
        FileNotFoundError: it is neither here nor to be had; says where to get it and which variable points to it.
    """
    if name.lower() == "demo":
        return HERE / "photos"
    if name.lower() not in IMAGE_SETS:
        raise ValueError(
            f"no image set is called {name!r}; choose one of demo, {', '.join(IMAGE_SETS)}, or give a folder"
        )
    name = name.lower()
    wanted = IMAGE_SETS[name]
    home = os.environ.get("KERNELSR_DATA")
    found = _image_folder(Path(home).expanduser(), (name, *wanted.folders)) if home else None
    if found:
        return found
    try:
        return _cached(name, wanted)
    except (OSError, ValueError, ImportError) as error:
        raise FileNotFoundError(
            f"The image set {name} ({wanted.source}) is not here: KERNELSR_DATA is {home or 'not set'}, and the cache "
            f"{cache_folder()} lacks it. {reason(error, wanted.url)} Put its HR images into a folder "
            f"{wanted.folders[0]} (or {wanted.folders[0]}/HR) and set KERNELSR_DATA to the folder that contains "
            f"{wanted.folders[0]}."
        ) from error


def fetch_weights(name: str, path: str | Path | None = None) -> Path:
    """The file of the authors' weights (FKP_x2.pt, FKP_x3.pt, FKP_x4.pt, usrnet_tiny.pth), its SHA-256 verified.

    Args:
        path: a file to use instead of looking for one; it must be the same file.

    Raises:
        ValueError: no such weights, or a file of that name with other content.
        FileNotFoundError: not here and not to be had; names the file, the URL and the variable.
    """
    if name not in WEIGHTS:
        raise ValueError(f"no weights are called {name!r}; choose one of {', '.join(WEIGHTS)}")
    homes = [(variable, os.environ.get(variable)) for variable in ("KERNELSR_WEIGHTS", "KERNELSR_DATA")]
    places = [Path(home).expanduser() / ("weights" if v == "KERNELSR_DATA" else "") / name for v, home in homes if home]
    places = [Path(path).expanduser()] if path is not None else places
    for place in places:
        if place.is_file():
            return verified(place, WEIGHTS[name])
    if path is not None:
        raise FileNotFoundError(f"there is no file {path}; give the path of {name}, or none to fetch it")
    try:
        import pooch

        folder = cache_folder() / "weights"
        return Path(pooch.retrieve(WEIGHTS_URL + name, f"sha256:{WEIGHTS[name]}", fname=name, path=folder))
    except (OSError, ValueError, ImportError) as error:
        raise FileNotFoundError(
            f"The authors' weights {name} (Apache-2.0) are not here: not in {', '.join(map(str, places)) or 'any folder'}, "
            f"nor in the cache {cache_folder() / 'weights'}. {reason(error, WEIGHTS_URL + name)} Download the file and set "
            "KERNELSR_WEIGHTS to its folder."
        ) from error


def _image_folder(home: Path, spellings: tuple[str, ...]) -> Path | None:
    """The first folder of these names, in either case, that has images in it or in its HR/."""
    folders = sorted(home.iterdir()) if home.is_dir() else []
    for spelling in spellings:
        for folder in folders:
            if folder.name.lower() == spelling.lower():
                for candidate in (folder, *(sub for sub in sorted(folder.glob("*")) if sub.name.lower() == "hr")):
                    if _count(candidate):
                        return candidate
    return None


def _count(folder: Path) -> int:
    try:
        return len(image_files(folder)) if folder.is_dir() else 0
    except FileNotFoundError:
        return 0


def _cached(name: str, wanted: ImageSet) -> Path:
    """The set's folder in the cache, complete; a half-finished download is finished, never taken for the set."""
    folder = cache_folder() / wanted.folders[0]
    if not wanted.url:
        if found := _image_folder(cache_folder(), wanted.folders):
            return found
        raise FileNotFoundError
    if wanted.sha256:
        if _count(folder) < wanted.images:
            _unpack(wanted)
        return folder
    import pooch

    files = pooch.create(path=folder, base_url=wanted.url, retry_if_failed=2)
    files.load_registry(HERE / "registry" / f"{name}.txt")
    for file in files.registry:
        files.fetch(file)
    return folder


def _unpack(wanted: ImageSet) -> None:
    import pooch

    known_hash, archive = f"sha256:{wanted.sha256}", wanted.url.rsplit("/", 1)[1]
    pooch.retrieve(wanted.url, known_hash, fname=archive, path=cache_folder(), processor=pooch.Unzip(extract_dir="."))


def verified(path: Path, sha256: str) -> Path:
    """The path, if the file is the one its authors published."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is not the authors' file: its SHA-256 is {found}, not {sha256}; remove or replace it")
    return path


def reason(error: Exception, url: str) -> str:
    """Why a file could not be fetched, and what would mend it."""
    if not url:
        return "It cannot be fetched automatically."
    if isinstance(error, ImportError):
        return f"To fetch it from {url}, install pooch (pip install pooch)."
    return f"Fetching it from {url} failed ({type(error).__name__}: {error})."
