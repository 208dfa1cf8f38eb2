"""A study of an Open Bandit log: one decision an episode, made with true probabilities that the log holds.

    python examples/open_bandit.py FOLDER [CAMPAIGN] [LOGGER]       FOLDER holds random_all.csv.gz, bts_all.csv.gz, …

Data: Saito et al. 2020, https://arxiv.org/abs/2008.07146, as the package `obp` ships it. A state is a position on the page and a kind of user (the
first of four hashed features); the action is the item shown, the reward a click. The other logger's rate of clicks is printed beside the verdict.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from topstitch.cli import start_jax

start_jax()

import jax.numpy as jnp  # noqa: E402

from topstitch import nets  # noqa: E402
from topstitch.cli.run import show, written  # noqa: E402
from topstitch.data import Episodes  # noqa: E402
from topstitch.study.judging import judge  # noqa: E402
from topstitch.study.logger import learn  # noqa: E402
from topstitch.study.panel import Asked, usual  # noqa: E402
from topstitch.study.plan import Plan, Unit, Words, deal, margin_of  # noqa: E402
from topstitch.study.run import study  # noqa: E402

OTHER = {"random": "bts", "bts": "random"}


def read(folder: Path, campaign: str, logger: str) -> Episodes:
    rows = pl.read_csv(folder / f"{logger}_{campaign}.csv.gz").sort("timestamp")
    kinds, kind = np.unique(rows["user_feature_0"].to_numpy(), return_inverse=True)
    state = (rows["position"].to_numpy() - 1) * len(kinds) + kind
    ends = np.ones(len(rows), bool)
    return Episodes.of(
        state, rows["item_id"].to_numpy(), rows["click"].to_numpy(), ends, states=3 * len(kinds), actions=int(rows["item_id"].max()) + 1,
        probability=rows["propensity_score"].to_numpy(), source=f"{logger}_{campaign}.csv.gz",
    )  # fmt: skip


def judged_as_policy(other: Episodes, log: Episodes) -> str:
    """The verdict on whoever made another log, as the mean of his probabilities in each state, by this one."""
    total, count = (np.zeros((log.spec.obs.size, log.spec.action.size)) for _ in range(2))
    np.add.at(total, (other.obs, other.action), np.exp(other.log_prob))
    np.add.at(count, (other.obs, other.action), 1)
    table = total / np.maximum(count, 1) + (count == 0) * 1e-4
    plan = Plan(shares=(0.3, 0.0, 0.7), return_range=(0.0, 1.0))
    parts = deal(log, plan)
    train = log.take(parts["train"])
    policy = nets.TablePolicy(jnp.asarray(table / table.sum(axis=1, keepdims=True), jnp.float32))
    found = judge(log, parts, {"other": policy}, learn(train, train, recorded=True), plan, margin=margin_of(train, plan)[0])
    return sentence(found)


def sentence(found) -> str:
    x, unit = found.numbers, Unit("share")
    if np.isnan(x.effective):
        return f"{found.verdict.word} ({x.refused})"
    value = found.found["other"].side.value
    return (f"{found.verdict.word} ({found.verdict.code}); {unit.level(value)}, gain {unit.gain(*x.gain)}, "
            f"worth {x.effective:.0f} visits")  # fmt: skip


def main(folder: str, campaign: str = "all", logger: str = "random") -> None:
    log, other = (read(Path(folder), campaign, who) for who in (logger, OTHER[logger]))
    asked = {"iql": Asked(settings={"discount": 0.0, "hidden": (64,)}, updates=2000, why="imitates what was clicked")}
    plan = Plan(
        return_range=(0.0, 1.0),
        title=f"Open Bandit, {campaign}, {logger}",
        words=Words("visit", "visits", "recommendation", "recommendations", "click rate"),
    )
    out = Path(f"open-bandit-{campaign}-{logger}")
    told = study(log, out, plan=plan, panel=usual(log, seeds=2, updates=None, discount=1.0, asked=asked), command=" ".join(sys.argv))
    show(told, written(told, out))
    print(f"\n{OTHER[logger]} as a policy, judged by the log of {logger}: {judged_as_policy(other, log)}")
    for who, one in ((logger, log), (OTHER[logger], other)):
        rate, error = one.reward.mean(), one.reward.std() / np.sqrt(len(one))
        print(f"clicks where {who} chose: {100 * rate:.2f} % ± {100 * error:.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
