"""Acting by planning in a model of tokens."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..core import Discrete, Policy, Spec, static
from .sequence import Bins, Seen, TokenModel


def columns(obs, action, reward, to_go) -> Float[Array, "*n column"]:
    """A step as numbers side by side; a numbered observation or action is one column."""
    flat = lambda x: x[..., None].astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.integer) else x
    return jnp.concatenate([flat(obs), flat(action), reward[..., None], to_go[..., None]], axis=-1)


def likely(scores: Float[Array, "*n word"], tail) -> Float[Array, "*n word"]:
    """Log-probabilities without the unlikeliest words of a joint probability below `tail`; the likeliest always stays."""
    p = jax.nn.softmax(scores, axis=-1)
    up_to = jnp.where(p[..., None, :] <= p[..., :, None], p[..., None, :], 0).sum(-1)  # cheaper than to sort
    return jnp.where((up_to >= tail) | (p == p.max(axis=-1, keepdims=True)), jnp.log(p), -jnp.inf)


class Memory(NamedTuple):
    """The last `context - 1` steps as tokens, in order from row 0, and how many there are; the step that awaits its reward."""

    past: Int[Array, "row column"]
    count: Int[Array, ""]
    last: Int[Array, " part"]
    time: Int[Array, ""]


class Beams(NamedTuple):
    """Plans side by side. `past` is what each may see besides what is common to all."""

    story: Int[Array, "beam step column"]
    past: Seen
    earned: Float[Array, " beam"]
    "The discounted rewards so far."


class Planner(Policy):
    """Beam search for the plan that promises most, anew at every step: Janner et al. 2021, https://arxiv.org/abs/2106.02039.

    Without a key the random numbers of the search are those of a fixed one.
    """

    model: TokenModel
    bins: Bins
    discount: Float[Array, ""]
    tail: Float[Array, ""]
    spec: Spec = static()
    horizon: int = static()
    beam: int = static()
    expand: int = static()
    context: int = static()
    window: int = static()

    @property
    def parts(self) -> tuple[int, int, int]:
        """Columns of an observation, of an action, and of a whole step."""
        n, a = (1 if isinstance(space, Discrete) else space.size for space in (self.spec.obs, self.spec.action))
        return n, a, n + a + 2

    def start(self):
        n, a, d = self.parts
        zero = jnp.zeros((), jnp.int32)
        return Memory(jnp.zeros((self.context - 1, d), jnp.int32), zero, jnp.zeros(n + a, jnp.int32), zero)

    def act(self, carry, obs, reward, *, mask=None, key=None):
        n, a, _ = self.parts
        carry = self.remember(carry, reward)
        seen = jnp.asarray(obs, jnp.float32)[None] if isinstance(self.spec.obs, Discrete) else obs
        seen = self.bins.tokens(seen, slice(0, n))
        key = jax.random.fold_in(jax.random.key(0), carry.time) if key is None else key
        chosen = self.plan(carry.past, carry.count, seen, mask, key=key)[0, n : n + a]
        action = chosen[0] if isinstance(self.spec.action, Discrete) else jnp.clip(self.bins.numbers(chosen, slice(n, n + a)), -1, 1)
        return action, carry._replace(last=jnp.concatenate([seen, chosen]), time=carry.time + 1)

    def remember(self, carry: Memory, reward) -> Memory:
        """The memory with the step that was taken last, now that its reward is known. Nobody sees its return to go."""
        earned = self.bins.tokens(jnp.asarray(reward, jnp.float32)[None], slice(-2, -1))
        row, rows = jnp.concatenate([carry.last, earned, jnp.zeros(1, jnp.int32)]), self.context - 1
        full = carry.count == rows
        past = jnp.where(full, jnp.roll(carry.past, -1, axis=0), carry.past).at[jnp.minimum(carry.count, rows - 1)].set(row)
        new = carry._replace(past=past, count=jnp.minimum(carry.count + 1, rows))
        return jax.tree.map(lambda new, old: jnp.where(carry.time > 0, new, old), new, carry)

    def plan(self, past: Int[Array, "row column"], count, obs: Int[Array, " obs"], mask=None, *, key) -> Int[Array, "step column"]:
        """The best of the plans that were tried, from `obs` on behind the first `count` rows of `past`."""
        n, _, d = self.parts
        model, (depth, heads, size) = self.model, self.model.body.shape
        rows = jnp.concatenate([past, jnp.zeros((1, d), jnp.int32)])
        rows = jnp.where(jnp.arange(len(rows))[:, None] < count, rows, 0).at[count, :n].set(obs)
        out, seen = model.read(rows[None])
        end, place = count * d + n, jnp.arange(rows.size)
        common, valid = jax.tree.map(lambda x: x[:, 0], seen), (place < end) & (place % d < d - 1)
        base, used = count * d, self.context  # where the present step begins; steps of the window that are taken
        scores = model.say(out[0, end - 1], n - 1)[None]
        nothing = jnp.zeros((depth, 1, 0, heads, size))
        beams = Beams(jnp.zeros((1, 0, d), jnp.int32), Seen(nothing, nothing), jnp.zeros(1))
        now = obs[None]
        for h, fresh_key in enumerate(jax.random.split(key, self.horizon)):
            twins = self.expand * (self.beam if h == 0 else 1)
            allowed = self.allowed(mask) if h == 0 else self.allowed(None).at[-1].set(True)
            step = self.choose(scores, allowed, twins, common, valid, beams.past, base, key=fresh_key)
            beams, best = self.select(beams, now, *step, h)
            if h == self.horizon - 1:
                return beams.story[best]
            if used == self.window:  # the window is full: go on from the plan's last steps alone
                used, base = self.context - 1, (self.context - 1) * d
                _, seen = model.read(beams.story[:, -used:])
                shown = jnp.array([i for i in range(used * d) if i % d < d - 1])
                beams = beams._replace(past=jax.tree.map(lambda x: x[:, :, shown], seen))
                common, valid = jax.tree.map(lambda x: x[:, :0], common), valid[:0]
            else:
                base = base + d
            used += 1
            scores, now, fresh = self.imagine(beams.story[:, -1, -1], common, valid, beams.past, base)
            beams = beams._replace(past=jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=2), beams.past, fresh))
        raise AssertionError("a plan has at least one step")

    def allowed(self, mask) -> Bool[Array, " word"]:
        """The words that say an action; the last word, the end of the episode, is none."""
        words = jnp.arange(self.model.words.shape[1])
        if not isinstance(self.spec.action, Discrete):
            return words < len(words) - 1
        legal = jnp.ones(self.spec.action.size, bool) if mask is None else mask
        return jnp.zeros(len(words), bool).at[: self.spec.action.size].set(legal)

    def choose(self, scores, allowed, twins: int, common, valid, past, base, *, key):
        """Sampled actions for every twin of every beam, and what they earn: tokens (action, reward, to go), the expected reward
        and return to go, each (beam, twin), and what later tokens may see of them."""
        n, a, d = self.parts
        model, (depth, heads, size) = self.model, self.model.body.shape
        lead = (scores.shape[0], twins)
        own = jnp.zeros((depth, *lead, a + 1, heads, size))

        def one(carry, i):
            scores, own = carry
            tried = likely(jnp.where(allowed[None, None], scores, -jnp.inf), self.tail)
            sampled = jax.random.categorical(jax.random.fold_in(key, i), tried, shape=lead)
            token = jnp.where(i < a, sampled, scores.argmax(axis=-1)).astype(jnp.int32)
            x = model.embed(token, n + i, (base + n + i)[None])
            out, own = model.body.step(x, common, valid, past, own, i)
            return (model.say(out, n + i), own), (token, self.mean(scores, n + i))

        # the first token is drawn from one distribution for all twins, later ones from their own
        first = jnp.broadcast_to(scores[:, None], (*lead, scores.shape[-1]))
        (scores, own), (tokens, means) = jax.lax.scan(one, (first, Seen(own, own)), jnp.arange(a + 1))
        tokens = jnp.concatenate([jnp.moveaxis(tokens, 0, -1), scores.argmax(axis=-1)[..., None].astype(jnp.int32)], axis=-1)
        return tokens, means[-1], self.mean(scores, d - 1), own

    def mean(self, scores, column):
        """The expectation of what the words of a column stand for; the end stands for 0."""
        return (jax.nn.softmax(scores, axis=-1)[..., :-1] * self.bins.centres[column][None, None]).sum(-1)

    def select(self, beams: Beams, now, tokens, reward, to_go, own: Seen, h: int):
        """The beams that promise most, and which of them promises most of all. Of equal plans all but one promise nothing."""
        twins = reward.shape[1]
        acts = tokens[..., :-2]
        same = (acts[:, :, None] == acts[:, None]).all(axis=-1) & jnp.tril(jnp.ones((twins, twins), bool), -1)[None]
        promised = beams.earned[:, None] + self.discount**h * to_go
        promised = jnp.where(same.any(axis=-1), -jnp.inf, promised)
        value, index = jax.lax.top_k(promised.reshape(-1), self.beam)
        parent, twin = index // twins, index % twins
        row = jnp.concatenate([now[parent], tokens[parent, twin]], axis=-1)
        story = jnp.concatenate([beams.story[parent], row[:, None]], axis=1)
        earned = beams.earned[parent] + self.discount**h * reward[parent, twin]
        past = jax.tree.map(lambda x, y: jnp.concatenate([x[:, parent], y[:, parent, twin]], axis=2), beams.past, own)
        return Beams(story, past, jnp.where(value == -jnp.inf, -jnp.inf, earned)), value.argmax()

    def imagine(self, to_go: Int[Array, " beam"], common, valid, past, base):
        """The likeliest next observation of every beam: scores of the action behind it, its tokens, and what may be seen of it."""
        n, _, d = self.parts
        model, (depth, heads, size) = self.model, self.model.body.shape
        own = jnp.zeros((depth, len(to_go), 1, n, heads, size))

        def one(carry, i):
            token, own, _ = carry
            column = jnp.where(i == 0, d - 1, i - 1)
            x = model.embed(token[:, None], column, (base - 1 + i)[None])
            out, own = model.body.step(x, common, valid, past, own, i - 1)
            scores = model.say(out[:, 0], column)
            token = scores.argmax(axis=-1).astype(jnp.int32)
            return (token, own, scores), token

        blank = jnp.zeros((len(to_go), model.words.shape[1]))
        (_, own, scores), tokens = jax.lax.scan(one, (to_go, Seen(own, own), blank), jnp.arange(n + 1))
        return scores, tokens[:n].T, jax.tree.map(lambda x: x[:, :, 0], own)
