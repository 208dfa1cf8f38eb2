r"""What to do with a log: imitation or offline RL, by which algorithms with which settings, judged by which estimators. Every answer has its
reason, the numbers it rests on, and a source; the questions and sources are on the page `docs/which-algorithm.md`.

The main evidence is whether other choices would have been better, as far as the log can tell without a policy being learned. With values of
practice from other episodes, $\hat V(s)$ and $\hat Q(s, a)$, let $\hat A = \hat Q - \hat V$ and a decision be weighted by

$$ w = \frac{e^{\kappa \hat A / \sigma}}{\hat E[e^{\kappa \hat A / \sigma} \mid s]}, \qquad
   \text{gain} = E\big[(w - 1)\,(G - \hat V(s))\big], $$

σ being the spread of $\hat A$ and G what was earned from there on: the first-order gain of leaning towards what seems better in single decisions,
and going on as practice does. It needs no probabilities, one weight a step and so no short horizon; subtracting both conditional means makes
errors of either model count in their product only (Robinson 1988, https://doi.org/10.2307/1912705; Chernozhukov et al. 2018,
https://doi.org/10.1111/ectj.12097). Products of w along episodes say what importance weights of a typical improvement would be worth.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import algos
from ..core import Box, Discrete
from ..data import Episodes
from ..data.check import Findings, check
from ..data.faults import HELD, WORTH, long_episodes, table
from ..ope.diagnostics import FEW
from .numbered import numbered
from .stitching import CHOSEN, horizon_of, world

MOST = 20_000
"Steps that are looked at, of whole episodes, where trees are grown; of numbered states and choices, all."
FOLDS = 3
LEAN = 0.75
"κ: how far a typical improvement leans. Ratios have a second moment of about 1.75 a step then; that of batch-constrained Q on ICU-Sepsis has 1.8."
FARTHEST = 2.0
"The most by which the logarithm of a weight departs from 0."
SHRUNK = (10.0, 100.0, 1000.0)
"Rows by which means of a pair may be drawn towards those of its state; the best is found on other episodes. Those of a state: by the first."
FIXED = 0.02
"The chance that practice would decide otherwise next time, below which there is nothing to choose between."
RANDOM = 0.8
"The same, as a share of what it would be at random, from which on imitation is worth no more than chance."
FEWEST = 50
"Episodes below which nothing but imitation is advised."
DEALS = 3
"Into halves."
PLANNED = 0.02
"The least mean gain of plans that counts, in standard deviations of returns."
CLEAR = 2.0
"Standard errors by which the gain of other choices must exceed 0."
SMALL, MIDDLE = dict(hidden=(64, 64), lr=1e-3), dict(hidden=(128, 128), lr=1e-3)
"Nets of numbered states, and of vectors of at most `FLAT` columns: those of `bench.settings`."
FLAT = 10
EPOCHS = {True: 20, False: 128}
"Passes over the log: of numbered states, and else (50,000 steps for 100,000 rows of CartPole, 200,000 for 200,000 of Hopper)."

KUMAR = "Kumar, Hong, Singh and Levine 2022, https://arxiv.org/abs/2204.05618"
BAIR = "Kumar, Kostrikov and Levine 2022, https://bair.berkeley.edu/blog/2022/04/25/rl-or-bc/"
SCHWEIGHOFER = "Schweighofer et al. 2022, https://arxiv.org/abs/2111.04714"
HONG = "Hong, Agrawal, Tachet des Combes and Laroche 2023, https://arxiv.org/abs/2306.13085"
ONE_STEP = "Brandfonbrener et al. 2021, https://arxiv.org/abs/2106.08909"
BHARGAVA = "Bhargava et al. 2024, https://arxiv.org/abs/2305.14550"
VOLOSHIN = "Voloshin et al. 2021, https://arxiv.org/abs/1911.06854"
GOTTESMAN = "Gottesman et al. 2019, https://doi.org/10.1038/s41591-018-0310-5"
DUDIK = "Dudík, Langford and Li 2011, https://arxiv.org/abs/1103.4601"
OURS = "docs/ope.md"


class Facts(NamedTuple):
    """What was measured."""

    episodes: int
    steps: int
    horizon: float
    "Mean steps of an episode."
    longest: int
    one_step: bool
    ended: bool
    "Whether every episode truly ends."
    spread: float
    "Standard deviation of returns."
    upper: float
    "The share of the variance of returns that lies above their mean: ½ for symmetric ones, towards 1 for a few good among many poor."
    variety: float
    "The chance that practice would decide otherwise next time; of vectors, the share of their variance that observations do not tell."
    random: float
    "`variety` as a share of what it would be at random."
    gain: float
    "Of leaning towards what seems better, a step; in units of the return."
    error: float
    advantage: float
    "The spread of advantages: the root of the covariance of what two parts of the log, each by itself, say of the same decisions."
    stitched: tuple[float, ...]
    """Of numbered states and actions: what a policy planned in the world of one half of the episodes, over actions logged ten times or more, gains over
    practice in the world of the other half, in standard deviations of returns; both ways, of `DEALS` deals."""
    matters: float
    "The share of decisions of which more than a tenth of the spread of returns seems to hang."
    worth: float
    "What the weights of a typical improvement would leave of the episodes kept for judging."
    known: bool
    "Whether probabilities are recorded."
    fixed: bool
    "Whether the logger follows a rule."

    @property
    def z(self) -> float:
        return self.gain / self.error if self.error > 0 else 0.0


class Reason(NamedTuple):
    """One consideration."""

    code: str
    says: str
    "With its number."
    speaks_for: str
    "offline RL, imitation, or neither."
    decides: bool
    source: str


class Choice(NamedTuple):
    """An algorithm to start with."""

    name: str
    settings: dict[str, Any]
    "Fields that differ from the class's defaults."
    sweep: dict[str, list[float]]
    "Values worth trying side by side, the likeliest in the middle."
    steps: int
    role: str
    "yardstick, safe default, candidate."
    reason: str
    source: str
    command: list[str]


class Trust(NamedTuple):
    """What estimators can be trusted with."""

    names: tuple[str, ...]
    "Of `ope.ESTIMATORS` and `ope.MARGINAL`."
    trusted: str
    "yes, with care, no."
    reason: str
    source: str


class Advice(NamedTuple):
    answer: str
    "offline RL, imitation, or neither: repair the log first."
    why: str
    reasons: tuple[Reason, ...]
    algorithms: tuple[Choice, ...]
    safe: str
    estimators: tuple[Trust, ...]
    discount: float
    facts: Facts | None
    next: list[str]
    "The command to run next, word by word."

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        listed = lambda rows: [{name: list(x) if isinstance(x, tuple) else x for name, x in row._asdict().items()} for row in rows]
        made = [
            row | {"settings": {k: list(v) if isinstance(v, tuple) else v for k, v in row["settings"].items()}}
            for row in listed(self.algorithms)
        ]
        return self._asdict() | {
            "reasons": listed(self.reasons), "algorithms": made, "estimators": listed(self.estimators),
            "facts": None if self.facts is None else self.facts._asdict() | {"z": self.facts.z, "stitched": list(self.facts.stitched)},
        }  # fmt: skip


def advise(log: Episodes, *, findings: Findings | None = None, data: Sequence[str] = ("LOG",)) -> Advice:
    """Advice on a log. `findings` are those of `check(log)`, made if not given; `data` is how a command line names the log, with its roles.

    Some 20,000 steps are looked at, so that it takes seconds. Nothing is trained.
    """
    found = check(log) if findings is None else findings
    codes = {one.code for one in found}
    if found.worst == "critical":
        first = found[0]
        return Advice(
            "neither", f"{first.title}. {first.remedy}", (), (), safe(log), (), discount(log), None, ["topstitch", "data", "check", *data]
        )
    facts = measured(log, fixed="deterministic-logger" in codes)
    reasons = tuple(_reasons(facts))
    answer, why = next((one.speaks_for, one.says) for one in reasons if one.decides)
    weighed = facts.worth >= WORTH
    chosen = tuple(_chosen(log, facts, answer, weighed, list(data)))
    return Advice(
        answer,
        why,
        reasons,
        chosen,
        safe(log),
        tuple(_estimators(log, facts)),
        discount(log),
        facts,
        ["topstitch", "run", *data, "-o", "study"],
    )


# what is measured ----------------------------------------------------------------------------------------------------------------


def measured(log: Episodes, *, fixed: bool, seed: int = 0) -> Facts:
    """The facts of a log; those of decisions from about `MOST` of its steps."""
    order = np.random.default_rng(seed).permutation(len(log))
    count = len(log) if table(log) else max(2, int(np.searchsorted(np.cumsum(log.lengths[order]), MOST)) + 1)
    part = log if count >= len(log) else log.take(np.sort(order[:count]))
    returns, gamma = log.returns(), discount(log)
    above = np.maximum(returns - returns.mean(), 0)
    same = dict(
        episodes=len(log), steps=log.steps, horizon=float(log.lengths.mean()), longest=int(log.lengths.max()), one_step=bool(log.lengths.max() == 1),
        ended=bool(log.terminal[log.stops - 1].all()), spread=float(returns.std()), upper=float((above**2).mean() / max(returns.var(), 1e-300)),
        known=log.log_prob is not None, fixed=fixed,
    )  # fmt: skip
    if len(part) < 2 * FOLDS:
        return Facts(**same, variety=0.0, random=0.0, gain=0.0, error=0.0, advantage=0.0, stitched=(), matters=0.0, worth=0.0)
    fold = np.repeat(np.random.default_rng(seed).permutation(len(part)) % FOLDS, part.lengths)
    of_state, of_pair = _views(part)
    earned, value, advantage, weight = part.to_go(gamma), np.zeros(part.steps), np.zeros(part.steps), np.ones(part.steps)
    shared: list[float] = []
    for k in range(FOLDS):  # what weights prefer is learned from one part, what is to be expected from a second, and a third tells the gain
        learn, middle, ask = fold == k, fold == (k + 1) % FOLDS, fold == (k + 2) % FOLDS
        both = middle | ask
        v, q = np.zeros(part.steps), np.zeros(part.steps)
        v[both] = _told(of_state, earned, learn, both)
        tries = [_told(of_pair, earned, learn, both, towards=v, rows=n) for n in (SHRUNK if of_pair.ndim == 1 else SHRUNK[:1])]
        q[both] = min(tries, key=lambda said: ((earned[both] - said)[middle[both]] ** 2).mean())
        gap = q - v
        spread = max(float(gap[both].std()), 1e-12)
        raw = np.exp(np.clip(LEAN * gap / spread, -FARTHEST, FARTHEST))
        usual = np.clip(_told(of_state, raw, middle, ask), np.exp(-FARTHEST), np.exp(FARTHEST))
        u = np.zeros(part.steps)
        u[ask] = _told(of_state, earned, middle, ask)
        once = _told(of_pair, earned, learn, ask, towards=v, rows=1.0) - v[ask]
        again = _told(of_pair, earned, middle, ask, towards=u, rows=1.0) - u[ask]
        shared.append(float(np.cov(once, again)[0, 1]))
        value[ask], advantage[ask], weight[ask] = u[ask], gap[ask], raw[ask] / usual
    sigma = max(float(np.mean(shared)), 0.0) ** 0.5 or float(advantage.std())
    by_episode = np.add.reduceat((weight - 1) * (earned - value), part.starts)
    error = float(by_episode.std(ddof=1) * np.sqrt(len(part)) / part.steps)
    product = np.add.reduceat(np.log(weight), part.starts)
    relative = np.exp(product - product.max())
    kish = float(relative.sum() ** 2 / (relative**2).sum())
    variety, chance = _variety(part, of_state, fold)
    return Facts(
        **same, variety=variety, random=variety / chance if chance > 0 else 0.0, gain=float(by_episode.sum() / part.steps), error=error,
        advantage=sigma, stitched=tuple(_stitched(log)), matters=float((np.abs(advantage) > 0.1 * max(float(part.returns().std()), 1e-12)).mean()),
        worth=kish * HELD * len(log) / len(part),
    )  # fmt: skip


def _stitched(log: Episodes) -> Iterator[float]:
    if not table(log) or log.lengths.max() == 1 or log.returns().std() == 0:
        return
    numbers = numbered(log, log.obs_names, log.action_names, 0)
    horizon = horizon_of(world(numbers, log, 1.0), log)
    for seed in range(DEALS):
        half = np.random.default_rng(seed).permutation(len(log)) % 2 == 0
        worlds = [world(numbers, log, 1.0, part) for part in (half, ~half)]
        for here, there in (worlds, worlds[::-1]):
            yield float((here.tried(CHOSEN, horizon, there) - there.value(there.count, horizon)) / log.returns().std())


Seen = np.ndarray
"What is told by: (n,) int numbers, of which means are taken, or (n, columns), by which trees are grown."


def _views(log: Episodes) -> tuple[Seen, Seen]:
    """Observations, and observations with actions."""
    discrete = isinstance(log.spec.action, Discrete)
    if table(log):
        return log.obs.astype(np.int64), log.obs.astype(np.int64) * log.spec.action.size + log.action
    seen = log.obs.reshape(log.steps, -1).astype(np.float32)
    seen = seen[:, :: max(1, seen.shape[1] // 200)]  # pictures by some of their pixels
    done = np.eye(log.spec.action.size, dtype=np.float32)[log.action] if discrete else log.action.reshape(log.steps, -1).astype(np.float32)
    return seen, np.concatenate([seen, done], axis=1)


def _told(
    x: Seen, y: np.ndarray, learn: np.ndarray, ask: np.ndarray, towards: np.ndarray | None = None, rows: float = SHRUNK[0]
) -> np.ndarray:
    """(rows of `ask`,): y as told by x, from the rows of `learn`. Means are drawn `towards` another prediction, or the mean of all, as if so many `rows`
    more had shown it."""
    if x.ndim > 1:
        return _trees("Regressor", x[learn], y[learn]).predict(x[ask])
    size = int(x.max()) + 1
    count, total = np.bincount(x[learn], minlength=size)[x[ask]], np.bincount(x[learn], y[learn], minlength=size)[x[ask]]
    return (total + rows * (y[learn].mean() if towards is None else towards[ask])) / (count + rows)


def _trees(kind: str, x: np.ndarray, y: np.ndarray):
    import sklearn.ensemble
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        made = getattr(sklearn.ensemble, f"HistGradientBoosting{kind}")(
            max_iter=60, max_leaf_nodes=15, l2_regularization=1.0, early_stopping=False, random_state=0
        )
        return made.fit(x, y)


def _variety(log: Episodes, x: Seen, fold: np.ndarray) -> tuple[float, float]:
    """(the chance that practice would decide otherwise next time, the same if it decided at random). By recorded probabilities where there are
    some; of vectors the share of variance that is not told, and 1."""
    if isinstance(log.spec.action, Box):
        parts = [part for part in log.action.T.astype(np.float64) if np.ptp(part) > 0]
        learn, ask = fold > 0, fold == 0
        left = [((part[ask] - _told(x, part, learn, ask)) ** 2).mean() / part[ask].var() for part in parts[:3] if np.ptp(part[ask]) > 0]
        return float(np.clip(np.mean(left), 0, 1)) if left else 0.0, 1.0
    options = log.spec.action.size if log.mask is None else float(log.mask.sum(axis=1).mean())
    chance = 1 - 1 / options
    if log.log_prob is not None:
        return float((1 - np.exp(log.log_prob.astype(np.float64))).mean()), chance
    action = np.unique(log.action.reshape(log.steps, -1), axis=0, return_inverse=True)[1].reshape(-1)
    p = np.zeros(log.steps)
    for k in range(FOLDS):
        learn, ask = fold != k, fold == k
        if x.ndim == 1:
            pair = lambda rows: x[rows] * (int(action.max()) + 1) + action[rows]
            size = (int(x.max()) + 1) * (int(action.max()) + 1)
            share = np.bincount(action[learn], minlength=int(action.max()) + 1) / learn.sum()
            p[ask] = (np.bincount(pair(learn), minlength=size)[pair(ask)] + share[action[ask]]) / (
                np.bincount(x[learn], minlength=int(x.max()) + 1)[x[ask]] + 1
            )
        else:
            few = np.flatnonzero(learn)[:: max(1, len(np.unique(action)) // 10)]  # a tree for each class
            model = _trees("Classifier", x[few], action[few]) if len(np.unique(action[few])) > 1 else None
            said = np.ones((ask.sum(), 1)) if model is None else model.predict_proba(x[ask])
            place = {a: i for i, a in enumerate([action[few][0]] if model is None else model.classes_)}
            p[ask] = [row[place[a]] if a in place else 0.0 for row, a in zip(said, action[ask])]
    return float((1 - p).mean()), chance


def discount(log: Episodes) -> float:
    """Of learning: 1 where every episode ends, and soon, so that a plain sum is what counts; 0.99 as in the papers; for rewards that are paid at the end
    of long episodes as much nearer to 1 as their length asks for, 0.999 at most."""
    last = np.zeros(log.steps, bool)
    last[log.stops - 1] = True
    if log.terminal[log.stops - 1].all() and np.quantile(log.lengths, 0.95) <= 50:
        return 1.0
    long = float(np.quantile(log.lengths, 0.95))
    return float(np.clip(1 - 1 / long, 0.99, 0.999)) if not log.reward[~last].any() else 0.99


# imitation or offline RL ----------------------------------------------------------------------------------------------------------


def _reasons(f: Facts) -> Iterator[Reason]:
    """In the order in which they decide: the first that speaks for something and may decide does."""
    said = f"Leaning towards what seems better in single decisions gained {f.gain:+.3g} a step, {f.z:.1f} standard errors"
    plans = bool(f.stitched) and min(f.stitched) > 0 and bool(np.mean(f.stitched) > PLANNED)
    tests: list[tuple[str, bool, str, str, str]] = [
        ("reward", f.spread == 0, "imitation", "All episodes earned the same: there is nothing to prefer." if f.spread == 0 else
         f"Returns differ, by a standard deviation of {f.spread:.4g}.", BAIR),
        ("choice", f.variety < FIXED or f.fixed, "imitation", f"Practice decides the same again and again: next time otherwise in {f.variety:.1%} of decisions." if
         f.variety < FIXED or f.fixed else f"Practice would decide otherwise next time in {f.variety:.0%} of decisions.", KUMAR),
        ("few", f.episodes < FEWEST, "imitation", f"{f.episodes:,} episodes are {'too few to learn values from' if f.episodes < FEWEST else 'enough to learn values from'}.", BHARGAVA),
        ("gain", f.z > CLEAR, "offline RL", f"{said}{': other choices would have been better' if f.z > CLEAR else ', so that nothing shows that other choices would have been better'}.", KUMAR),
        ("stitch", plans, "offline RL", "This is no table of numbered states, so that nothing was planned in its world." if not f.stitched else
         f"A plan made in the world of one half of the episodes gains {np.mean(f.stitched):+.3f} standard deviations of returns over practice in that of the other half "
         f"({min(f.stitched):+.3f} to {max(f.stitched):+.3f} over {len(f.stitched)} tries).", KUMAR),
        ("random", f.random > RANDOM, "offline RL", f"Decisions are {f.random:.0%} as varied as at random{': imitation is worth no more than chance' if f.random > RANDOM else ''}.", SCHWEIGHOFER),
    ]  # fmt: skip
    open_ = True
    for code, holds, word, text, source in tests:
        yield Reason(code, text, word if holds else "neither", open_ and holds, source)
        open_ = open_ and not holds
    yield Reason(
        "else",
        "Nothing in the log shows that another policy would be better than practice: imitate it, and let others prove that they gain.",
        "imitation",
        open_,
        BAIR,
    )
    mixed = f.upper > 0.6
    yield Reason("mixture", f"{f.upper:.0%} of the variance of returns lies above their mean{': a few good episodes among many poor ones' if mixed else ''}.",
                 "offline RL" if mixed else "neither", False, HONG)  # fmt: skip
    long = f.longest > 1
    yield Reason("horizon", f"Episodes have {f.horizon:,.1f} steps in the mean{', and errors of imitation add up along them' if f.horizon > 20 else ''}.",
                 "offline RL" if long and f.horizon > 20 and f.variety > 0.1 else "neither", False, KUMAR)  # fmt: skip
    yield Reason("critical", f"In {f.matters:.0%} of decisions more than a tenth of the spread of returns seems to hang on what is done"
                 f"{': rewards can tell where care is needed' if 0 < f.matters < 0.5 else ''}.", "offline RL" if 0 < f.matters < 0.5 and f.z > CLEAR else "neither", False, KUMAR)  # fmt: skip


# algorithms ----------------------------------------------------------------------------------------------------------------------


def safe(log: Episodes) -> str:
    """The method that departs least from practice: with a guarantee for numbered states, among what is done often for other single choices, by one
    step of improvement else."""
    if not isinstance(log.spec.action, Discrete):
        return "iql"
    return "spibb" if isinstance(log.spec.obs, Discrete) else "discrete_bcq"


def fits(name: str, log: Episodes) -> bool:
    """Whether the algorithm is there and defined for the spaces of a log."""
    if name not in algos.ALGORITHMS:
        return False
    kind = algos.find(name)
    return isinstance(log.spec.action, kind.actions) and isinstance(log.spec.obs, kind.observations)


def rounded(x: float) -> float:
    """To one digit that counts."""
    return float(f"{x:.0e}")


def around(x: float) -> list[float]:
    return [rounded(x / 3), rounded(x), rounded(3 * x)]


class Candidate(NamedTuple):
    name: str
    when: Callable[[Facts, bool], bool]
    "(facts, whether policies near practice can be weighed)."
    settings: Callable[[Facts], dict[str, Any]]
    sweep: Callable[[Facts], dict[str, list[float]]]
    why: str
    source: str


nothing: Callable[[Facts], dict] = lambda f: {}
sharp: Callable[[Facts], dict] = lambda f: {"beta": around(3 / f.advantage)} if f.advantage > 0 else {}
CANDIDATES: tuple[Candidate, ...] = (
    Candidate("spibb", lambda f, w: True, nothing, lambda f: {"threshold": [10.0, 20.0, 50.0]},
              "departs from practice only where an action was logged often in its state, with a bound on the loss", "Laroche et al. 2019, https://arxiv.org/abs/1712.06924"),
    Candidate("discrete_bcq", lambda f, w: True, nothing, lambda f: {"threshold": [0.1, 0.3, 0.5]},
              "takes the best of what practice does at least three tenths as often as its favourite", "Fujimoto et al. 2019, https://arxiv.org/abs/1910.01708; on ICU-Sepsis docs/quickstart.md"),
    Candidate("iql", lambda f, w: True, lambda f: {} if f.random > 0.3 else {"expectile": 0.5}, sharp,
              "imitates what went well by how well, and never asks about what was not done; beta is 3 over the spread of advantages here, as published values are for rewards of another size", "Kostrikov et al. 2022, https://arxiv.org/abs/2110.06169; one step (expectile 0.5) where practice varies little: " + ONE_STEP),
    Candidate("discrete_cql", lambda f, w: f.random > 0.3 and not f.one_step, lambda f: {"alpha": rounded(f.spread / f.horizon)} if f.spread > 0 else {},
              lambda f: {"alpha": around(f.spread / f.horizon)} if f.spread > 0 else {},
              "doubts what is rarely done; alpha, a bonus that each step of an episode can collect, is the spread of returns over the steps", "Kumar et al. 2020, https://arxiv.org/abs/2006.04779; docs/quickstart.md"),
    Candidate("awac", lambda f, w: True, nothing, sharp, "imitates by advantages over its own actions", "Nair et al. 2020, https://arxiv.org/abs/2006.09359"),
    Candidate("td3bc", lambda f, w: not w, nothing, lambda f: {"alpha": [1.0, 2.5, 4.0]},
              "follows values, held back by imitation; deterministic, so not to be weighed, which episodes of this length forbid anyway", "Fujimoto and Gu 2021, https://arxiv.org/abs/2106.06860"),
    Candidate("rebrac", lambda f, w: not w and f.steps >= 50_000, lambda f: {"actor_bc": 0.1 if f.random < 0.1 else 0.01}, lambda f: {"actor_bc": [0.001, 0.01, 0.1]},
              "the strongest of the simple ones on D4RL; more imitation where practice varies little", "Tarasov et al. 2023, https://arxiv.org/abs/2305.09836"),
)  # fmt: skip
MOST_CHOSEN = 3
"Candidates beside imitation."


def _chosen(log: Episodes, f: Facts, answer: str, weighed: bool, data: list[str]) -> Iterator[Choice]:
    """Imitation always, as what must be beaten; then the safe default; then what suits, unless the answer is imitation."""
    vector = isinstance(log.spec.obs, Box)
    nets = SMALL if isinstance(log.spec.obs, Discrete) else MIDDLE if vector and log.spec.obs.size <= FLAT else {}
    steps = int(np.clip(round(EPOCHS[isinstance(log.spec.obs, Discrete)] * log.steps / 256, -3), 5_000, 1_000_000))
    gamma = discount(log)

    def choice(name: str, settings: dict, sweep: dict, role: str, reason: str, source: str) -> Choice:
        known = {field.name for field in dataclasses.fields(algos.find(name))}
        own = {field: value for field, value in {**nets, "discount": gamma}.items() if field in known} | settings
        updates = steps if "lr" in known else 1000
        fixed = {field: value for field, value in own.items() if field not in sweep}
        words = ["topstitch", "train", name, "--data", *data, *_options(fixed), "--steps", str(updates)]
        for field, values in sweep.items():
            words += ["--sweep", f"{field}={','.join(f'{v:g}' for v in values)}"]
        return Choice(name, own, sweep, updates, role, reason, source, [*words, "--seeds", "4", "-o", f"runs/{name}"])

    yield choice("bc", {}, {}, "yardstick", "does as was done: what every other method must beat", "Pomerleau 1988, NeurIPS")
    able = [one for one in CANDIDATES if fits(one.name, log) and one.when(f, weighed)]
    first = [one for one in able if one.name == safe(log)]
    rest = [one for one in able if one.name != safe(log)][: MOST_CHOSEN - len(first)] if answer == "offline RL" else []
    for one in first + rest:
        role = "safe default" if one in first else "candidate"
        settings = one.settings(f) | ({"expectile": 0.5} if role == "safe default" and one.name == "iql" and answer == "imitation" else {})
        sweep = {} if one.name == "spibb" and f.episodes < FEWEST else one.sweep(f)
        yield choice(one.name, settings, sweep, role, one.why, one.source)


def _options(settings: Mapping[str, Any]) -> list[str]:
    """Fields as a command line takes them."""
    out = []
    for name, value in settings.items():
        out += [
            f"--{name.replace('_', '-')}",
            *map(str, value if isinstance(value, tuple) else (f"{value:g}" if isinstance(value, float) else value,)),
        ]
    return out


# estimators ----------------------------------------------------------------------------------------------------------------------


def _estimators(log: Episodes, f: Facts) -> Iterator[Trust]:
    weights = ("ips", "snips", "dr", "switch") if f.one_step else ("wis", "wpdis", "wdr")
    values = ("dm",) if f.one_step else ("fqe",)
    kept = f"{HELD * f.episodes:,.0f} episodes kept for judging"
    fitted = "" if f.known else " Probabilities must be estimated, and their error multiplies along an episode: --behaviour fit."
    if f.fixed or f.variety < FIXED:
        yield Trust(weights, "no", "The logger follows a rule: what it never tried has no weight.", VOLOSHIN)
    elif f.one_step:
        yield Trust(("dr", "snips", "switch"), "yes" if f.known and f.worth >= FEW else "with care",
                    f"Episodes have one step, so that weights do not multiply: of the {kept} a typical improvement would be worth {f.worth:,.0f}.{fitted}", DUDIK)  # fmt: skip
        yield Trust(
            ("ips",), "with care", "Its bounds can be guaranteed (--interval betting --reward-range LOW HIGH), at the price of width.", OURS
        )
    else:
        near = next(long_episodes(log), None) is None
        if f.worth >= FEW:
            yield Trust(
                weights,
                "yes" if f.known else "with care",
                f"Of the {kept} a typical improvement would be worth {f.worth:,.0f}.{fitted}",
                GOTTESMAN,
            )
        elif f.worth >= WORTH or near:
            yield Trust(
                weights,
                "with care",
                f"Of the {kept} a typical improvement would be worth {f.worth:,.0f}: only policies near practice can be weighed.{fitted}",
                GOTTESMAN,
            )
        else:
            yield Trust(
                weights,
                "no",
                f"Of the {kept}, of {f.horizon:,.1f} steps each, a typical improvement would be worth {f.worth:.2g}: weights would be refused.",
                GOTTESMAN,
            )
        yield Trust(("is", "pdis"), "no", "Without self-normalisation a few episodes decide everything.", VOLOSHIN)
    if isinstance(log.spec.action, Box) and f.worth >= WORTH:
        yield Trust(
            weights, "no", "Of policies that answer with one point of a vector (td3bc, rebrac): they have no density to weigh by.", OURS
        )
    yield Trust(values, "with care", "Rests on learned values alone, and its interval does not say how wrong they are.", VOLOSHIN)
    if isinstance(log.spec.obs, Discrete) and isinstance(log.spec.action, Discrete) and not f.one_step:
        yield Trust(
            ("model",), "with care", "Numbered states: the world of the log can be solved; what is rare in it is believed.", VOLOSHIN
        )
    if not f.one_step and not f.fixed and f.worth < FEW:
        yield Trust(
            ("mwl", "bestdice"),
            "with care",
            "Weights of single steps do not multiply along episodes, but must be learned in a class of functions.",
            "Uehara et al. 2020, https://arxiv.org/abs/1910.12809",
        )
