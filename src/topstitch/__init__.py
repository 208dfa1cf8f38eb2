"""topstitch: from logged decisions to a policy that can be trusted."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Every public name and where it lives. Nothing, JAX least of all, is imported before it is asked for.
PUBLIC = {
    "train": "runs:train",
    "resume": "runs:resume",
    "load_runs": "runs:load_runs",
    "Runs": "runs:Runs",
    "read": "data.read:read",
    "read_table": "data.formats.table:read_table",
    "Episodes": "data:Episodes",
    "BadData": "data:BadData",
    "load_policy": "store:load_policy",
    "save_policy": "store:save_policy",
    "evaluate": "evaluation:evaluate",
    "ALGORITHMS": "algos:ALGORITHMS",
    "BC": "algos.imitation.bc:BC",
    "DQN": "algos.baseline.dqn:DQN",
    "SAC": "algos.baseline.sac:SAC",
    "TD3": "algos.baseline.td3:TD3",
    "IQL": "algos.weighted.iql:IQL",
    "AWAC": "algos.weighted.awac:AWAC",
    "TD3BC": "algos.constraint.td3_bc:TD3BC",
    "ReBRAC": "algos.constraint.rebrac:ReBRAC",
    "DiscreteBCQ": "algos.constraint.discrete_bcq:DiscreteBCQ",
    "CQL": "algos.conservative.cql:CQL",
    "DiscreteCQL": "algos.conservative.discrete_cql:DiscreteCQL",
    "SACN": "algos.ensemble.sac_n:SACN",
}

__all__ = ["__version__", *PUBLIC]

if TYPE_CHECKING:
    from .algos import ALGORITHMS
    from .algos.baseline.dqn import DQN
    from .algos.baseline.sac import SAC
    from .algos.baseline.td3 import TD3
    from .algos.conservative.cql import CQL
    from .algos.conservative.discrete_cql import DiscreteCQL
    from .algos.constraint.discrete_bcq import DiscreteBCQ
    from .algos.constraint.rebrac import ReBRAC
    from .algos.constraint.td3_bc import TD3BC
    from .algos.ensemble.sac_n import SACN
    from .algos.imitation.bc import BC
    from .algos.weighted.awac import AWAC
    from .algos.weighted.iql import IQL
    from .data import BadData, Episodes
    from .data.formats.table import read_table
    from .data.read import read
    from .evaluation import evaluate
    from .runs import Runs, load_runs, resume, train
    from .store import load_policy, save_policy


def __getattr__(name: str):
    if name not in PUBLIC:
        raise AttributeError(f"module 'topstitch' has no attribute {name!r}")
    module, attribute = PUBLIC[name].split(":")
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def __dir__():
    return sorted(__all__)
