"""Images in any form users have: files, NumPy arrays, PIL images, tensors; always to (1, C, H, W) in [0, 1].

Bad images are ValueErrors that name the file and the remedy, so that a run can report one bad image and go on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

ImageSource = str | Path | np.ndarray | Image.Image | Tensor
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_EXIF_ORIENTATION = 0x0112


def read_image(source: ImageSource) -> Tensor:
    """Any image as (1, C, H, W), float32 in [0, 1].

    Grey stays one channel, alpha is dropped, a palette becomes RGB, a camera's EXIF orientation is honoured, and of a file
    with several pages the first is taken. 16-bit grey keeps its 16 bits; Pillow reads 16-bit *colour* files at 8 bits, so
    pass the array where all 16 matter.

    Args:
        source: a path; an array (H, W) or (H, W, C), with 1 to 4 channels; a PIL image; a tensor (H, W), (C, H, W) or
            (1, C, H, W) with any number of channels. Integers are uint8 or uint16, floats lie in [0, 1].

    Raises:
        ValueError: what is wrong with which source, and what to do.
    """
    if isinstance(source, Tensor):
        return _from_tensor(source)
    if isinstance(source, np.ndarray):
        return _from_array(source, "the array")
    if isinstance(source, Image.Image):
        return _from_array(_from_pil(source), "the PIL image")
    if not isinstance(source, (str, Path)):
        raise TypeError(f"cannot read an image from a {type(source).__name__}; give a path, array, PIL image or tensor")
    return _from_array(_from_pil(_open(Path(source))), str(source))


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of an image file as ``read_image`` would return it, from the header alone."""
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(_EXIF_ORIENTATION, 1) >= 5
            return (picture.width, picture.height) if turned else (picture.height, picture.width)
    except Exception as error:
        raise _unreadable(Path(path), error) from error


def image_files(folder: str | Path) -> list[Path]:
    """The images directly in a folder, sorted by name; png, jpg, jpeg, bmp, tif, tiff and webp in either case.

    Hidden files are skipped. A path to one image is a folder of one.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        ValueError: it is a file of an ending that is not read.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() in EXTENSIONS:
        return [folder]
    if folder.is_file():
        endings = ", ".join(e[1:] for e in EXTENSIONS)
        raise ValueError(f"{folder} has an ending that is not read as an image; convert it to one of {endings}")
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; give the path of a folder with images directly in it")
    try:
        files = sorted((path for path in folder.iterdir() if _is_image(path)), key=lambda path: path.name)
    except OSError as error:
        raise FileNotFoundError(f"cannot look into {folder}: {error.strerror}; change its permissions") from error
    if not files:
        raise FileNotFoundError(
            f"no images in {folder}; put {', '.join(e[1:] for e in EXTENSIONS)} files directly in it, "
            "or point to the subfolder that has them"
        )
    return files


def images_by_name(folder: str | Path | Sequence[str | Path]) -> dict[str, Path]:
    """Images by the names that runs give them: file names without the ending, in order.

    a.png and a.jpg in one folder keep their endings, so that each has its own name.

    Args:
        folder: a folder with images, one image, or a list of images.
    """
    paths = image_files(folder) if isinstance(folder, (str, Path)) else [Path(path) for path in folder]
    if not paths:
        raise ValueError("folder is an empty list; give at least one image")
    stems = [path.stem for path in paths]
    files = {path.stem if stems.count(path.stem) == 1 else path.name: path for path in paths}
    if len(files) < len(paths):
        raise ValueError(f"several images share a name among {', '.join(sorted(set(stems)))}; rename them")
    return files


def digest(path: str | Path) -> str:
    """SHA-256 of a file, remembered while the file stays as it is.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        status = Path(path).stat()
        return _digest(Path(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise _unreadable(Path(path), error) from error


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".") and path.is_file()


def _unreadable(path: Path, error: Exception) -> ValueError:
    if not path.exists():
        return ValueError(f"cannot read {path}: there is no such file")
    return ValueError(f"cannot read {path}: it is damaged, truncated or no image ({error}); replace or remove it")


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    # Pillow's decoders fail in many ways (OSError, SyntaxError, zlib.error, DecompressionBombError, ...).
    except Exception as error:
        raise _unreadable(path, error) from error


def _from_pil(picture: Image.Image) -> np.ndarray:
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "I":  # 32-bit integers that hold 16-bit grey
        array = np.asarray(picture)
        return array.astype(np.uint16) if array.min() >= 0 and array.max() <= 65535 else array
    if picture.mode.startswith("I;16") or picture.mode in ("L", "F"):
        return np.asarray(picture)
    return np.asarray(picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB"))


def _from_array(array: np.ndarray, name: str) -> Tensor:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ValueError(
            f"{name} has shape {array.shape}; give (H, W) or (H, W, C) with 1 to 4 channels, channels last"
        )
    channels = array[:, :, None] if array.ndim == 2 else array
    channels = channels[:, :, : {1: 1, 2: 1, 3: 3, 4: 3}[channels.shape[2]]]
    return _checked(_to_unit(channels, name).transpose(2, 0, 1)[None], name)


def _from_tensor(tensor: Tensor) -> Tensor:
    if tensor.dim() not in (2, 3, 4) or (tensor.dim() == 4 and len(tensor) != 1):
        raise ValueError(f"the tensor has shape {tuple(tensor.shape)}; give (H, W), (C, H, W) or (1, C, H, W)")
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.float()
    array = _to_unit(tensor.detach().cpu().numpy(), "the tensor")
    return _checked(array.reshape((1,) * (4 - array.ndim) + array.shape), "the tensor")


def _to_unit(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.bool_ or np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    # Integers by kind and width, so that any byte order will do.
    if array.dtype.kind == "u" and array.dtype.itemsize in (1, 2):
        return array.astype(np.float32) / np.float32(255 if array.dtype.itemsize == 1 else 65535)
    raise ValueError(f"{name} holds {array.dtype}; convert it to uint8, to uint16, or to float in [0, 1]")


def _checked(array: np.ndarray, name: str) -> Tensor:
    if array.size == 0:
        raise ValueError(f"{name} is empty: {array.shape[3]}x{array.shape[2]} pixels")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} contains NaN or infinite values; replace them first")
    if array.min() < -1e-6 or array.max() > 1 + 1e-6:
        raise ValueError(
            f"{name} ranges over [{array.min():.4g}, {array.max():.4g}]; floats must lie in [0, 1], so divide by the peak "
            "(255 or 65535) or clip"
        )
    return torch.from_numpy(np.ascontiguousarray(array)).clamp(0, 1)
