"""Unifloral (Jackson et al. 2025): one JAX file per method, `lax.scan` over updates."""

from types import SimpleNamespace

from peers.protocol import Missing, module, serve, stub

FILES = {"bc": "bc", "td3bc": "td3_bc", "iql": "iql", "sac_n": "sac_n", "edac": "edac", "rebrac": "rebrac"}
CHUNKS = {"bc": 600, "td3bc": 100, "iql": 200, "sac_n": 20, "edac": 10, "rebrac": 50}


def load(job, columns, checkout):
    name = job["algorithm"]
    if name not in FILES or job["discrete"]:
        raise Missing("Unifloral has no such method" + " (what it calls CQL is another one)" * (name == "cql"))
    stub("d4rl", "gym", "wandb")
    import jax
    import jax.numpy as jnp

    peer = module(checkout / "algorithms" / f"{FILES[name]}.py")
    args = peer.Args(batch_size=job["batch"])
    if hasattr(args, "num_critics"):
        args.num_critics = job["critics"]
    columns = columns | {"done": columns["terminal"], "next_action": jnp.roll(columns["action"], -1, axis=0)}
    dataset = peer.Transition(**{field: jnp.asarray(columns[field], jnp.float32) for field in peer.Transition._fields})
    obs, action = jnp.zeros(job["obs"]), jnp.zeros(job["act"])
    moments = dataset.obs.mean(axis=0), dataset.obs.std(axis=0)

    def nets():
        """Net, its input, and the fields of the state that hold it."""
        if name == "bc":
            return [(peer.DeterministicTanhActor(job["act"], *moments), [obs], ["actor"])]
        if name == "td3bc":
            actor, q = peer.DeterministicTanhActor(job["act"], *moments), peer.DualQNetwork(*moments)
        if name == "rebrac":
            actor = peer.DeterministicTanhActor(job["act"], *moments, args.actor_ln, args.norm_obs)
            q = peer.DualQNetwork(*moments, args.critic_ln, args.norm_obs)
        if name in ("td3bc", "rebrac"):
            return [(actor, [obs], ["actor", "actor_target"]), (q, [obs, action], ["dual_q", "dual_q_target"])]
        if name == "iql":
            actor, q, v = peer.TanhGaussianActor(job["act"], *moments), peer.DualQNetwork(*moments), peer.StateValueFunction(*moments)
            return [(actor, [obs], ["actor"]), (q, [obs, action], ["dual_q", "dual_q_target"]), (v, [obs], ["value"])]
        actor, q, temperature = peer.TanhGaussianActor(job["act"]), peer.VectorQ(args.num_critics), peer.EntropyCoef()
        return [(actor, [obs], ["actor"]), (q, [obs, action], ["vec_q", "vec_q_target"]), (temperature, [], ["alpha"])]

    def start():
        made = nets()
        keys = jax.random.split(jax.random.PRNGKey(0), len(made))
        fields = {f: peer.create_train_state(args, key, net, shape) for (net, shape, names), key in zip(made, keys) for f in names}
        step = peer.make_train_step(args, *(net.apply for net, _, _ in made), dataset)
        now = SimpleNamespace(carry=(jax.random.PRNGKey(1), peer.AgentTrainState(**fields)))
        length = CHUNKS[name]

        def run(steps):
            calls = -(-steps // (length * per_step))
            for _ in range(calls):
                now.carry, _ = jax.lax.scan(step, now.carry, None, length)
            jax.block_until_ready(now.carry)
            return calls * length * per_step

        return run

    per_step = getattr(args, "num_critic_updates_per_step", 1)
    note = f"{per_step} critic updates on one batch to 1 of the actor; each counts as one" if per_step > 1 else ""
    if name == "iql":
        note = "weighs actions by V as it was before its step: one evaluation of V, 7 % of the products, less than the authors' order"
    layers = 2 if name in ("bc", "td3bc", "iql") else 3
    if job["hidden"] != [256] * layers:
        note += f"; {layers} hidden layers of 256"
    return start, {"note": f"{note}; its first call does {CHUNKS[name]} updates".lstrip("; ")}


if __name__ == "__main__":
    serve(load)
