"""topstitch as one of the engines of `speed.py`: the compiled loop that `topstitch.train` runs, on the public algorithms."""

import dataclasses

import numpy as np
from peers.protocol import Missing, serve

STATES = 1000


def load(job, columns, _):
    import jax

    jax.config.update("jax_num_cpu_devices", job.get("devices", 1))
    import jax.numpy as jnp

    from topstitch import algos, loop
    from topstitch.core import Box, Discrete
    from topstitch.data import Episodes

    kind = algos.find(job["algorithm"])
    if (Discrete if job["discrete"] else Box) not in kind.actions:
        raise Missing(f"{kind.__name__} is not for {'discrete' if job['discrete'] else 'continuous'} actions")
    known = {field.name for field in dataclasses.fields(kind)}
    given = {name: tuple(value) if name == "hidden" else value for name, value in job.get("fields", {}).items() if name in known}
    algo = kind(**given)
    rows = {name: columns[name][: job.get("rows")] for name in ("obs", "action", "reward", "terminal", "ends", "next_obs")}
    states = None if Box in kind.observations else STATES
    if states:  # numbers of states where a method knows no vectors
        rows |= {name: (np.abs(rows[name][:, 0]) * 997 % 1 * states).astype(np.int32) for name in ("obs", "next_obs")}
    chance = np.full(len(rows["reward"]), 1 / job["act"] if job["discrete"] else 0.5 ** job["act"], np.float32)
    half = {"labelled": np.arange(len(chance)) < len(chance) // 2}
    log = Episodes.of(**rows, actions=job["act"] if job["discrete"] else None, states=states, probability=chance, info=half)
    index = len(algo.stages()) - 1
    data = algo.prepare(log)
    jax.block_until_ready(data)
    runs, devices = job.get("runs", 1), job.get("devices", 1)
    advance = loop.advance if algo.stages()[index].compiled else loop.advance_on_host

    def start():
        spread = lambda tree: tree
        held = data
        if devices > 1:
            mesh = loop.mesh_of(devices)
            held = jax.device_put(data, jax.NamedSharding(mesh, jax.P()))
            spread = lambda tree: jax.device_put(tree, jax.NamedSharding(mesh, jax.P("run")))
        algorithms, keys = spread(loop.line_up([(algo, seed) for seed in range(runs)]))
        states, alive = spread(loop.begin(algorithms, held, keys)), spread(jnp.ones(runs, bool))
        at = 0

        def run(steps):
            nonlocal states, alive, at
            moment = jnp.int32(at), jnp.int32(steps), jnp.float32(jnp.inf)  # what an earlier stage would have learned is missing
            how = dict(index=index, together=job.get("together", "map"), devices=devices)
            states, alive, broken, sums = advance(algorithms, states, alive, held, keys, *moment, **how)
            jax.block_until_ready((states, sums))
            at += steps
            if not bool(alive.all()):
                raise FloatingPointError(f"a run broke after {at} steps: {loop.read_faults(broken, sums, states, 'timed')}")
            return steps * runs

        return run

    facts = {name: getattr(algo, name) for name in ("hidden", "critics", "batch_size", "actions_sampled", "delay") if hasattr(algo, name)}
    return start, {"note": "", "facts": facts, "stage": algo.stages()[index].name}


if __name__ == "__main__":
    serve(load)
