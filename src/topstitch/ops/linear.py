"""Values in closed form."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def lstd(phi: Float[Array, "n k"], next_phi: Float[Array, "n k"], reward: Float[Array, " n"], ridge=0.0) -> Float[Array, " k"]:
    r"""The weights of least-squares temporal differences: w with $\Phi^\top (\Phi - \Phi')\, w + n \lambda w = \Phi^\top r$.

    Then $\Phi w$ is the projection of its own one-step target $r + \Phi' w$ onto the features. `next_phi`, Φ', are discounted features of
    what comes next: γ times those of the next action for LSTD-Q, of their mean under a policy that draws it, 0 where the step is terminal.
    λ is `ridge`.
    Bradtke and Barto 1996, https://doi.org/10.1007/BF00114723; Lagoudakis and Parr 2003, section 5.
    """
    n, k = phi.shape
    # in full precision also where products of matrices are rounded by default
    product = lambda a, b: jnp.matmul(a.T, b, precision="highest") / n
    return jnp.linalg.solve(product(phi, phi - next_phi) + ridge * jnp.eye(k), product(phi, reward))
