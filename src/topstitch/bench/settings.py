"""What each algorithm is run with on each family of tasks, and where that was read."""

import re
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

from ..algos import ALGORITHMS
from . import icu_sepsis


class Setting(NamedTuple):
    """The fields of an algorithm that differ from its class's defaults, and how it sees the data.

    `normalise` and `reward` are `obs` and `reward` of `Episodes.normalised`; `None` leaves these, and `behaviour`, as the family has them.
    """

    fields: dict[str, Any]
    source: str
    normalise: Literal["standard", "none"] | None = None
    reward: Literal["standard", "range", "none"] | None = None
    behaviour: Literal["column", "fit"] | None = None
    'Where the probabilities of logged actions come from; "fit": they are estimated.'


SMALL = dict(hidden=(64, 64), lr=1e-3)
MIDDLE = dict(hidden=(128, 128), lr=1e-3)
PLANS = dict(hidden=(64, 64), lr=1e-3, warmup=1000, bins=50, horizon=5, beam=16)
CODED = dict(hidden=(128, 128), behaviour_hidden=(128, 128), behaviour_steps=5000)
LARGE = dict(hidden=(512, 512, 512, 512))
PICTURES = dict(hidden=(128,), batch_size=32)

MINATAR = (
    "ours: nothing published for logs of MinAtar; its net and batch are those of Young and Tian 2019, arXiv 1903.03176, for DQN, of whose "
    "RMSprop at 2.5e-4 the learning rate here is near"
)
OURS = "ours: there are no published settings, and d3rlpy's examples run its defaults; small nets are enough"
CORL = "corl-team/CORL @eeeeef267, configs/offline/"
IQL = "ikostrikov/implicit_q_learning @09d700248, train_offline.py and configs/"
DT = "kzl/decision-transformer @e2d82e6, gym/experiment.py"
TT = "jannerm/trajectory-transformer @8834a6e, config/offline.py"
REBRAC = "tinkoff-ai/ReBRAC @694385b72, configs/rebrac/"
FQL = (
    "FQL paper, arXiv 2502.02538, and its code, seohongpark/fql @719d04417, agents/{}.py "
    "(which has GELU for ReLU, layer norm in every value net, and no cosine decay); 1M steps"
)
FQL_TABLE = (
    "FQL paper's table of values per task, read where a later paper repeats it (Yonsei-DILLab/OptiFlow, table 7); "
    "the README of seohongpark/fql has the same for cube-single from pixels"
)
D3RLPY = "takuseno/d3rlpy @38c34b6f9, reproductions/offline/{}.py, for data of version 0"
OFFLINE_KIT = "yihaosun1124/OfflineRL-Kit @e3ce69793, run_example/run_mopo.py; its actor_lr is 1e-4; 3M steps"
RULE = "the rule by which episodes of this body end"
FITTED = (
    "ours: the defaults of its class and the discount of the others; a step is an iteration over the whole log, of which some have fewer"
)
BEHAVED = icu_sepsis.COMMON | dict(discount=1.0, behaviour_steps=8000)
WORLD = dict(model_hidden=(128, 128), model_steps=20_000, rollouts=1000, every=250)


def rebrac(actor: float, critic: float) -> Setting:
    return Setting(dict(actor_bc=actor, critic_bc=critic), REBRAC + "<environment>/<data set>.yaml; CORL's are the same")


def mopo(horizon: int, penalty: float) -> Setting:
    return Setting(dict(horizon=horizon, penalty=penalty), OFFLINE_KIT)


def ending(rule: str) -> dict[str, Setting]:
    return {name: Setting(dict(termination=rule), RULE) for name in ("mbpo", "mopo", "morel", "combo")}


SETTINGS: dict[str, dict[str, Setting]] = {
    # Discrete actions, a reward of 1 at every step until the pole falls.
    "cartpole": {
        "bc": Setting(SMALL, OURS, "standard"),
        "dqn": Setting(SMALL | dict(double=True), OURS, "standard"),
        "discrete_bcq": Setting(SMALL, OURS, "standard"),
        "discrete_cql": Setting(SMALL, OURS, "standard"),
        "iql": Setting(SMALL, OURS, "standard"),
        "awac": Setting(SMALL, OURS, "standard"),
        "rem": Setting(SMALL, OURS, "standard"),
        **{name: Setting(SMALL, OURS, "standard") for name in ("percentile_bc", "emrl", "crr", "mpo", "discrete_sac")},
        "rwr": Setting(SMALL | dict(beta=0.1), OURS, "standard"),
        "marwil": Setting(SMALL | dict(batch_size=256), OURS, "standard"),
        "awr": Setting(SMALL, OURS, "standard"),
        "qr_dqn": Setting(SMALL | dict(quantiles=50), OURS, "standard"),
        "kl_control": Setting(SMALL | dict(behaviour_steps=5000), OURS, "standard"),
        "one_step": Setting(SMALL | dict(behaviour_steps=5000, value_steps=20_000), OURS, "standard"),
        "emaq": Setting(SMALL | dict(behaviour_hidden=(64, 64), behaviour_steps=5000), OURS, "standard"),
        "algae_dice": Setting(dict(hidden=(64, 64)), OURS, "standard"),
        **{name: Setting(SMALL, OURS, "standard", behaviour="fit") for name in ("is_policy_gradient", "dr_policy_gradient")},
        "lspi": Setting(dict(discount=0.99), FITTED, "standard"),
        "fqi": Setting(dict(discount=0.99, steps=20), FITTED, "standard"),
        "nfq": Setting(dict(discount=0.99, steps=50, epochs=100), FITTED, "standard"),
        "decision_transformer": Setting(SMALL | dict(scale=100.0, warmup=1000), OURS, "standard"),
        "trajectory_transformer": Setting(PLANS, OURS, "none"),
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
        "edac": Setting(MIDDLE, OURS, "standard", "standard"),
        "sac_rnd": Setting(dict(hidden=(128, 128), batch_size=256), OURS, "standard", "standard"),
        "cal_ql": Setting(MIDDLE | dict(actor_lr=3e-4, alpha=1.0), OURS, "standard", "standard"),
        "diffusion_bc": Setting(MIDDLE, OURS, "standard"),
        "flow_bc": Setting(MIDDLE, OURS, "standard"),
        "bcq": Setting(dict(hidden=(128, 128), behaviour_hidden=(128, 128), candidates=20), OURS, "standard", "standard"),
        "bear": Setting(MIDDLE | dict(behaviour_hidden=(128, 128), actor_lr=3e-4, warmup=2000), OURS, "standard", "standard"),
        "idql": Setting(MIDDLE | dict(behaviour_hidden=(128, 128), candidates=32, batch_size=256), OURS, "standard", "standard"),
        "ifql": Setting(MIDDLE, OURS, "standard", "standard"),
        "fql": Setting(MIDDLE | dict(normalise_q=True, alpha=1.0), OURS, "standard", "standard"),
        **{name: Setting(MIDDLE | WORLD, OURS, "standard", "standard") for name in ("mbpo", "mopo", "morel")},
        "combo": Setting(MIDDLE | WORLD | dict(actor_lr=3e-4, actions_sampled=4), OURS, "standard", "standard"),
        **{name: Setting(MIDDLE, OURS, "standard", "standard") for name in ("percentile_bc", "emrl", "awr", "crr", "mpo")},
        "rwr": Setting(MIDDLE | dict(beta=0.1), OURS, "standard", "standard"),
        "marwil": Setting(MIDDLE | dict(batch_size=256), OURS, "standard", "standard"),
        "vae_bc": Setting(dict(hidden=(128, 128)), OURS, "standard"),
        "reverse_kl": Setting(MIDDLE | dict(model_hidden=(128, 128), model_steps=5000), OURS, "standard"),
        "ccil": Setting(dict(hidden=(128, 128), batch_size=256, model_hidden=(128, 128), model_steps=5000), OURS, "standard"),
        "brac": Setting(dict(hidden=(128, 128), behaviour_steps=5000, warmup=1000), OURS, "standard", "standard"),
        "one_step": Setting(MIDDLE | dict(batch_size=256, behaviour_steps=5000, value_steps=20_000), OURS, "standard", "standard"),
        "emaq": Setting(MIDDLE | dict(behaviour_hidden=(128, 128), behaviour_steps=5000), OURS, "standard", "standard"),
        "algae_dice": Setting(dict(hidden=(128, 128)), OURS, "standard", "standard"),
        "plas": Setting(CODED | dict(behaviour_lr=1e-3, actor_lr=3e-4, batch_size=256), OURS, "standard", "standard"),
        "spot": Setting(CODED, OURS, "standard", "standard"),
        **{name: Setting(MIDDLE, OURS, "standard", "standard", "fit") for name in ("is_policy_gradient", "dr_policy_gradient")},
        "decision_transformer": Setting(SMALL | dict(warmup=1000), OURS, "standard"),
        "trajectory_transformer": Setting(PLANS, OURS, "none"),
    },
    # A point for every brick, and an end where the ball is missed.
    "minatar": {
        "bc": Setting(PICTURES, MINATAR),
        "dqn": Setting(PICTURES | dict(double=True), MINATAR),
        "discrete_bcq": Setting(PICTURES, MINATAR),
        "discrete_cql": Setting(PICTURES | dict(alpha=0.1), MINATAR),
        "iql": Setting(PICTURES | dict(expectile=0.9, beta=10.0), MINATAR),
        "awac": Setting(PICTURES | dict(beta=10.0), MINATAR),
        "rem": Setting(PICTURES, MINATAR),
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
        "edac": Setting({}, CORL + "edac/halfcheetah; 3M steps", "none"),
        "sac_rnd": Setting(
            {}, "tinkoff-ai/sac-rnd, configs; its weights for each data set are in the paper's appendix only; 3M steps", "none"
        ),
        "bcq": Setting({}, D3RLPY.format("bcq"), "none"),
        "bear": Setting(dict(warmup=40_000, candidates=100), D3RLPY.format("bear"), "none"),
        **{name: Setting({}, "the paper's, as its class has them", "none") for name in ("mbpo", "mopo", "morel", "combo")},
        "decision_transformer": Setting({}, DT, "standard"),
        "trajectory_transformer": Setting(dict(terminal_penalty=100.0), TT, "none"),
    },
    "locomotion/hopper-*": {
        "sac_n": Setting(dict(critics=200), CORL + "sac_n/hopper: 200 on medium-replay and medium-expert; 3M steps"),
        "edac": Setting(dict(critics=50), CORL + "edac/hopper; 3M steps"),
        **ending("hopper"),
        "decision_transformer": Setting(dict(target=3600.0), DT + "; it asks for 1800 too"),
    },
    "locomotion/walker2d-*": {
        "sac_n": Setting(dict(critics=20), CORL + "sac_n/walker2d; 3M steps"),
        **ending("walker2d"),
        "decision_transformer": Setting(dict(target=5000.0), DT + "; it asks for 2500 too"),
    },
    "locomotion/halfcheetah-*": {
        "bear": Setting(dict(kernel="gaussian"), D3RLPY.format("bear")),
        "decision_transformer": Setting(dict(target=12000.0), DT + "; it asks for 6000 too"),
    },
    "locomotion/hopper-medium": {
        "cql": Setting({}, CORL + "cql/hopper/medium_v2.yaml", reward="range"),
        "mopo": mopo(5, 5.0),
        "rebrac": rebrac(0.01, 0.01),
        "sac_n": Setting(dict(critics=500), CORL + "sac_n/hopper/medium_v2.yaml; 3M steps"),
    },
    "locomotion/hopper-random": {"rebrac": rebrac(0.001, 0.01)},
    "locomotion/hopper-expert": {"rebrac": rebrac(0.1, 0.1)},
    "locomotion/hopper-medium-expert": {"rebrac": rebrac(0.1, 0.01), "mopo": mopo(5, 5.0)},
    "locomotion/hopper-medium-replay": {"rebrac": rebrac(0.05, 0.5), "mopo": mopo(5, 2.5)},
    "locomotion/hopper-full-replay": {"rebrac": rebrac(0.01, 0.01)},
    "locomotion/halfcheetah-random": {"rebrac": rebrac(0.001, 0.1)},
    "locomotion/halfcheetah-medium": {
        "rebrac": rebrac(0.001, 0.01),
        "mopo": mopo(5, 0.5),
        "trajectory_transformer": Setting(dict(horizon=5, beam=32), TT),
    },
    "locomotion/halfcheetah-expert": {"rebrac": rebrac(0.01, 0.01)},
    "locomotion/halfcheetah-medium-expert": {
        "rebrac": rebrac(0.01, 0.1),
        "mopo": mopo(5, 2.5),
        "edac": Setting(dict(eta=5.0), CORL + "edac, medium_expert; 3M steps"),
        "trajectory_transformer": Setting(dict(beam=32), TT),
    },
    "locomotion/halfcheetah-medium-replay": {
        "rebrac": rebrac(0.01, 0.001),
        "mopo": mopo(5, 0.5),
        "trajectory_transformer": Setting(dict(horizon=5, beam=32), TT),
    },
    "locomotion/halfcheetah-full-replay": {"rebrac": rebrac(0.001, 0.1)},
    "locomotion/walker2d-random": {"rebrac": rebrac(0.01, 0.0)},
    "locomotion/walker2d-medium": {"rebrac": rebrac(0.05, 0.1), "mopo": mopo(5, 0.5)},
    "locomotion/walker2d-expert": {"rebrac": rebrac(0.01, 0.5)},
    "locomotion/walker2d-medium-expert": {
        "rebrac": rebrac(0.01, 0.01),
        "mopo": mopo(1, 2.5),
        "edac": Setting(dict(eta=5.0), CORL + "edac, medium_expert; 3M steps"),
        "trajectory_transformer": Setting(dict(horizon=5), TT),
    },
    "locomotion/walker2d-medium-replay": {
        "rebrac": rebrac(0.05, 0.01),
        "mopo": mopo(1, 2.5),
        "trajectory_transformer": Setting(
            dict(horizon=20, beam=32), TT + "; there it tries the 40 likeliest words of an action, not all but the tail"
        ),
    },
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
        "edac": Setting(
            dict(critics=50, eta=200.0),
            CORL + "edac/door; 3M steps. Rewards: snu-mllab/EDAC, README.md, which also has an actor_lr of 3e-5",
            "none",
            "standard",
        ),
        "cal_ql": Setting(
            dict(alpha=1.0, hidden=(256, 256, 256), max_backup=True, gap_floor=-200.0),
            "corl-team/CORL @eeeeef267, configs/finetune/cal_ql/door, the part before acting begins",
            "none",
        ),
    },
    "adroit/door-human": {"rebrac": rebrac(0.1, 0.1)},
    "adroit/door-cloned": {"rebrac": rebrac(0.01, 0.1)},
    "adroit/door-expert": {"rebrac": rebrac(0.05, 0.01)},
    "adroit/pen-human": {"rebrac": rebrac(0.1, 0.5), "edac": Setting(dict(critics=20, eta=1000.0), CORL + "edac/pen; 3M steps")},
    "adroit/pen-cloned": {"rebrac": rebrac(0.05, 0.5), "edac": Setting(dict(critics=20, eta=10.0), CORL + "edac/pen; 3M steps")},
    "adroit/pen-expert": {"rebrac": rebrac(0.01, 0.01), "edac": Setting(dict(critics=20, eta=10.0), CORL + "edac/pen; 3M steps")},
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
        **{
            name: Setting(fields, "ours: bench/icu_sepsis.py and docs/quickstart.md", "none")
            for name, fields in icu_sepsis.SETTINGS.items()
        },
        "awac": Setting(icu_sepsis.COMMON | dict(discount=1.0, beta=300.0), "ours: as IQL there", "none"),
        **{
            name: Setting(icu_sepsis.COMMON | dict(discount=1.0), "ours: as DQN there", "none")
            for name in ("rem", "qr_dqn", "discrete_sac")
        },
        "percentile_bc": Setting(icu_sepsis.COMMON | dict(share=0.8), "ours: a return is 0 or 1, and four in five survive", "none"),
        **{name: Setting(icu_sepsis.COMMON | dict(discount=1.0), "ours: as IQL there", "none") for name in ("emrl", "rwr", "awr", "mpo")},
        "marwil": Setting(icu_sepsis.COMMON | dict(discount=1.0, batch_size=256), "ours: as IQL there", "none"),
        "crr": Setting(icu_sepsis.COMMON | dict(discount=1.0, beta=300.0), "ours: as IQL there", "none"),
        "kl_control": Setting(BEHAVED | dict(alpha=1 / 300), "ours: as IQL there, whose 1/β its α is", "none"),
        "one_step": Setting(BEHAVED | dict(alpha=1 / 300, value_steps=8000), "ours: as IQL there, whose 1/β its α is", "none"),
        "emaq": Setting(BEHAVED | dict(behaviour_hidden=(64, 64)), "ours: as IQL there", "none"),
        "algae_dice": Setting(icu_sepsis.COMMON | dict(discount=0.99), "ours: as IQL there; it needs a discount below 1", "none"),
        **{
            name: Setting(icu_sepsis.COMMON | dict(discount=1.0, steps=1000), "ours: as IQL there, and a batch is 64 whole stays", "none")
            for name in ("is_policy_gradient", "dr_policy_gradient")
        },
        **{
            name: Setting(dict(discount=1.0), "ours: the defaults of its class and no discount, as in the others there", "none")
            for name in ("fqi", "lspi", "spibb")
        },
        "nfq": Setting(
            dict(discount=1.0, steps=20, epochs=100), "ours: it looks twenty steps ahead, without a discount, as the others there", "none"
        ),
        "tabular_q": Setting(dict(discount=1.0, threshold=20.0), "ours: the cautious table of bench/icu_sepsis.py", "none"),
    },
}
"""Family -> algorithm -> what it is run with. A key with "/" is a pattern of tasks, and goes over its family and the patterns before it."""


def setting(task_family: str, task: str, algorithm: str) -> Setting:
    """What to run `algorithm` with on a task such as "hopper-medium-expert" (a version such as "-v2" at its end does not matter).

    Fields of the task go over those of the family; an algorithm without an entry is run with its class's defaults.
    `normalise`, `reward` and `behaviour` of the answer are never `None`. Raises `ValueError` where there is no such family or algorithm.
    """
    families = [key for key in SETTINGS if "/" not in key]
    if task_family not in families:
        raise ValueError(f"There is no family of tasks {task_family!r}. There are: {', '.join(families)}.")
    if algorithm not in ALGORITHMS:
        raise ValueError(f"There is no algorithm {algorithm!r}. There are: {', '.join(ALGORITHMS)}.")
    path = f"{task_family}/{re.sub(r'-v[0-9]+$', '', task)}"
    entries = [entry[algorithm] for key, entry in SETTINGS.items() if algorithm in entry and (key == task_family or fnmatchcase(path, key))]
    fields, normalise, reward, behaviour = {}, "standard", "none", "column"
    for entry in entries:
        fields, normalise, reward = fields | entry.fields, entry.normalise or normalise, entry.reward or reward
        behaviour = entry.behaviour or behaviour
    source = "; ".join(entry.source for entry in reversed(entries)) or "the class's defaults"
    return Setting(fields, source, normalise, reward, behaviour)
