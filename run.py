"""`python run.py prior=dkp data=div2k_aniso`: the command line of a checkout; see kernelsr/cli.py."""

from kernelsr.cli import main

if __name__ == "__main__":
    main()
