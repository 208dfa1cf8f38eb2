"""What fixes a study besides its data: how episodes are dealt out, what a value is, what difference matters."""

import dataclasses
from typing import Literal

import numpy as np

from ..data import BadData, Episodes
from ..data.evidence import figures

MANY = 2000
"From so many episodes on half of them are learned from; of fewer more are kept to judge by."
SMALL = 0.05
"The part of the spread of returns, or of their mean, that is the least that matters unless somebody says otherwise."
FINE = 0.01
"Shares below it are said with another digit."
FOR = {
    "train": "algorithms, and the copy of practice, learn from these",
    "selection": "one policy is chosen by these",
    "evaluation": "the chosen policy is judged by these; nothing was learned or chosen by them",
}


@dataclasses.dataclass(frozen=True)
class Words:
    """What things are called in a log."""

    episode: str = "episode"
    episodes: str = "episodes"
    step: str = "decision"
    steps: str = "decisions"
    value: str | None = None
    "What a return is: survival, revenue. None: the return."


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings of a study."""

    shares: tuple[float, float, float] | None = None
    "Of train, selection and evaluation episodes; by default as `shares_of` says. Without selection episodes all policies are tested together."
    discount: float = 1.0
    "Of rewards, per unit of time."
    margin: float | None = None
    "The smallest gain or loss that matters, in units of the return; by default as `margin_of` says."
    return_range: tuple[float, float] | None = None
    "The least and the most that an episode can earn, as known beforehand. With recorded probabilities the gain then has a guaranteed lower end."
    behaviour: Literal["column", "fit"] | None = None
    "The logger's probabilities: the log's, by default where it has them, or estimated."
    seed: int = 0
    "Of the deal, and of everything that is drawn but training."
    title: str | None = None
    unit: str | None = None
    "What one unit of the return is called: €, kWh."
    words: Words = Words()

    def __post_init__(self):
        if self.shares is not None and (
            min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6 or self.shares[0] <= 0 or self.shares[2] <= 0
        ):
            raise BadData(f"the shares of train, selection and evaluation episodes are {self.shares}; expected three that sum to 1, the first "
                          "and the last above 0.")  # fmt: skip
        if self.return_range is not None and not self.return_range[0] < self.return_range[1]:
            raise BadData(f"the declared range of returns goes from {self.return_range[0]} to {self.return_range[1]}; expected low < high.")
        if self.margin is not None and not self.margin > 0:
            raise BadData(f"the margin is {self.margin}; expected the smallest difference that matters, above 0.")


def shares_of(episodes: int) -> tuple[float, float, float]:
    """Half to learn from, three tenths to judge by; of few episodes as many to judge by as to learn from."""
    return (0.5, 0.2, 0.3) if episodes >= MANY else (0.4, 0.2, 0.4)


def deal(log: Episodes, plan: Plan) -> dict[str, np.ndarray]:
    """Numbers of the episodes of each part, sorted: dealt at random, steps of one episode together. Raises `BadData` for too few."""
    n, shares = len(log), plan.shares or shares_of(len(log))
    ends = np.rint(np.cumsum(shares) * n).astype(int)
    order = np.random.default_rng(plan.seed).permutation(n)
    parts = {name: np.sort(part) for name, part in zip(FOR, np.split(order, ends[:-1]))}
    for name, part in parts.items():
        if len(part) < 2 and not (name == "selection" and shares[1] == 0):
            raise BadData(f"{log.source}: {n} episodes leave {len(part)} for {name}; a study needs two at least in each part. Log more.")
    return parts


def margin_of(log: Episodes, plan: Plan) -> tuple[float, str]:
    """(the smallest difference that matters, where it comes from).

    A twentieth of the standard deviation of returns: a smaller gain would take thousands of episodes to notice. Where all returns have one sign,
    and so a natural zero, not more than a twentieth of their mean either: of a click rate of half a per cent, a tenth of a spread is everything.
    """
    if plan.margin is not None:
        return plan.margin, "declared"
    returns = log.returns(plan.discount)
    spread, mean = SMALL * float(returns.std()), SMALL * abs(float(returns.mean()))
    if (returns.min() >= 0 or returns.max() <= 0) and 0 < mean < spread:
        return mean, "a twentieth of the mean return"
    return spread, "a twentieth of the standard deviation of returns"


def kind_of(log: Episodes, plan: Plan) -> Literal["share", "return"]:
    """Whether values are shares, to be read in percent."""
    low, high = plan.return_range or (None, None)
    returns = log.returns(plan.discount)
    return "share" if (low, high) == (0, 1) or bool(np.isin(returns, (0, 1)).all()) else "return"


@dataclasses.dataclass(frozen=True)
class Unit:
    """How numbers are said."""

    kind: Literal["share", "return"]

    def level(self, x: float) -> str:
        return f"{100 * x:.{_digits(x)}f} %" if self.kind == "share" else figures(x)

    def difference(self, x: float) -> str:
        """With its sign."""
        return f"{100 * x:+.{_digits(x)}f} points" if self.kind == "share" else figures(x, 3, "+")

    def gain(self, value: float, low: float, high: float) -> str:
        """A difference and its interval, in equal digits."""
        if self.kind == "return":
            middle, least, most = (figures(x, 3, "+") for x in (value, low, high))
            return f"{middle} ({least} to {most})"
        digits = _digits(max(low, high, key=abs))
        return f"{100 * value:+.{digits}f} points ({100 * low:+.{digits}f} to {100 * high:+.{digits}f})"


def _digits(share: float) -> int:
    return 1 if abs(share) >= FINE or share == 0 else 2
