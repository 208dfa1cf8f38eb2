r"""Model-based evaluation: learn the world from the log, and act in what was learned,

$$ \hat v(\pi) = E_{s_0 \sim \text{log}}\; E_{\hat p, \pi} \textstyle\sum_t \gamma^t r_t. $$

A table of the log is solved exactly (`tabular`); an ensemble of nets (`learned_worlds`) is rolled out (`rolled_out`). Errors of a learned world add up along an
episode, and no weight says where it is wrong: how far the models scatter is a lower bound of that.

Mannor, Simester, Sun and Tsitsiklis 2007, *Bias and variance approximation in value function estimates*,
https://doi.org/10.1287/mnsc.1060.0614; learned ensembles as in Chua et al. 2018, https://arxiv.org/abs/1805.12114, and, for evaluation,
Fu et al. 2021, https://arxiv.org/abs/2103.16596.
"""

import functools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .. import nets
from ..core import Algorithm, Box, Discrete, Markov, Paper, Policy, Spec, Stage, Trained, sometimes, static
from ..data import Episodes
from ..data.device import Batch, Transitions
from ..data.view import View
from ..loop import Listener, train
from ..worlds import empirical
from ..worlds.terminations import ends
from .beliefs import Belief, doing, seen_standardised
from .table import Refused

# tables ------------------------------------------------------------------------------------------------------------------------


class Tabular(NamedTuple):
    """A policy in the empirical world of a log."""

    belief: Belief
    left_out: float
    "The share of the policy's decisions, along its way through that world, that fell on actions never logged there."


def tabular(policy: Policy, log: Episodes, *, discount: float, most_left_out: float = 0.05) -> Tabular:
    """The exact value of a policy in the maximum-likelihood world of a log with numbered states and actions.

    What was never logged has no value, so the policy is judged without it: its other probabilities are scaled up, and where it would do only
    such actions it does what was done. Raises `Refused` for other spaces, and if more than `most_left_out` of its decisions had to be changed.
    """
    spec = log.spec
    _of_unit_steps(log)
    if not (isinstance(spec.obs, Discrete) and isinstance(spec.action, Discrete)):
        raise Refused(f"A table needs numbered states and actions, but this log has {spec}. Use a learned model, or fitted Q evaluation.")
    said = empirical(log)
    seen, states = said.counts > 0, spec.obs.size
    wanted = np.full(said.counts.shape, 1 / spec.action.size)
    wanted[:states] = doing(policy, np.arange(states, dtype=np.int32), _allowed(log), spec, log.view)
    kept = wanted * seen
    share = kept.sum(axis=1, keepdims=True)
    able = np.where(share > 0, kept / np.where(share > 0, share, 1), said.behaviour)
    try:
        visits = said.mdp.occupancy(able, discount).sum(axis=1)
    except ValueError as reason:  # where few episodes passed, the world of a log may hold a cycle without an end
        raise Refused(f"In the world that the log describes, {reason}") from None
    left_out = float(visits @ (1 - share[:, 0]) / visits.sum())
    if left_out > most_left_out:
        raise Refused(f"{left_out:.1%} of the policy's decisions are actions that were never logged in those states (at most {most_left_out:.0%} "
                      "are left out in silence). Their value is unknown: evaluate a policy that stays nearer to the log, or raise "
                      "most_left_out to see it judged without them.")  # fmt: skip
    q = said.mdp.value(able, discount).q[:states]
    judged = nets.TablePolicy(jnp.asarray(able[:states], jnp.float32))
    return Tabular(Belief(judged, discount, lambda obs: q[obs][None], spec, log.view), left_out)


def _of_unit_steps(log: Episodes) -> None:
    if log.duration is not None:
        raise Refused(f"{log.source} has durations, and a learned world does not say how long its steps take. Use fitted Q evaluation.")


def _allowed(log: Episodes) -> np.ndarray | None:
    """(states, actions): the actions that were ever marked legal in a state; all where the log is silent."""
    if log.mask is None:
        return None
    legal = np.zeros((log.spec.obs.size, log.spec.action.size), bool)
    np.logical_or.at(legal, log.obs, log.mask)
    return legal | ~legal.any(axis=1, keepdims=True)


# ensembles of nets -------------------------------------------------------------------------------------------------------------


class State(eqx.Module):
    dynamics: nets.Dynamics
    ending: Trained[nets.MLP]
    "(observation, action) -> the log odds that the step is terminal."


class World(Algorithm[State]):
    """What follows a step, what it earns, and whether it ends the episode: the nets, and the settings of Chua et al. and Janner et al."""

    paper: ClassVar = Paper(
        "Kurtland Chua and Roberto Calandra and Rowan McAllister and Sergey Levine",
        "Deep reinforcement learning in a handful of trials using probabilistic dynamics models", "NeurIPS", 2018,
        "https://arxiv.org/abs/1805.12114",
    )  # fmt: skip
    actions: ClassVar = (Box, Discrete)
    observations: ClassVar = (Box,)

    lr: float = 1e-3
    model_decay: float = 5e-5
    models: int = static(7)
    elites: int = static(5)
    hidden: tuple[int, ...] = static((200, 200, 200, 200))
    ending_hidden: tuple[int, ...] = static((64, 64))
    patience: int = static(5)
    "Passes over the data without an improvement by 1 % after which learning stops."
    held_out: int = static(1000)
    steps: int = static(20_000)
    batch_size: int = static(256)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        """The log, its discrete actions as vectors with a single 1."""
        flat = episodes.transitions()
        if isinstance(flat.spec.action, Box):
            return flat
        spec = Spec(flat.spec.obs, Box(flat.spec.action.size))
        rows = Batch(flat.all.obs, nets.vector(flat.all.action, flat.spec.action), flat.all.reward, flat.all.terminal, flat.all.next_obs)
        return Transitions(rows, flat.view, spec)

    def init(self, data, *, key):
        km, ke = jax.random.split(key)
        sizes = (data.spec.obs.size + data.spec.action.size, *self.ending_hidden, 1)
        how = dict(held_out=self.held_out, key=km)
        dynamics = nets.Dynamics.start(data.rows(), data.spec, self.hidden, self.models, self.elites, self.optimiser, **how)
        return State(dynamics, Trained.start(nets.MLP(sizes, key=ke, activation="silu"), self.optimiser))

    def stages(self):
        return (Stage("model", self.steps, self.update, self.sample, refresh=self.measure, finish=self.choose),)

    def measure(self, state, data, *, step, key):
        due = step % state.dynamics.epoch(self.batch_size) == 0
        return State(jax.lax.cond(due, lambda: state.dynamics.measured(data.rows()), lambda: state.dynamics), state.ending)

    def choose(self, state, data, *, key):
        return State(state.dynamics.measured(data.rows()).chosen(), state.ending)

    def sample(self, state, data, *, key):
        return state.dynamics.draw(data.rows(), self.batch_size, key=key)

    def update(self, state, batch, *, step, key):
        learning = state.dynamics.stale < self.patience
        dynamics, info = state.dynamics.fit(batch, self.optimiser, decay=self.model_decay, patience=self.patience)
        rows = batch[0]  # those of the first model serve

        def loss(net):
            odds = net(state.dynamics.asked(question(rows.obs, rows.action)))[:, 0]
            loss = optax.sigmoid_binary_cross_entropy(odds, rows.terminal).mean()
            return loss, {"ending/loss": loss}

        ending, e_info = sometimes(learning, lambda ending: ending.descend(loss, self.optimiser), state.ending)
        return State(dynamics, ending), info | e_info

    def policy(self, state):
        raise TypeError("A model of the world acts in no way: it is acted in.")


def question(obs, action):
    return jnp.concatenate([obs, action], axis=-1)


class RolledOut(NamedTuple):
    """A policy in learned worlds. Rewards are raw."""

    returns: np.ndarray
    "(elites, rollouts): discounted returns, rollout i from the same logged first observation in every world."
    horizon: int

    @property
    def estimates(self) -> np.ndarray:
        """(elites,): the value of the policy in each world."""
        return self.returns.mean(axis=1)


class Worlds(NamedTuple):
    """What was learned of the world of a log, several times."""

    state: State
    log: Episodes
    "As the worlds see it."


def learned_worlds(log: Episodes, algorithm: World | None = None, *, seed: int = 0, listeners: Sequence[Listener] = ()) -> Worlds:
    """`algorithm.models` worlds of vectors, learned from `log`.

    Raises `Refused` for numbered states, masks, durations, and where learning breaks.
    """
    _of_unit_steps(log)
    if not isinstance(log.spec.obs, Box):
        raise Refused("These worlds are made of vectors, but the log has numbered states. Use `tabular` (the estimator `model`).")
    if log.mask is not None:
        raise Refused("The log marks legal actions, and a learned world does not know which are legal. Use fitted Q evaluation.")
    log, algorithm = seen_standardised(log), algorithm or World()
    out = train([(algorithm, seed)], log, every=min(1000, algorithm.steps), listeners=listeners)
    if out.faults[0] is not None:
        raise Refused(f"The model of the world could not be learned: {out.faults[0]}. Lower its learning rate (lr).")
    return Worlds(jax.tree.map(lambda x: x[0], out.states), log)


def rolled_out(
    policy: Policy,
    worlds: Worlds,
    *,
    discount: float,
    termination: str = "learned",
    horizon: int | None = None,
    rollouts: int = 1000,
    seed: int = 0,
) -> RolledOut:
    """Act by `policy` in each of the best worlds, from first observations of their log.

    Episodes end as in the log ("learned": by a probability, and never if none did there), or by a rule of `worlds.terminations`; what goes on
    after `horizon` steps (default: the longest logged episode) does not count. States stay within the range of the log widened by its own
    width, rewards within that of the log. Raises `Refused` for policies with a memory.
    """
    if not isinstance(policy, Markov):
        raise Refused(f"{type(policy).__name__} remembers what it has seen; rollouts here are for policies that look at one observation.")
    state, log = worlds
    if termination == "learned" and not log.terminal.any():
        termination = "none"
    horizon = horizon or int(log.lengths.max())
    order = np.random.default_rng(seed).permutation(len(log))
    first = log.obs[log.starts[order[np.arange(rollouts) % len(log)]]]
    first = first if log.view.obs is None else log.view.obs.host(first)
    bounds = jnp.float32(log.reward.min()), jnp.float32(log.reward.max())
    how = dict(horizon=horizon, termination=termination, spec=log.spec)
    view = jax.tree.map(jnp.asarray, log.view)
    returns = roll(state, policy, jnp.asarray(first), view, bounds, jnp.float32(discount), jax.random.key(seed), **how)
    return RolledOut(np.asarray(returns, np.float64), horizon)


@functools.partial(jax.jit, static_argnames=("horizon", "termination", "spec"))
def roll(
    state: State,
    policy: Policy,
    first: Float[Array, "n obs"],
    view: View,
    bounds,
    discount,
    key,
    *,
    horizon: int,
    termination: str,
    spec: Spec,
) -> Float[Array, "elites n"]:
    """Discounted returns in the world of each elite."""
    dynamics, n = state.dynamics, len(first)
    raw = (lambda x: x) if view.obs is None else view.obs.undo
    unit = (lambda a: a) if view.action is None else view.action

    def world(args):
        elite, key = args
        model = dynamics.best[elite]

        def step(carry, now):
            obs, alive, total = carry
            t, key = now
            ka, kn, ke = jax.random.split(key, 3)
            action = policy(raw(obs)).sample(ka)
            action = nets.vector(action, spec.action) if isinstance(spec.action, Discrete) else jnp.clip(unit(action), -1, 1)
            asked = dynamics.asked(question(obs, action))
            mean, log_var = model(asked)
            told = dynamics.told.undo(mean + jnp.exp(0.5 * log_var) * jax.random.normal(kn, mean.shape))
            reward = jnp.clip(dynamics.told.undo(mean)[:, -1], *bounds)  # its mean: noise in rewards says nothing
            after = dynamics.land(obs, told[:, :-1])
            total = total + discount**t * jnp.where(alive, reward, 0)
            if termination == "learned":
                over = jax.random.bernoulli(ke, jax.nn.sigmoid(state.ending(asked)[:, 0]))
            else:
                over = ends(termination)(raw(after))
            return (after, alive & ~over, total), None

        start = first, jnp.ones(n, bool), jnp.zeros(n)
        (_, _, total), _ = jax.lax.scan(step, start, (jnp.arange(horizon), jax.random.split(key, horizon)))
        return total

    return jax.lax.map(world, (dynamics.elites, jnp.broadcast_to(key, dynamics.elites.shape)))
