"""Curves and scatter plots as places in a box, which a template draws as SVG; for people, never for metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 10, 30

Ticks = list[tuple[float, str]]

# Told apart by shape and not by colour alone: paths relative to the point.
MARKS = (
    "m-3.4,0a3.4,3.4 0 1,0 6.8,0a3.4,3.4 0 1,0 -6.8,0z",  # disc
    "m-3,-3h6v6h-6z",  # square
    "m0,-4l4,7h-8z",  # triangle
    "m0,-4.4l4.4,4.4-4.4,4.4-4.4-4.4z",  # diamond
    "m0,4l4,-7h-8z",  # triangle upside down
    "m-1.3,-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",  # plus
    "m-4,0l8,-4v8z",  # triangle to the left
)


@dataclass(frozen=True)
class Line:
    """Values over steps, to be drawn in a style (a number); ``best`` is the step that gets a ring."""

    steps: Sequence[float]
    values: Sequence[float | None]
    style: int = 0
    best: float | None = None


@dataclass(frozen=True)
class Drawn:
    """A line ready to draw: the points of a polyline, its end, and the place of its ring."""

    points: str
    end: tuple[float, float]
    best: tuple[float, float] | None
    style: int


@dataclass(frozen=True)
class Chart:
    """Lines or marks in a box of WIDTH x HEIGHT units, and ticks as (place, label); a mark is its path, style and label."""

    x_ticks: Ticks
    y_ticks: Ticks
    lines: Sequence[Drawn] = ()
    marks: Sequence[tuple[str, int, str]] = ()
    level: float | None = None
    across: float | None = None

    WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM


@dataclass(frozen=True)
class _Axis:
    """Values from low to high as places from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def place(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Ticks:
        values = _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)
        return [(self.place(value), f"{value:.4g}") for value in values]


def best_step(trace: Sequence[dict[str, float | None]]) -> float | None:
    """The step of a trace with the highest kernel PSNR; where no kernel PSNR is known, that with the lowest loss."""
    for key, sign in (("kernel_psnr", 1), ("loss", -1)):
        known = [(sign * row[key], -row["step"]) for row in trace if _finite(row[key])]  # type: ignore[operator]
        if known:
            return -max(known)[1]
    return None


def lines_chart(
    lines: Sequence[Line], *, log: bool = False, level: float | None = None, points: int = 240
) -> Chart | None:
    """Lines in one box; what has no place on the axis (None, NaN, 0 on a log axis) is left out; None if that is all.

    Args:
        level: a value to compare with, drawn as a horizontal line.
        points: of a line, at most about so many are drawn; the first, the last and the best one always.
    """
    kept = [(line, _thinned(line, log, points)) for line in lines]
    kept = [(line, pairs) for line, pairs in kept if pairs]
    if not kept:
        return None
    steps = [step for _, pairs in kept for step, _ in pairs]
    level = level if _finite(level) else None
    values = [value for _, pairs in kept for _, value in pairs] + ([] if level is None else [level])
    low, high = _span(min(values), max(values), log)
    first = min(steps)
    x = _Axis(first, max(max(steps), first + 1), LEFT, WIDTH - RIGHT)
    y = _Axis(low, high, HEIGHT - BOTTOM, TOP, log)
    drawn = []
    for line, pairs in kept:
        places = {step: (x.place(step), y.place(value)) for step, value in pairs}
        best = None if line.best is None else places.get(line.best)
        polyline = " ".join(f"{a:.1f},{b:.1f}" for a, b in places.values())
        drawn.append(Drawn(polyline, list(places.values())[-1], best, line.style))
    # A step has all its digits: 1.2e+04 would be no step.
    x_ticks = [(x.place(step), f"{step:g}" if step < 1e6 else f"{step:.3g}") for step in _linear_ticks(x.low, x.high)]
    return Chart(x_ticks, y.ticks(), lines=drawn, level=None if level is None else y.place(level))


def scatter_chart(points: Sequence[tuple[float, float, int, str]], *, across: float | None = None) -> Chart | None:
    """Points (x, y, style, label) in one box; those that are not finite are left out; None if that is all.

    ``across`` is a value of x to compare with, drawn as a vertical line.
    """
    known = [point for point in points if _finite(point[0]) and _finite(point[1])]
    if not known:
        return None
    across = across if _finite(across) else None
    seen = [point[0] for point in known] + ([] if across is None else [across])
    x = _Axis(*_span(min(seen), max(seen), False), LEFT, WIDTH - RIGHT)
    heights = [point[1] for point in known]
    y = _Axis(*_span(min(heights), max(heights), False), HEIGHT - BOTTOM, TOP)
    marks = [
        (f"M{x.place(a):.1f},{y.place(b):.1f}{MARKS[style % len(MARKS)]}", style, label) for a, b, style, label in known
    ]
    return Chart(x.ticks(), y.ticks(), marks=marks, across=None if across is None else x.place(across))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _thinned(line: Line, log: bool, points: int) -> list[tuple[float, float]]:
    """The points of a line that have a place on the axis, by step, about ``points`` of them."""
    pairs = [(s, v) for s, v in zip(line.steps, line.values, strict=True) if v is not None and math.isfinite(v)]
    pairs = [(s, v) for s, v in pairs if v > 0 or not log]
    if not pairs:
        return []
    stride = math.ceil(len(pairs) / points)
    marked = [pair for pair in pairs if pair[0] == line.best]
    return sorted({*pairs[:-1:stride], *marked, pairs[-1]})


def _span(low: float, high: float, log: bool) -> tuple[float, float]:
    if log:
        margin = max((high / low) ** 0.06, 1.05)
        return low / margin, high * margin
    margin = max(0.06 * (high - low), 1e-3 * abs(high), 1e-9)
    return low - margin, high + margin


def _linear_ticks(low: float, high: float) -> list[float]:
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    tick = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [float(f"{i * tick:.12g}") for i in range(math.ceil(low / tick), math.floor(high / tick) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for numbers in ((1, 2, 5), (1,)):
        ticks = [n * 10.0**p for p in powers for n in numbers if low <= n * 10.0**p <= high]
        if len(ticks) <= 6:
            break
    if len(ticks) < 2:
        return _linear_ticks(low, high)
    return ticks[:: math.ceil(len(ticks) / 6)]
