"""What imitation can and cannot do, on two examples that can be seen through and on a pendulum: docs/imitation.md, its pictures and its numbers.

python benchmarks/imitation.py                      # trains (some minutes on a core), then draws
python benchmarks/imitation.py --parts pendulum     # only this part, kept beside what is there
python benchmarks/imitation.py --page               # docs/imitation.md from benchmarks/results/imitation.json
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results/imitation.json", HERE.parent / "docs/imitation.md"
PICTURES = HERE.parent / "docs/pictures"

WAYS, SHARES, WIDTH = (-0.6, 0.6), (0.6, 0.4), 0.1
GRID = np.linspace(-1, 1, 201)
SEEDS = 6
"Of the reverse divergence."
HORIZONS = (4, 8, 16, 32, 64, 128)
SLIP = 0.002
"How often a foot slips."
TOLD, SWINGS = (200, 1000), 3
"Steps that an expert is asked about, an episode of the pendulum being 200; seeds."
ACTED = 10_000
"Steps that a learner acts itself who cannot ask, and learns from each once."


# two ways --------------------------------------------------------------------------------------------------------------------


def practice(rows: int = 4000):
    """One state, one number to choose, two ways to choose it."""
    from topstitch import Episodes

    rng = np.random.default_rng(0)
    action = (rng.choice(WAYS, size=rows, p=SHARES) + WIDTH * rng.normal(size=rows)).clip(-1, 1)[:, None]
    return Episodes.of(np.zeros(rows, int), action, np.zeros(rows), np.ones(rows, bool), states=1, low=-1.0, high=1.0)


def truth(a) -> np.ndarray:
    bell = lambda way: np.exp(-(((a - way) / WIDTH) ** 2) / 2) / (WIDTH * np.sqrt(2 * np.pi))
    return np.sum([share * bell(way) for way, share in zip(WAYS, SHARES)], axis=0)


def ways() -> dict:
    """By method: its density on `GRID` (of a sampler, that of 20,000 draws), and the share of its draws that nobody would have made."""
    import jax
    import jax.numpy as jnp

    import topstitch as ts

    how = dict(hidden=(32, 32), batch_size=256, steps=4000, lr=2e-3)
    methods = {
        "forward": ts.BC(**how),
        "reverse": ts.ReverseKL(model_hidden=(32, 32), model_steps=4000, **how),
        "mixture": ts.BC(head="mixture", **how),
        "autoregressive": ts.BC(head="autoregressive", bins=32, **how),
        "latent": ts.VAEBC(**how),
        "flow": ts.FlowBC(**how),
    }
    found, log = {}, practice()
    for name, algorithm in methods.items():
        runs = ts.train(algorithm, log, seeds=SEEDS if name == "reverse" else 1, progress=False)
        found[name] = []
        for run in runs:
            said = run.policy(jnp.zeros(20_000, jnp.int32))
            drawn = np.asarray(jax.jit(lambda p: p(jnp.zeros(20_000, jnp.int32)).sample(jax.random.key(1)))(run.policy))[:, 0]
            if hasattr(said, "base") and hasattr(said.base, "log_prob"):
                density = np.exp(np.asarray(run.policy(jnp.zeros(len(GRID), jnp.int32)).log_prob(jnp.asarray(GRID, jnp.float32)[:, None])))
            else:
                density = np.histogram(drawn, bins=np.append(GRID, GRID[-1] + 0.01) - 0.005, density=True)[0]
            apart = np.abs(drawn[:, None] - np.array(WAYS)).min(axis=1)
            found[name].append({
                "density": np.round(density, 4).tolist(), "mean": float(drawn.mean()), "std": float(drawn.std()),
                "between": float((apart > 3 * WIDTH).mean()), "left": float((drawn < 0).mean()),
            })  # fmt: skip
    return found


# the tightrope ---------------------------------------------------------------------------------------------------------------


def tightrope() -> dict:
    """The exact expected cost of a clone and of DAgger's policy, by horizon."""
    import gymnasium
    import jax.numpy as jnp

    import topstitch as ts
    from topstitch.online import Acting, train_online

    class Tightrope(gymnasium.Env):
        """Action 0 walks on along the rope, or stays on the ground; 1 falls off it, or climbs back. Being on the ground costs 1."""

        observation_space = gymnasium.spaces.Box(0, 1, (1,))
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            self.down, self.at = 0, 0
            return np.zeros(1, np.float32), {}

        def step(self, action):
            self.down, self.at = (1 - self.down if action == 1 else self.down), self.at + 1
            return np.full(1, self.down, np.float32), -float(self.down), False, self.at == 20, {}

    gymnasium.register("Tightrope-v0", Tightrope)
    walked = ts.Episodes.of(np.zeros((200, 1)), np.zeros(200, int), np.zeros(200), np.arange(1, 201) % 20 == 0, actions=2)
    how = dict(hidden=(), batch_size=32, lr=0.05, steps=400)
    clone = ts.train(ts.BC(**how), walked, progress=False)[0].policy
    acting = Acting(warmup=100, block=20, level=0.8)
    asked = train_online(ts.DAgger(**how), "Tightrope-v0", expert=lambda obs: int(obs[0]), acting=acting, every=100, progress=False)[
        0
    ].policy

    def cost(policy, horizon: int) -> float:
        acts = np.asarray(policy(jnp.array([[0.0], [1.0]])).mode())
        off, back = np.where(acts == 1, 1 - SLIP, SLIP)
        down, total = 0.0, 0.0
        for _ in range(horizon):
            down = (1 - down) * off + down * (1 - back)
            total += down
        return total

    return {name: [cost(policy, t) for t in HORIZONS] for name, policy in (("clone", clone), ("dagger", asked))}


# the pendulum ----------------------------------------------------------------------------------------------------------------


def pendulum() -> dict:
    """By method and by how many steps the expert said what it would do, the mean return of 20 episodes, seed by seed."""
    import jax.numpy as jnp
    from values import controller

    import topstitch as ts
    from topstitch.collection import collect
    from topstitch.core import Markov
    from topstitch.nets import Delta
    from topstitch.online import Acting

    class Swinger(Markov):
        """Pumps energy while low, balances while high: a torque for (cosine, sine, speed)."""

        def __call__(self, obs, mask=None):
            return Delta(2 * controller(jnp.stack([jnp.arctan2(obs[..., 1], obs[..., 0]), obs[..., 2]]))[0][..., None])

    env, expert = "Pendulum-v1", Swinger()
    returns = lambda policies: ts.evaluate(policies, env, episodes=20, seed=1000).returns.mean(axis=1).round(1).tolist()
    how = dict(hidden=(64, 64), batch_size=128, lr=1e-3)
    found = {"expert": returns([expert]), "random": [float(collect("random", env, steps=20_000).returns().mean().round(1))]}

    def asked(told: int, seed: int):
        """The expert leads for half of the steps, and is asked about the learner's in the other half; then the learner thinks it all over."""
        with tempfile.TemporaryDirectory() as folder:
            acting, out = Acting(warmup=told // 2, block=25), f"{folder}/runs"
            ts.train_online(ts.DAgger(**how, steps=told // 2), env, expert=expert, acting=acting, seeds=[seed], out=out, every=told // 2)
            seen = ts.read(f"{out}/replay/0.log.safetensors")
        return ts.train(ts.DAgger(**how, steps=3000), seen.normalised(), seeds=[seed], progress=False)[0].policy

    for told in TOLD:
        shown = [collect(expert, env, steps=told, seed=1000 * seed, greedy=True, lanes=1).normalised() for seed in range(SWINGS)]
        clones = [ts.train(ts.BC(**how, steps=3000), log, seeds=[i], progress=False)[0].policy for i, log in enumerate(shown)]
        fooled = [
            ts.train_online(ts.GAIL(**how, target_rate=0.01, steps=ACTED), env, log=log, seeds=[i], progress=False)[0].policy
            for i, log in enumerate(shown)
        ]
        found |= {f"clone {told}": returns(clones), f"dagger {told}": returns([asked(told, i) for i in range(SWINGS)])}
        found[f"gail {told}"] = returns(fooled)
    return found


# the page --------------------------------------------------------------------------------------------------------------------


def draw(results: dict) -> None:
    from topstitch.bench.pictures import ACCENT, GREY, INK, WARM, panels

    colours = {"mixture": ACCENT, "autoregressive": "#1f7a54", "latent": "#8a3ffc", "flow": "#c9a227"}
    with panels(PICTURES / "imitation-modes.png", (1.0, 1.0), (10.0, 3.8)) as (_, (left, right)):
        for one in (left, right):
            one.fill_between(GRID, truth(GRID), color=GREY, alpha=0.25, linewidth=0, label="what was done")
            one.set(xlabel="action", xlim=(-1, 1), yticks=[])
        left.plot(GRID, results["ways"]["forward"][0]["density"], color=INK, label="forward: covers both")
        for i, run in enumerate(results["ways"]["reverse"]):
            left.plot(
                GRID, run["density"], color=WARM, alpha=0.8, linewidth=1.2, label=None if i else f"reverse: seeks one ({SEEDS} seeds)"
            )
        left.set_title("One Gaussian, by either divergence", loc="left", fontsize=10.5)
        for name, colour in colours.items():
            right.plot(GRID, results["ways"][name][0]["density"], color=colour, linewidth=1.2, label=name)
        right.set_title("Heads with several modes", loc="left", fontsize=10.5)
        for one in (left, right):
            one.set_ylim(0, 5.4)
            one.legend(frameon=False, fontsize=8.5, loc="upper center")
    with panels(PICTURES / "imitation-horizon.png", (1.0,), (5.6, 3.8)) as (_, axes):
        for name, colour, label in (("clone", WARM, "clone"), ("dagger", ACCENT, "DAgger")):
            axes.loglog(HORIZONS, results["tightrope"][name], "o-", color=colour, markersize=4, label=label)
        axes.set(xlabel="horizon, steps", ylabel="expected cost", xticks=HORIZONS, xticklabels=HORIZONS)
        axes.minorticks_off()
        axes.legend(frameon=False)


def page(results: dict) -> str:
    names = {
        "forward": "`bc`, Gaussian", "reverse": "`reverse_kl`", "mixture": "`bc`, mixture", "autoregressive": "`bc`, autoregressive",
        "latent": "`vae_bc`", "flow": "`flow_bc`",
    }  # fmt: skip
    rows = [f"| {names[name]} | {run['mean']:+.2f} | {run['std']:.2f} | {run['left']:.0%} | {run['between']:.0%} |"
            for name, runs in results["ways"].items() for run in runs[: 1 if name != "reverse" else None]]  # fmt: skip
    cost = results["tightrope"]
    power = {name: np.polyfit(np.log(HORIZONS), np.log(costs), 1)[0] for name, costs in cost.items()}
    costs = [f"| {t} | {a:.3f} | {b:.3f} |" for t, a, b in zip(HORIZONS, cost["clone"], cost["dagger"])]
    nl = "\n"
    swung = results["pendulum"]
    spread = lambda x: f" ({min(x):,.0f} to {max(x):,.0f})" if len(x) > 1 else ""
    said = lambda name: f"{np.mean(swung[name]):,.0f}{spread(swung[name])}"
    swings = [f"| {told:,} | {' | '.join(said(f'{method} {told}') for method in ('clone', 'dagger', 'gail'))} |" for told in TOLD]
    return f"""# Imitation

Two examples that can be seen through, and a pendulum. All are made by `benchmarks/imitation.py`; the laws behind them are tests (`tests/laws/imitation_test.py`).

## Where practice was divided

One state, one number to choose, and two ways to choose it: {SHARES[0]:.0%} of the log near {WAYS[0]}, {SHARES[1]:.0%} near {WAYS[1]}. Cloning minimises
the forward divergence, D(practice ‖ policy), which is infinite where the policy misses what was done: a Gaussian must cover both ways, and has the
mean and the variance of the log. Its most likely action is one that nobody took. The reverse divergence, D(policy ‖ practice), is infinite where
the policy does what was never done: it settles on one way, which one depends on where it started, and forgets the other. A policy that can have
several modes need not choose.

![densities](pictures/imitation-modes.png)

*Between* is the share of draws farther than three standard deviations from either way.

| method | mean | std | left | between |
| --- | --- | --- | --- | --- |
{nl.join(rows)}

The mixture (`--head mixture`) and bins one after another (`--head autoregressive`) have a density, and can be judged by estimators that need one. What
draws (`vae_bc`, `flow_bc`, `diffusion_bc`) has none; asked for one action it answers with the middle of its draws. All of these are models of practice: what
to do of what was done is for rewards to say.

## Where errors add up

A rope; every step a foot slips with probability {SLIP}, and being on the ground costs 1 a step. The expert climbs back at once, but its own log was
made without a slip, and does not say so. The clone has never seen the ground and goes on as it does on the rope: what it loses grows with the
square of the horizon. DAgger walks by itself, falls, and asks: what it loses grows with the horizon. Costs are exact for the learned policies.

![costs by horizon](pictures/imitation-horizon.png)

| horizon | clone | DAgger |
| --- | --- | --- |
{nl.join(costs)}

The power of the horizon, fitted: {power["clone"]:.2f} and {power["dagger"]:.2f}. Ross and Bagnell 2010,
https://proceedings.mlr.press/v9/ross10a.html; Ross, Gordon and Bagnell 2011, https://arxiv.org/abs/1011.0686.

## A pendulum

Gymnasium's `Pendulum-v1`, and a controller that swings it up and holds it there: {said("expert")} an episode of 200 steps; random actions earn
{said("random")}. The clone has so many of the expert's steps. DAgger is led for half of them and asked about its own in the other half. GAIL has the
clone's steps and {ACTED:,} of its own, without rewards. Mean returns of 20 episodes, over {SWINGS} seeds (least to most), each with demonstrations of its own.

| the expert's steps | clone | DAgger | GAIL |
| --- | --- | --- | --- |
{nl.join(swings)}

In one episode the expert has hardly shown how to hold the pendulum up: its clone earns less than random actions do, and whoever may ask or act learns the
rest. With five, DAgger does in every seed what the expert does, and the clone in one of three. GAIL gets there in five of six runs, and then earns a
little more than the expert: it pays with steps of its own, and asks nobody.

```python
asked = ts.train_online(ts.DAgger(), "Hopper-v5", expert=ts.load_policy("expert.safetensors"))  # or any function of an observation
fooling = ts.train_online(ts.GAIL(), "Hopper-v5", log=demonstrations)
```

On the command line: `topstitch train dagger --env Hopper-v5 --expert runs/sac`, and `topstitch train gail --env Hopper-v5 --demonstrations FILE`.

What the expert said is kept beside what was done, in the column `expert` of the replay (`out=`): on that log, or on any with such a column,
`ts.train(ts.DAgger(), log)` goes on learning without anybody acting.

Who may not act has other ways: labels that lead back (`ccil`) from a model of the demonstrations, or weights and values, if there are rewards.
Who may act but not ask can be rewarded for being mistaken for the expert: `gail`.
"""


PARTS = {"ways": ways, "tightrope": tightrope, "pendulum": pendulum}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="names with commas; results of others are kept (default: %(default)s)")
    parser.add_argument("--page", action="store_true", help="only draw and write, from the stored results")
    options = parser.parse_args()
    from topstitch.disk import write_bytes, write_json

    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in [] if options.page else options.parts.split(","):
        results[name] = PARTS[name]()
        write_json(RESULTS, results)
    draw(results)
    write_bytes(PAGE, page(results).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
