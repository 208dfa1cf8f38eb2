r"""Goal-conditioned behaviour cloning: whatever was reached is taken for what was wanted, and what was done on the way is imitated,

$$ L_\pi = -E\,[\log \pi(a \mid s, g)], \qquad g \text{ a later observation of the same episode}. $$

The yardstick among methods for goals. It learns the ways of the log, and cannot join the beginning of one to the end of another: for a goal that no
episode reached from here it has nothing to imitate.

Lynch, Khansari, Xiao, Kumar, Tompson, Levine and Sermanet, *Learning latent plans from play*, CoRL 2019, https://arxiv.org/abs/1903.01973, and, learned
again on what it reaches itself, Ghosh et al. 2021, https://arxiv.org/abs/1912.06088. Follows the code of Park et al. 2025
(https://github.com/seohongpark/ogbench) in defaults, nets and goals. Differs from it in: means within the box by tanh; uniform initialisation.
"""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import optax

from ...core import Algorithm, Box, Discrete, Paper, Trained, static
from ...data.goals import Aim, Goals, relabelled
from .. import steps as shared


class State(eqx.Module):
    actor: Trained
    aim: Aim


class GCBC(Algorithm[State]):
    paper: ClassVar = Paper(
        "Corey Lynch and Mohi Khansari and Ted Xiao and Vikash Kumar and Jonathan Tompson and Sergey Levine and Pierre Sermanet",
        "Learning latent plans from play", "CoRL", 2019, "https://arxiv.org/abs/1903.01973",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    lr: float = 3e-4
    actor_goals: tuple[float, ...] = static(Goals(uniform=1.0))
    "Shares of goals: the current observation, later ones (geometric, uniform), the episode's last, any."
    hidden: tuple[int, ...] = static((512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(1024)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return relabelled(episodes)

    def init(self, data, *, key):
        return State(shared.start_goal_actor(data.paired, self.hidden, self.optimiser, key=key), data.aim)

    def sample(self, state, data, *, key):
        return data.draw(self.batch_size, self.actor_goals, key=key)[0]

    def update(self, state, batch, *, step, key):
        actor, info = shared.imitate(state.actor, batch, jnp.ones(len(batch)), self.optimiser)
        return State(actor, state.aim), info

    def policy(self, state):
        return state.aim.policy(state.actor.model)
