"""d3rlpy (Seno and Imai 2022), through its `fit`, as its users run it. It is a package: no checkout is needed."""

import numpy as np
from peers.protocol import Missing, serve

NAMES = {"bc": "BC", "td3bc": "TD3PlusBC", "iql": "IQL", "cql": "CQL", "sac_n": "SAC", "awac": "AWAC", "rebrac": "ReBRAC"}
DISCRETE = {"bc": "DiscreteBC", "discrete_bc": "DiscreteBC", "discrete_bcq": "DiscreteBCQ", "discrete_cql": "DiscreteCQL", "nfq": "NFQ"}


def load(job, columns, _):
    names = DISCRETE if job["discrete"] else NAMES
    if job["algorithm"] not in names:
        raise Missing("d3rlpy has no such method")
    import torch

    torch.set_num_threads(job["threads"])
    import d3rlpy
    from d3rlpy.logging import NoopAdapterFactory

    terminal = columns["terminal"].astype(np.float32)
    action = columns["action"].reshape(len(terminal), -1)
    timeouts = (columns["ends"] & (terminal == 0)).astype(np.float32)
    dataset = d3rlpy.dataset.MDPDataset(columns["obs"], action, columns["reward"], terminal, timeouts)
    kind = getattr(d3rlpy.algos, names[job["algorithm"]] + "Config")
    fields, encoder = kind.__dataclass_fields__, d3rlpy.models.VectorEncoderFactory(job["hidden"])
    options = {name: encoder for name in fields if name.endswith("encoder_factory")} | {"batch_size": job["batch"]}
    if "n_critics" in fields:
        options["n_critics"] = job["critics"]

    def start():
        algo = kind(**options).create()
        algo.build_with_dataset(dataset)

        def run(steps):
            quiet = dict(show_progress=False, save_interval=1 << 30, with_timestamp=False, logger_adapter=NoopAdapterFactory())
            algo.fit(dataset, n_steps=steps, n_steps_per_epoch=steps, **quiet)
            return steps

        return run

    return start, {"note": ""}


if __name__ == "__main__":
    serve(load)
