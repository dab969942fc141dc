"""The papers' tables from rows: `python -m experiments.make_tables outputs/ experiments/results/ --table gaussian`.

Means over images with their spread, floors, bounds, published targets, and by name what failed or looks wrong. `--readme`
writes README's tables anew from experiments/results.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.tables import readme as readme_tables
from experiments.tables.differences import differences
from experiments.tables.kinds import KINDS
from experiments.tables.layout import FORMATS, Table, text_of
from experiments.tables.naming import common_settings, without_settings
from experiments.tables.records import Record, read
from kernelsr.files import write_text_atomically


def tables(records: Sequence[Record], kind: str, against: str | None = None) -> list[Table]:
    """The tables of a kind, or of all kinds that have lines; with a method to compare with, its differences too.

    Raises:
        ValueError: there is nothing to show, or no such method.
    """
    wanted = list(KINDS) if kind == "all" else [kind]
    common = common_settings(sorted({row.method for row in records if not row.floor}))
    records = [row if row.floor else replace(row, method=without_settings(row.method, common)) for row in records]
    made = [table for name in wanted if (table := KINDS[name](records)).groups]
    if not made:
        raise ValueError(f"there is no row for --table {kind}; --table all shows what there is")
    if against is not None:
        compared = differences(records, against, "Paired differences")
        made += [compared] if compared.groups else []
    said = [f"all methods with {' '.join(common)}"] if common else []
    return [replace(table, notes=[*said, *table.notes]) for table in made]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", type=Path, nargs="*", help="folders of runs, searched to any depth, or files of rows")
    parser.add_argument("--table", choices=[*KINDS, "all"], default="all")
    parser.add_argument("--format", choices=FORMATS, default="markdown")
    parser.add_argument("--against", metavar="METHOD", help="paired differences of every other method against this one")
    parser.add_argument("--output", type=Path, help="a file; without it the tables are printed")
    parser.add_argument("--readme", action="store_true", help="write README's tables anew")
    options = parser.parse_args()
    try:
        if options.readme:
            for line in readme_tables.rewrite():
                print(line, file=sys.stderr)
            return
        if not options.places:
            parser.error("name folders of runs or files of rows, as in outputs/")
        records, said = read(options.places)
        for line in said:
            print(line, file=sys.stderr)
        if not any(not record.floor for record in records):
            raise ValueError(f"there are no rows in {', '.join(map(str, options.places))}")
        text = text_of(tables(records, options.table, options.against), options.format)
        if options.output:
            write_text_atomically(options.output, text)
        else:
            print(text, end="")
    except (ValueError, OSError) as error:
        sys.exit(f"make_tables: {error}")


if __name__ == "__main__":
    main()
