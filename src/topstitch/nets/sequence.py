"""A causal transformer, read whole or token by token, and the bins that turn numbers into tokens."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ..core import Box, Spec, static
from .distributions import Categorical, Delta
from .mlp import ACTIVATIONS, LayerNorm, Linear, linears

NEVER = -1e30  # the score of a token that may not be looked at


class Seen(NamedTuple):
    """Keys and values of the tokens that a block has read. The heads come before the tokens, so that a head's products are of whole
    matrices: on a CPU eight times faster than the other order."""

    key: Float[Array, "*n heads token size"]
    value: Float[Array, "*n heads token size"]


def drop(x, rate: float, key: PRNGKeyArray | None):
    """Zero a share of the entries, and scale up the others. Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html."""
    return x if key is None or rate == 0 else jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


class Block(eqx.Module):
    """Attention to the past, then two layers, each behind a norm and added to what came in."""

    before: LayerNorm
    mix: Linear
    out: Linear
    between: LayerNorm
    rise: Linear
    fall: Linear
    heads: int = static()
    activation: str = static()

    def ask(self, x: Float[Array, "*n width"]):
        """Query, key and value of every token, each (*n, heads, size)."""
        return (part.reshape(*x.shape[:-1], self.heads, -1) for part in jnp.split(self.mix(self.before(x)), 3, axis=-1))

    def add(self, x, attended, dropout: float = 0.0, key=None):
        """What comes out: the answer of attention is added to `x`, then that of the two layers."""
        ka, kl = (None, None) if key is None else jax.random.split(key)
        x = x + drop(self.out(attended.reshape(x.shape)), dropout, ka)
        return x + drop(self.fall(ACTIVATIONS[self.activation](self.rise(self.between(x)))), dropout, kl)


class GPT(eqx.Module):
    """GPT-2 without its embeddings: Radford et al. 2019, https://openai.com/index/better-language-models.

    Weights are normal with std 0.02, biases 0, as there. One block for each entry of `hidden`, all of one width.
    """

    blocks: tuple[Block, ...]
    norm: LayerNorm

    def __init__(self, hidden: tuple[int, ...], heads: int, *, key, activation="gelu"):
        width = hidden[0]
        if set(hidden) != {width} or width % heads:
            raise ValueError(f"A transformer has blocks of one width that its {heads} heads can share, but hidden={hidden}. "
                             f"Give for example hidden={(heads * 16,) * len(hidden)}.")  # fmt: skip
        drawn = 0.02 * jax.random.normal(key, (len(hidden), 12 * width, width))  # one draw: many small ones compile slowly
        linear = lambda weights, i, o: Linear(weights.reshape(i, o), jnp.zeros(o))
        make = lambda w: Block(LayerNorm(width), linear(w[: 3 * width], width, 3 * width), linear(w[3 * width : 4 * width], width, width),
                               LayerNorm(width), linear(w[4 * width : 8 * width], width, 4 * width),
                               linear(w[8 * width :], 4 * width, width), heads, activation)  # fmt: skip
        self.blocks, self.norm = tuple(make(w) for w in drawn), LayerNorm(width)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(depth, heads, size of a head)."""
        width, heads = self.norm.scale.shape[0], self.blocks[0].heads
        return len(self.blocks), heads, width // heads

    def read(self, x: Float[Array, "n token width"], hidden: Bool[Array, " token"] | None = None, *, dropout: float = 0.0, key=None):
        """Every token looks at itself and at those before it, but for the `hidden` ones, which nobody sees.

        Returns what comes out for each token, (n, token, width), and what each block has seen. `key` asks for dropout.
        """
        time = x.shape[1]
        may = jnp.tril(jnp.ones((time, time), bool))
        may = may if hidden is None else may & ~hidden[None]
        start, *keys = [None] * (len(self.blocks) + 1) if key is None else jax.random.split(key, len(self.blocks) + 1)
        x, seen = drop(x, dropout, start), []
        for block, own in zip(self.blocks, keys):
            ka, kb = (None, None) if own is None else jax.random.split(own)
            q, k, v = (jnp.swapaxes(part, 1, 2) for part in block.ask(x))
            score = jnp.einsum("nhqd,nhkd->nhqk", q, k) * q.shape[-1] ** -0.5
            weight = drop(jax.nn.softmax(jnp.where(may[None, None], score, NEVER), axis=-1), dropout, ka)
            x = block.add(x, jnp.einsum("nhqk,nhkd->nqhd", weight, v), dropout, kb)
            seen.append(Seen(k, v))
        return self.norm(x), tuple(seen)

    def step(self, x: Float[Array, "beam twin width"], common, known: Bool[Array, " token"], past, told: Bool[Array, " slot"], own, place):
        """One more token for every twin of every beam: what comes out, and `own` with the token in `place` (below 0: it is not kept).

        What may be seen lies in three parts, each a `Seen` for every block: `common` to all, (heads, token, size), where `known`; the
        `past` of a beam, (beam, heads, slot, size), where `told`; the twin's `own`, (beam, twin, heads, place, size), up to `place`.
        The same numbers as `read`.
        """
        twins, kept = range(x.shape[1]), []
        here = jnp.arange(own[0].key.shape[3]) <= place
        sizes = known.shape[0], known.shape[0] + told.shape[0]
        may = jnp.concatenate([known, told, here])
        for block, shared, before, mine in zip(self.blocks, common, past, own):
            q, k, v = block.ask(x)
            put = lambda old, new: jax.lax.dynamic_update_index_in_dim(old, new, place, axis=3)
            mine = Seen(put(mine.key, k), put(mine.value, v))
            # twin by twin: many products with a vector are faster on a CPU than as many with a matrix of two rows
            scores = [jnp.einsum("bthd,hkd->bthk", q, shared.key),
                      jnp.stack([jnp.einsum("bhd,bhkd->bhk", q[:, i], before.key) for i in twins], axis=1),
                      jnp.einsum("bthd,bthkd->bthk", q, mine.key)]  # fmt: skip
            score = jnp.concatenate(scores, axis=-1) * q.shape[-1] ** -0.5
            a, b, c = jnp.split(jax.nn.softmax(jnp.where(may[None, None, None], score, NEVER), axis=-1), sizes, axis=-1)
            answer = jnp.einsum("bthk,hkd->bthd", a, shared.value) + jnp.einsum("bthk,bthkd->bthd", c, mine.value)
            answer += jnp.stack([jnp.einsum("bhk,bhkd->bhd", b[:, i], before.value) for i in twins], axis=1)
            x = block.add(x, answer)
            kept.append(mine)
        return self.norm(x), tuple(kept)


class ReturnReader(eqx.Module):
    """(return to go, observation, action) of every step of a window -> the distribution of the action, from what came before it.

    Chen et al. 2021, https://arxiv.org/abs/2106.01345.
    """

    see_return: Linear
    see_obs: Linear
    see_action: Linear
    when: Float[Array, "longest width"]
    norm: LayerNorm
    body: GPT
    head: Linear
    spec: Spec = static()

    def __init__(self, spec: Spec, hidden: tuple[int, ...], heads: int, longest: int, *, key):
        kl, kt, kb = jax.random.split(key, 3)
        width, act = hidden[0], spec.action.size
        shapes = [(1, width), (spec.obs.size, width), (act, width), (width, act)]
        self.see_return, self.see_obs, self.see_action, self.head = linears(shapes, key=kl)
        self.when = jax.random.normal(kt, (longest, width))
        self.norm, self.body, self.spec = LayerNorm(width), GPT(hidden, heads, key=kb, activation="relu"), spec

    def __call__(self, to_go, obs, action, time, *, dropout: float = 0.0, key=None):
        """All (n, time, ...). A later step never changes what is said of an earlier one."""
        when = self.when[jnp.minimum(time, len(self.when) - 1)]
        parts = [self.see_return(to_go[..., None]), self.see_obs(obs), self.see_action(action)]
        tokens = self.norm(jnp.stack([part + when for part in parts], axis=2))  # n, time, kind, width
        n, time, kinds, width = tokens.shape
        out, _ = self.body.read(tokens.reshape(n, time * kinds, width), dropout=dropout, key=key)
        said = self.head(out.reshape(tokens.shape)[:, :, 1])
        return Delta(jnp.tanh(said)) if isinstance(self.spec.action, Box) else Categorical(said)


class TokenModel(eqx.Module):
    """Tokens of steps, column by column -> the distribution of the next one.

    Nobody sees tokens of the last column (an estimate of the return to go): Janner et al. 2021, https://arxiv.org/abs/2106.02039.
    """

    words: Float[Array, "column words width"]
    place: Float[Array, "token width"]
    body: GPT
    heads: Float[Array, "column width words"]
    "Row i reads, behind a token of column i, the one of the next column."

    def __init__(self, columns: int, words: int, steps: int, hidden: tuple[int, ...], heads: int, *, key):
        kw, kh, kb = jax.random.split(key, 3)
        width = hidden[0]
        self.words = 0.02 * jax.random.normal(kw, (columns, words, width))
        self.place = jnp.zeros((steps * columns, width))
        self.body = GPT(hidden, heads, key=kb)
        self.heads = jax.random.uniform(kh, (columns, width, words), minval=-1, maxval=1) * width**-0.5

    @property
    def columns(self) -> int:
        return self.words.shape[0]

    def embed(self, token: Int[Array, "*n"], column, place) -> Float[Array, "*n width"]:
        """One token a row, or tokens of several columns and places along the last axis."""
        here = self.place[place]
        return self.words[column, token] + jnp.expand_dims(here, tuple(range(token.ndim + 1 - here.ndim)))

    def read(self, tokens: Int[Array, "n step column"], *, dropout: float = 0.0, key=None):
        """What comes out behind every token, (n, step * column, width), and what each block has seen of it."""
        n, steps, columns = tokens.shape
        place = jnp.arange(steps * columns)
        column = place % columns
        x = self.embed(tokens.reshape(n, -1), column[None], place)
        return self.body.read(x, column == columns - 1, dropout=dropout, key=key)

    def say(self, out: Float[Array, "*n width"], column) -> Float[Array, "*n words"]:
        """Scores of the token behind one of `column`."""
        return out @ self.heads[column]

    def __call__(self, tokens: Int[Array, "n step column"], *, dropout: float = 0.0, key=None) -> Float[Array, "n step column words"]:
        """Scores of the token behind each; a later token never changes what is said behind an earlier one."""
        out, _ = self.read(tokens, dropout=dropout, key=key)
        return jnp.einsum("nscw,cwv->nscv", out.reshape(*tokens.shape, -1), self.heads)


class Bins(eqx.Module):
    """Numbers as tokens, column by column, and back."""

    edges: Float[Array, "column edge"]
    centres: Float[Array, "column bin"]
    "What a token stands for: the mean of the numbers in its bin; the middle of an empty bin."

    @classmethod
    def fit(cls, x: Float[Array, "n column"], bins: int, quantile: bool) -> "Bins":
        """Bins that hold about as many rows each, or that are equally wide."""
        even = jnp.linspace(0, 1, bins + 1)
        low, high = x.min(axis=0), x.max(axis=0)
        edges = jnp.quantile(x, even, axis=0).T if quantile else low[:, None] + (high - low)[:, None] * even[None]
        edges = edges.at[:, -1].set(high)
        middles = cls(edges, (edges[:, :-1] + edges[:, 1:]) / 2)
        tokens = middles.tokens(x)
        offset = x - middles.numbers(tokens)  # sums of what is left are more exact than those of large numbers
        total, count = jax.vmap(lambda t, y: (jnp.zeros(bins).at[t].add(y), jnp.zeros(bins).at[t].add(1.0)), in_axes=1)(tokens, offset)
        centres = middles.centres + total / jnp.maximum(count, 1)
        return cls(edges, jnp.clip(centres, edges[:, :-1], edges[:, 1:]))

    @classmethod
    def whole(cls, bins: int) -> "Bins":
        """One column of the integers 0 .. bins - 1, each its own token."""
        return cls(jnp.arange(bins + 1.0)[None] - 0.5, jnp.arange(float(bins))[None])

    def tokens(self, x: Float[Array, "*n column"], columns: slice = slice(None)) -> Int[Array, "*n column"]:
        """The last bin whose lower edge is not above the number; numbers outside go to the first or the last bin."""
        edges = self.edges[columns, 1:-1]
        place = jax.vmap(lambda e, y: jnp.searchsorted(e, y, side="right"), in_axes=(0, -1), out_axes=-1)
        return place(edges, x).astype(jnp.int32)

    def numbers(self, tokens: Int[Array, "*n column"], columns: slice = slice(None)) -> Float[Array, "*n column"]:
        """What the tokens stand for."""
        read = jax.vmap(lambda c, t: c[t], in_axes=(0, -1), out_axes=-1)
        return read(self.centres[columns], tokens)
