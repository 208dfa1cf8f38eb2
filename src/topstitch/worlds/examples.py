"""Small worlds that each make one point. Sources stand with each."""

from typing import NamedTuple

import jax
import numpy as np

from ..data import Episodes
from .tabular import MDP, sample


class Example(NamedTuple):
    """A world, and the policy table (states, actions) of whoever logged it."""

    mdp: MDP
    behaviour: np.ndarray


class Triad(NamedTuple):
    """A world in which learning blows up. See `deadly_triad`."""

    mdp: MDP
    behaviour: np.ndarray
    target: np.ndarray
    "(states, actions): the policy to be evaluated."
    features: np.ndarray
    "(states, actions, 1): Q is w times this."


class Stitching(NamedTuple):
    """A world, and a log that no single episode of which shows the way. See `gridworld`."""

    mdp: MDP
    log: Episodes


def random_mdp(states: int, actions: int, *, branching: int = 3, ending: float = 0.0, seed: int = 0) -> MDP:
    """A Garnet: each action leads to `branching` random states with probabilities cut at random; rewards of actions are N(0, 1).

    With `ending` above 0 the last state is terminal and every step leads there with that probability, so that discount 1 makes sense.
    Episodes start anywhere else, uniformly. Raises ValueError unless 1 <= branching <= live states and 0 <= ending < 1.
    Source: Bhatnagar et al. 2009, "Natural actor-critic algorithms", section 7, https://doi.org/10.1016/j.automatica.2009.07.008.
    """
    rng, live = np.random.default_rng(seed), states - (ending > 0)
    if not 1 <= branching <= live or not 0 <= ending < 1:
        raise ValueError(f"branching is {branching} and ending {ending}; expected 1 to {live}, the states not terminal, and 0 to below 1.")
    transition = np.zeros((states, actions, states))
    for row in transition[:live].reshape(-1, states):
        cuts = np.sort(rng.uniform(size=branching - 1))
        row[rng.choice(live, branching, replace=False)] = (1 - ending) * np.diff(cuts, prepend=0, append=1)
    terminal = np.arange(states) >= live
    if ending:
        transition[:, :, -1] += ending
    return MDP(transition, rng.normal(size=(states, actions)), ~terminal / live, terminal)


def chain(n: int, *, slip: float = 0.0) -> MDP:
    """`n` states in a row and the goal behind them, which ends. Action 0 goes left (in state 0 it stays), 1 right; the start is state 0.

    With probability `slip` a step goes the other way. Reaching the goal earns 1, all else 0: without slips v*(s) = γ^(n - 1 - s).
    Source: the random walk of Sutton & Barto 2018, example 6.2, http://incompleteideas.net/book/the-book-2nd.html, with actions.
    """
    at = np.arange(n)
    transition = np.zeros((n + 1, 2, n + 1))
    for action, (left, right) in enumerate([(1 - slip, slip), (slip, 1 - slip)]):
        transition[at, action, np.maximum(at - 1, 0)] += left
        transition[at, action, at + 1] += right
    goal = np.arange(n + 1) == n
    return MDP(transition, goal[None, None].astype(float), np.eye(n + 1)[0], goal)


def lineworld(cells: int = 8, *, right: float = 0.25) -> Example:
    """A line whose goal is at the right end, logged by someone who mostly walks left.

    The logger goes right with probability `right` everywhere, so the best policy, always right, lies within the support of the log but
    far from its distribution: a policy that must *match* the logger (in KL, MMD with many samples, total variation) inherits its
    bad habit, one that must only stay within its *support* is free to be optimal.
    Source: the argument for support matching of Kumar et al. 2019 (BEAR), https://arxiv.org/abs/1906.00949; the line is ours.
    """
    mdp = chain(cells)
    return Example(mdp, np.tile([1 - right, right], (mdp.states, 1)))


def baited_line(cells: int = 5, *, right: float = 0.25) -> Example:
    """`lineworld`, where each step costs 0.1 until the goal is reached, with a third action that nobody takes: off the line, for good, at a cost
    of 1. Episodes begin in any cell.

    A value of the third action is a guess, and every guess near 0 looks better than a long walk. So a policy must leave the logger's habit,
    and must not do what he never did: being near him in divergence asks for the opposite of the first, being far from him allows the second.
    Source: as `lineworld`; the bait is ours.
    """
    line, behaviour = lineworld(cells, right=right)
    states, live = line.states, ~np.asarray(line.terminal)
    off = np.broadcast_to(np.eye(states)[-1], (states, 1, states))
    mdp = MDP(np.concatenate([line.transition, off], axis=1), np.tile([-0.1, -0.1, -1.0], (states, 1)), live / live.sum(), line.terminal)
    return Example(mdp, np.concatenate([behaviour, np.zeros((states, 1))], axis=1))


def deadly_triad(*, ending: float = 0.0) -> Triad:
    """w -> 2w: function approximation, bootstrapping and off-policy data together diverge, any two of them do not.

    Two states; action 0 goes to state 0, action 1 to state 1 (there `ending` of the time to the end instead). Nothing is ever earned,
    so every value is 0. Q of action 1 is w in state 0 and 2w in state 1, Q of action 0 is 0. The policy to be evaluated always takes
    action 1; the log takes both alike and so sees both states alike, where the policy would stay in state 1. Fitting Q to its own
    one-step target then multiplies w by γ (6 - 4 ending) / 5 each time: beyond a discount of 5 / (6 - 4 ending) it grows without
    bound. A table (no approximation), returns (no bootstrapping) or the policy's own log (on-policy) bring w to 0.
    Source: Tsitsiklis & Van Roy 1996, "Feature-based methods for large scale dynamic programming",
    https://doi.org/10.1007/BF00114724; Sutton & Barto 2018, example 11.1.
    """
    states = 3 if ending else 2
    transition = np.zeros((states, 2, states))
    transition[:, 0, 0] = 1
    transition[:, 1, 1] = 1
    if ending:
        transition[1, 1] = [0, 1 - ending, ending]
    start = np.array([0.5, 0.5, 0])[:states]
    mdp = MDP(transition, np.zeros((states, 2)), start, np.arange(states) == 2)
    features = np.zeros((states, 2, 1))
    features[:2, 1, 0] = 1, 2
    return Triad(mdp, np.full((states, 2), 0.5), np.tile([0.0, 1.0], (states, 1)), features)


def gridworld(size: int = 5, *, episodes: int = 100, good: float = 0.1, seed: int = 0) -> Stitching:
    """A crossroads. The log walks from A (left) through B (centre) to D (right), which earns 0, or, a share `good` of its episodes,
    from E (top) through B to C (bottom), which earns 1. The world starts in A, and no logged episode goes from A to C.

    Imitation goes on to D, and so does imitation of the best episodes, which never saw A; dynamic programming stitches A -> B to
    B -> C and earns γ^(size - 2) (`size` odd). Cells are numbered row by row; actions are up, right, down, left; walls hold.
    Raises ValueError for an even `size` or one below 3, and if one of the two kinds would have no episode.
    Source: stitching as in Fu et al. 2020 (D4RL), section 4, https://arxiv.org/abs/2004.07219; the grid is ours.
    """
    if size < 3 or size % 2 == 0:
        raise ValueError(f"the size is {size}; expected an odd number from 3 on, so that the grid has a centre.")
    counts = (episodes - round(good * episodes), round(good * episodes))
    if min(counts) < 1:
        raise ValueError(f"a share {good} of {episodes} episodes leaves {counts[0]} and {counts[1]}; expected one of each kind at least.")
    states, middle = size * size, size // 2
    row, column = np.divmod(np.arange(states), size)
    transition = np.zeros((states, 4, states))
    for action, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
        to = np.clip(row + down, 0, size - 1) * size + np.clip(column + right, 0, size - 1)
        transition[np.arange(states), action, to] = 1
    cell = np.eye(states)
    a, e, c, d = middle * size, middle, (size - 1) * size + middle, middle * size + size - 1
    world = lambda start: MDP(transition, cell[c][None, None], cell[start], cell[c] + cell[d] > 0)
    logs = [
        sample(world(start), np.tile(np.eye(4)[action], (states, 1)), n, horizon=size, key=key)
        for start, action, n, key in zip((a, e), (1, 2), counts, jax.random.split(jax.random.key(seed)))
    ]
    both = lambda name: np.concatenate([log.columns()[name] for log in logs])
    log = Episodes.of(
        both("obs"), both("action"), both("reward"), both("terminal"),
        next_obs=both("next_obs"), time=both("time"), states=states, actions=4, source="gridworld",
    )  # fmt: skip
    return Stitching(world(a), log)
