"""Restorers: kernel -> image; one final class a file."""

from kernelsr.restorers.bicubic import Bicubic
from kernelsr.restorers.diffusion import Diffusion
from kernelsr.restorers.dip import Dip
from kernelsr.restorers.onnx import Onnx
from kernelsr.restorers.realesrgan import RealEsrgan
from kernelsr.restorers.srmd import Srmd
from kernelsr.restorers.usrnet import Usrnet
from kernelsr.restorers.wiener import Wiener
from kernelsr.restorers.zssr import Zssr

__all__ = ["Bicubic", "Diffusion", "Dip", "Onnx", "RealEsrgan", "Srmd", "Usrnet", "Wiener", "Zssr"]
