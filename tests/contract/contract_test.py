"""Every algorithm keeps every promise."""

import dataclasses

import pytest

from topstitch import testing
from topstitch.algos import ALGORITHMS, find

SMALL = dict(hidden=(8,), batch_size=8, steps=7)
DREAM = dict(model_hidden=(8,), model_steps=5, models=5, elites=2, held_out=8, rollouts=4, horizon=2, every=3, retain=2)
EXTRA = {
    "cql": dict(actions_sampled=2),
    "bcq": dict(behaviour_hidden=(8,), candidates=5, target_candidates=3),
    "bear": dict(behaviour_hidden=(8,), actions_sampled=3, candidates=3, target_candidates=3, warmup=2),
    "idql": dict(behaviour_hidden=(8,), candidates=4),
    "ifql": dict(candidates=4),
    "sac_n": dict(critics=5),
    "mbpo": DREAM,
    "mopo": DREAM,
    "morel": DREAM,
    "combo": dict(DREAM, actions_sampled=2),
    "fqi": dict(trees=2, steps=5),
    "nfq": dict(epochs=3),
    "spibb": dict(threshold=2.0),
    "edac": dict(critics=5),
    "rem": dict(heads=3),
    "sac_rnd": dict(embedding=4, novelty_steps=3),
}
VARIANTS = [
    *((name, {}) for name in ALGORITHMS),
    ("bc", dict(head="deterministic")),
    ("dqn", dict(double=True)),
    ("cql", dict(gap=1.0, max_backup=True, gap_floor=-5.0)),
    ("rebrac", dict(norm=False, normalise_q=False)),
    ("lspi", dict(features="polynomial")),
    ("spibb", dict(constraint="below")),
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=[f"{n}{'-' + '-'.join(v) if v else ''}" for n, v in VARIANTS])
def test_contract(name, variant):
    known = {field.name for field in dataclasses.fields(find(name))}
    small = {field: value for field, value in SMALL.items() if field in known}
    testing.check(find(name)(**{**small, **EXTRA.get(name, {}), **variant}))
