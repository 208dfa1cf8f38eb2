"""Every algorithm keeps every promise."""

import pytest
from small import small

from topstitch import testing
from topstitch.algos import ALGORITHMS
from topstitch.core import Box

VARIANTS = [
    *((name, {}) for name in ALGORITHMS),
    ("bc", dict(head="deterministic")),  # heads are for a `Box`
    ("bc", dict(head="mixture", modes=2)),
    ("bc", dict(head="autoregressive", bins=4)),
    ("dqn", dict(double=True)),
    ("cql", dict(gap=1.0, max_backup=True, gap_floor=-5.0)),
    ("rebrac", dict(norm=False, normalise_q=False)),
    ("brac", dict(divergence="kl_dual")),
    ("discrete_cql", dict(quantiles=3)),
    ("lspi", dict(features="polynomial")),
    ("spibb", dict(constraint="below")),
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[f"{n}{'-' + '-'.join(v) if v else ''}" for n, v in VARIANTS])
def test_contract(name, variant):
    testing.check(small(name, **variant), actions=(Box,) if "head" in variant else ())
