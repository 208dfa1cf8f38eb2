"""Worlds small enough to be solved exactly: what is learned from their logs can be compared with the truth.

Solutions are linear algebra in float64 on the host; logs are sampled in one compiled call. Everything that takes a policy takes
its table, probabilities of shape (states, actions); `table` makes one of any policy for discrete observations and actions.
Source: Puterman 1994, "Markov Decision Processes", chapters 5 to 7, https://doi.org/10.1002/9780470316887.
"""

import functools
from typing import NamedTuple, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from ..core import Markov
from ..data import Episodes

Table = Float[Array | np.ndarray, "*policies states actions"]
SLACK = 1e-4  # how far from 1 probabilities in float32 may sum


class Values(NamedTuple):
    """What a policy is worth: v (…, states) and q (…, states, actions) in float64; 0 where the state is terminal."""

    v: np.ndarray
    q: np.ndarray


class Optimum(NamedTuple):
    """The best there is: v (states,), q (states, actions) and a deterministic policy table (states, actions), in float64."""

    v: np.ndarray
    q: np.ndarray
    policy: np.ndarray


@final
class MDP(eqx.Module):
    """A Markov decision process with finitely many states and actions.

    `reward` may be given as (states, actions) or as anything of three axes that broadcasts against `transition`:
    (1, 1, states), for example, pays for where one arrives. Rows of terminal states say nothing, and are replaced.
    Raises ValueError for probabilities that are none, shapes that do not fit, and states without an admissible action.
    """

    transition: Float[Array, "states actions states"]
    "P(next state | state, action)."
    reward: Float[Array, "#states #actions #states"]
    "What the step from a state by an action to the next state earns."
    start: Float[Array, " states"]
    "P(first state)."
    terminal: Bool[Array, " states"]
    "Where an episode has ended: nothing follows, the value is 0."
    mask: Bool[Array, "states actions"] | None
    "The admissible actions; all of them if None."

    def __init__(self, transition, reward, start, terminal, mask=None):
        transition, reward, start = (np.array(x, np.float32) for x in (transition, reward, start))
        terminal = np.array(terminal, bool)
        reward = reward[..., None] if reward.ndim == 2 else reward
        if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
            raise ValueError(f"transition has shape {transition.shape}; expected (states, actions, states).")
        states, actions, _ = transition.shape
        if reward.ndim != 3 or any(have not in (1, want) for have, want in zip(reward.shape, transition.shape)):
            raise ValueError(f"reward has shape {reward.shape}; expected {(states, actions)}, or three axes that broadcast against "
                             f"{transition.shape}.")  # fmt: skip
        if not np.isfinite(reward).all():
            raise ValueError("reward holds a number that is not finite. Leave an action out by `mask`, not by an infinite penalty.")
        for name, x in {"start": start, "terminal": terminal}.items():
            if x.shape != (states,):
                raise ValueError(f"{name} has shape {x.shape}; expected one entry for each of {states} states.")
        transition[terminal] = np.eye(states, dtype=np.float32)[terminal][:, None]
        _distribution("transition", transition)
        _distribution("start", start)
        if start[terminal].any():
            raise ValueError(f"start puts {start[terminal].sum():.3g} of its probability on terminal states, where no step can be taken.")
        if mask is not None:
            mask = np.array(mask, bool)
            if mask.shape != (states, actions):
                raise ValueError(f"mask has shape {mask.shape}; expected {(states, actions)}.")
            mask[terminal] = True  # never asked, but a softmax over no action would be nan
            if not (some := mask.any(axis=1)).all():
                raise ValueError(f"mask leaves no admissible action in state {int(np.argmin(some))}, which is not terminal.")
        self.transition, self.reward, self.start = jnp.asarray(transition), jnp.asarray(reward), jnp.asarray(start)
        self.terminal, self.mask = jnp.asarray(terminal), None if mask is None else jnp.asarray(mask)

    @property
    def states(self) -> int:
        return self.transition.shape[0]

    @property
    def actions(self) -> int:
        return self.transition.shape[1]

    @property
    def legal(self) -> np.ndarray:
        """(states, actions) bool: the mask, all True if there is none."""
        return np.ones((self.states, self.actions), bool) if self.mask is None else np.asarray(self.mask)

    def uniform(self) -> np.ndarray:
        """The policy table (states, actions) that takes every admissible action alike."""
        return self.legal / self.legal.sum(axis=1, keepdims=True)

    # exact solutions ------------------------------------------------------------------------------------------------

    def value(self, policy: Table, discount: float) -> Values:
        """v = r_π + γ P_π v, solved. Any leading axes of `policy` are policies, solved at once.

        Raises ValueError if, at discount 1, the policy can stay in some state's future for ever: it has no value there.
        """
        policy, (transition, reward) = self.checked(policy), self._live()
        follow = np.einsum("...sa,saz->...sz", policy, transition)
        v = self._solve(follow, (policy * reward).sum(axis=-1), discount)
        return Values(v, reward + discount * np.einsum("saz,...z->...sa", transition, v))

    def performance(self, policy: Table, discount: float) -> np.float64 | np.ndarray:
        """(…,) float64: the expected discounted return of an episode, Σ_s start(s) v(s). Raises as `value` does."""
        return self.value(policy, discount).v @ self._start()

    def occupancy(self, policy: Table, discount: float) -> np.ndarray:
        """(…, states, actions) float64: (1 - γ) Σ_t γ^t P(s_t = s, a_t = a); at discount 1 the expected number of visits, Σ_t P.

        No action is taken in a terminal state, so its row is 0 and the sum is 1 - E[γ^length]; at discount 1, E[length].
        Performance is <occupancy, reward> / (1 - γ). Raises as `value` does.
        """
        policy, (transition, _) = self.checked(policy), self._live()
        follow = np.einsum("...sa,saz->...sz", policy, transition)
        visits = self._solve(follow, self._start(), discount, forward=True) * ~np.asarray(self.terminal)
        return (1.0 if discount == 1 else 1 - discount) * visits[..., None] * policy

    def optimum(self, discount: float) -> Optimum:
        """Howard's policy iteration over admissible actions; `q` of others is what they would earn, and is not looked at.

        At discount 1 the best among the policies that end. The first policy ends surely, and a step that strictly improves one
        that ends can only lead to one that does not around a cycle that earns for ever (Bertsekas & Tsitsiklis 1991,
        https://doi.org/10.1287/moor.16.3.580). Raises ValueError for such a cycle, and if no policy ends from some state.
        """
        (transition, reward), legal, rows = self._live(), self.legal, np.arange(self.states)
        choice = self._homeward(transition)
        while True:
            v = self._solve(transition[rows, choice], reward[rows, choice], discount)
            q = reward + discount * transition @ v
            best = np.where(legal, q, -np.inf).argmax(axis=1)
            better = q[rows, best] > q[rows, choice] + 1e-10 * (1 + np.abs(v).max())  # a tie must not move: it could run in circles
            if not better.any():
                return Optimum(v, q, np.eye(self.actions)[choice])
            choice = np.where(better, best, choice)

    def checked(self, policy: Table) -> np.ndarray:
        """The table in float64, rows of terminal states uniform. Raises ValueError unless it is a policy of this world."""
        policy = np.array(policy, np.float64)
        if policy.shape[-2:] != (self.states, self.actions):
            raise ValueError(f"the policy has shape {policy.shape}; expected (…, {self.states}, {self.actions}): (…, states, actions).")
        policy[..., np.asarray(self.terminal), :] = 1 / self.actions
        _distribution("policy", policy)
        if (stray := (policy > 0) & ~self.legal).any():
            *_, state, action = np.argwhere(stray)[0]
            raise ValueError(f"the policy takes action {action} in state {state}, where the mask forbids it. "
                             "Set it to 0 there and let the row sum to 1.")  # fmt: skip
        return policy / policy.sum(axis=-1, keepdims=True)

    def _live(self) -> tuple[np.ndarray, np.ndarray]:
        """P(next | s, a) and E[reward | s, a] in float64, both 0 in terminal states: nothing follows, nothing is earned."""
        transition = np.asarray(self.transition, np.float64)
        transition /= transition.sum(axis=-1, keepdims=True)  # float32 rows miss 1 by some 1e-7
        transition[np.asarray(self.terminal)] = 0
        return transition, (transition * np.asarray(self.reward, np.float64)).sum(axis=-1)

    def _start(self) -> np.ndarray:
        start = np.asarray(self.start, np.float64)
        return start / start.sum()

    def _solve(self, follow, given, discount: float, *, forward: bool = False) -> np.ndarray:
        """x = given + γ P x, or with `forward` x = given + γ Pᵀ x."""
        if not 0 <= discount <= 1:
            raise ValueError(f"the discount is {discount}; expected a number from 0 to 1.")
        if discount == 1 and not (ends := _reaches(follow, np.asarray(self.terminal))).all():
            stuck = np.unique(np.argwhere(~ends)[:, -1])
            raise ValueError(f"at discount 1 a policy must end, but from {len(stuck)} of {self.states} states (the first is {stuck[0]}) it "
                             "never reaches a terminal state, so it has no value there. Use a discount below 1.")  # fmt: skip
        system = np.eye(self.states) - discount * (np.swapaxes(follow, -1, -2) if forward else follow)
        return np.linalg.solve(system, np.broadcast_to(given, system.shape[:-1])[..., None])[..., 0]

    def _homeward(self, transition: np.ndarray) -> np.ndarray:
        """(states,): an admissible action that comes nearer to an end, wherever there is one."""
        home, choice = np.array(self.terminal), self.legal.argmax(axis=1)
        while (new := (near := (transition @ home > 0) & self.legal).any(axis=1) & ~home).any():
            choice[new] = near[new].argmax(axis=1)
            home |= new
        return choice


def table(policy: Markov, mdp: MDP) -> Float[Array, "states actions"]:
    """The probabilities of any policy obs -> Categorical, all states at once, over admissible actions.

    Pure JAX: `jax.vmap(lambda p: table(p, mdp))(stacked)` asks many policies at once.
    """
    return policy(jnp.arange(mdp.states), mdp.mask).probs()


# logs ---------------------------------------------------------------------------------------------------------------


def sample(mdp: MDP, policy: Table, episodes: int, *, horizon: int, key: PRNGKeyArray) -> Episodes:
    """Log `episodes` whole episodes under a policy table (states, actions), in one compiled call.

    The log has discrete observations and actions, masks if the world has them, `time` 0, 1, …, and the logger's true `log_prob`.
    An episode that has not ended after `horizon` steps is truncated there. Raises ValueError as `MDP.checked` does.
    """
    if episodes < 1 or horizon < 1:
        raise ValueError(f"asked for {episodes} episodes of at most {horizon} steps; expected at least one of each.")
    policy = mdp.checked(policy)
    if policy.ndim != 2:
        raise ValueError(f"the policy has shape {policy.shape}; one logger is one table, {policy.shape[-2:]}.")
    ladders = [_ladder(p) for p in (mdp.start, policy, mdp.transition)]
    state, action, reward, after, alive = map(np.asarray, _roll(*ladders, mdp.reward, mdp.terminal, episodes, horizon, key))
    time = np.broadcast_to(np.arange(horizon), alive.shape)[alive]
    last = np.repeat(alive.sum(axis=1), alive.sum(axis=1)) - 1
    state, action, reward, after = state[alive], action[alive], reward[alive], after[alive]
    mask, next_mask = (None, None) if mdp.mask is None else (mdp.legal[state], mdp.legal[after])
    return Episodes.of(
        state, action, reward, np.asarray(mdp.terminal)[after], ends=time == last, next_obs=after, states=mdp.states, actions=mdp.actions,
        mask=mask, next_mask=next_mask, log_prob=np.log(policy[state, action]), time=time, ids=np.arange(episodes), source="sampled",
    )  # fmt: skip


def _ladder(p) -> Float[Array, "*rows outcomes"]:
    """Cumulative probabilities, summed in float64 and in order: an outcome of probability 0 is a rung of height 0, never drawn."""
    rungs = np.cumsum(np.asarray(p, np.float64), axis=-1)
    return jnp.asarray(rungs / rungs[..., -1:], jnp.float32)


@functools.partial(jax.jit, static_argnames=("episodes", "horizon"))
def _roll(start, policy, transition, reward, terminal, episodes: int, horizon: int, key):
    """(state, action, reward, next state, whether the step happened), each (episodes, horizon); the first three from ladders."""
    draw = lambda ladder, u: (ladder <= u).sum(dtype=jnp.int32)

    def step(now, key):
        state, alive = now
        u = jax.random.uniform(key, (2,))
        action = draw(policy[state], u[0])
        after = draw(transition[state, action], u[1])
        at = tuple(i if n > 1 else 0 for i, n in zip((state, action, after), reward.shape))
        return (after, alive & ~terminal[after]), (state, action, reward[at], after, alive)

    def episode(key):
        first, rest = jax.random.split(key)
        begin = draw(start, jax.random.uniform(first)), jnp.array(True)
        return jax.lax.scan(step, begin, jax.random.split(rest, horizon))[1]

    return jax.vmap(episode)(jax.random.split(key, episodes))


# what a log alone says ----------------------------------------------------------------------------------------------


class Empirical(NamedTuple):
    """A log turned into a world. It has one state more than the log, the last: the end. `policy[:-1]` is for the true world."""

    mdp: MDP
    behaviour: np.ndarray
    "(states + 1, actions): how often each action was taken; uniform where nothing was."
    counts: np.ndarray
    "(states + 1, actions) int: visits."


def empirical(episodes: Episodes, *, threshold: int = 1, pessimism: float = 0.0) -> Empirical:
    """The maximum-likelihood world of a log with discrete observations and actions.

    Only actions seen at least `threshold` times, and the most frequent one, are admissible: `mdp.optimum` is then tabular
    batch-constrained Q-learning, solved (Fujimoto et al. 2019, section 4.1, https://arxiv.org/abs/1812.02900). Rewards are means,
    less `pessimism` / √visits (lower confidence bounds: Rashidinejad et al. 2021, https://arxiv.org/abs/2103.12021).
    States in which nothing was done count as ends. Raises ValueError for other spaces.
    """
    spec = episodes.spec
    states, actions = getattr(spec.obs, "size", 0), getattr(spec.action, "size", 0)
    if episodes.obs.ndim != 1 or episodes.action.ndim != 1:
        raise ValueError(f"a table needs discrete observations and discrete actions; this log has {spec}.")
    pair = episodes.obs.astype(np.int64) * actions + episodes.action
    after = np.where(episodes.terminal, states, episodes.next_obs)
    shape = (states + 1, actions)
    flows = np.bincount(pair * (states + 1) + after, minlength=np.prod((*shape, states + 1))).reshape(*shape, states + 1)
    counts = flows.sum(axis=-1)
    earned = np.bincount(pair, weights=episodes.reward, minlength=counts.size).reshape(shape)
    seen, often = counts > 0, np.maximum(counts, 1)
    unknown = counts.sum(axis=1) == 0
    flows[~seen, -1] = 1  # what was never done is not admissible; the row must only be a distribution
    likely = flows / np.maximum(flows.sum(axis=-1, keepdims=True), 1)
    mask = (counts >= max(threshold, 1)) | (seen & (counts == counts.max(axis=1, keepdims=True)))
    start = np.bincount(episodes.obs[episodes.starts], minlength=states + 1) / len(episodes)
    model = MDP(likely, earned / often - pessimism / np.sqrt(often), start, unknown, mask)
    behaviour = np.where(unknown[:, None], 1 / actions, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    return Empirical(model, behaviour, counts)


# --------------------------------------------------------------------------------------------------------------------


def _distribution(name: str, p: np.ndarray) -> None:
    wrong = ~((p >= 0).all(axis=-1) & (np.abs(p.sum(axis=-1) - 1) <= SLACK))  # nan is wrong too
    if wrong.any():
        row = tuple(int(i) for i in np.argwhere(wrong)[0])
        what = f"sums to {p[row].sum():.6g}" if (p[row] >= 0).all() else f"holds {p[row].min():.6g}"
        where = f" row {row}" if row else ""
        raise ValueError(f"{name}{where} {what}; expected probabilities, none negative, that sum to 1.")


def _reaches(follow: np.ndarray, terminal: np.ndarray) -> Bool[np.ndarray, "*policies states"]:
    """From where P can lead to an end."""
    links, home = follow > 0, np.broadcast_to(terminal, follow.shape[:-1])
    while True:
        further = home | (links & home[..., None, :]).any(axis=-1)
        if (further == home).all():
            return home
        home = further
