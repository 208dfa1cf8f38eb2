"""topstitch: from logged decisions to a policy that can be trusted.

A log is made by `read`, `read_table`, `import_table` or `Episodes.of`, policies are learned from it by `train`, and judged by `ope.estimate` (a log)
or `evaluate` (an environment). Each algorithm is a class whose fields are its hyperparameters, as in `train(IQL(beta=10.0), log)`; `ALGORITHMS` has
their names. `load_policy` brings back what `save_policy`, or a folder of runs, keeps. On the command line: `topstitch --help`.
"""

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
    "import_table": "data.intake:import_table",
    "decide": "decisions:decide",
    "Episodes": "data:Episodes",
    "Parts": "data.parts:Parts",
    "BadData": "data:BadData",
    "load_policy": "store:load_policy",
    "save_policy": "store:save_policy",
    "evaluate": "evaluation:evaluate",
    "collect": "collection:collect",
    "train_online": "online:train_online",
    "Acting": "online:Acting",
    "finetune": "online:finetune",
    "ALGORITHMS": "algos:ALGORITHMS",
    "BC": "algos.imitation.bc:BC",
    "DiffusionBC": "algos.imitation.diffusion_bc:DiffusionBC",
    "FlowBC": "algos.imitation.flow_bc:FlowBC",
    "VAEBC": "algos.imitation.vae_bc:VAEBC",
    "ReverseKL": "algos.imitation.reverse_kl:ReverseKL",
    "PercentileBC": "algos.imitation.percentile_bc:PercentileBC",
    "DAgger": "algos.imitation.dagger:DAgger",
    "GAIL": "algos.imitation.gail:GAIL",
    "CCIL": "algos.imitation.ccil:CCIL",
    "DQN": "algos.baseline.dqn:DQN",
    "SAC": "algos.baseline.sac:SAC",
    "TD3": "algos.baseline.td3:TD3",
    "DiscreteSAC": "algos.baseline.discrete_sac:DiscreteSAC",
    "QRDQN": "algos.baseline.qr_dqn:QRDQN",
    "IQL": "algos.weighted.iql:IQL",
    "AWAC": "algos.weighted.awac:AWAC",
    "EMRL": "algos.weighted.emrl:EMRL",
    "RWR": "algos.weighted.rwr:RWR",
    "MARWIL": "algos.weighted.marwil:MARWIL",
    "AWR": "algos.weighted.awr:AWR",
    "CRR": "algos.weighted.crr:CRR",
    "MPO": "algos.weighted.mpo:MPO",
    "TD3BC": "algos.constraint.td3_bc:TD3BC",
    "ReBRAC": "algos.constraint.rebrac:ReBRAC",
    "DiscreteBCQ": "algos.constraint.discrete_bcq:DiscreteBCQ",
    "BCQ": "algos.constraint.bcq:BCQ",
    "BEAR": "algos.constraint.bear:BEAR",
    "IDQL": "algos.constraint.idql:IDQL",
    "IFQL": "algos.constraint.ifql:IFQL",
    "FQL": "algos.constraint.fql:FQL",
    "BRAC": "algos.constraint.brac:BRAC",
    "KLControl": "algos.constraint.kl_control:KLControl",
    "OneStep": "algos.constraint.one_step:OneStep",
    "EMaQ": "algos.constraint.emaq:EMaQ",
    "AlgaeDICE": "algos.constraint.algae_dice:AlgaeDICE",
    "PLAS": "algos.constraint.plas:PLAS",
    "SPOT": "algos.constraint.spot:SPOT",
    "CQL": "algos.conservative.cql:CQL",
    "CalQL": "algos.conservative.cal_ql:CalQL",
    "DiscreteCQL": "algos.conservative.discrete_cql:DiscreteCQL",
    "UDS": "algos.conservative.uds:UDS",
    "CDS": "algos.conservative.cds:CDS",
    "SACN": "algos.ensemble.sac_n:SACN",
    "EDAC": "algos.ensemble.edac:EDAC",
    "SACRND": "algos.ensemble.sac_rnd:SACRND",
    "REM": "algos.ensemble.rem:REM",
    "FQI": "algos.classic.fqi:FQI",
    "NFQ": "algos.classic.nfq:NFQ",
    "LSPI": "algos.classic.lspi:LSPI",
    "TabularQ": "algos.classic.tabular_q:TabularQ",
    "SPIBB": "algos.classic.spibb:SPIBB",
    "ISPolicyGradient": "algos.classic.is_policy_gradient:ISPolicyGradient",
    "DRPolicyGradient": "algos.classic.dr_policy_gradient:DRPolicyGradient",
    "MBPO": "algos.model_based.mbpo:MBPO",
    "MOPO": "algos.model_based.mopo:MOPO",
    "MOReL": "algos.model_based.morel:MOReL",
    "COMBO": "algos.model_based.combo:COMBO",
    "DecisionTransformer": "algos.sequence.decision_transformer:DecisionTransformer",
    "TrajectoryTransformer": "algos.sequence.trajectory_transformer:TrajectoryTransformer",
    "GCBC": "algos.goal.gcbc:GCBC",
    "GCIQL": "algos.goal.gciql:GCIQL",
    "GCIVL": "algos.goal.gcivl:GCIVL",
    "CRL": "algos.goal.crl:CRL",
    "QRL": "algos.goal.qrl:QRL",
    "HIQL": "algos.goal.hiql:HIQL",
    "ActionableModels": "algos.goal.actionable_models:ActionableModels",
    "Goals": "data.goals:Goals",
}

PARTS = ("ope", "preferences", "testing", "watching", "worlds")  # modules that people call by name, as in topstitch.ope.estimate

__all__ = ["__version__", *PUBLIC, *PARTS]

if TYPE_CHECKING:
    from . import ope, preferences, testing, watching, worlds
    from .algos import ALGORITHMS
    from .algos.baseline.discrete_sac import DiscreteSAC
    from .algos.baseline.dqn import DQN
    from .algos.baseline.qr_dqn import QRDQN
    from .algos.baseline.sac import SAC
    from .algos.baseline.td3 import TD3
    from .algos.classic.dr_policy_gradient import DRPolicyGradient
    from .algos.classic.fqi import FQI
    from .algos.classic.is_policy_gradient import ISPolicyGradient
    from .algos.classic.lspi import LSPI
    from .algos.classic.nfq import NFQ
    from .algos.classic.spibb import SPIBB
    from .algos.classic.tabular_q import TabularQ
    from .algos.conservative.cal_ql import CalQL
    from .algos.conservative.cds import CDS
    from .algos.conservative.cql import CQL
    from .algos.conservative.discrete_cql import DiscreteCQL
    from .algos.conservative.uds import UDS
    from .algos.constraint.algae_dice import AlgaeDICE
    from .algos.constraint.bcq import BCQ
    from .algos.constraint.bear import BEAR
    from .algos.constraint.brac import BRAC
    from .algos.constraint.discrete_bcq import DiscreteBCQ
    from .algos.constraint.emaq import EMaQ
    from .algos.constraint.fql import FQL
    from .algos.constraint.idql import IDQL
    from .algos.constraint.ifql import IFQL
    from .algos.constraint.kl_control import KLControl
    from .algos.constraint.one_step import OneStep
    from .algos.constraint.plas import PLAS
    from .algos.constraint.rebrac import ReBRAC
    from .algos.constraint.spot import SPOT
    from .algos.constraint.td3_bc import TD3BC
    from .algos.ensemble.edac import EDAC
    from .algos.ensemble.rem import REM
    from .algos.ensemble.sac_n import SACN
    from .algos.ensemble.sac_rnd import SACRND
    from .algos.goal.actionable_models import ActionableModels
    from .algos.goal.crl import CRL
    from .algos.goal.gcbc import GCBC
    from .algos.goal.gciql import GCIQL
    from .algos.goal.gcivl import GCIVL
    from .algos.goal.hiql import HIQL
    from .algos.goal.qrl import QRL
    from .algos.imitation.bc import BC
    from .algos.imitation.ccil import CCIL
    from .algos.imitation.dagger import DAgger
    from .algos.imitation.diffusion_bc import DiffusionBC
    from .algos.imitation.flow_bc import FlowBC
    from .algos.imitation.gail import GAIL
    from .algos.imitation.percentile_bc import PercentileBC
    from .algos.imitation.reverse_kl import ReverseKL
    from .algos.imitation.vae_bc import VAEBC
    from .algos.model_based.combo import COMBO
    from .algos.model_based.mbpo import MBPO
    from .algos.model_based.mopo import MOPO
    from .algos.model_based.morel import MOReL
    from .algos.sequence.decision_transformer import DecisionTransformer
    from .algos.sequence.trajectory_transformer import TrajectoryTransformer
    from .algos.weighted.awac import AWAC
    from .algos.weighted.awr import AWR
    from .algos.weighted.crr import CRR
    from .algos.weighted.emrl import EMRL
    from .algos.weighted.iql import IQL
    from .algos.weighted.marwil import MARWIL
    from .algos.weighted.mpo import MPO
    from .algos.weighted.rwr import RWR
    from .collection import collect
    from .data import BadData, Episodes
    from .data.formats.table import read_table
    from .data.goals import Goals
    from .data.intake import import_table
    from .data.parts import Parts
    from .data.read import read
    from .decisions import decide
    from .evaluation import evaluate
    from .online import Acting, finetune, train_online
    from .runs import Runs, load_runs, resume, train
    from .store import load_policy, save_policy


def __getattr__(name: str):
    if name in PARTS:
        return importlib.import_module(f".{name}", __name__)
    if name not in PUBLIC:
        raise AttributeError(f"module 'topstitch' has no attribute {name!r}")
    module, attribute = PUBLIC[name].split(":")
    return getattr(importlib.import_module(f".{module}", __name__), attribute)


def __dir__():
    return sorted(__all__)
