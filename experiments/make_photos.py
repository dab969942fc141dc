"""The bundled photographs: crops of scikit-image's public-domain pictures, halved so that they are sharp to the pixel.

    python experiments/make_photos.py            # needs scikit-image; rewrites kernelsr/photos/*.png

Sides are multiples of 24, so that every scale of the papers (2, 3, 4, 8) divides them and nothing is cropped.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

BOXES = {  # left, upper, right, lower in the halved picture
    "astronaut": (24, 4, 216, 196),
    "camera": (64, 24, 256, 216),
    "chelsea": (8, 3, 200, 147),
    "coffee": (68, 4, 260, 196),
}


def main() -> None:
    """Write the four crops beside their SOURCES.txt."""
    import skimage

    import kernelsr.images

    source = Path(skimage.__file__).parent / "data"
    target = Path(kernelsr.images.__file__).parent / "photos"
    for name, box in BOXES.items():
        picture = Image.open(source / f"{name}.png")
        halved = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
        halved.crop(box).save(target / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
