"""`topstitch decide`."""

import dataclasses
import io
import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

from . import Wrong, parse, start_jax, verbatim
from .roles import Json, Number, role

ABOUT = """What a policy would do in each row of a table, in the table's own words.

For policies that learned from an imported table (`topstitch data import`). The rows need the columns that the policy
looks at, as they were in that table; the answer names each row by its episode and time, or by its number.

example:
  topstitch decide runs/iql --data new.csv -o decisions.csv"""


@dataclasses.dataclass(frozen=True)
class Options:
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    "The folder of a run, or the file of a policy."
    data: Annotated[str, tyro.conf.arg(metavar="FILE")]
    "The rows: a table (.csv .tsv, also .gz; .parquet; .arrow .feather)."
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE", aliases=["-o"], help_behavior_hint="(default: shown)")] = None
    "Where decisions go: .csv, .tsv or .parquet. Must not be there yet."
    draw: Number = None
    "A seed: decisions are drawn by the policy's probabilities, as studies judge them. Without it the likeliest is taken."
    separator: Annotated[str | None, role("SIGN", "(default: comma, tab for .tsv)")] = None
    "Between the cells of a CSV file."
    encoding: Annotated[str, tyro.conf.arg(metavar="NAME")] = "utf-8"
    "Of a text file."
    json: Json = False


def main(argv: list[str]) -> int:
    options = parse(Options, argv, command="decide", about=ABOUT)
    ending = Path(options.out).suffix.lower() if options.out else ".csv"
    if ending not in (".csv", ".tsv", ".parquet"):
        raise Wrong(f"-o {options.out}: decisions are written as .csv, .tsv or .parquet.")
    if options.out and Path(options.out).exists():
        raise Wrong(f"{options.out} is there already, and is not overwritten. Choose another name, or remove it.")
    start_jax()
    from ..decisions import decide, safe
    from ..disk import write_bytes
    from ..store import policy_about

    decided = decide(options.run, options.data, draw=options.draw, separator=options.separator, encoding=options.encoding)
    if options.draw is None and "study" in policy_about(options.run):
        print("note: these are the likeliest decisions, and the study judged drawn ones. --draw SEED draws.", file=sys.stderr)
    if options.json:
        print(json.dumps(decided.to_dicts(), default=str))
    elif options.out is None:
        show(decided)
    if options.out is not None:
        buffer = io.BytesIO()
        if ending == ".parquet":
            decided.write_parquet(buffer)
        else:
            safe(decided).write_csv(buffer, separator="\t" if ending == ".tsv" else ",")
        write_bytes(options.out, buffer.getvalue())
        print(f"{decided.height:,} decisions are in {options.out}.", file=sys.stderr)
    return 0


def show(decided, most: int = 20) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in decided.columns:
        table.add_column(verbatim(name))
    for row in decided.head(most).iter_rows():
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else verbatim(str(cell)) for cell in row))
    Console(highlight=False).print(table)
    if decided.height > most:
        print(f"… and {decided.height - most:,} more rows: write them by -o decisions.csv")
