"""Regression forests: grown on the host, asked on the device."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core import Spec, static
from .mlp import vector


class Forest(eqx.Module):
    """Trees as flat arrays, padded to one number of nodes. A leaf is its own child, so that walking on from it stays there."""

    feature: Int[Array, "tree node"]
    threshold: Float[Array, "tree node"]
    left: Int[Array, "tree node"]
    right: Int[Array, "tree node"]
    value: Float[Array, "tree node"]
    depth: Int[Array, ""]
    "Of the deepest tree."

    @staticmethod
    def nodes(rows: int, min_leaf: int) -> int:
        """How many nodes a tree over so many rows can have, with at least `min_leaf` of them in every leaf."""
        return 2 * max(1, rows // min_leaf) - 1

    @classmethod
    def zero(cls, trees: int, nodes: int) -> "Forest":
        """Answers 0 everywhere."""
        i, f = jnp.zeros((trees, nodes), jnp.int32), jnp.zeros((trees, nodes))
        return cls(i, f, i, i, f, jnp.zeros((), jnp.int32))

    @classmethod
    def of(cls, fitted, nodes: int) -> "Forest":
        """From a fitted forest of scikit-learn, padded to `nodes`."""
        trees = [estimator.tree_ for estimator in fitted.estimators_]
        columns = [np.zeros((len(trees), nodes), kind) for kind in ("i4", "f4", "i4", "i4", "f4")]
        for i, tree in enumerate(trees):
            own, leaf = np.arange(tree.node_count), tree.children_left < 0
            cut = tree.threshold.astype("f4")  # rows in float32 meet thresholds in float64: rounded down, none changes its side
            cut = np.where(cut > tree.threshold, np.nextafter(cut, np.float32(-np.inf)), cut)
            left, right = np.where(leaf, own, tree.children_left), np.where(leaf, own, tree.children_right)
            for column, x in zip(columns, (np.maximum(tree.feature, 0), cut, left, right, tree.value[:, 0, 0])):
                column[i, : tree.node_count] = x
        return cls(*map(jnp.asarray, columns), jnp.asarray(max(tree.max_depth for tree in trees), jnp.int32))

    def __call__(self, x: Float[Array, "*batch features"]) -> Float[Array, "*batch"]:
        """The mean over trees."""

        def fall(row, feature, threshold, left, right, value):
            down = lambda _, node: jnp.where(row[feature[node]] <= threshold[node], left[node], right[node])
            return value[jax.lax.fori_loop(0, self.depth, down, jnp.int32(0))]

        trees = (self.feature, self.threshold, self.left, self.right, self.value)
        ask = lambda row: jax.vmap(lambda *tree: fall(row, *tree))(*trees).mean()
        return jax.vmap(ask)(x.reshape(-1, x.shape[-1])).reshape(x.shape[:-1])


class ForestQ(eqx.Module):
    """Q(s, a) of a discrete action: one forest over observations (one-hot if these are numbers), the action's number behind them."""

    forest: Forest
    spec: Spec = static()

    def inputs(self, obs, action) -> Float[Array, "*n features"]:
        return jnp.concatenate([vector(obs, self.spec.obs), action[..., None].astype(jnp.float32)], axis=-1)

    def every(self, obs):
        seen = vector(obs, self.spec.obs)
        each = [
            self.forest(jnp.concatenate([seen, jnp.full((*seen.shape[:-1], 1), float(a))], axis=-1)) for a in range(self.spec.action.size)
        ]
        return jnp.stack(each, axis=-1)

    def __call__(self, obs, action):
        return self.forest(self.inputs(obs, action))
