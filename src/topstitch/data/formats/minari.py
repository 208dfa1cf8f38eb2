"""Data sets of Minari, through the `minari` package (extra `topstitch[minari]`)."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...core import Discrete as Choice
from ...core import Image, MultiDiscrete
from ..episodes import BadData, Episodes, picture
from ..read import MINARI_ID
from . import among, checked, flags, unreadable


def read_minari(name: str | os.PathLike, *, download: bool = False, low=None, high=None) -> Episodes:
    """Episodes of a Minari data set: an id such as `"D4RL/door/human-v2"`, or the folder that holds its `data/main_data.hdf5`.

    An id is looked up in `MINARI_DATASETS_PATH` (default `~/.minari/datasets`); with `download=True` one that is not there is
    fetched from Minari's server first.

    * `terminations` and `truncations` stay apart: an episode whose last step is terminated truly ended, any other is truncated.
      T + 1 observations are stored for T steps, so nothing is dropped.
    * Dict and Tuple observations are laid side by side in the order of the space (Gymnasium sorts the keys of a Dict), arrays
      row by row, a Discrete part as one-hot; `notes` says which columns are what. Observations that are a picture (uint8 or bool, of three
      axes, the last of channels) are kept as one; pictures among other parts, text, graphs and sequences are refused.
    * A Discrete or MultiDiscrete space counts from 0 here, whatever its `start`. A Box action is bounded by its space where that is finite;
      `low` and `high` replace those bounds.
    * `log_prob` and `action_mask` among the infos of every episode are kept, if they fit: one number a step, one row an observation.

    Missing or damaged data raises `BadData`; without the package, `ImportError` says how to install it.
    """
    minari = _package()
    folder = _folder(name, download, minari)
    _declared(folder)
    with unreadable(folder, "a Minari data set"):
        stored = minari.MinariDataset(folder)
        spaces = stored.observation_space, stored.action_space
        episodes = stored.iterate_episodes()
    return _episodes(folder, *spaces, episodes, low, high, stored.id)


def _package():
    try:
        import minari
    except ImportError as error:
        raise ImportError("Minari data sets need the package `minari`. Install it with: pip install 'topstitch[minari]'") from error
    return minari


def _root() -> Path:
    return Path(os.environ.get("MINARI_DATASETS_PATH") or Path.home() / ".minari" / "datasets")


def _folder(name, download: bool, minari) -> Path:
    """The folder with `main_data.hdf5`."""
    root, given = _root(), Path(name)
    places = [place for base in (given, root / given) for place in (base / "data", base)]
    there = lambda: next((place for place in places if (place / "metadata.json").is_file()), None)
    if (found := there()) is not None:
        return found
    if given.is_dir():
        raise BadData(f"{name}: expected a Minari data set, a folder that holds data/metadata.json and data/main_data.hdf5. "
                      "Give the folder of one data set, or its id.")  # fmt: skip
    if download:
        try:
            minari.download_dataset(str(name))
        except Exception as error:  # the network, the server, or an id that does not exist: all told in the same words
            raise BadData(f"{name}: could not be downloaded ({type(error).__name__}: {error}). "
                          "Check the id (`minari list remote`) and the network.") from error  # fmt: skip
        if (found := there()) is not None:
            return found
    local = sorted(str(place.parent.parent.relative_to(root)) for place in root.glob("**/data/metadata.json"))
    raise BadData(f"{name}: this data set is not in {str(root)!r}. {among(str(name), local, 'That folder holds')} "
                  "Fetch it with download=True, or set MINARI_DATASETS_PATH to where it is.")  # fmt: skip


def _declared(folder: Path) -> None:
    """Refuse metadata without spaces: Minari would make the environment to learn them, which runs what the file names."""
    with unreadable(folder / "metadata.json", "the metadata of a Minari data set"):
        metadata = dict(json.loads((folder / "metadata.json").read_text(encoding="utf-8")))
    for space in ("observation_space", "action_space"):
        if not isinstance(metadata.get(space), str):
            raise BadData(f"{folder / 'metadata.json'}: there is no {space!r}. It is not taken from the environment, since that would "
                          "run the code that the file names. Write the data set again with its spaces.")  # fmt: skip


def _episodes(folder, seen, acted, episodes, low, high, source) -> Episodes:
    from gymnasium.spaces import Box, Discrete
    from gymnasium.spaces import MultiDiscrete as Several

    image = _image(seen)
    if image and isinstance(space := picture(seen.shape, int(seen.high.max())), str):
        raise BadData(f"{folder}: {space}")
    parts = None if image or isinstance(seen, Discrete) else _parts(seen, folder)
    if not isinstance(acted, (Box, Discrete, Several)):
        raise BadData(
            f"{folder}: actions are {acted}; expected a Box, Discrete or MultiDiscrete space. Recode them as integers or as a vector."
        )
    columns: dict[str, list] = {key: [] for key in ("obs", "action", "reward", "terminal", "next_obs", "ends", "ids")}
    told: dict[str, list] = {"log_prob": [], "action_mask": []}
    unmarked, members = 0, int(acted.nvec.sum() if isinstance(acted, Several) else getattr(acted, "n", 0))
    while True:
        with unreadable(folder, "a Minari data set"):
            if (episode := next(episodes, None)) is None:
                break
        where = f"{folder}, episode {episode.id}"
        reward = checked(np.asarray(episode.rewards), "rewards", where, flat=True)
        n = len(reward)
        if n == 0:
            raise BadData(f"{where}: expected at least one step, but it is empty. Leave the episode out.")
        terminal, cut = (flags(checked(np.asarray(x), name, where, n, flat=True), name, where)
                         for x, name in ((episode.terminations, "terminations"), (episode.truncations, "truncations")))  # fmt: skip
        if (early := (terminal | cut)[:-1]).any():
            raise BadData(f"{where}: step {int(np.argmax(early)) + 1:,} is marked as an end, but the episode goes on. "
                          "Unmark it, or start a new episode there.")  # fmt: skip
        unmarked += not (terminal[-1] or cut[-1])
        obs = _rows(episode.observations, seen, "observations", where, n + 1) if parts is None else np.concatenate(
            [_part(episode.observations, path, space, where, n + 1) for path, space in parts], axis=1)  # fmt: skip
        columns["obs"].append(obs[:-1])
        columns["next_obs"].append(obs[1:])
        columns["action"].append(_rows(episode.actions, acted, "actions", where, n))
        columns["reward"].append(reward)
        columns["terminal"].append(terminal)
        columns["ends"].append(np.arange(1, n + 1) == n)
        columns["ids"].append(episode.id)
        for key, shape, kinds in (("log_prob", (n,), "f"), ("action_mask", (n + 1, members), "biu")):
            column = (episode.infos or {}).get(key)
            if isinstance(column, np.ndarray) and column.shape == shape and column.dtype.kind in kinds and np.isfinite(column).all():
                told[key].append(column)
    if not columns["ids"]:
        raise BadData(f"{folder}: expected at least one episode, but the data set is empty.")
    rows = {name: np.concatenate(column) for name, column in columns.items() if name != "ids"}
    notes = []
    if unmarked:
        notes.append(f"{unmarked:,} episodes end in a step that is neither terminated nor truncated; they are taken as truncated.")
    if parts is not None and len(parts) > 1:
        layout = ", ".join(f"{'/'.join(map(str, path))} ({_size(space)})" for path, space in parts)
        notes.append(f"Observations lie side by side: {layout}.")
    more: dict = {"peak": int(seen.high.max())} if image else {"states": int(seen.n)} if parts is None else {}
    if isinstance(acted, Discrete):
        more["actions"] = int(acted.n)
    elif isinstance(acted, Several):
        more["actions"] = acted.nvec.reshape(-1).tolist()
    elif low is not None or high is not None:
        more |= {"low": low, "high": high}
    elif np.isfinite(acted.low).all() and np.isfinite(acted.high).all():
        more |= {"low": acted.low.reshape(-1), "high": acted.high.reshape(-1)}
    if len(told["log_prob"]) == len(columns["ids"]):
        more["log_prob"] = np.concatenate(told["log_prob"])
    if len(told["action_mask"]) == len(columns["ids"]):
        mask, after = (np.concatenate([x[part] for x in told["action_mask"]]).astype(bool) for part in (slice(-1), slice(1, None)))
        sizes = more["actions"]
        first = np.cumsum(sizes) - sizes
        done, some = rows["action"].reshape(len(mask), -1) + first, np.logical_or.reduceat(after, first, axis=1).all(axis=1)
        if np.take_along_axis(mask, done, axis=1).all() and (some | rows["terminal"]).all():
            more |= {"mask": mask, "next_mask": after}
        else:
            notes.append("The infos hold an action_mask, but it forbids actions that were taken, or every one; it was left out.")
    return Episodes.of(**rows, **more, ids=columns["ids"], source=source, notes=notes)


def _parts(space, folder, path=()) -> list:
    """(path, space) of every leaf, in order."""
    from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, Tuple

    if isinstance(space, (Dict, Tuple)):
        inner = space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces)
        return [leaf for key, part in inner for leaf in _parts(part, folder, (*path, key))]
    if _image(space) or not isinstance(space, (Box, Discrete, MultiBinary)):
        what = "/".join(map(str, path)) or "observations"
        raise BadData(f"{folder}: {what} is {'an image' if _image(space) else space}, which cannot be laid out as numbers in a row. "
                      "Write the data set again with vectors, for example features of it.")  # fmt: skip
    return [(path, space)]


def _image(space) -> bool:
    from gymnasium.spaces import Box

    return isinstance(space, Box) and space.dtype in (np.uint8, bool) and len(space.shape) == 3


def _size(space) -> int:
    from gymnasium.spaces import Discrete

    return int(space.n) if isinstance(space, Discrete) else int(np.prod(space.shape))


def _rows(values, space, name: str, where: str, n: int) -> np.ndarray:
    """(n, size) numbers of a leaf, or (n,) counted from 0 for a Discrete, (n, choices) for a MultiDiscrete, (n, *shape) of a picture."""
    from gymnasium.spaces import Discrete
    from gymnasium.spaces import MultiDiscrete as Several

    with unreadable(where, f"numbers in {name!r}"):
        values = np.asarray(values)
    if isinstance(space, Discrete):
        values = checked(values, name, where, n, flat=True).astype(np.int64) - int(space.start)
        if (outside := (values < 0) | (values >= space.n)).any():
            row = int(np.argmax(outside))
            raise BadData(f"{where}: {name!r}, step {row + 1:,}: {values[row] + space.start} is outside its space {space}. Correct it.")
        return values
    values = checked(values, name, where, n).reshape(n, -1)
    if values.shape[1] != _size(space):
        raise BadData(f"{where}: {name!r} has {values.shape[1]} numbers a step where its space {space.shape} has {_size(space)}. "
                      "Write the data set again.")  # fmt: skip
    if isinstance(space, Several):
        values = values.astype(np.int64) - space.start.reshape(-1)
        if (outside := ((values < 0) | (values >= space.nvec.reshape(-1))).any(axis=1)).any():
            row = int(np.argmax(outside))
            raise BadData(f"{where}: {name!r}, step {row + 1:,}: {values[row] + space.start.reshape(-1)} is outside its space {space}. "
                          "Correct it.")  # fmt: skip
        return values
    if _image(space):
        return values.reshape(n, *space.shape).astype(np.uint8)
    return values.astype(np.float32)


def _part(observations, path, space, where: str, n: int) -> np.ndarray:
    from gymnasium.spaces import Discrete

    for key in path:
        with unreadable(where, f"a part {key!r} of the observations"):
            observations = observations[key]
    rows = _rows(observations, space, "/".join(map(str, path)) or "observations", where, n)
    return np.eye(int(space.n), dtype=np.float32)[rows] if isinstance(space, Discrete) else rows


# writing ----------------------------------------------------------------------------------------------------------------


def place_of(name: str | os.PathLike) -> Path:
    """Where a data set of that name lies: for an id (text such as "hopper/medium-v0") below `MINARI_DATASETS_PATH`, else the folder."""
    if not (isinstance(name, str) and MINARI_ID.fullmatch(name)):
        return Path(name)
    if name.find("/") == 1:
        raise ValueError(f"{name}: Minari wants at least two letters before the slash. Choose another id, or write ./{name} for a folder.")
    return _root() / name


def write_minari(
    log: Episodes, name: str | os.PathLike, *, env: str | None = None, about: dict | None = None, seeds: np.ndarray | None = None
) -> Path:
    """A log as a Minari data set, whole or not at all: an id such as `"hopper/medium-v0"`, or a folder. Answers with its folder.

    Observations are written as they lie in the log, side by side. Log-probabilities and masks go to the infos of the episodes, as
    `log_prob` (one a step) and `action_mask` (one an observation), where `read_minari` finds them again; times and further
    columns go there too, for other readers. `env` is the id of the environment, which is not made; `about` is anything that is
    JSON, kept in the metadata; `seeds` are those of the episodes. Actions are in raw units, normalised observations are not.

    Minari keeps T + 1 observations of T steps: a log whose `next_obs` is not the `obs` of the next row is refused (`BadData`). What
    is there already is not overwritten (`FileExistsError`).
    """
    minari = _package()
    from minari.dataset.minari_storage import MinariStorage
    from minari.namespace import create_namespace, list_local_namespaces

    folder = place_of(name).absolute()  # Minari measures no folder that is relative
    if folder.exists():
        raise FileExistsError(f"{folder} is there already, and is not overwritten. Choose another name, or remove it.")
    _require_chains(log)
    given = str(name) if MINARI_ID.fullmatch(str(name)) else re.sub(r"[^-\w]", "-", folder.name)
    told = {"description": " ".join(log.notes), "topstitch": about or {}}
    if env is not None:
        told["topstitch"] = {"env": env} | told["topstitch"]
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        storage = MinariStorage.new(beside / "data", *_gym_spaces(log), env_spec=_env_spec(env))
        of = given if MINARI_ID.fullmatch(given) else f"{given}-v0"
        storage.update_metadata({"dataset_id": of, "minari_version": minari.__version__, **told})
        storage.update_episodes(_buffers(log, seeds))
        for path in (beside / "data").iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        if folder == place_of(of).absolute() and "/" in of and (space := of.rpartition("/")[0]) not in list_local_namespaces():
            create_namespace(space)
        beside.rename(folder)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return folder


def _require_chains(log: Episodes) -> None:
    inner = np.ones(log.steps, bool)
    inner[log.stops - 1] = False
    rows = np.flatnonzero(inner)
    for now, after in (("obs", "next_obs"), ("mask", "next_mask")):
        if getattr(log, now) is None:
            continue
        differ = getattr(log, after)[rows] != getattr(log, now)[rows + 1]
        differ = differ.any(axis=tuple(range(1, differ.ndim)))
        if differ.any():
            raise BadData(f"{log.source}: {after!r} of row {rows[np.argmax(differ)]:,} is not {now!r} of the row behind it, and Minari keeps "
                          "only one of the two. Write the log as .log.safetensors.")  # fmt: skip


def _gym_spaces(log: Episodes):
    """(its observation space, its action space)."""
    from gymnasium.spaces import Box, Discrete
    from gymnasium.spaces import MultiDiscrete as Several

    from ..write import bounds

    seen, acted = log.spec.obs, log.spec.action
    if isinstance(seen, Image):
        obs = Box(0, seen.peak, (seen.height, seen.width, seen.channels), np.uint8)
    else:
        obs = Discrete(seen.size) if isinstance(seen, Choice) else Box(-np.inf, np.inf, (seen.size,), np.float32)
    if isinstance(acted, MultiDiscrete):
        return obs, Several(acted.sizes)
    return obs, Discrete(acted.size) if isinstance(acted, Choice) else Box(*bounds(log), dtype=np.float32)


def _env_spec(env: str | None):
    """What Gymnasium knows of the environment, without making it; None where it knows nothing."""
    import gymnasium

    try:
        return None if env is None else gymnasium.spec(env)
    except (gymnasium.error.Error, ImportError):
        return None


def _buffers(log: Episodes, seeds: np.ndarray | None) -> Iterator:
    from minari.data_collector import EpisodeBuffer

    truncated = log.truncated
    text = lambda column: column if column.dtype.kind in "biuf" else column.astype(str).tolist()
    columns = dict(log.info) | {name: x for name in ("time", "log_prob") if (x := getattr(log, name)) is not None}
    for number, (start, stop) in enumerate(zip(log.starts, log.stops)):
        rows = slice(start, stop)
        infos = {name: text(column[rows]) for name, column in columns.items()}
        if log.mask is not None:
            infos["action_mask"] = np.concatenate([log.mask[rows], log.next_mask[stop - 1 : stop]])
        yield EpisodeBuffer(
            id=number, seed=None if seeds is None else int(seeds[number]), infos=infos, actions=log.action[rows],
            observations=np.concatenate([log.obs[rows], log.next_obs[stop - 1 : stop]]), rewards=log.reward[rows],
            terminations=log.terminal[rows], truncations=truncated[rows],
        )  # fmt: skip
