"""Distribution or support: which constraints let a policy leave a bad habit and keep it from what nobody did. The picture and the page.

    python benchmarks/constraints.py    # about a minute: docs/pictures/constraints-line.png and docs/constraints.md

The world, `worlds.baited_line`, is small enough that what each learned policy is worth is computed exactly.
"""

from pathlib import Path

import jax
import numpy as np

import topstitch as ts
from topstitch.bench.pictures import ACCENT, GREY, INK, WARM, panels
from topstitch.data.device import Transitions
from topstitch.disk import write_bytes
from topstitch.loop import train, unstack
from topstitch.worlds import baited_line, sample, table

HERE = Path(__file__).resolve().parent
PAGE, PICTURE = HERE.parent / "docs/constraints.md", HERE.parent / "docs/pictures/constraints-line.png"
CELLS, DISCOUNT, SEEDS = 5, 0.8, 3
HOW = dict(hidden=(), batch_size=1, discount=DISCOUNT, target_rate=0.5, lr=0.002, steps=4000)
MODEL = dict(HOW, behaviour_steps=4000)
ALPHAS = (2.0, 1.0, 0.5, 0.25, 0.1, 0.05, 0.025, 0.01, 0.005)

PREFACE = """The logger of a line of five cells walks left three times in four. The goal is at the right end, each step costs 0.1, and there is a third
action, which nobody ever took: off the line at a cost of 1. What the log says is plain (`worlds.baited_line`, after Kumar et al. 2019,
https://arxiv.org/abs/1906.00949): always go right. Of methods that keep a policy near the logger, those that compare *distributions* cannot find
it. Going right diverges from the logger by log 4 = 1.39 nats in every cell, so that no closer policy does; and a price low enough to be
paid for that buys as well what nobody did, of which any guess looks better than a long walk. Methods that only keep to the *support* of the log,
what was done at all or often enough, have nothing to trade.

![The chance of going right by cell, and what is earned by the price of divergence](pictures/constraints-line.png)

What is earned is the exact value of the learned policy, from 0, the logger's, to 1, the best there is; the mean of {seeds} seeds, which
differ in the values that learning begins with.

| method | earned | goes right | does what nobody did |
| --- | --- | --- | --- |
{rows}

KL-control here stands for all that pay for a divergence (BRAC, one-step RL with a KL, and in the limit of a hard bound any trust region about
behaviour). Being good at one α is luck: which one it is depends on how long the walk is. One-step RL and the best of N draws stay within support
by drawing from a model of behaviour, and are as good as that model: each of N = 32 draws does what nobody did as often as the model believes. Batch
constraint with a threshold, and tables that know what was counted, exclude it. Where practice is rightly rare below the threshold, that fails
instead: `minority` among the [probes](probes.md). `tests/laws/constraints_test.py` holds this, and that each method is at its exact fixed point.
"""


class Whole(Transitions):
    """Every batch is the whole log."""

    def draw(self, n, *, key):
        return self.all


def methods() -> dict:
    said = {f"KL-control, α = {a:g}": ts.KLControl(alpha=a, critics=1, **MODEL) for a in ALPHAS}
    return said | {
        "one-step RL, best of 32": ts.OneStep(improvement="best", candidates=32, value_steps=4000, **MODEL),
        "EMaQ, N = 1": ts.EMaQ(candidates=1, critics=1, behaviour_hidden=(), **MODEL),
        "EMaQ, N = 4": ts.EMaQ(candidates=4, critics=1, behaviour_hidden=(), **MODEL),
        "EMaQ, N = 32": ts.EMaQ(candidates=32, critics=1, behaviour_hidden=(), **MODEL),
        "batch constraint, τ = 0.15": ts.DiscreteBCQ(threshold=0.15, **HOW),
        "SPIBB, N = 10": ts.SPIBB(threshold=10.0, discount=DISCOUNT, steps=200),
        "double DQN": ts.DQN(double=True, **HOW),
    }


def learned(algorithm, log) -> np.ndarray:
    """(seeds, cells, actions): what it does."""
    data = algorithm.prepare(log)
    if isinstance(data, Transitions):
        data = Whole(data.all, data.view, data.spec)
    out = train([(algorithm, seed) for seed in range(SEEDS)], data, every=100_000)
    world = baited_line(CELLS).mdp
    said = [np.asarray(table(algorithm.policy(state), world), np.float64) for state in unstack(out.states, SEEDS)]
    return np.stack([p / p.sum(axis=1, keepdims=True) for p in said])


def draw(found: dict, share) -> None:
    with panels(PICTURE, (1.0, 1.0), (10.0, 4.0)) as (_, (left, right)):
        cells = np.arange(1, CELLS + 1)
        left.axhline(0.25, color=INK, lw=1, ls="--")
        left.annotate("the logger", (1, 0.25), xytext=(3, 3), textcoords="offset points", fontsize=9)
        shown = {"KL-control, α = 0.5": WARM, "KL-control, α = 0.05": "#d98a3d", "EMaQ, N = 4": "#5fa8d3", "EMaQ, N = 32": ACCENT,
                 "batch constraint, τ = 0.15": "#1f7a54"}  # fmt: skip
        for name, colour in shown.items():
            left.plot(cells, found[name][:, :CELLS, 1].mean(axis=0), color=colour, lw=2, marker="o", ms=4, label=name)
        left.set(xlabel="cell (the goal is behind the last)", ylabel="chance of going right", ylim=(-0.03, 1.03), xticks=cells)
        left.set_title("What is done", loc="left", fontweight="bold")
        left.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(0.0, 0.62))
        curve = [share(found[f"KL-control, α = {a:g}"]).mean() for a in ALPHAS]
        right.plot(ALPHAS, curve, color=WARM, lw=2, marker="o", ms=4)
        right.annotate("KL-control", (ALPHAS[2], curve[2]), xytext=(6, 6), textcoords="offset points", color=WARM, fontsize=9)
        for name, colour in (("batch constraint, τ = 0.15", "#1f7a54"), ("EMaQ, N = 32", ACCENT), ("double DQN", GREY)):
            level = share(found[name]).mean()
            right.axhline(level, color=colour, lw=1.5, ls="-" if name != "double DQN" else ":")
            right.annotate(name, (ALPHAS[0], level), xytext=(0, 3), textcoords="offset points", color=colour, fontsize=9, ha="right")
        right.set(xscale="log", xlabel="α: the price of divergence (from far to near)", ylabel="earned, of what there is to gain")
        right.set_title("What it earns", loc="left", fontweight="bold")


def main():
    world, behaviour = baited_line(CELLS)
    log = sample(world, behaviour, 150, horizon=8, key=jax.random.key(0))
    best, level = world.performance(world.optimum(DISCOUNT).policy, DISCOUNT), world.performance(behaviour, DISCOUNT)
    share = lambda probs: (world.performance(probs, DISCOUNT) - level) / (best - level)
    found = {name: learned(algorithm, log) for name, algorithm in methods().items()}
    draw(found, share)
    does = lambda probs, action: probs[:, :CELLS, action].mean()
    rows = [f"| {name} | {share(p).mean():.2f} | {does(p, 1):.0%} | {does(p, 2):.1%} |" for name, p in found.items()]
    text = [
        "# Distribution or support",
        "",
        "<!-- generated by benchmarks/constraints.py -->",
        "",
        PREFACE.format(rows="\n".join(rows), seeds=SEEDS),
    ]
    write_bytes(PAGE, "\n".join(text).encode())
    print("\n".join(rows))


if __name__ == "__main__":
    main()
