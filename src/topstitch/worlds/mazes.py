"""Mazes, in which every cell is a goal: how far apart any two cells are is known exactly, and so is how often a policy for goals arrives."""

import numpy as np

from .tabular import MDP, Table

ROOMS = (
    "...#...",
    ".#...#.",
    "...#...",
)  # fmt: skip
"Two rooms around a pillar each, and a door between them: 17 cells, at most 10 steps apart."


def maze(rows: tuple[str, ...] = ROOMS) -> MDP:
    """A maze of dots and walls `#`. Cells are numbered as they are read; actions are up, right, down, left; walls hold.

    Nothing ends and nothing is earned: what to do is a matter of goals. Episodes start in any cell. Raises ValueError for rows that are not of
    one length, other characters, or cells that cannot be reached from one another.
    """
    if len({len(row) for row in rows}) != 1 or set("".join(rows)) - set(".#") or "." not in "".join(rows):
        raise ValueError(f"a maze has rows of one length, of '.' and '#' with at least one '.'; got {rows}.")
    free = np.array([[cell == "." for cell in row] for row in rows])
    number = np.where(free, np.cumsum(free).reshape(free.shape) - 1, -1)
    walled = np.pad(number, 1, constant_values=-1)
    states = int(free.sum())
    transition = np.zeros((states, 4, states))
    for action, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
        to = np.roll(walled, (-down, -right), axis=(0, 1))[1:-1, 1:-1]
        transition[number[free], action, np.where(to < 0, number, to)[free]] = 1
    world = MDP(transition, np.zeros((states, 4)), np.full(states, 1 / states), np.zeros(states, bool))
    if not np.isfinite(distances(world)).all():
        raise ValueError(f"some cells of the maze cannot be reached from others: {rows}.")
    return world


def distances(mdp: MDP) -> np.ndarray:
    """(states, states) float64: the fewest steps from each to each, infinite where there is no way. Raises ValueError where steps are random."""
    transition = np.asarray(mdp.transition)
    if (transition.max(axis=-1) < 1).any():
        raise ValueError("steps of this world are random: from one state to another there is no number of steps, only a distribution.")
    allowed = (transition > 0) & mdp.legal[:, :, None] & ~np.asarray(mdp.terminal)[:, None, None]
    links, far = allowed.any(axis=1), np.where(np.eye(mdp.states, dtype=bool), 0.0, np.inf)
    for steps in range(1, mdp.states):
        beyond = (links @ np.isfinite(far)) & np.isinf(far)
        far[beyond] = steps
    return far


def arrivals(mdp: MDP, policies: Table, steps: int) -> np.ndarray:
    """(states, goals) float64: the probability that a policy arrives at a goal within so many steps from each state; 1 where it begins there.

    `policies` (goals, states, actions) holds a table for every state as a goal, in their order.
    """
    policies = mdp.checked(policies)
    if policies.shape[:-2] != (mdp.states,):
        raise ValueError(
            f"the policies have shape {policies.shape}; expected one for each of {mdp.states} goals: (goals, states, actions)."
        )
    follow = np.einsum("gsa,saz->gsz", policies, np.asarray(mdp.transition, np.float64))
    there = np.eye(mdp.states)
    arrived = there
    for _ in range(steps):
        arrived = np.maximum(np.einsum("gsz,zg->sg", follow, arrived), there)
    return arrived
