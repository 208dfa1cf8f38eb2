"""How fast this machine could go at best: its rate of float32 matrix products, and the products that an update cannot do without.

As a program, the worker of `speed.py` that measures the first: products of two 2048 x 2048 matrices through JAX on all cores.
"""

import itertools

from peers.protocol import serve

SIDE = 2048
FLOPS = 2 * SIDE**3
"Of one product."


def load(job, columns, _):
    import jax
    import jax.numpy as jnp

    def start():
        square = jax.random.normal(jax.random.key(0), (SIDE, SIDE)) / SIDE**0.5
        product = jax.jit(lambda x, steps: jax.lax.fori_loop(0, steps, lambda _, x: x @ square, x))
        x = square

        def run(steps):
            product(x, jnp.int32(steps)).block_until_ready()
            return steps

        return run

    return start, {"note": f"{SIDE} x {SIDE} float32 matrix products through JAX"}


# the least work of an update -----------------------------------------------------------------------------------------------


def layers(sizes, rows: int) -> list[int]:
    """Floating-point operations of each layer's product, forwards: 2 m n k."""
    return [2 * rows * n * k for n, k in itertools.pairwise(sizes)]


def forward(sizes, rows) -> int:
    return sum(layers(sizes, rows))


def learn(sizes, rows) -> int:
    """Forwards, the gradient of every weight, and that of every layer's input but the first's."""
    each = layers(sizes, rows)
    return 3 * sum(each) - each[0]


def through(sizes, rows, act: int) -> int:
    """Forwards, and the gradient of the action, the last `act` inputs: what an actor needs of a critic."""
    each = layers(sizes, rows)
    return 2 * sum(each) - each[0] * (sizes[0] - act) // sizes[0]


def flops(algorithm: str, obs: int, act: int, facts: dict) -> int | None:
    """The least that an update of the paper's method takes in matrix products; None where nobody has counted.

    Every net is evaluated once for each input, except the actor of CQL at the batch: once to try actions, once in its own
    step. (IQL in the authors' order evaluates V at the batch again after its step, 7 % more.)
    """
    hidden, rows, critics = facts.get("hidden", []), facts.get("batch_size", 256), facts.get("critics", 2)
    delay, tried = facts.get("delay", 2), 3 * facts.get("actions_sampled", 10)
    q, v, point, spread = [obs + act, *hidden, 1], [obs, *hidden, 1], [obs, *hidden, act], [obs, *hidden, 2 * act]
    backup = critics * forward(q, rows)
    match algorithm:
        case "bc":
            return learn(point, rows)
        case "td3" | "td3bc":
            actor = learn(point, rows) + through(q, rows, act)
            return forward(point, rows) + backup + critics * learn(q, rows) + actor // delay
        case "iql":
            return backup + learn(v, rows) + forward(v, rows) + learn(point, rows) + critics * learn(q, rows)
        case "sac" | "sac_n" | "cql":
            extra = forward(spread, rows) if algorithm == "cql" else 0
            seen = rows * (1 + tried) if algorithm == "cql" else rows
            actor = learn(spread, rows) + critics * through(q, rows, act)
            return forward(spread, rows) + extra + backup + critics * learn(q, seen) + actor
    return None


if __name__ == "__main__":
    serve(load)
