r"""Goal-conditioned implicit V-learning: values of states alone, learned towards the better of what was logged, and imitation of the steps that led
nearer to the goal,

$$ L_V = E\,[\,|\tau - 1\{r_g + \gamma \bar V(s', g) < \bar V(s, g)\}|\,(r_g + \gamma \bar V(s', g) - V(s, g))^2] \qquad
   L_\pi = -E\,[e^{\beta (V(s', g) - V(s, g))} \log \pi(a \mid s, g)]. $$

No value of an action is needed, so V can also be learned where actions are not known. Its price: where steps are random, good luck counts as
though it could be chosen.

Park, Ghosh, Eysenbach and Levine, *HIQL: offline goal-conditioned RL with latent states as actions*, NeurIPS 2023, https://arxiv.org/abs/2307.11949,
of whose method this is the part without a hierarchy; so named in Park et al. 2025. Follows the authors' code
(https://github.com/seohongpark/ogbench) in losses, nets, goals and defaults. Differs from it in: V is updated before the actor sees it; means
within the box by tanh; uniform initialisation.
"""

from typing import ClassVar

import equinox as eqx
import jax
import optax

from ... import nets, ops
from ...core import Algorithm, Box, Discrete, Paper, Trained, static
from ...data.goals import Aim, Goals, relabelled
from .. import steps as shared


class State(eqx.Module):
    values: shared.Reached
    actor: Trained
    aim: Aim


class GCIVL(Algorithm[State]):
    paper: ClassVar = Paper(
        "Seohong Park and Dibya Ghosh and Benjamin Eysenbach and Sergey Levine",
        "HIQL: offline goal-conditioned RL with latent states as actions", "NeurIPS", 2023, "https://arxiv.org/abs/2307.11949",
    )  # fmt: skip
    actions: ClassVar = (Discrete, Box)

    expectile: float = 0.9
    "τ."
    beta: float = 10.0
    "β: sharpness of imitation."
    max_weight: float = 100.0
    "Ceiling of an imitation weight."
    discount: float = 0.99
    target_rate: float = 0.005
    lr: float = 3e-4
    value_goals: tuple[float, ...] = static(Goals(current=0.2, geometric=0.5, random=0.3))
    "Shares of goals: the current observation, later ones (geometric, uniform), the episode's last, any."
    actor_goals: tuple[float, ...] = static(Goals(uniform=1.0))
    "The same for the actor; half of them random where episodes are to be joined."
    hidden: tuple[int, ...] = static((512, 512, 512))
    steps: int = static(1_000_000)
    batch_size: int = static(1024)

    @property
    def optimiser(self):
        return optax.adam(self.lr)

    def prepare(self, episodes):
        return relabelled(episodes)

    def init(self, data, *, key):
        kv, ka = jax.random.split(key)
        value = nets.Ensemble.of(lambda key: nets.Value(data.paired, self.hidden, key=key, **shared.VALUE), 2, key=kv)
        values = shared.Reached(Trained.start(value, self.optimiser), value)
        return State(values, shared.start_goal_actor(data.paired, self.hidden, self.optimiser, key=ka), data.aim)

    def sample(self, state, data, *, key):
        return shared.towards_goals(self, data, key=key)

    def update(self, state, batch, *, step, key):
        batch, own = batch
        how = dict(expectile=self.expectile, discount=self.discount, target_rate=self.target_rate, optimiser=self.optimiser)
        values, info = shared.reaching_step(state.values, batch, **how)
        weight = ops.exp_advantage(shared.nearer(values.value, own), self.beta, self.max_weight)
        actor, pi_info = shared.imitate(state.actor, own, weight, self.optimiser)
        return State(values, actor, state.aim), info | pi_info

    def policy(self, state):
        return state.aim.policy(state.actor.model)
