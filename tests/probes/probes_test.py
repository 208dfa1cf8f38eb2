"""Every algorithm solves the probes that it says it solves, and fails those that theory says it fails."""

import dataclasses

import pytest

from topstitch import testing
from topstitch.algos import ALGORITHMS, find
from topstitch.core import MultiDiscrete

NET = dict(hidden=(32,), batch_size=64, steps=500, lr=3e-3)
VALUES = dict(discount=0.9, target_rate=0.05)
# Where episodes end is a rule that learned worlds are told, and probes have none: what follows a step cannot be promised there.
DREAM = dict(model_hidden=(32,), model_steps=300, model_lr=3e-3, rollouts=100, every=100, horizon=1, retain=2, discount=0.0)
# Weights of conservatism and imitation in the units of the probes, whose rewards are about 1; short runs, so a faster actor.
OWN = {
    "cql": dict(actions_sampled=4, actor_lr=3e-3, alpha=0.3),
    "cal_ql": dict(actions_sampled=4, actor_lr=3e-3, alpha=0.3),
    "discrete_cql": dict(alpha=0.1),
    "rebrac": dict(actor_lr=3e-3, actor_bc=0.3, hidden=(32, 32)),
    "sac_n": dict(hidden=(32, 32)),
    "mbpo": DREAM,
    "mopo": DREAM,
    "morel": dict(DREAM, penalty=1.0),
    "combo": dict(DREAM, actions_sampled=4, actor_lr=3e-3, alpha=0.3),
    "edac": dict(hidden=(32, 32), actor_lr=3e-3),
    "decision_transformer": dict(context=2, longest=2, warmup=20, scale=1.0, dropout=0.0, steps=250, batch_size=32),
    "trajectory_transformer": dict(
        lr=1e-2,
        heads=2,
        window=2,
        context=2,
        horizon=2,
        beam=16,
        expand=4,
        bins=16,
        tail=0.02,
        warmup=20,
        dropout=0.0,
        steps=200,
        batch_size=32,
    ),
    "sac_rnd": dict(hidden=(32, 32), batch_size=32, embedding=8, novelty_steps=300, novelty_lr=3e-3, actor_novelty=0.2, critic_novelty=0.2),
    "rem": dict(heads=8),
    "awac": dict(hidden=(32, 32)),
    "rwr": dict(beta=5.0),
    "marwil": dict(beta=2.0),
    "awr": dict(beta=2.0, every=50),
    "crr": dict(beta=3.0, hidden=(32, 32)),
    "mpo": dict(threshold=3.0, trust=0.1, trust_std=0.01, dual_lr=0.03),
    "diffusion_bc": dict(hidden=(32, 32), average_rate=0.05),
    "flow_bc": dict(hidden=(32, 32)),
    "reverse_kl": dict(model_hidden=(32,), model_steps=300),
    "ccil": dict(model_hidden=(32,), model_steps=200),
    "bcq": dict(behaviour_hidden=(32,), candidates=20),
    "bear": dict(behaviour_hidden=(32,), warmup=0, actor_lr=3e-3, dual_lr=3e-2, actions_sampled=4),
    "idql": dict(behaviour_hidden=(32, 32), average_rate=0.05, candidates=32, batch_size=32),
    "ifql": dict(hidden=(32, 32), batch_size=32),
    "fql": dict(hidden=(32, 32), alpha=1.0, batch_size=32),
    "qr_dqn": dict(quantiles=8),
    "brac": dict(behaviour_steps=300, warmup=0, actor_lr=3e-3, alpha=0.3),
    "kl_control": dict(behaviour_steps=300, alpha=0.3),
    "one_step": dict(behaviour_steps=300, value_steps=500, alpha=0.3),
    "emaq": dict(behaviour_hidden=(32, 32), behaviour_steps=300, bins=16, candidates=16, batch_size=16),
    "algae_dice": dict(actor_lr=3e-3),
    "plas": dict(behaviour_hidden=(32,), behaviour_steps=500, behaviour_lr=3e-3, actor_lr=3e-3),
    "spot": dict(behaviour_hidden=(32,), behaviour_steps=500, actor_lr=3e-3, alpha=1.0),
    "uds": dict(actions_sampled=4, actor_lr=3e-3, alpha=0.3),
    "cds": dict(actions_sampled=4, actor_lr=3e-3, alpha=0.3, pool=2),
    "fqi": dict(trees=5, steps=5),
    "nfq": dict(epochs=60, steps=8),
    "lspi": dict(steps=5),
    "tabular_q": dict(steps=50),
    "spibb": dict(steps=50),
}
CASES = [(name, action) for name in ALGORITHMS for action in find(name).actions if action is not MultiDiscrete]  # for these: choices_test


@pytest.mark.parametrize(("name", "action"), CASES, ids=[f"{name}-{action.__name__}" for name, action in CASES])
def test_probes(name, action):
    kind = find(name)
    known = {field.name for field in dataclasses.fields(kind)}
    shared = {field: value for field, value in (NET | VALUES).items() if field in known}
    algorithm = kind(**{**shared, **OWN.get(name, {})})
    assert not set(kind.passes) & set(kind.fails) and {*kind.passes, *kind.fails} <= set(testing.PROBES)
    solved = {probe: testing.probe(algorithm, probe, action, seeds=2) for probe in (*kind.passes, *kind.fails)}
    assert all(solved[probe] == 1 for probe in kind.passes), solved
    assert all(solved[probe] == 0 for probe in kind.fails), solved
