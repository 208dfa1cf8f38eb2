"""The algorithms by name. A literal table of strings: nothing is imported before it is asked for."""

import importlib

ALGORITHMS = {
    "bc": "imitation.bc:BC",
    "dqn": "baseline.dqn:DQN",
    "sac": "baseline.sac:SAC",
    "td3": "baseline.td3:TD3",
    "iql": "weighted.iql:IQL",
    "awac": "weighted.awac:AWAC",
    "td3bc": "constraint.td3_bc:TD3BC",
    "rebrac": "constraint.rebrac:ReBRAC",
    "discrete_bcq": "constraint.discrete_bcq:DiscreteBCQ",
    "cql": "conservative.cql:CQL",
    "discrete_cql": "conservative.discrete_cql:DiscreteCQL",
    "sac_n": "ensemble.sac_n:SACN",
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
