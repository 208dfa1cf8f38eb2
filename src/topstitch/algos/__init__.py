"""The algorithms by name. A literal table of strings: nothing is imported before it is asked for."""

import importlib

ALGORITHMS = {
    "bc": "imitation.bc:BC",
    "diffusion_bc": "imitation.diffusion_bc:DiffusionBC",
    "flow_bc": "imitation.flow_bc:FlowBC",
    "vae_bc": "imitation.vae_bc:VAEBC",
    "reverse_kl": "imitation.reverse_kl:ReverseKL",
    "percentile_bc": "imitation.percentile_bc:PercentileBC",
    "dagger": "imitation.dagger:DAgger",
    "gail": "imitation.gail:GAIL",
    "ccil": "imitation.ccil:CCIL",
    "dqn": "baseline.dqn:DQN",
    "sac": "baseline.sac:SAC",
    "td3": "baseline.td3:TD3",
    "discrete_sac": "baseline.discrete_sac:DiscreteSAC",
    "qr_dqn": "baseline.qr_dqn:QRDQN",
    "iql": "weighted.iql:IQL",
    "awac": "weighted.awac:AWAC",
    "emrl": "weighted.emrl:EMRL",
    "rwr": "weighted.rwr:RWR",
    "marwil": "weighted.marwil:MARWIL",
    "awr": "weighted.awr:AWR",
    "crr": "weighted.crr:CRR",
    "mpo": "weighted.mpo:MPO",
    "td3bc": "constraint.td3_bc:TD3BC",
    "rebrac": "constraint.rebrac:ReBRAC",
    "discrete_bcq": "constraint.discrete_bcq:DiscreteBCQ",
    "bcq": "constraint.bcq:BCQ",
    "bear": "constraint.bear:BEAR",
    "idql": "constraint.idql:IDQL",
    "ifql": "constraint.ifql:IFQL",
    "fql": "constraint.fql:FQL",
    "brac": "constraint.brac:BRAC",
    "kl_control": "constraint.kl_control:KLControl",
    "one_step": "constraint.one_step:OneStep",
    "emaq": "constraint.emaq:EMaQ",
    "algae_dice": "constraint.algae_dice:AlgaeDICE",
    "plas": "constraint.plas:PLAS",
    "spot": "constraint.spot:SPOT",
    "cql": "conservative.cql:CQL",
    "cal_ql": "conservative.cal_ql:CalQL",
    "discrete_cql": "conservative.discrete_cql:DiscreteCQL",
    "uds": "conservative.uds:UDS",
    "cds": "conservative.cds:CDS",
    "sac_n": "ensemble.sac_n:SACN",
    "edac": "ensemble.edac:EDAC",
    "sac_rnd": "ensemble.sac_rnd:SACRND",
    "rem": "ensemble.rem:REM",
    "fqi": "classic.fqi:FQI",
    "nfq": "classic.nfq:NFQ",
    "lspi": "classic.lspi:LSPI",
    "tabular_q": "classic.tabular_q:TabularQ",
    "spibb": "classic.spibb:SPIBB",
    "is_policy_gradient": "classic.is_policy_gradient:ISPolicyGradient",
    "dr_policy_gradient": "classic.dr_policy_gradient:DRPolicyGradient",
    "mbpo": "model_based.mbpo:MBPO",
    "mopo": "model_based.mopo:MOPO",
    "morel": "model_based.morel:MOReL",
    "combo": "model_based.combo:COMBO",
    "decision_transformer": "sequence.decision_transformer:DecisionTransformer",
    "trajectory_transformer": "sequence.trajectory_transformer:TrajectoryTransformer",
    "gcbc": "goal.gcbc:GCBC",
    "gciql": "goal.gciql:GCIQL",
    "gcivl": "goal.gcivl:GCIVL",
    "crl": "goal.crl:CRL",
    "qrl": "goal.qrl:QRL",
    "hiql": "goal.hiql:HIQL",
    "actionable_models": "goal.actionable_models:ActionableModels",
}


def find(name: str) -> type:
    """The algorithm of a name such as "iql" or "TD3BC"; case, `-`, `_` and `+` do not matter."""
    plain = lambda text: "".join(c for c in text.lower() if c.isalnum())
    for known, place in ALGORITHMS.items():
        module, kind = place.split(":")
        if plain(name) in (plain(known), plain(kind)):
            return getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    raise ValueError(f"There is no algorithm {name!r}. There are: {', '.join(ALGORITHMS)}.")


def family(name: str) -> str:
    """The folder that an algorithm lives in: imitation, weighted, constraint, ..."""
    return ALGORITHMS[name].split(".")[0]
