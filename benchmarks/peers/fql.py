"""The agents of FQL and OGBench (Park et al. 2025): one jitted call per update, batches drawn by NumPy.

OGBench's own agents are all goal-conditioned; FQL, by the same authors and on the same classes, has plain ones.
"""

import importlib
import sys

import numpy as np
from peers.protocol import Missing, serve, stub

NAMES = {"iql": "IQLAgent", "td3bc": "ReBRACAgent", "rebrac": "ReBRACAgent"}


def load(job, columns, checkout):
    name = job["algorithm"]
    if name not in NAMES or job["discrete"]:
        raise Missing("no such agent")
    stub("wandb")
    sys.path.insert(0, str(checkout))
    import jax

    kind = "iql" if name == "iql" else "rebrac"
    agents, datasets = importlib.import_module(f"agents.{kind}"), importlib.import_module("utils.datasets")
    config = agents.get_config()
    config.actor_hidden_dims = config.value_hidden_dims = tuple(job["hidden"])
    config.batch_size = job["batch"]
    config.layer_norm = name == "rebrac"
    terminal = columns["terminal"].astype(np.float32)
    ends = columns["ends"].astype(np.float32)
    fields = dict(observations=columns["obs"], actions=columns["action"], rewards=columns["reward"], next_observations=columns["next_obs"])
    dataset = datasets.Dataset.create(**fields, terminals=ends, masks=1 - terminal)
    dataset.return_next_actions = kind == "rebrac"

    def start():
        example = dataset.sample(1)
        agent = getattr(agents, NAMES[name]).create(0, example["observations"], example["actions"], config)
        count = 0

        def run(steps):
            nonlocal agent, count
            for _ in range(steps):
                count += 1
                how = {"full_update": count % config.actor_freq == 0} if kind == "rebrac" else {}
                agent, _ = agent.update(dataset.sample(job["batch"]), **how)
            jax.block_until_ready(agent)
            return steps

        run(2)  # with and without the actor's step
        return run

    return start, {"note": "its ReBRAC without LayerNorm and with penalty 0" if name == "td3bc" else ""}


if __name__ == "__main__":
    serve(load)
