r"""Marginal weights by nets: the saddle point of the regularised Lagrangian of which the DICE methods are special cases,

$$ \min_{\nu, \lambda} \max_\zeta\;
   (1 - \gamma)\, E_{s_0, a \sim \pi}\, \nu(s_0, a) + E_D\big[\zeta(s, a)\, (\alpha_R\, r + \gamma\, (1 - \mathrm{terminal})\, E_{a' \sim \pi} \nu(s', a') - \nu(s, a))\big]
   + \tfrac{\alpha_\nu}{2} E_D \nu^2 - \tfrac{\alpha_\zeta}{2} E_D \zeta^2 + c\, \lambda\, (1 - E_D[\zeta\, n]), $$

where n is 1, at an end 1 / (1 - γ): see `marginal`. ζ are the weights. ν of any size finds fault with a ζ whose flow does not add up; so
without α_ν the other terms only help to find it, and choose where the log leaves a choice.

| | α_ν | α_ζ | α_R | c | ζ ≥ 0 |
|---|---|---|---|---|---|
| DualDICE | 0 | 1 | 0 | 0 | no |
| GradientDICE | 1 | 0 | 0 | 1 | no |
| GenDICE, as in the authors' code | 1 | 0 | 0 | 1 | yes |
| BestDICE (the defaults) | 0 | 1 | 1 | 1 | yes |

All rows but GradientDICE's are flags of the authors' code as its README gives them. GenDICE's and GradientDICE's own papers subtract $\lambda^2 / 2$ from the
term of the norm, which makes a penalty of what is a constraint here; GenDICE's has $\tfrac14 E_D[\zeta \nu^2]$, a χ² divergence, for the square of ν.
`marginal` solves these as they are.

Yang, Nachum, Dai, Li and Schuurmans, *Off-policy evaluation via the regularized Lagrangian*, NeurIPS 2020, https://arxiv.org/abs/2007.03438.
Differs from the authors' code (https://github.com/google-research/dice_rl, whose recommended settings are the defaults) in: ends of episodes enter the
normalisation, where that code lets episodes start again; rewards are divided by their root mean square, so that α_ζ means the same in any unit; no
clipping of single gradients; the weights that are read are a running mean, since descent and ascent go round the saddle point (settings without α_ζ the more,
for lack of curvature: give them small steps).
"""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from .. import nets
from ..core import Algorithm, Box, Discrete, Markov, Paper, Trained, polyak, static
from ..data import Episodes
from ..loop import train
from .beliefs import doing, seen_standardised
from .fqe import STORED, Asked, ask
from .marginal import Marginal, summed
from .table import Refused, in_parts


class Begun(eqx.Module):
    """What FQE learns from, and where the policy begins."""

    asked: Asked
    obs: Float[Array, "episodes *obs"] | Array
    doing: Float[Array, "episodes actions"] | Float[Array, "episodes draws act"]
    "At `obs`."

    @property
    def spec(self):
        return self.asked.spec

    def __len__(self):
        return len(self.asked)


class State(eqx.Module):
    nu: Trained
    zeta: Trained
    price: Trained
    "λ."
    slow: eqx.Module
    "The running mean of ζ: the saddle point is what descent and ascent go round."


class DICE(Algorithm[State]):
    paper: ClassVar = Paper(
        "Mengjiao Yang and Ofir Nachum and Bo Dai and Lihong Li and Dale Schuurmans", "Off-policy evaluation via the regularized Lagrangian",
        "NeurIPS", 2020, "https://arxiv.org/abs/2007.03438",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    discount: float = 0.99
    lr: float = 1e-4
    primal: float = 0.0
    "α_ν."
    dual: float = 1.0
    "α_ζ."
    reward: float = 1.0
    "α_R."
    normal: float = 1.0
    "c."
    target_rate: float = 0.001
    "Of the running mean."
    positive: bool = static(True)
    "Whether weights are squares."
    hidden: tuple[int, ...] = static((64, 64))
    steps: int = static(100_000)
    batch_size: int = static(2048)

    def prepare(self, episodes):
        raise TypeError("DICE weighs a log for a policy, and so a log alone is not enough. Call topstitch.ope.dice.dice(policy, log).")

    def init(self, data, *, key):
        kn, kz = jax.random.split(key)
        optimiser = optax.adam(self.lr)
        net = lambda key: Trained.start(nets.q_value(data.spec, self.hidden, key=key), optimiser)
        zeta = net(kz)
        return State(net(kn), zeta, Trained.start(jnp.zeros(()), optimiser), zeta.model)

    def sample(self, state, data, *, key):
        kr, ks, kd = jax.random.split(key, 3)
        rows, after, _ = data.asked.draw(self.batch_size, key=kr)
        first = jax.random.randint(ks, (self.batch_size,), 0, len(data.obs))
        done = data.doing[first]
        if isinstance(data.spec.action, Box):
            done = done[jnp.arange(self.batch_size), jax.random.randint(kd, (self.batch_size,), 0, done.shape[1])]
        return rows, after, data.obs[first], done

    def update(self, state, batch, *, step, key):
        optimiser = optax.adam(self.lr)
        nu, zeta, price = state.nu.model, state.zeta.model, state.price.model
        down, _ = state.nu.descend(lambda x: self.lagrangian(x, zeta, price, batch), optimiser)
        up, info = state.zeta.descend(lambda x: turned(self.lagrangian(nu, x, price, batch)), optimiser)
        paid, _ = state.price.descend(lambda x: self.lagrangian(nu, zeta, x, batch), optimiser)
        return State(down, up, paid, polyak(state.slow, up.model, self.target_rate)), info

    def lagrangian(self, nu, zeta, price, batch):
        rows, after, first, begun = batch
        on = rows.discount(self.discount) * (1 - rows.terminal)
        normal = (1 - on) / (1 - self.discount)
        w, v = self.weights(zeta, rows.obs, rows.action), nu(rows.obs, rows.action)
        gap = self.reward * rows.reward + on * expected(nu, rows.next_obs, after) - v
        value = (1 - self.discount) * expected(nu, first, begun).mean() + (w * gap).mean()
        value += 0.5 * self.primal * (v**2).mean() - 0.5 * self.dual * (w**2).mean()
        mass = (w * normal).mean()
        return value + self.normal * price * (1 - mass), {"dice/mass": mass, "dice/reward": (w * rows.reward).mean()}

    def weights(self, zeta, obs, action):
        said = zeta(obs, action)
        return said**2 if self.positive else said

    def policy(self, state):
        raise TypeError("DICE weighs a log and learns no policy: ask it for `weights`.")


def turned(said):
    return -said[0], said[1]


def expected(q, obs, done):
    """The mean of Q(s, ·): over probabilities of all actions, or at one drawn action of a `Box`."""
    return (q.every(obs) * done).sum(axis=-1) if isinstance(q, nets.DiscreteQ) else q(obs, done)


def dice(
    policy: Markov, log: Episodes, *, algorithm: DICE | None = None, normalise: bool = True, draws: int = STORED, seed: int = 0
) -> Marginal:
    """The value of a Markov policy by weights that nets have learned; `normalise` divides by what they average to.

    For observations too rich for the closed forms of `marginal`; the saddle point is found by descent and ascent, so look at `mass`, which is 1
    where it was found and the log covers the policy. Raises `Refused` where learning diverges, and at discount 1.
    """
    algorithm = algorithm or DICE()
    if not 0 <= algorithm.discount < 1:
        raise Refused(f"the discount is {algorithm.discount}; expected one below 1. `marginal.estimate` knows discount 1.")
    log = seen_standardised(log)
    scale = float(np.sqrt((log.reward.astype(np.float64) ** 2).mean())) or 1.0
    asked = ask(policy, log, scale=scale, draws=draws, seed=seed)
    mask = None if log.mask is None else log.mask[log.starts]
    begun = doing(policy, log.obs[log.starts], mask, log.spec, log.view, draws=draws, seed=seed)
    data = Begun(asked, asked.all.obs[log.starts], jnp.asarray(begun, jnp.float32))
    out = train([(algorithm, seed)], data, every=algorithm.steps)
    if out.faults[0] is not None:
        raise Refused(f"DICE diverged: {out.faults[0]}. Lower the learning rate (lr) or the discount, or use closed forms (ope.marginal).")
    zeta = jax.tree.map(lambda x: x[0], out.states).slow
    w = in_parts(
        jax.jit(lambda obs, action: algorithm.weights(zeta, obs, action)), np.asarray(asked.all.obs), np.asarray(asked.all.action)
    ).astype(np.float64)
    on = log.discount(algorithm.discount) * ~log.terminal
    return summed(log, w, (1 - on) / (1 - algorithm.discount), algorithm.discount, None, normalise)
