"""A sweep's folder once its jobs are done, read from their files alone, whichever engine ran them: one table, one page."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

from kernelsr import report
from kernelsr.files import write_text_atomically
from kernelsr.sweep_files import read_sweep
from kernelsr.sweep_report import write_sweep_report


def finish(folder: Path) -> list[str]:
    """Write table.txt and report.html of a sweep and show the table; returns what failed, a line each.

    Raises:
        OSError: the folder cannot be written.
    """
    jobs = read_sweep(folder)
    if not jobs:
        return [f"no job of the sweep in {folder} has begun"]
    table = report.sweep_table([(job.data, job.rows, job.floors) for job in jobs])
    failures = [f"job {job.folder.name}: {trouble}" for job in jobs for trouble in job.troubles]
    # A job without rows is no line of the table.
    table = "\n".join([table, *(line for each in failures for line in wrap(each, 99, subsequent_indent="        "))])
    write_text_atomically(folder / "table.txt", table + "\n")
    print(f"{table}\ntable: {folder / 'table.txt'}\nreport: {write_sweep_report(folder)}")
    return failures + [f"{row['image']}: {row['error']}" for job in jobs for row in job.rows if row["error"]]
