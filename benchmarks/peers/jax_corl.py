"""JAX-CORL (Nishimori 2024): one JAX file per method; 8 unrolled updates in each call of a jitted function, as in its main loops."""

from peers.protocol import Missing, module, serve, stub

FILES = {"td3bc": "td3bc", "iql": "iql", "cql": "cql", "awac": "awac"}
CLASSES = {"td3bc": "TD3BC", "iql": "IQL", "cql": "CQL", "awac": "AWAC"}


def load(job, columns, checkout):
    name = job["algorithm"]
    if name not in FILES or job["discrete"]:
        raise Missing("JAX-CORL has no such method")
    stub("d4rl", "gym", "wandb")
    import jax
    import jax.numpy as jnp

    peer = module(checkout / "algos" / f"{FILES[name]}.py")
    config, hidden = peer.config, tuple(job["hidden"])
    config.batch_size = job["batch"]
    notes = {"td3bc": "its critics have LayerNorm", "cql": "", "iql": "", "awac": ""}
    if name == "awac":
        config.actor_hidden_dims = config.critic_hidden_dims = hidden
    else:
        config.hidden_dims = hidden
    if name == "iql":
        config.layer_norm = False
    if name == "cql":
        config.action_dim, config.target_entropy = job["act"], -float(job["act"])
    rename = dict(observations="obs", actions="action", rewards="reward", next_observations="next_obs", dones="terminal")
    data = {field: jnp.asarray(columns[rename[field]], jnp.float32) for field in peer.Transition._fields if field in rename}
    data |= {field: jnp.zeros(len(columns["reward"])) for field in peer.Transition._fields if field not in rename}
    dataset = peer.Transition(**data)
    create = getattr(peer, f"create_{FILES[name]}_train_state")

    def start():
        rng = jax.random.PRNGKey(0)
        example = jax.tree.map(lambda x: x[0], dataset)
        state = create(rng, example.observations, example.actions, config)
        update = jax.jit(getattr(peer, CLASSES[name])().update_n_times, static_argnums=(3,))
        at_once = config.n_jitted_updates

        def run(steps):
            nonlocal state, rng
            calls = -(-steps // at_once)
            for _ in range(calls):
                rng, key = jax.random.split(rng)
                state, _ = update(state, dataset, key, config)
            jax.block_until_ready(state)
            return calls * at_once

        return run

    return start, {"note": notes[name]}


if __name__ == "__main__":
    serve(load)
