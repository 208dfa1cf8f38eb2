"""Options that several commands share: above all, which column of a log plays which part."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro

from . import Wrong


def role(metavar: str, hint: str = "") -> Any:
    """How an option is shown: what it takes, and nothing about its default."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=hint)


Column = Annotated[str | None, role("COLUMN")]
Columns = Annotated[tuple[str, ...], role("COLUMN…")]
Number = Annotated[int | None, role("N")]
Numbers = Annotated[tuple[float, ...], role("NUMBER…")]
Json = Annotated[bool, tyro.conf.arg(help="Print JSON, for scripts.", help_behavior_hint="")]


@dataclasses.dataclass(frozen=True)
class Roles:
    """For tables: which column plays which part. Other formats know their own."""

    episode: Column = None
    "Column that names the episode (a stay, a session, a batch)."
    time: Column = None
    "Column that orders the steps of an episode."
    duration: Column = None
    "Column that says how many units of time passed until the next step; the discount is then per unit."
    obs: Columns = ()
    "Columns that were known when deciding; a wildcard such as 'obs_*' stands for many."
    action: Columns = ()
    "Column of the decision, if it is a whole number from 0 (several such: choices made at once); else one column per dimension."
    reward: Column = None
    "Column of what the decision of the same row earned."
    terminal: Column = None
    "Column that is true where the episode truly ended; or 'always' or 'never' for all last rows."
    truncated: Column = None
    "Column that is true where only the log ended."
    probability: Column = None
    "Column of the probability with which the logged action was taken."
    mask: Columns = ()
    "One column per discrete action, true where it was allowed."
    states: Number = None
    "The observation is the number of a state, from 0, and there are so many states."
    actions: Annotated[tuple[int, ...], role("N…")] = ()
    "Number of discrete actions, if more than the largest one seen + 1; of several choices, one number for each."
    low: Numbers = ()
    "Lower bounds of continuous actions: one, or one per dimension."
    high: Numbers = ()
    "Upper bounds of the same."

    def given(self) -> dict:
        """Those that were set, as `topstitch.read` takes them."""
        set_ = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = lambda value: value if not isinstance(value, tuple) else value[0] if len(value) == 1 else list(value)
        return {name: plain(value) for name, value in set_.items() if value is not None and value != ()}


Flat = Annotated[Roles, tyro.conf.arg(name="column"), tyro.conf.OmitArgPrefixes]
"Roles among a command's own options, under the title `column options`."


def read_log(file: str, roles: Roles, *, parts: bool = False):
    """The log of a command line; with `parts` a table as `Parts`."""
    from ..data.formats import suffix
    from ..data.formats.files import SUFFIXES
    from ..data.read import read

    given = roles.given()
    missing = [f"--{name}" for name in ("obs", "action", "reward", "terminal") if name not in given]
    if missing and suffix(Path(file)) in SUFFIXES and Path(file).is_file():
        raise Wrong(f"{file} is a table: say which of its columns play the part of {', '.join(missing)}, for example\n"
                    "  --episode stay --time hour --obs 'obs_*' --action dose --reward reward --terminal died\n"
                    "--episode and --time may be missing; --terminal may be 'always' (each episode truly ends with its last row) "
                    "or 'never'.")  # fmt: skip
    if parts:
        from ..data.parts import Parts

        return Parts(file, **given)
    return read(file, **given)


def looking(log, most: int = 10_000) -> None:
    """A word before what takes seconds for a log of more steps than that."""
    if log.steps > most:
        print(f"looking at {log.steps:,} steps …", file=sys.stderr)
