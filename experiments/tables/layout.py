"""Tables as text: Markdown, LaTeX (booktabs) and CSV of the same cells."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

FORMATS = ("markdown", "latex", "csv")


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and for CSV its parts, one a column."""

    text: str
    parts: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Cell:
        return cls(text, (text,))


@dataclass(frozen=True)
class Head:
    """A column: its title, the names of its parts in CSV, and whether it holds numbers."""

    title: str
    names: tuple[str, ...]
    number: bool = True


@dataclass(frozen=True)
class Table:
    """Groups of lines under one head; what is alike at the beginning of a group's lines is written once.

    Args:
        repeated: columns from the left that say what the group is.
    """

    title: str
    heads: Sequence[Head]
    groups: Sequence[Sequence[Sequence[Cell]]]
    notes: Sequence[str] = field(default_factory=tuple)
    repeated: int = 0

    def lines(self) -> list[list[list[str]]]:
        """The text of each group's lines, without what repeats the line above."""
        shown = []
        for group in self.groups:
            lines = [[cell.text for cell in line] for line in group]
            blank = [[""] * self.repeated + line[self.repeated :] for line in lines[1:]]
            shown.append([lines[0], *blank] if lines else [])
        return shown


def markdown(table: Table) -> str:
    """GitHub's tables; headings are the caller's."""
    rule = ["---:" if head.number else "---" for head in table.heads]
    out = [_line(head.title for head in table.heads), f"|{'|'.join(rule)}|"]
    out += [_line(cells) for group in table.lines() for cells in group]
    out += ["", *(f"- {_plain_markdown(note)}" for note in table.notes)] if table.notes else []
    return "\n".join(out)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_plain_markdown(cell) for cell in cells)} |"


def _plain_markdown(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\|*`<>\[\]_~])", r"\\\1", " ".join(text.split()))


TEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "Δ": r"$\Delta$",
    "–": "--",
}


def tex(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return "".join(TEX.get(sign, sign) for sign in " ".join(text.split()))


def latex(table: Table) -> str:
    """A ``table`` environment; needs ``\\usepackage{booktabs}``."""
    columns = "".join("r" if head.number else "l" for head in table.heads)
    out = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{tex(table.title)}}}",
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        " & ".join(tex(head.title) for head in table.heads) + r" \\",
    ]
    for group in table.lines():
        out.append(r"\midrule")
        # A bracket after \\ would be read as its argument.
        out += ["{}" + " & ".join(tex(cell) for cell in cells) + r" \\" for cells in group]
    out += [r"\bottomrule", r"\end{tabular}"]
    out += [rf"\par\smallskip\footnotesize {tex(note)}" for note in table.notes]
    return "\n".join([*out, r"\end{table}"])


def csv_text(table: Table) -> str:
    """A line a line, numbers in full and their spread in columns of their own; notes are left out."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["table", *(name for head in table.heads for name in head.names)])
    for group in table.groups:
        for line in group:
            writer.writerow([table.title, *(part for cell in line for part in cell.parts)])
    return file.getvalue()


def text_of(tables: Sequence[Table], form: str) -> str:
    """Tables one after the other in one of ``FORMATS``."""
    if form == "csv":
        return "\n".join(csv_text(table) for table in tables)
    if form == "latex":
        needs = "% \\usepackage{booktabs}\n"
        return needs + "\n\n".join(latex(table) for table in tables) + "\n"
    return "\n\n".join(f"### {_plain_markdown(table.title)}\n\n{markdown(table)}" for table in tables) + "\n"
