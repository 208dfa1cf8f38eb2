"""Every algorithm keeps every promise."""

import pytest

from topstitch import testing
from topstitch.algos import ALGORITHMS, find

SMALL = dict(hidden=(8,), batch_size=8, steps=7)
EXTRA = {"cql": dict(actions_sampled=2), "sac_n": dict(critics=5)}
VARIANTS = [
    *((name, {}) for name in ALGORITHMS),
    ("bc", dict(head="deterministic")),
    ("dqn", dict(double=True)),
    ("cql", dict(gap=1.0, max_backup=True, gap_floor=-5.0)),
    ("rebrac", dict(norm=False, normalise_q=False)),
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[f"{n}{'-' + '-'.join(v) if v else ''}" for n, v in VARIANTS])
def test_contract(name, variant):
    testing.check(find(name)(**{**SMALL, **EXTRA.get(name, {}), **variant}))
