"""Every algorithm with nets and numbers so small that a test can afford it."""

import dataclasses

from topstitch.algos import find

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
    "dr_policy_gradient": dict(actions_sampled=2),
    "nfq": dict(epochs=3),
    "spibb": dict(threshold=2.0),
    "edac": dict(critics=5),
    "rem": dict(heads=3),
    "decision_transformer": dict(context=3, longest=9, warmup=2),
    "trajectory_transformer": dict(heads=2, context=2, window=2, horizon=3, beam=2, bins=4, warmup=2),
    "reverse_kl": dict(model_hidden=(8,), model_steps=5, modes=2, actions_sampled=2),
    "ccil": dict(labels="disturbed", model_hidden=(8,), model_steps=5),
    "awr": dict(every=3),
    "crr": dict(actions_sampled=2),
    "mpo": dict(actions_sampled=3),
    "brac": dict(actions_sampled=2, behaviour_steps=3, warmup=2),
    "kl_control": dict(behaviour_steps=3),
    "one_step": dict(behaviour_steps=3, value_steps=3, candidates=3),
    "emaq": dict(behaviour_hidden=(8,), behaviour_steps=3, candidates=3, bins=4),
    "plas": dict(behaviour_hidden=(8,), behaviour_steps=3),
    "spot": dict(behaviour_hidden=(8,), behaviour_steps=3),
    "qr_dqn": dict(quantiles=3),
    "uds": dict(actions_sampled=2),
    "cds": dict(actions_sampled=2, pool=2),
    "sac_rnd": dict(embedding=4, novelty_steps=3),
    "crl": dict(embedding=4),
    "qrl": dict(embedding=16),
    "hiql": dict(embedding=4, ahead=3),
    "actionable_models": dict(actions_sampled=3),
}


def small(name: str, **variant):
    """The algorithm of that name."""
    known = {field.name for field in dataclasses.fields(find(name))}
    shared = {field: value for field, value in SMALL.items() if field in known}
    return find(name)(**{**shared, **EXTRA.get(name, {}), **variant})
