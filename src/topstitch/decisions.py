"""What a saved policy would do, in the words of the table that it learned from."""

import os
import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from .core import Discrete, Markov, Policy
from .data import BadData
from .data.codec import Codec
from .disk import BadFile
from .store import find_policy, load_policy, policy_about

AT_ONCE = 4096
"Rows that a policy is asked about together."


def decide(
    policy: str | os.PathLike | Policy,
    rows: Any,
    *,
    codec: Codec | None = None,
    draw: int | None = None,
    separator: str | None = None,
    encoding: str = "utf-8",
) -> pl.DataFrame:
    """A decision for every row of a table, in the order of its rows and in the table's own words.

    `policy` is the folder of a run, the file of a policy, or a policy with the `codec` of its log (`log.codec`). `rows` is whatever holds
    raw rows as they were imported: a path (.csv .tsv .parquet .arrow …), or a Polars, pandas or pyarrow table; it needs the observed
    columns, those of the mask if there were any, and, where empty cells are filled from earlier rows, those that name and order episodes.

    Answers with the columns that name the row (episode and time, where they are there), those of the decision, and `probability`: that of
    the decision under the policy, where decisions are choices. The likeliest is taken; or, with a seed `draw`, one is drawn by the policy's
    probabilities: that is the policy which estimates and studies judge. Raises `BadData` with the column and row of a cell that
    the policy cannot be asked about, such as a category that it never saw.
    """
    from .data.cells import clean
    from .data.intake.sources import hint, parts

    if isinstance(policy, (str, os.PathLike)):
        path = find_policy(policy)
        codec = codec or codec_of(path)
        policy = load_policy(path)
    if codec is None:
        raise BadData("A policy decides in the words of a table only if its codec is known. Give codec=log.codec, or the folder of a run on imported data.")  # fmt: skip
    if not isinstance(policy, Markov):
        raise BadData("This policy remembers what came before, and cannot be asked about single rows. Use it by `policy.act`.")
    given = rows if not isinstance(rows, (str, os.PathLike)) else Path(rows)
    part, *more = parts(given, query=None, separator=separator, encoding=encoding, memory=1 << 28, scratch=Path())
    if more:
        raise BadData(f"{rows} holds {1 + len(more)} tables; decisions are made for the rows of one. Name one.")
    wanted = list(dict.fromkeys([*(column.name for column in codec.obs), *codec.mask]))
    if lacking := [name for name in wanted if name not in part.names]:
        raise BadData(f"{part.name}: there is no column {', '.join(map(repr, lacking[:8]))}, which the policy looks at. It needs {', '.join(wanted[:20])}"
                      f"{' …' if len(wanted) > 20 else ''}.{hint(part.names)}")  # fmt: skip
    called = [name for name in (*codec.episode, codec.time) if name in part.names]
    frames = [frame for frame, _ in part.read(list(dict.fromkeys([*wanted, *called])), 1 << 24)]
    if not sum(frame.height for frame in frames):
        raise BadData(f"{part.name}: expected at least one row, but there is none.")
    frame = clean(pl.concat(frames), codec.na)

    def fail(column: str, row: int, text: str):
        raise BadData(f"{part.name}: column {column!r}, {part.place(int(place[row]))}: {text}")

    place, episode = _in_order(frame, codec)
    ordered = frame[place]
    obs, _ = codec.observe(ordered, fail, episode)
    allowed = codec.allowed(ordered, fail)
    if allowed is not None and allowed[1].any():
        row, member = np.argwhere(allowed[1])[0]
        fail(codec.mask[member], int(row), "expected true or false, found an empty cell. Fill it in.")
    action, probability = ask(policy, obs, None if allowed is None else allowed[0], draw)
    back = np.argsort(place)
    decided = codec.decode(action[back])
    if probability is not None and "probability" not in decided.columns:
        decided = decided.with_columns(pl.Series("probability", probability[back]))
    named = frame.select(called) if called else frame.select(pl.int_range(1, frame.height + 1).alias("row"))
    return named.select(name for name in named.columns if name not in decided.columns).hstack(decided)


def ask(policy: Markov, obs: np.ndarray, allowed: np.ndarray | None, draw: int | None) -> tuple[np.ndarray, np.ndarray | None]:
    """(the likeliest action of each row, or one drawn with a seed; its probability where actions are a `Discrete`)."""
    discrete = not hasattr(policy, "spec") or isinstance(policy.spec.action, Discrete)
    actions, logs = [], []
    for start in range(0, len(obs), AT_ONCE):
        rows = np.minimum(np.arange(start, start + AT_ONCE), len(obs) - 1) if len(obs) > AT_ONCE else np.arange(len(obs))  # one shape
        key = None if draw is None else jax.random.fold_in(jax.random.key(draw), start)
        action, log = _answer(policy, jnp.asarray(obs[rows]), None if allowed is None else jnp.asarray(allowed[rows]), key)
        left = min(AT_ONCE, len(obs) - start)
        actions.append(np.asarray(action)[:left])
        logs.append(None if log is None else np.asarray(log)[:left])
    known = discrete and logs[0] is not None and np.isfinite(logs[0]).all()
    return np.concatenate(actions), np.exp(np.concatenate(logs)) if known else None


@eqx.filter_jit
def _answer(policy: Markov, obs, mask, key):
    said = policy(obs, mask)
    action = said.mode() if key is None else said.sample(key)
    return action, said.log_prob(action) if hasattr(said, "log_prob") else None


def codec_of(path: str | os.PathLike) -> Codec:
    """The codec that was saved with a policy."""
    about = policy_about(path)
    plain = about.get("codec") or (about.get("data") or {}).get("codec")
    if plain is None:
        raise BadFile(
            f"{path} was not learned from an imported table, so it has no words to answer in. Call the policy with observations instead."
        )
    try:
        return Codec.of(plain)
    except (ValueError, TypeError, KeyError) as error:
        raise BadFile(f"{path} has a codec that this version of topstitch cannot read ({error!r}).") from None


def _in_order(frame: pl.DataFrame, codec: Codec) -> tuple[np.ndarray, np.ndarray]:
    """(row numbers by episode and time, the number of the episode of each). Rows are episodes of their own where nothing tells."""
    from .data.cells import dated, parsed, words

    needed = any(column.missing == "forward-fill" for column in codec.obs)
    names = [column for column in codec.episode if column in frame.columns]
    if not needed or not names or len(names) < len(codec.episode):
        return np.arange(frame.height), np.arange(frame.height)
    columns = [words(frame[column], lambda *_: None).fill_null("").alias(f"{j}") for j, column in enumerate(names)]  # pyright: ignore
    episode = pl.DataFrame(columns).select(pl.concat_str(pl.all(), separator="/")).to_series().rank("dense").to_numpy()
    time = np.arange(frame.height)
    if codec.time in frame.columns:
        cells = frame[codec.time]
        if cells.dtype == pl.String:
            numbers = parsed(cells)
            cells = numbers if numbers.null_count() == cells.null_count() else dated(cells)
        time = cells.rank("dense").fill_null(0).to_numpy()
    place = np.lexsort((np.arange(frame.height), time, episode))
    return place, episode[place].astype(np.int64)


def safe(frame: pl.DataFrame) -> pl.DataFrame:
    """For CSV files that spreadsheets open: texts, and names of columns, that these would run as formulas get a ' before them; numbers do not.
    https://owasp.org/www-community/attacks/CSV_Injection"""
    runs = r"^[=+\-@\t\r]"
    risky = lambda text: text.str.contains(runs) & text.cast(pl.Float64, strict=False).is_null()
    texts = [pl.col(name) for name, kind in frame.schema.items() if kind == pl.String]
    frame = frame.with_columns([pl.when(risky(text)).then("'" + text).otherwise(text).name.keep() for text in texts])
    return frame.rename({name: f"'{name}" for name in frame.columns if re.match(runs, name)})
