"""Independent copies of a module."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..core import static


def split(tree, n: int):
    """Member trees of a stacked one. `lax.split` because its gradient is one concatenation, not a sum of padded parts."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [[x.squeeze(0) for x in jax.lax.split(leaf, (1,) * n)] for leaf in leaves]
    return [jax.tree.unflatten(structure, [p[i] for p in parts]) for i in range(n)]


class Ensemble(eqx.Module):
    """`n` independent copies of a module. Answers stack on a new leading axis.

    Always *stored* stacked (one structure for checkpoints, laws and `vmap`, whatever `n`), but *computed* member by
    member when there are few: XLA's CPU batched products are slower than plain ones, and a member whose answer is
    not used (`ensemble(x)[0]`) then costs nothing.
    """

    unrolled: ClassVar[int] = 4
    "Ensembles no larger than this are computed member by member."

    members: eqx.Module
    n: int = static()

    @classmethod
    def of(cls, make: Callable, n: int, *, key) -> "Ensemble":
        """`make(key=...)` once per member."""
        return cls(jax.vmap(lambda k: make(key=k))(jax.random.split(key, n)), n)

    def ask(self, question: Callable, *rows):
        """`question(member, row i of each of rows)` of every member i."""
        if self.n > self.unrolled:
            return jax.vmap(question)(self.members, *rows)
        members, rows = split(self.members, self.n), split(rows, self.n)
        return jax.tree.map(lambda *x: jnp.stack(x), *(question(member, *row) for member, row in zip(members, rows)))

    def __call__(self, *args):
        return self.ask(lambda member: member(*args))

    def every(self, obs):
        """`every` of every member: Q(s, ·) for a discrete critic."""
        return self.ask(lambda member: member.every(obs))

    def each(self, *args):
        """As a call, but member i is asked about row i of every argument."""
        return self.ask(lambda member, *row: member(*row), *args)

    def __getitem__(self, index):
        """A member, or an ensemble of those in an index array."""
        chosen = jax.tree.map(lambda x: x[index], self.members)
        return chosen if jnp.ndim(index) == 0 else Ensemble(chosen, len(index))
