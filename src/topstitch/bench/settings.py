"""What each algorithm is run with on each family of tasks, and where that was read."""

import re
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from ..algos import ALGORITHMS
from . import icu_sepsis


class Setting(NamedTuple):
    """The fields of an algorithm that differ from its class's defaults, and how it sees the data.

    `normalise` and `reward` are `obs` and `reward` of `Episodes.normalised`; `None` leaves them as the family has them.
    """

    fields: dict[str, Any]
    source: str
    normalise: Literal["standard", "none"] | None = None
    reward: Literal["standard", "range", "none"] | None = None


SMALL = dict(hidden=(64, 64), lr=1e-3)
MIDDLE = dict(hidden=(128, 128), lr=1e-3)
LARGE = dict(hidden=(512, 512, 512, 512))

OURS = "ours: there are no published settings, and d3rlpy's examples run its defaults; small nets are enough"
CORL = "corl-team/CORL @eeeeef267, configs/offline/"
IQL = "ikostrikov/implicit_q_learning @09d700248, train_offline.py and configs/"
REBRAC = "tinkoff-ai/ReBRAC @694385b72, configs/rebrac/"
FQL = (
    "FQL paper, arXiv 2502.02538, and its code, seohongpark/fql @719d04417, agents/{}.py "
    "(which has GELU for ReLU, layer norm in every value net, and no cosine decay); 1M steps"
)
FQL_TABLE = (
    "FQL paper's table of values per task, read where a later paper repeats it (Yonsei-DILLab/OptiFlow, table 7); "
    "the README of seohongpark/fql has the same for cube-single from pixels"
)


def rebrac(actor: float, critic: float) -> Setting:
    return Setting(dict(actor_bc=actor, critic_bc=critic), REBRAC + "<environment>/<data set>.yaml; CORL's are the same")


SETTINGS: dict[str, dict[str, Setting]] = {
    # Discrete actions, a reward of 1 at every step until the pole falls.
    "cartpole": {
        "bc": Setting(SMALL, OURS, "standard"),
        "dqn": Setting(SMALL | dict(double=True), OURS, "standard"),
        "discrete_bcq": Setting(SMALL, OURS, "standard"),
        "discrete_cql": Setting(SMALL, OURS, "standard"),
        "iql": Setting(SMALL, OURS, "standard"),
        "awac": Setting(SMALL, OURS, "standard"),
    },
    # Rewards run from -16 to 0 and no episode is terminal, so that standardising them changes no optimum.
    "pendulum": {
        "bc": Setting(MIDDLE, OURS, "standard"),
        "sac": Setting(MIDDLE, OURS, "standard", "standard"),
        "td3": Setting(MIDDLE, OURS, "standard", "standard"),
        "td3bc": Setting(MIDDLE, OURS, "standard", "standard"),
        "rebrac": Setting(dict(hidden=(128, 128), batch_size=256), OURS, "standard", "standard"),
        "iql": Setting(MIDDLE, OURS, "standard", "standard"),
        "awac": Setting(MIDDLE, OURS, "standard", "standard"),
        "cql": Setting(MIDDLE | dict(actor_lr=3e-4, alpha=1.0), OURS, "standard", "standard"),
        "sac_n": Setting(MIDDLE, OURS, "standard", "standard"),
    },
    "locomotion": {
        "bc": Setting(dict(head="deterministic"), CORL + "bc; 1M steps", "standard"),
        "td3bc": Setting({}, "sfujim/TD3_BC @8791ad7d7, main.py; CORL's are the same", "standard"),
        "awac": Setting({}, CORL + "awac: λ = 0.3333, three layers", "standard"),
        "iql": Setting(
            {},
            IQL + "mujoco_config.py. CORL differs: observations standardised, rewards as they are; on hopper-medium and -medium-replay "
            "a deterministic actor, target_rate 0.001 and rewards by range; on hopper-medium-expert expectile 0.5, beta 6",
            "none",
            "range",
        ),
        "cql": Setting(
            dict(alpha=10.0, hidden=(256, 256, 256)),
            CORL + "cql, which also starts from orthogonal weights. The paper's own README has 5 or 10, actor_lr 1e-4 or 3e-4",
            "standard",
        ),
        "rebrac": Setting({}, REBRAC + "hopper/hopper_medium.yaml, for data without an entry of their own; 1M steps", "none"),
        "sac_n": Setting({}, CORL + "sac_n/halfcheetah; 3M steps", "none"),
    },
    "locomotion/hopper-*": {"sac_n": Setting(dict(critics=200), CORL + "sac_n/hopper: 200 on medium-replay and medium-expert; 3M steps")},
    "locomotion/walker2d-*": {"sac_n": Setting(dict(critics=20), CORL + "sac_n/walker2d; 3M steps")},
    "locomotion/hopper-medium": {
        "cql": Setting({}, CORL + "cql/hopper/medium_v2.yaml", reward="range"),
        "rebrac": rebrac(0.01, 0.01),
        "sac_n": Setting(dict(critics=500), CORL + "sac_n/hopper/medium_v2.yaml; 3M steps"),
    },
    "locomotion/hopper-random": {"rebrac": rebrac(0.001, 0.01)},
    "locomotion/hopper-expert": {"rebrac": rebrac(0.1, 0.1)},
    "locomotion/hopper-medium-expert": {"rebrac": rebrac(0.1, 0.01)},
    "locomotion/hopper-medium-replay": {"rebrac": rebrac(0.05, 0.5)},
    "locomotion/hopper-full-replay": {"rebrac": rebrac(0.01, 0.01)},
    "locomotion/halfcheetah-random": {"rebrac": rebrac(0.001, 0.1)},
    "locomotion/halfcheetah-medium": {"rebrac": rebrac(0.001, 0.01)},
    "locomotion/halfcheetah-expert": {"rebrac": rebrac(0.01, 0.01)},
    "locomotion/halfcheetah-medium-expert": {"rebrac": rebrac(0.01, 0.1)},
    "locomotion/halfcheetah-medium-replay": {"rebrac": rebrac(0.01, 0.001)},
    "locomotion/halfcheetah-full-replay": {"rebrac": rebrac(0.001, 0.1)},
    "locomotion/walker2d-random": {"rebrac": rebrac(0.01, 0.0)},
    "locomotion/walker2d-medium": {"rebrac": rebrac(0.05, 0.1)},
    "locomotion/walker2d-expert": {"rebrac": rebrac(0.01, 0.5)},
    "locomotion/walker2d-medium-expert": {"rebrac": rebrac(0.01, 0.01)},
    "locomotion/walker2d-medium-replay": {"rebrac": rebrac(0.05, 0.01)},
    "locomotion/walker2d-full-replay": {"rebrac": rebrac(0.01, 0.01)},
    "adroit": {
        "bc": Setting(dict(head="deterministic"), CORL + "bc; 1M steps", "standard"),
        "td3bc": Setting({}, CORL + "td3_bc/door", "standard"),
        "awac": Setting(dict(beta=10.0), CORL + "awac/door: λ = 0.1", "standard"),
        "iql": Setting(
            dict(beta=0.5),
            IQL + "kitchen_config.py, which also drops out a tenth of the actor's units. CORL differs: expectile 0.8, beta 3, observations "
            "standardised",
            "none",
        ),
        "cql": Setting(
            dict(alpha=1.0, actor_lr=1e-4, hidden=(256, 256, 256)),
            CORL + "cql/door; it ends at -0.3 on door-cloned and door-expert there",
            "standard",
        ),
        "rebrac": Setting(
            dict(lr=3e-4, actor_lr=3e-4, batch_size=256),
            REBRAC + "door, pen; for data without an entry of their own, those of pen/pen_expert.yaml",
            "none",
        ),
        "sac_n": Setting(
            dict(critics=100),
            CORL + "sac_n/door; 3M steps. Rewards: snu-mllab/EDAC, README.md, which also has an actor_lr of 3e-5 for EDAC",
            "none",
            "standard",
        ),
    },
    "adroit/door-human": {"rebrac": rebrac(0.1, 0.1)},
    "adroit/door-cloned": {"rebrac": rebrac(0.01, 0.1)},
    "adroit/door-expert": {"rebrac": rebrac(0.05, 0.01)},
    "adroit/pen-human": {"rebrac": rebrac(0.1, 0.5)},
    "adroit/pen-cloned": {"rebrac": rebrac(0.05, 0.5)},
    "adroit/pen-expert": {"rebrac": rebrac(0.01, 0.01)},
    # Rewards of a single task are -1, and 0 at the goal, where the episode is terminal: nothing to shift.
    "pointmaze": {
        "bc": Setting({}, "ours: nothing published for a single task", "none"),
        "td3bc": Setting(
            {},
            "ours: nothing published for a single task; not standardised, as its author advises for AntMaze (sfujim/TD3_BC, issue 2), "
            "where a larger alpha was better too",
            "none",
        ),
        "awac": Setting(dict(beta=10.0), "ours: nothing published for a single task; CORL's λ = 0.1 for AntMaze", "none"),
        "iql": Setting(
            dict(expectile=0.9, beta=10.0),
            "ours: nothing published for a single task; the IQL paper's values for AntMaze, and those of GCIVL on pointmaze in "
            "seohongpark/ogbench @1d4140997, impls/hyperparameters.sh",
            "none",
        ),
        "rebrac": Setting(
            dict(lr=3e-4, actor_lr=3e-4, batch_size=256, actor_bc=0.003),
            "ours: nothing published for a single task; learning rates and batch of the FQL paper's ReBRAC, weights as reported for its "
            "antmaze (0.003 or 0.001, 0.01); GCIQL on pointmaze weighs imitation by 0.003 (impls/hyperparameters.sh of OGBench)",
            "none",
        ),
    },
    # Rewards of a single task are minus the number of parts not yet in place, and 0 where the episode is terminal.
    "manipulation": {
        "bc": Setting(LARGE, "FQL paper, arXiv 2502.02538: the nets of all its methods; 1M steps", "none"),
        "iql": Setting(LARGE | dict(expectile=0.9, decay=False), FQL.format("iql"), "none"),
        "rebrac": Setting(LARGE | dict(lr=3e-4, actor_lr=3e-4, batch_size=256), FQL.format("rebrac"), "none"),
    },
    "manipulation/cube-single*": {
        "iql": Setting(dict(beta=1.0), FQL_TABLE),
        "rebrac": Setting(dict(actor_bc=1.0, critic_bc=0.0), FQL_TABLE),
    },
    "manipulation/scene*": {
        "iql": Setting(dict(beta=10.0), FQL_TABLE),
        "rebrac": Setting(dict(actor_bc=0.1, critic_bc=0.01), FQL_TABLE),
    },
    # With `steps`, unlike the others: these are found settings, not published ones.
    "icu-sepsis": {
        name: Setting(fields, "ours: bench/icu_sepsis.py and docs/quickstart.md", "none") for name, fields in icu_sepsis.SETTINGS.items()
    },
}
"""Family -> algorithm -> what it is run with. A key with "/" is a pattern of tasks, and goes over its family and the patterns before it."""


def setting(task_family: str, task: str, algorithm: str) -> Setting:
    """What to run `algorithm` with on a task such as "hopper-medium-expert" (a version such as "-v2" at its end does not matter).

    Fields of the task go over those of the family; an algorithm without an entry is run with its class's defaults.
    `normalise` and `reward` of the answer are never `None`. Raises `ValueError` where there is no such family or algorithm.
    """
    families = [key for key in SETTINGS if "/" not in key]
    if task_family not in families:
        raise ValueError(f"There is no family of tasks {task_family!r}. There are: {', '.join(families)}.")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"There is no algorithm {algorithm!r}. There are: {', '.join(ALGORITHMS)}.")
    path = f"{task_family}/{re.sub(r'-v[0-9]+$', '', task)}"
    entries = [entry[algorithm] for key, entry in SETTINGS.items() if algorithm in entry and (key == task_family or fnmatchcase(path, key))]
    fields, normalise, reward = {}, "standard", "none"
    for entry in entries:
        fields, normalise, reward = fields | entry.fields, entry.normalise or normalise, entry.reward or reward
    return Setting(fields, "; ".join(entry.source for entry in reversed(entries)) or "the class's defaults", normalise, reward)
