"""Which column plays which part, as options of every command that reads a log."""

import dataclasses
from typing import Annotated

import tyro


@dataclasses.dataclass(frozen=True)
class Roles:
    """Column roles, for tables (CSV, Parquet, Arrow). Other formats know their own."""

    episode: str | None = None
    "Column that names the episode (a stay, a session, a batch)."
    time: str | None = None
    "Column that orders the steps of an episode."
    obs: tuple[str, ...] = ()
    "Columns that were known when deciding; wildcards such as 'obs_*' are welcome."
    action: tuple[str, ...] = ()
    "Column of the decision: whole numbers from 0, or one column per continuous dimension."
    reward: str | None = None
    "Column of what the decision of the same row earned."
    terminal: str | None = None
    "Column that is true where the episode truly ended; or 'always' or 'never' for all last rows."
    truncated: str | None = None
    "Column that is true where only the log ended."
    probability: str | None = None
    "Column of the probability with which the logged action was taken."
    mask: tuple[str, ...] = ()
    "One column per discrete action, true where it was allowed."
    states: int | None = None
    "The observation is one of so many states: a whole number from 0."
    actions: int | None = None
    "Number of discrete actions (default: the largest seen + 1)."
    low: tuple[float, ...] = ()
    "Lower bounds of continuous actions."
    high: tuple[float, ...] = ()
    "Upper bounds of continuous actions."

    def given(self) -> dict:
        """Those that were set, as `topstitch.read` takes them."""
        set_ = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        single = lambda value: value[0] if isinstance(value, tuple) and len(value) == 1 else list(value) if isinstance(value, tuple) else value
        return {name: single(value) for name, value in set_.items() if value is not None and value != ()}


Flat = Annotated[Roles, tyro.conf.OmitArgPrefixes]
"Roles among a command's own options."
