r"""Least-squares policy iteration: Q is linear in fixed features, and the value of the greedy policy is found in closed form,

$$ Q(s, a) = w^\top \varphi(s, a), \qquad
   \textstyle\sum \varphi(s, a)\, \big(\varphi(s, a) - \gamma\, \varphi(s', \pi(s'))\big)^\top w = \sum \varphi(s, a)\, r, \qquad
   \pi(s) = \arg\max_a Q(s, a), $$

until the policy stays. The features are those of the state, in a block of their own for every action.

Lagoudakis and Parr, *Least-squares policy iteration*, JMLR 2003, https://jmlr.org/papers/v4/lagoudakis03a.html. Differs from the authors'
code (MATLAB, https://users.cs.duke.edu/~parr/) in: a small ridge instead of a pseudo-inverse where features are dependent; centres of radial
features are logged states instead of a grid chosen for each task; a fixed number of iterations, since a policy may also come back in a
circle; the greedy action is a legal one where the log has masks. Numbered states have one-hot features.
"""

from typing import ClassVar, Literal

import jax.numpy as jnp

from ... import nets, ops
from ...core import Algorithm, Discrete, Paper, static

MOST = 8 * 2**30
"Bytes that the features of all logged pairs may take."


class LSPI(Algorithm[nets.LinearQ]):
    paper: ClassVar = Paper(
        "Michail G. Lagoudakis and Ronald Parr", "Least-squares policy iteration", "JMLR", 2003,
        "https://jmlr.org/papers/v4/lagoudakis03a.html",
    )  # fmt: skip
    actions: ClassVar = (Discrete,)
    passes: ClassVar = ("choice", "context", "minority", "delay", "stitch")
    fails: ClassVar = ("bait",)
    batch_size: ClassVar = 0
    "Every update sees the whole log."

    discount: float = 0.95
    ridge: float = 1e-6
    "λ: what is added to the diagonal of the mean of φ(s, a) (φ(s, a) - γ φ(s', π(s')))ᵀ."
    width: float = 1.0
    "σ of radial features, in units of the observations."
    features: Literal["radial", "polynomial"] = static("radial")
    centres: int = static(9)
    "How many radial features there are, beside the constant."
    degree: int = static(2)
    "Of polynomial features: of d coordinates there are (d + degree)! / d! degree! products."
    steps: int = static(20)
    "Policy iterations."

    def init(self, data, *, key):
        features = nets.features(data, self.features, centres=self.centres, degree=self.degree, key=key)
        rows, pairs = len(data), data.spec.action.size * features.size
        if (size := 2 * 4 * rows * pairs) > MOST:
            raise ValueError(
                f"LSPI would hold {pairs:,} features of each of {rows:,} steps twice, {size / 2**30:.0f} GiB; expected {MOST / 2**30:.0f} at most. "
                "Use fewer features (`centres`, `degree`); for many numbered states `tabular_q` solves the same without them."
            )
        return nets.LinearQ(features, jnp.zeros((data.spec.action.size, features.size)))

    def sample(self, state, data, *, key):
        return data.rows()

    def update(self, state, batch, *, step, key):
        if isinstance(state.features, nets.Radial):  # not in `init`: a state begins finite, whatever the hyperparameters are
            state = nets.LinearQ(nets.Radial(state.features.centres, jnp.asarray(self.width, jnp.float32)), state.weights)
        best = self.policy(state)(batch.next_obs, batch.next_mask).mode()
        phi = state.pairs(batch.obs, batch.action)
        rate = batch.discount(self.discount) * (1 - batch.terminal)
        next_phi = rate[:, None] * state.pairs(batch.next_obs, best)
        weights = ops.lstd(phi, next_phi, batch.reward, self.ridge).reshape(state.weights.shape)
        fitted = nets.LinearQ(state.features, weights)
        taken = fitted(batch.obs, batch.action)
        turned = (self.policy(fitted)(batch.next_obs, batch.next_mask).mode() != best).mean()
        error = ((batch.reward + next_phi @ weights.ravel() - taken) ** 2).mean()
        return fitted, {"q/mean": taken.mean(), "q/td_error": error, "policy/turned": turned}

    def policy(self, state):
        return nets.Greedy(state)
