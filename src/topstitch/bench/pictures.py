"""The look that the project's pictures share, and the picture of learning curves."""

import contextlib
import io
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..disk import write_bytes

INK, GREY, ACCENT, WARM, PAPER = "#1d2126", "#858c94", "#0f5aa6", "#a1440c", "#fcfbf8"

COLOURS = {
    "bc": INK, "dqn": WARM, "td3": WARM, "sac": "#d98a3d", "iql": ACCENT, "awac": "#5fa8d3", "td3bc": "#1f7a54", "rebrac": "#76b041",
    "discrete_bcq": "#1f7a54", "cql": "#8a3ffc", "discrete_cql": "#8a3ffc", "sac_n": "#b0327a",
}  # fmt: skip
"The same method has the same colour in every picture; what has none takes the next of `OTHERS`."
OTHERS = ("#00798c", "#c9a227", "#6b4c9a", "#c4496b", "#4f5d2f", "#9a6b4c")


@contextlib.contextmanager
def panels(path: str | Path, widths: Sequence[float] = (1.35, 1.0), size: tuple[float, float] = (10.0, 3.8)):
    """(figure, its axes side by side), written to `path` as PNG when the block ends."""
    import matplotlib
    from matplotlib.figure import Figure

    look = {"font.size": 10, "axes.edgecolor": GREY, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}
    with matplotlib.rc_context(look):
        figure = Figure(figsize=size, layout="constrained", facecolor=PAPER)
        axes = figure.subplots(1, len(widths), gridspec_kw={"width_ratios": list(widths)})
        for one in np.atleast_1d(axes):
            one.set_facecolor(PAPER)
            one.spines[["top", "right"]].set_visible(False)
        yield figure, axes
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=150)
    write_bytes(path, content.getvalue())


def curves(path: str | Path, results: Sequence[dict]) -> None:
    """How well each does, beside how well it thinks it does: the results of one task, as `runner.run_cell` gives them.

    Lines are means over seeds, thin ones single seeds. Left, the dashed line is the behaviour's mean score; right, what the logged
    policy earned from a logged step on, discounted. Where beliefs leave that far behind, their axis is logarithmic beyond it.
    """
    first, other = results[0], iter(OTHERS * 10)
    with panels(path, (1.0, 1.0), (10.0, 4.4)) as (figure, (left, right)):
        highest = lowest = 0.0
        for result in results:
            colour = COLOURS.get(result["algorithm"]) or next(other)
            step = [point["step"] for point in result["curve"]]
            lines(left, step, [point["scores"] for point in result["curve"]], colour, result["algorithm"])
            believes = [point["believes"] for point in result["curve"] if point["believes"] is not None]
            if believes:
                when = [point["step"] for point in result["curve"] if point["believes"] is not None]
                said_of = [b for row in believes for b in row if b is not None]
                highest, lowest = max([highest, *map(abs, said_of)]), min([lowest, *said_of])
                lines(right, when, believes, colour, result["algorithm"])
        if (score := first["data"]["score"]) is not None:
            left.axhline(score, color=INK, lw=1, ls="--", zorder=1)
            left.annotate(
                "the log's mean", (0, score), xycoords=("axes fraction", "data"), xytext=(3, 3), textcoords="offset points", fontsize=9
            )
        known = [result["data"]["worth"] for result in results if result["data"]["worth"] is not None]
        if known:
            right.axhline(known[0], color=INK, lw=1, ls="--", zorder=1)
            said = dict(xycoords=("axes fraction", "data"), xytext=(3, 3), textcoords="offset points", fontsize=9)
            right.annotate("what the log earned", (0, known[0]), **said)
            if highest > 8 * (scale := max(1e-9, *map(abs, known))):
                right.set_yscale("symlog", linthresh=2 * scale)
                right.set_ylim(bottom=min(1.2 * lowest, -0.2 * scale))
        left.set_title("How well it does", loc="left", fontweight="bold")
        left.set_ylabel(first["unit"])
        right.set_title("How well it thinks it does", loc="left", fontweight="bold")
        right.set_ylabel("mean Q of logged actions")
        for axes in (left, right):
            axes.set_xlabel("updates")
            axes.set_xlim(left=0)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), frameon=False)


def lines(axes, step: list[int], rows: list[list], colour: str, label: str) -> None:
    """Rows of one number per seed (None: not measured), and their mean over the seeds that still learn."""
    table = np.array([[math.nan if x is None else x for x in row] for row in rows], np.float64)
    seen = ~np.isnan(table)
    count = seen.sum(axis=1)
    mean = np.divide(np.where(seen, table, 0).sum(axis=1), count, out=np.full(len(table), np.nan), where=count > 0)
    axes.plot(step, table, color=colour, lw=0.7, alpha=0.3, zorder=2)
    axes.plot(step, mean, color=colour, lw=2, label=label, marker="o" if len(step) == 1 else None, zorder=3)


def forest(path: str | Path, found: dict) -> None:
    """Estimates and their intervals, one a line under the name of their policy and in numbers beside it: `ope.Estimates.plain()`.

    The band and the dashed line are what the logger itself earned. What was refused is a strip without a point, and says so outside of the axis,
    where no place means a number. An interval that would squeeze all others ends in an arrow.
    """
    rows, logged = found["estimates"], found["logged"]
    lines = [line for policy, group in itertools.groupby(rows, lambda row: row["policy"]) for line in (policy, *group)]
    told = [row for row in rows if not row["refused"]]
    low, high = around([(row["value"], row["low"], row["high"]) for row in told], (logged["value"], logged["low"], logged["high"]))
    with panels(path, (1.0,), (8.5, 1.3 + 0.27 * len(lines))) as (_, axes):
        if logged["low"] is not None:
            axes.axvspan(logged["low"], logged["high"], color=GREY, alpha=0.25, lw=0)
        axes.axvline(logged["value"], color=INK, lw=1, ls="--")
        for y, row in enumerate(lines):
            beside = dict(x=1.02, y=y, transform=axes.get_yaxis_transform(), va="center")
            if isinstance(row, str):
                continue
            if row["refused"]:
                axes.axhspan(y - 0.4, y + 0.4, color=GREY, alpha=0.12, lw=0)
                axes.text(s="refused", style="italic", color=WARM, **beside)
                continue
            said = f"{row['value']:.4g}"
            if None not in (row["low"], row["high"]):
                said += f"  [{row['low']:.4g}, {row['high']:.4g}]"
                axes.plot([max(row["low"], low), min(row["high"], high)], [y, y], color=ACCENT, lw=2.5, solid_capstyle="butt")
                for end, mark, beyond in ((low, "<", row["low"] < low), (high, ">", row["high"] > high)):
                    if beyond:
                        axes.plot(end, y, mark, color=ACCENT, ms=7, clip_on=False)
            axes.plot(row["value"], y, "o", color=ACCENT, ms=6)
            axes.text(s=said, **beside)
        axes.set_yticks(range(len(lines)), [line if isinstance(line, str) else line["name"] for line in lines])
        for label, line in zip(axes.get_yticklabels(), lines):
            label.set_fontweight("bold" if isinstance(line, str) else "normal")
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(low, high)
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set_title(f"Return of an episode, discounted by {found['discount']:g}; {found['confidence']:.0%} intervals", loc="left")
        axes.set_xlabel("dashed: what the logger earned, and its interval")


def around(intervals: Sequence[tuple], include: Sequence[float | None]) -> tuple[float, float]:
    """Ends of an axis for (value, low, high): all values, and of intervals no more than three times their median length beyond these."""
    known = [x for x in (*include, *(value for value, _, _ in intervals)) if x is not None]
    lengths = [high - low for _, low, high in intervals if None not in (low, high)]
    room = 3 * np.median(lengths) if lengths else 0.0
    least, most = min(known) - room, max(known) + room
    known += [min(max(x, least), most) for _, *both in intervals for x in both if x is not None]
    spare = 0.04 * (max(known) - min(known)) or 0.5
    return min(known) - spare, max(known) + spare
