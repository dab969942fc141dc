"""Noise and JPEG as experiments ask for them: the command line's options, a scenario's settings, and columns of a row."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kernelsr.data import Case
from kernelsr.problem import Problem, Truth


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--noise", type=float, default=0.0, help="up to so many 255ths")
    parser.add_argument("--told", choices=("mean", "heard", "nothing"), default="mean", help="what problems have of it")
    parser.add_argument("--jpeg", nargs=2, type=int, metavar=("LOW", "HIGH"), help="qualities")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """The scenario's; its problems are to be loaded by ``load``."""
    noise = {"noise": "untold"} if options.told == "heard" else {}
    return {"noise_std": options.noise / 255, "jpeg": options.jpeg and tuple(options.jpeg)} | noise


def load(case: Case, told: str) -> tuple[Problem, Truth]:
    """The problem with what it is told of the noise, and its truth."""
    problem, truth = case.load()
    return replace(problem, noise_std=0.0) if told == "nothing" else problem, truth


def columns(options: argparse.Namespace) -> dict[str, Any]:
    return {"level": options.noise, "told": options.told, "jpeg": " to ".join(map(str, options.jpeg or []))}


def columns_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns that a row has; older ones have none, and neither noise nor JPEG."""
    return {"level": float(row.get("level") or 0), "told": row.get("told") or "mean", "jpeg": row.get("jpeg") or ""}
