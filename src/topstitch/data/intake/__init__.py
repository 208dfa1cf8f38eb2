"""A stranger's table becomes a log: read in batches, put in order, encoded, and written as it goes, with an account of every row."""

import contextlib
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ... import __version__
from ...disk import write_bytes, write_json
from ..episodes import Episodes
from ..formats.log import read_log
from ..read import IMPORTED
from .passes import Tell, agreed, imported
from .rules import Repeated, Rules
from .sources import parts

Columns = str | Sequence[str]
Numbers = Sequence[float | int]
MEMORY = 512 << 20


def import_table(
    source: Any = (),
    *,
    out: str | os.PathLike | None = None,
    query: str | None = None,
    roles: "str | os.PathLike | Rules | None" = None,
    episode: Columns | None = None,
    time: str | None = None,
    obs: Columns | None = None,
    action: Columns | None = None,
    reward: str | None = None,
    terminal: str | None = None,
    truncated: str | None = None,
    probability: str | None = None,
    log_probability: str | None = None,
    mask: Columns | None = None,
    duration: str | None = None,
    logger: str | None = None,
    info: Columns | None = None,
    reward_at: Literal["same", "next"] | None = None,
    unit: str | None = None,
    one_hot: Columns | Mapping[str, Sequence[str]] | None = None,
    order: Mapping[str, Sequence[str]] | None = None,
    other: Mapping[str, int] | None = None,
    states: int | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    bins: int | Mapping[str, int | Numbers] | None = None,
    joint: bool = False,
    actions: int | Sequence[int] | None = None,
    low: float | int | Numbers | None = None,
    high: float | int | Numbers | None = None,
    missing: str | Mapping[str, str] | None = None,
    na: Columns | None = None,
    repeated: Repeated | None = None,
    time_format: str | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    memory: int = MEMORY,
    tell: Tell = lambda what, done, total: None,
) -> Episodes:
    """A log of a table with one row per decision, whatever words, gaps and order it has; what was done to it is told, never silent.

    `source` is a path (.csv .tsv, also .gz; .parquet .pq; .arrow .feather .ipc), a folder, a pattern such as `"stays/*.csv"`, a list of
    such, or a Polars, pandas or pyarrow table. With `query`, a SQLite or DuckDB database, or nothing for a query that names files.
    With `out`, the log, its `roles.toml` and the account of the import, `import.json`, are kept in that new folder, and the log stays on
    the disk; without, all of it is in memory. Tables larger than memory are read in batches; `memory` (bytes) is what these may take.

    Roles, each a column, or several by a list or a wildcard:

    * `episode`: its rows need not lie together. Several columns make a name together. `"file"`: every file is an episode, `"row"`: every
      row. Without it, rows follow one another and end where `terminal` or `truncated` says.
    * `time`: numbers or dates by which rows are sorted within an episode; `time_format` says how dates are written, if not as ISO 8601.
    * `obs`: numbers and flags; words become one dimension each. `one_hot` names columns whose numbers stand for categories, or gives
      their categories; `order={"pain": ["none", "mild", "severe"]}` makes one number of them; `other={"ward": 10}` keeps the ten commonest and
      one dimension for all others. With `states=N`, one column of 0 … N-1.
    * `action`: words or whole numbers are a choice (`choices` gives members and their order, `actions` their number), numbers with decimals
      a vector between `low` and `high`. `bins=5` cuts numbers into five parts of equally many rows, `bins={"dose": [0, 1, 5]}` at these edges.
      Several columns are choices at once, or with `joint` one choice of all combinations that were seen.
    * `reward`, `terminal`, `truncated`, `probability`, `log_probability`, `duration`: a column or a formula (see `intake.formula`). `terminal`
      may be `"always"` or `"never"`. With `reward_at="next"` the reward of a decision stands in the next row, and the last row of an episode
      only shows what came of it. `unit` ("1h", or a number if times are numbers) gives each step its duration.
    * `mask`: a flag for each action. `logger`: who decided (`"file"`: every file has its own), kept as `info["logger"]`. `info`: what is to travel along.

    `missing` is the rule for empty cells, for all columns or by column: "refuse", "drop-episode", "forward-fill", "indicator", "fill:VALUE".
    Cells are empty if they are blank, null, NaN, or one of the words `na`. `repeated`: what to do with rows of one episode and time. `roles` is a
    `roles.toml` or `Rules`, which other arguments override. Raises `BadData` with file, column, row and remedy.
    """
    given = {name: value for name, value in locals().items() if name not in ("source", "out", "query", "roles", "memory", "tell")}
    said = {name: value for name, value in given.items() if value is not None and value is not False}
    rules = rules_of(roles, said)
    if out is not None:
        run(source, rules, out, query=query, memory=memory, tell=tell)
        return read_log(Path(out) / IMPORTED, mapped=True)
    with tempfile.TemporaryDirectory(prefix="topstitch-") as folder:
        run(source, rules, Path(folder) / "log", query=query, memory=memory, tell=tell)
        return read_log(Path(folder) / "log" / IMPORTED)


def rules_of(roles: "str | os.PathLike | Rules | None", said: Mapping[str, Any]) -> Rules:
    """Rules from a file or as they are, overridden by what is said besides."""
    base = roles if isinstance(roles, Rules) else Rules() if roles is None else Rules.read(roles)
    return Rules.of({**base.plain(), **said})


def run(
    source, rules: Rules, out: str | os.PathLike, *, query: str | None = None, memory: int = MEMORY, tell: Tell = lambda *_: None,
    why: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Import into the folder `out`, whole or not at all; answers with the account that `import.json` keeps. `why`: reasons for guessed roles."""
    out = Path(out)
    if out.exists() or out.is_symlink():
        raise FileExistsError(f"{out} is there already, and is not overwritten. Choose another name, or remove it.")
    with scratch(out) as (folder, work):
        found = parts(source, query=query, separator=rules.separator, encoding=rules.encoding, memory=memory, scratch=work)
        account, rules = imported(found, agreed(rules, found), folder / IMPORTED, work, memory, tell)
        account = {"topstitch": __version__, "query": query, **account, "roles": rules.plain()}
        write_json(folder / "import.json", account)
        write_bytes(folder / "roles.toml", (TOML.format(names=", ".join(repr(part.name) for part in found[:3])) + rules.toml(why)).encode())
    return account


TOML = """# What the columns of {names} are, and what was done with them.
# Edit it, and import again with it: topstitch data import FILE … --roles roles.toml -o D

"""


@contextlib.contextmanager
def scratch(out: Path) -> Iterator[tuple[Path, Path]]:
    """(a folder that takes the name `out` if all goes well, and one within it that is gone by then). Nothing is left of it otherwise, and
    what a killed import of the same name left is removed."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in map(Path, glob.glob(f"{glob.escape(str(out.parent / f'.{out.name}.importing-'))}*")):
        with locked(old / "lock") as ours:
            if ours:
                shutil.rmtree(old, ignore_errors=True)
    folder = out.parent / f".{out.name}.importing-{secrets.token_hex(6)}"
    (folder / "work").mkdir(parents=True)
    try:
        with locked(folder / "lock"):
            yield folder, folder / "work"
            shutil.rmtree(folder / "work")
        (folder / "lock").unlink()
        os.rename(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Whether nobody else holds this file; while we are inside, we do."""
    try:
        import fcntl
    except ImportError:  # Windows: leftovers are left
        path.touch()
        yield False
        return
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
