"""CORL (Tarasov et al. 2022): one PyTorch file per method, run eagerly. Its ReBRAC, in JAX, is not driven here."""

from peers.protocol import Missing, module, serve, stub

FILES = {"bc": "any_percent_bc", "td3bc": "td3_bc", "iql": "iql", "cql": "cql", "sac_n": "sac_n", "edac": "edac", "awac": "awac"}


def load(job, columns, checkout):
    name, obs, act = job["algorithm"], job["obs"], job["act"]
    if name not in FILES or job["discrete"]:
        raise Missing("CORL has no such method")
    stub("d4rl", "gym", "wandb", "pyrallis")
    import torch

    torch.set_num_threads(job["threads"])
    peer = module(checkout / "algorithms/offline" / f"{FILES[name]}.py")
    config = peer.TrainConfig(device="cpu")
    buffer = peer.ReplayBuffer(obs, act, len(columns["reward"]), "cpu")
    d4rl = dict(obs="observations", action="actions", reward="rewards", terminal="terminals", next_obs="next_observations")
    buffer.load_d4rl_dataset({theirs: columns[ours] for ours, theirs in d4rl.items()})
    adam = lambda net, lr: torch.optim.Adam(net.parameters(), lr)

    def trainer():
        if name == "bc":
            actor = peer.Actor(obs, act, 1.0)
            return peer.BC(1.0, actor, adam(actor, 3e-4)).train
        if name == "td3bc":
            actor, one, two = peer.Actor(obs, act, 1.0), peer.Critic(obs, act), peer.Critic(obs, act)
            return peer.TD3_BC(1.0, actor, adam(actor, 3e-4), one, adam(one, 3e-4), two, adam(two, 3e-4)).train
        if name == "iql":
            actor, q, v = peer.GaussianPolicy(obs, act, 1.0), peer.TwinQ(obs, act), peer.ValueFunction(obs)
            return peer.ImplicitQLearning(1.0, actor, adam(actor, 3e-4), q, adam(q, 3e-4), v, adam(v, 3e-4)).train
        if name == "cql":
            one, two = (peer.FullyConnectedQFunction(obs, act, config.orthogonal_init, len(job["hidden"])) for _ in range(2))
            actor = peer.TanhGaussianPolicy(obs, act, 1.0, orthogonal_init=config.orthogonal_init)
            nets = one, adam(one, config.qf_lr), two, adam(two, config.qf_lr), actor, adam(actor, config.policy_lr)
            return peer.ContinuousCQL(*nets, target_entropy=-float(act), bc_steps=config.bc_steps, cql_alpha=config.cql_alpha).train
        if name == "awac":
            actor, one, two = (make(obs, act, config.hidden_dim) for make in (peer.Actor, peer.Critic, peer.Critic))
            return peer.AdvantageWeightedActorCritic(actor, adam(actor, 3e-4), one, adam(one, 3e-4), two, adam(two, 3e-4)).update
        actor, critic = peer.Actor(obs, act, config.hidden_dim), peer.VectorizedCritic(obs, act, config.hidden_dim, job["critics"])
        kind = peer.SACN if name == "sac_n" else peer.EDAC
        return kind(actor, adam(actor, 3e-4), critic, adam(critic, 3e-4), alpha_learning_rate=3e-4).update

    def start():
        update = trainer()

        def run(steps):
            for _ in range(steps):
                update([column.to("cpu") for column in buffer.sample(job["batch"])])
            return steps

        return run

    layers = {"cql": len(job["hidden"]), "sac_n": 3, "edac": 3, "awac": 3}.get(name, 2)
    note = "" if job["hidden"] == [256] * layers else f"{layers} hidden layers of 256"
    if name == "cql" and len(job["hidden"]) != 3:
        note = "its actor has 3 hidden layers"
    return start, {"note": note}


if __name__ == "__main__":
    serve(load)
