"""ZSSR: a small network trained on the LR image alone, with a given kernel, and then turned on that image itself."""
