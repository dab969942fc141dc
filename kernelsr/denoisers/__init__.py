"""Denoisers: the image prior of a diffusion, a part of its own. (noisy, sigma) -> the clean image, on [-1, 1]; one a file."""
