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


def put(past, new, slot):
    """The past of every beam with new keys and values from `slot` on."""
    return jax.tree.map(lambda x, y: jax.lax.dynamic_update_slice_in_dim(x, y, slot, axis=2), past, new)


class Memory(NamedTuple):
    """The last `context - 1` steps as tokens, in order from row 0, and how many there are; the step that awaits its reward."""

    past: Int[Array, "row column"]
    count: Int[Array, ""]
    last: Int[Array, " part"]
    time: Int[Array, ""]


class Beams(NamedTuple):
    """Plans side by side, the most promising one first."""

    story: Int[Array, "beam step column"]
    past: tuple[Seen, ...]
    "What each may see besides what is common to all, in the order of its tokens; none for returns to go."
    earned: Float[Array, " beam"]
    "The discounted rewards so far."
    kind: Int[Array, " beam"]
    "Beams of one number are one plan so far."


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

    @jax.jit
    def plan(self, past: Int[Array, "row column"], count, obs: Int[Array, " obs"], mask=None, *, key) -> Int[Array, "step column"]:
        """The best of the plans that were tried, from `obs` on behind the first `count` rows of `past`."""
        (n, _, d), rows = self.parts, self.context - 1
        fit = self.window - rows  # steps of a plan behind the remembered ones; then the window is full
        again = rows * (d - 1) if self.horizon > fit else 0  # slots for steps that are read afresh
        model, (depth, heads, size) = self.model, self.model.body.shape
        before = jnp.concatenate([past, jnp.zeros((1, d), jnp.int32)])
        before = jnp.where(jnp.arange(self.context)[:, None] < count, before, 0).at[count, :n].set(obs)
        out, seen = model.read(before[None])
        every = lambda x: jnp.broadcast_to(x[None], (self.beam, *x.shape))
        given = (every(model.say(out[0, count * d + n - 1], n - 1)), every(obs),
                 jax.tree.map(lambda x: every(jax.lax.dynamic_slice_in_dim(x[0], count * d, n, axis=1)), seen))  # fmt: skip
        common, place = jax.tree.map(lambda x: x[0, :, : rows * d], seen), jnp.arange(rows * d)
        empty = jnp.zeros((self.beam, heads, again + min(fit, self.horizon) * (d - 1), size))
        slots, zero = jnp.arange(empty.shape[2]), jnp.zeros(self.beam)
        story = jnp.zeros((self.beam, self.horizon, d), jnp.int32)
        beams = Beams(story, (Seen(empty, empty),) * depth, zero, zero.astype(jnp.int32))

        def window(part, beams):
            known = (part == 0) & (place < count * d) & (place % d < d - 1)
            if again:
                beams = jax.lax.cond(part == 0, lambda b: b, lambda b: self.reread(b, part * fit), beams)

            def step(h, beams):
                at = h - part * fit
                base, slot = (jnp.where(part == 0, count, rows) + at) * d, again + at * (d - 1)
                told = lambda till: (slots < till) & ((slots >= again) | (part > 0))
                last = jax.lax.dynamic_index_in_dim(beams.story, h - 1, axis=1, keepdims=False)[:, -1]
                imagine = lambda: self.imagine(last, common, known, beams.past, told(slot), base)
                scores, now, fresh = jax.lax.cond(h == 0, lambda: given, imagine)
                beams = beams._replace(past=put(beams.past, fresh, slot))
                own_key = jax.random.fold_in(key, h)
                tried = self.choose(scores, self.allowed(mask, h), common, known, beams.past, told(slot + n), base, key=own_key)
                return self.select(beams, now, *tried, h, slot)

            return jax.lax.fori_loop(part * fit, jnp.minimum((part + 1) * fit, self.horizon), step, beams)

        return jax.lax.fori_loop(0, -(-self.horizon // fit), window, beams).story[0]

    def reread(self, beams: Beams, h) -> Beams:
        """The last steps before step `h` of every plan, read as those that a window begins with."""
        d, rows = self.parts[2], self.context - 1
        _, seen = self.model.read(jax.lax.dynamic_slice_in_dim(beams.story, h - rows, rows, axis=1))
        shown = jnp.array([i for i in range(rows * d) if i % d < d - 1])
        return beams._replace(past=put(beams.past, jax.tree.map(lambda x: x[:, :, shown], seen), 0))

    def allowed(self, mask, h) -> Bool[Array, " word"]:
        """The words that say the action of step `h`; the last word, the end of the episode, is none of the first step."""
        words = jnp.arange(self.model.words.shape[1])
        count = self.spec.action.size if isinstance(self.spec.action, Discrete) else len(words) - 1
        first = words < count if mask is None else jnp.zeros(len(words), bool).at[:count].set(mask)
        return jnp.where(h == 0, first, (words < count) | (words == len(words) - 1))

    def choose(self, scores, allowed, common, known, past, told, base, *, key):
        """Sampled actions for every twin of every beam, and what they earn: tokens (action, reward, to go), the expected reward
        and return to go, each (beam, twin), and what later tokens may see of them."""
        n, a, d = self.parts
        model, (depth, heads, size) = self.model, self.model.body.shape
        lead = (self.beam, self.expand)
        own = jnp.zeros((*lead, heads, a + 1, size))

        def one(carry, i):
            scores, own = carry
            tried = likely(jnp.where(allowed[None, None], scores, -jnp.inf), self.tail)
            sampled = jax.random.categorical(jax.random.fold_in(key, i), tried)
            token = jnp.where(i < a, sampled, scores.argmax(axis=-1)).astype(jnp.int32)
            x = model.embed(token, n + i, (base + n + i)[None])
            out, own = model.body.step(x, common, known, past, told, own, i)
            return (model.say(out, n + i), own), (token, self.mean(scores, n + i))

        # the first token is drawn from one distribution for all twins, later ones from their own
        first = jnp.broadcast_to(scores[:, None], (*lead, scores.shape[-1]))
        (scores, own), (tokens, means) = jax.lax.scan(one, (first, (Seen(own, own),) * depth), jnp.arange(a + 1))
        tokens = jnp.concatenate([jnp.moveaxis(tokens, 0, -1), scores.argmax(axis=-1)[..., None].astype(jnp.int32)], axis=-1)
        return tokens, means[-1], self.mean(scores, d - 1), own

    def mean(self, scores, column):
        """The expectation of what the words of a column stand for; the end stands for 0."""
        return (jax.nn.softmax(scores, axis=-1)[..., :-1] * self.bins.centres[column][None, None]).sum(-1)

    def select(self, beams: Beams, now, tokens, reward, to_go, own, h, slot) -> Beams:
        """The plans that promise most, in order. Of equal plans all but one promise nothing."""
        n, twins = self.parts[0], self.expand
        acts, kind = tokens[..., :-2].reshape(self.beam * twins, -1), jnp.repeat(beams.kind, twins)
        same = (acts[:, None] == acts[None]).all(axis=-1) & (kind[:, None] == kind[None])
        promised = (beams.earned[:, None] + self.discount**h * to_go).reshape(-1)
        value, index = jax.lax.top_k(jnp.where(jnp.tril(same, -1).any(axis=1), -jnp.inf, promised), self.beam)
        parent, twin = index // twins, index % twins
        row = jnp.concatenate([now[parent], tokens[parent, twin]], axis=-1)
        story = jax.lax.dynamic_update_index_in_dim(beams.story[parent], row, h, axis=1)
        earned = beams.earned[parent] + self.discount**h * reward[parent, twin]
        past = put(jax.tree.map(lambda x: x[parent], beams.past), jax.tree.map(lambda x: x[parent, twin], own), slot + n)
        return Beams(story, past, jnp.where(value == -jnp.inf, -jnp.inf, earned), jnp.arange(self.beam))

    def imagine(self, to_go: Int[Array, " beam"], common, known, past, told, base):
        """The likeliest next observation of every beam: scores of the action behind it, its tokens, and what may be seen of it."""
        n, _, d = self.parts
        model, (depth, heads, size) = self.model, self.model.body.shape
        own = jnp.zeros((self.beam, 1, heads, n, size))

        def one(carry, i):
            token, own, _ = carry
            column = jnp.where(i == 0, d - 1, i - 1)
            x = model.embed(token[:, None], column, (base - 1 + i)[None])
            out, own = model.body.step(x, common, known, past, told, own, i - 1)
            scores = model.say(out[:, 0], column)
            token = scores.argmax(axis=-1).astype(jnp.int32)
            return (token, own, scores), token

        blank = jnp.zeros((self.beam, model.words.shape[1]))
        (_, own, scores), tokens = jax.lax.scan(one, (to_go, (Seen(own, own),) * depth, blank), jnp.arange(n + 1))
        return scores, tokens[:n].T, jax.tree.map(lambda x: x[:, 0], own)
