"""Every algorithm solves the probes that it says it solves, and fails those that theory says it fails."""

import pytest

from topstitch import testing
from topstitch.algos import ALGORITHMS, find

NET = dict(hidden=(32,), batch_size=64, steps=500, lr=3e-3)
VALUES = dict(discount=0.9, target_rate=0.05)
# Weights of conservatism and imitation in the units of the probes, whose rewards are about 1; short runs, so a faster actor.
OWN = {
    "cql": dict(actions_sampled=4, actor_lr=3e-3, alpha=0.3),
    "discrete_cql": dict(alpha=0.1),
    "rebrac": dict(actor_lr=3e-3, actor_bc=0.3, hidden=(32, 32)),
    "sac_n": dict(hidden=(32, 32)),
    "awac": dict(hidden=(32, 32)),
}
CASES = [(name, action) for name in ALGORITHMS for action in find(name).actions]


@pytest.mark.parametrize(("name", "action"), CASES, ids=[f"{name}-{action.__name__}" for name, action in CASES])
def test_probes(name, action):
    kind = find(name)
    algorithm = kind(**{**NET, **({} if name == "bc" else VALUES), **OWN.get(name, {})})
    assert not set(kind.passes) & set(kind.fails) and {*kind.passes, *kind.fails} <= set(testing.PROBES)
    solved = {probe: testing.probe(algorithm, probe, action) for probe in (*kind.passes, *kind.fails)}
    assert all(solved[probe] == 1 for probe in kind.passes), solved
    assert all(solved[probe] == 0 for probe in kind.fails), solved
