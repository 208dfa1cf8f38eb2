r"""Marginal importance sampling: one weight for a step, how much more often the policy comes by than the log,

$$ w(s, a) = d^\pi(s, a) / d^D(s, a), \qquad d^\pi = (1 - \gamma) \sum_t \gamma^t P_\pi(s_t, a_t), \qquad
   \hat v(\pi) = \tfrac{1}{1 - \gamma} E_D[w\, r], $$

instead of a product of ratios that grows with the horizon. The weights follow from the flow: what arrives equals what leaves,

$$ E_D\big[w(s, a)\, (f(s, a) - \gamma\, (1 - \mathrm{terminal})\, E_{a' \sim \pi} f(s', a'))\big] = (1 - \gamma)\, E_{s_0} E_{a \sim \pi} f(s_0, a)
   \quad \text{for all } f. $$

With w = φᵀα and f in the span of the same features that is a linear system, $A^\top \alpha = (1 - \gamma)\, \bar\varphi_0$, whose matrix is
that of LSTD-Q; all methods of the family are ways to solve it, alike where it has one solution and different where it has not.

In episodic logs nothing happens behind the end, so weights average to $1 - E_\pi[\gamma^{\text{length}}]$ rather than to 1. The right
statement comes from f = 1, $E_D[w\, (1 - \gamma (1 - \mathrm{terminal}))] = 1 - \gamma$; it is what "normalised" means here. At
discount 1 the factor 1 - γ is left out: w counts visits of episodes that end.

MQL, the other half of that paper, finds q instead; with linear functions it is LSTD-Q, `fqe.lstdq`, and says what MWL says with the same
features. No probability of the logger is needed, but for state versions. A pair that the policy visits and the log never holds has no weight: its
mass, and all that would have followed, is lost; `Marginal.mass` says how much is left of 1.

Sources: MWL and MQL: Uehara, Huang & Jiang 2020, https://arxiv.org/abs/1910.12809. DualDICE: Nachum et al. 2019,
https://arxiv.org/abs/1906.04733. GenDICE: Zhang et al. 2020, https://arxiv.org/abs/2002.09072. GradientDICE: Zhang, Liu & Whiteson 2020,
https://arxiv.org/abs/2001.11113. BestDICE: Yang et al. 2020, https://arxiv.org/abs/2007.03438, code https://github.com/google-research/dice_rl.
State weights: Liu et al. 2018, https://arxiv.org/abs/1810.12429. By time: Xie, Ma & Wang 2019, https://arxiv.org/abs/1906.03393.
Double reinforcement learning: Kallus & Uehara 2022, https://arxiv.org/abs/1909.05850.

Differs from the authors' code in: closed forms instead of stochastic saddle points; normalisation with the end of episodes, which that code
avoids by letting episodes start again; pairs outside the log count as lost instead of being given a weight by a small regulariser.
"""

import dataclasses
import warnings
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.sparse

from ..core import Discrete, Markov, Spec
from ..data import Episodes
from .beliefs import seen_standardised
from .fqe import basis, linear_rows
from .fqe import solve as equations
from .select import following
from .sums import Sums
from .table import Refused, Values, table

Method = Literal["mwl", "dualdice", "gradientdice", "gendice", "bestdice", "state", "time"]
Kind = Literal["polynomial", "radial"]
DENSE = 2000
"More features than this are solved for only where the system is sparse and square."
HARD = 1e8
"A weight of the normalisation at which it counts as a constraint."
NO_SOLUTION = ("the flow equations have no single solution: features of logged pairs are dependent, or at discount 1 the policy stays in the log for "
               "ever. Raise ridge above 0, lower degree or centres, or use 'gradientdice'.")  # fmt: skip
FAINT = 1e-13
"A weight of the terms that only choose among solutions."


class Flow(NamedTuple):
    """The flow equations of a policy and rows, linear in features. Rows may be weighted, so a whole world fits as well as a sample."""

    phi: np.ndarray | scipy.sparse.csr_array
    "(n, k): features of where a row is."
    then: np.ndarray | scipy.sparse.csr_array
    "(n, k): γ^Δt times their mean where the policy goes from there, 0 where the row is terminal; for state weights times π / μ."
    start: np.ndarray
    "(k,): their mean where the policy begins."
    reward: np.ndarray
    on: np.ndarray
    "(n,): what `then` is for the feature that is 1 everywhere."
    share: np.ndarray
    "(n,): the weight of each row, 1 in all."
    discount: float

    @property
    def scale(self) -> float:
        """1 - γ; at discount 1, where weights are visits, 1."""
        return 1.0 if self.discount == 1 else 1 - self.discount

    @property
    def normal(self) -> np.ndarray:
        """(n,): what weights average to 1 against: 1 in worlds without an end."""
        return (1 - self.on) / self.scale

    def system(self) -> np.ndarray | scipy.sparse.csr_array:
        """A = E_D[φ (φ - γ φ')ᵀ], (k, k)."""
        return (self.phi.T * self.share) @ (self.phi - self.then)

    def mean(self, x: np.ndarray) -> np.ndarray:
        """E_D[φ x], (k,)."""
        return self.phi.T @ (self.share * x)


class Marginal(NamedTuple):
    """What marginal weights say a policy is worth."""

    sums: Sums
    "Over episodes; its `value` is the estimate and its `contributions` are what intervals are made of: those take the weights as given."
    weights: np.ndarray
    "(steps,)."
    mass: float
    "How much of the policy's visits the log can tell of; less than 1 is lost outside of it (or misfitted)."
    effective: float
    "Kish's (Σ W)² / Σ W² of what episodes weigh, W = Σ_t w n, n being what weights average to 1 against: all of them for the logger's own weights."

    @property
    def value(self) -> float:
        return self.sums.value


def estimate(
    policy: Markov, log: Episodes, *, discount: float, method: Method = "mwl", values: Values | None = None, normalise: bool = False,
    features: Kind = "polynomial", degree: int = 2, centres: int = 100, ridge: float = 1e-9, penalty: float = 1.0,
    behaviour: np.ndarray | None = None, seed: int = 0,
) -> Marginal:  # fmt: skip
    """The value of a Markov policy, in raw rewards, by the weights of `method` (see `ratios`).

    With `values` doubly robust: E[v(s_0)] + E_D[w (r + γ v(s') - q(s, a))] / (1 - γ), right if either weights or values are.
    `normalise` divides by what the weights average to, which should be 1; not together with `values`.
    """
    w, normal = _weights(policy, log, discount, method, features, degree, centres, ridge, penalty, behaviour, seed)
    return summed(log, w, normal, discount, values, normalise)


def summed(log: Episodes, w: np.ndarray, normal: np.ndarray, discount: float, values: Values | None, normalise: bool) -> Marginal:
    """The estimate that weights (steps,) make; `normal` (steps,) is what they average to 1 against."""
    if values is not None and normalise:
        raise ValueError("give `values` or `normalise`: corrections of values must not be divided by the mass of the weights.")
    scale, per_episode = (1.0 if discount == 1 else 1 - discount), len(log) / log.steps
    episodes = lambda x: np.add.reduceat(x, log.starts)
    weight = episodes(w * normal)
    mass, square = float(weight.sum() / log.steps), float((weight**2).sum())
    known = dict(weights=w, mass=mass, effective=float(weight.sum() ** 2 / square) if square else 0.0)
    earned, ones = log.reward.astype(np.float64), np.ones((len(log), 1))
    if values is None:
        top = episodes(w * earned) * per_episode / scale
        return Marginal(Sums(top[:, None], weight[:, None] * per_episode if normalise else ones), **known)
    gap = earned + log.discount(discount) * following(log, values) - values.q
    return Marginal(Sums((values.v[log.starts] + episodes(w * gap) * per_episode / scale)[:, None], ones), **known)


def ratios(
    policy: Markov, log: Episodes, *, discount: float, method: Method = "mwl", features: Kind = "polynomial", degree: int = 2,
    centres: int = 100, ridge: float = 1e-9, penalty: float = 1.0, behaviour: np.ndarray | None = None, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    r"""(steps,) float64: the weight of each logged step.

    - "mwl": A solved as it is, as the minimax loss is zero there. Numbered states and actions have a feature for each logged pair, and the
      weights are exact in the world that the log describes. Else polynomials of `degree`, or `centres` radial features.
    - "dualdice": the least violation of the flow, in the norm of the features; that of "mwl" where A is regular.
    - "gradientdice": the same plus `penalty` times that of the normalisation: twice $\max_{f, u}$ of
      $E_D[w (\gamma f' - f)] + (1 - \gamma) E f(s_0, a) - \tfrac12 E_D f^2 + \lambda (u (E_D w - 1) - \tfrac12 u^2)$, λ being 1 in the paper.
    - "gendice": the violation as a χ² divergence ($-\tfrac14 E_D[w f^2]$ in the place of $-\tfrac12 E_D f^2$), plus the penalty, over weights that
      are not negative; numbered states or radial features only.
    - "bestdice": the configuration that Yang et al. recommend: normalised, not negative (numbered states and actions only: of other features
      coefficients that are not negative would be a much smaller class), and of all solutions that which a square of w and the reward choose.
    - "state": weights of states times π / μ, from the log's own probabilities or `behaviour` (steps,), logarithms.
    - "time": the same by time step, numbered states only, the estimator of Xie et al.; for finite horizons.

    Raises `Refused` where there is no solution, or the log lacks what a method needs.
    """
    return _weights(policy, log, discount, method, features, degree, centres, ridge, penalty, behaviour, seed)[0]


def _weights(policy, log, discount, method, features, degree, centres, ridge, penalty, behaviour, seed):
    """(weights, what they average to 1 against), (steps,) each."""
    if not 0 <= discount <= 1:
        raise ValueError(f"the discount is {discount}; expected a number from 0 to 1.")
    if discount == 1 and log.truncated.any():
        raise Refused("at discount 1 weights count the visits of whole episodes, but some episodes of this log are cut off, so what is cut off "
                      "would be thought to go on for ever. Use a discount below 1.")  # fmt: skip
    log = seen_standardised(log)
    if method in ("state", "time"):
        known = table(policy, log, discount=discount, behaviour=behaviour)
        ratio = np.exp((known.target - known.behaviour)[known.live])
        if method == "time":
            return _by_time(log, ratio, discount)
        flow = state_flow(log, ratio, discount, features, degree, centres, seed)
        return (flow.phi @ solve(flow, "mwl", ridge=ridge)) * ratio, (1 - _ahead(log, discount)) / flow.scale
    flow = pair_flow(policy, log, discount, features, degree, centres, seed)
    return flow.phi @ solve(flow, method, ridge=ridge, penalty=penalty), flow.normal


# the equations ------------------------------------------------------------------------------------------------------------------


def pair_flow(policy: Markov, log: Episodes, discount: float, features: Kind, degree: int, centres: int, seed: int) -> Flow:
    """Of state-action pairs, from a log."""
    phi = basis(log, features, degree=degree, centres=centres, seed=seed)
    first = dict(stops=np.arange(1, len(log) + 1), terminal=np.zeros(len(log), bool), ids=None, info={})
    rows = {name: x[log.starts] for name, x in log.columns().items() if not name.startswith("info/") and name != "terminal"}
    begun = dataclasses.replace(log, **(rows | first | dict(next_obs=rows["obs"], next_mask=rows.get("mask"))))
    join = lambda parts: scipy.sparse.vstack(parts).tocsr() if scipy.sparse.issparse(parts[0]) else np.concatenate(parts)
    now, then, reward = zip(*linear_rows(policy, log, phi, discount=discount, seed=seed))
    start = np.concatenate(
        [part.mean(axis=0)[None] * part.shape[0] for _, part, _ in linear_rows(policy, begun, phi, discount=1.0, seed=seed)]
    )
    return _seen(
        Flow(
            join(now), join(then), start.sum(axis=0) / len(log), np.concatenate(reward), _ahead(log, discount), _alike(log.steps), discount
        )
    )


def state_flow(log: Episodes, ratio: np.ndarray, discount: float, features: Kind, degree: int, centres: int, seed: int) -> Flow:
    """Of states, from a log: w(s) with E_D[w(s) (f(s) - γ (1 - terminal) π / μ f(s'))] = (1 - γ) E f(s_0)."""
    idle = dataclasses.replace(
        log, spec=Spec(log.spec.obs, Discrete(1)), action=np.zeros(log.steps, np.int32), mask=None, next_mask=None, codec=None
    )
    rows, phi = idle.transitions().rows(), basis(idle, features, degree=degree, centres=centres, seed=seed)
    on = ratio * _ahead(log, discount)
    if isinstance(log.spec.obs, Discrete):
        ones = lambda at, x: scipy.sparse.csr_array((x, (np.arange(log.steps), at)), (log.steps, log.spec.obs.size))
        now, then = ones(log.obs, np.ones(log.steps)), ones(np.where(log.terminal, 0, log.next_obs), on)
    else:
        of = lambda x: np.asarray(phi(x), np.float64)
        now, then = of(rows.obs), of(rows.next_obs) * on[:, None]
    start = np.asarray(now[log.starts].mean(axis=0)).ravel()
    return _seen(Flow(now, then, start, log.reward.astype(np.float64), on, _alike(log.steps), discount))


def _ahead(log: Episodes, discount: float) -> np.ndarray:
    """(steps,): by how much what follows each step counts; 0 where nothing does."""
    return log.discount(discount) * ~log.terminal


def _alike(n: int) -> np.ndarray:
    return np.full(n, 1 / n)


def _seen(flow: Flow) -> Flow:
    """Without the features that no row has: nothing is known of where they are."""
    if not scipy.sparse.issparse(flow.phi):
        return flow
    keep = np.flatnonzero(flow.phi.sum(axis=0))
    return flow._replace(phi=flow.phi.tocsc()[:, keep].tocsr(), then=flow.then.tocsc()[:, keep].tocsr(), start=flow.start[keep])


def solve(flow: Flow, method: Method = "mwl", *, ridge: float = 0.0, penalty: float = 1.0) -> np.ndarray:
    """α (k,): weights are φᵀα."""
    target = flow.scale * flow.start
    if method == "mwl":
        return _linear(flow.system().T, target, ridge)
    if method not in ("dualdice", "gradientdice", "gendice", "bestdice"):
        raise ValueError(f"There is no method {method!r}. There are: mwl, dualdice, gradientdice, gendice, bestdice, state, time.")
    if (k := len(target)) > DENSE:
        raise Refused(f"{method!r} would solve for {k:,} features at once, more than {DENSE:,}. Use 'mwl', which solves a sparse system, and "
                      "agrees where the log covers the policy; or lower `degree` or `centres`.")  # fmt: skip
    dense = lambda x: x.toarray() if scipy.sparse.issparse(x) else x
    inflow, normal = dense(flow.system()).T, flow.mean(flow.normal)
    squares = dense((flow.phi.T * flow.share) @ flow.phi) + ridge * np.eye(k)
    positive = method == "gendice" or (method == "bestdice" and scipy.sparse.issparse(flow.phi))
    if positive and flow.phi.min() < 0:
        raise Refused("GenDICE keeps weights from being negative, for which features must not be: use radial ones, or another method.")
    if method == "gendice":
        return _chi_squared(flow, inflow, target, normal, penalty, ridge)
    try:
        root = np.linalg.cholesky(squares)
    except np.linalg.LinAlgError:
        raise Refused("features of logged rows are dependent. Raise ridge above 0, or lower degree or centres.") from None
    down = lambda x: scipy.linalg.solve_triangular(root, x, lower=True)  # the norm of C⁻¹: what the best f in the span can find
    rows, given = [down(inflow)], [down(target)]
    if method != "dualdice":
        weight = np.sqrt(HARD if method == "bestdice" else penalty)
        rows, given = [*rows, weight * normal[None]], [*given, [weight]]
    if method == "bestdice":  # ½ E[w²] - E[w r], completed to a square
        rows, given = [*rows, np.sqrt(FAINT) * root.T], [*given, np.sqrt(FAINT) * down(flow.mean(flow.reward))]
    rows, given = np.concatenate(rows), np.concatenate(given)
    if positive:
        return scipy.optimize.nnls(rows, given, maxiter=30 * k)[0]
    return scipy.linalg.lstsq(rows, given, lapack_driver="gelsy")[0]


def _linear(matrix, given, ridge: float) -> np.ndarray:
    if scipy.sparse.issparse(matrix):  # of logged pairs only: nothing is to be smoothed
        return equations(matrix, given, 0.0, NO_SOLUTION)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return scipy.linalg.solve(matrix + ridge * np.eye(len(given)), given)
        except (np.linalg.LinAlgError, scipy.linalg.LinAlgWarning):
            raise Refused(NO_SOLUTION) from None


def _chi_squared(flow: Flow, inflow, target, normal, penalty: float, ridge: float) -> np.ndarray:
    r"""GenDICE: $\min_{\alpha \ge 0} g^\top C_w^{-1} g + \tfrac{\lambda}{2} (E[w] - 1)^2$, $g = A^\top \alpha - (1 - \gamma) \bar\varphi_0$,
    $C_w = E_D[w \varphi \varphi^\top]$: its f in closed form. From the weights that solve it if none need be negative."""
    k = len(target)
    phi = flow.phi.toarray() if scipy.sparse.issparse(flow.phi) else flow.phi

    def loss(alpha):
        w = phi @ alpha
        weighed = (phi.T * (flow.share * w)) @ phi + max(ridge, 1e-10) * np.eye(k)
        g, off = inflow @ alpha - target, normal @ alpha - 1
        f = np.linalg.solve(weighed, g)
        return g @ f + 0.5 * penalty * off**2, 2 * inflow.T @ f - flow.mean((phi @ f) ** 2) + penalty * off * normal

    at = scipy.optimize.nnls(np.vstack([inflow, normal]), np.append(target, 1.0), maxiter=30 * k)[0]
    found = scipy.optimize.minimize(loss, np.maximum(at, 1e-6), jac=True, method="L-BFGS-B", bounds=[(1e-8, None)] * k,
                                    options=dict(maxiter=2000, maxfun=4000, ftol=1e-16, gtol=1e-12))  # fmt: skip
    return found.x


def _by_time(log: Episodes, ratio: np.ndarray, discount: float):
    """d_{t+1}(s') = Σ γ^Δt d_t(s) π/μ / n_t(s) over the steps s → s' at time t, where n_t(s) counts them."""
    if not isinstance(log.spec.obs, Discrete):
        raise Refused(
            "weights by time count how often each numbered state comes at each time; these observations are vectors. Use 'state'."
        )
    states, n, ahead = log.spec.obs.size, log.steps, _ahead(log, discount)
    arrive, w = np.bincount(log.obs[log.starts], minlength=states) / len(log), np.zeros(n)
    for t in range(int(log.lengths.max())):
        rows = log.starts[log.lengths > t] + t
        at = log.obs[rows]
        w[rows] = (arrive / np.maximum(np.bincount(at, minlength=states), 1))[at] * ratio[rows]
        goes = ~log.terminal[rows]
        arrive = np.bincount(log.next_obs[rows][goes], weights=(w * ahead)[rows][goes], minlength=states)
    scale = 1.0 if discount == 1 else 1 - discount
    return w * scale * n, (1 - ahead) / scale
