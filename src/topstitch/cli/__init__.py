"""The command line. One module per command, imported when it is asked for: the help answers at once."""

import importlib
import os
import sys

COMMANDS = {
    "quickstart": "the whole story on a shipped table of treatment logs, in a few minutes",
    "data": "make a log of a table, look at it, check it, split it: topstitch data import …",
    "advise": "imitation or offline RL? which algorithms, which estimators? what next?",
    "run": "may a policy replace practice? a study of a log, with a verdict and a page",
    "decide": "what a policy would do in each row of a table, in the table's own words",
    "train": "learn policies from a log: topstitch train iql --data icu …",
    "ope": "how policies would do, estimated from a log, with intervals",
    "select": "rank policies by a log, without an environment",
    "report": "one page of a study, or of plain runs, from stored results",
    "evaluate": "let trained policies act in a Gymnasium environment",
    "finetune": "go on from offline runs by acting in an environment",
    "collect": "let a policy act in an environment, and keep the log",
    "bench": "named tasks: data, settings and numbers to stand beside",
    "algorithms": "what there is to choose from, with sources",
    "cite": "BibTeX of what a run used",
}

HELP = f"""topstitch: from logged decisions to a policy that can be trusted

usage: topstitch COMMAND …

{chr(10).join(f"  {name:<12}{what}" for name, what in COMMANDS.items())}

  topstitch COMMAND --help says more about one of them.
  topstitch --version says which version this is.

examples:
  topstitch data import stays.csv --guess -o icu
  topstitch run icu -o study
  topstitch train discrete_cql --data icu --seeds 4 --steps 20000 -o runs/cql
"""


class Wrong(Exception):
    """The command cannot be meant as it was typed; the message says why and what to do."""


def main(argv: list[str] | None = None) -> int:
    """0: done. 1: it could not be done (data, files). 2: the command was not understood."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if argv else 2
    if argv[0] == "--version":
        from .. import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        import difflib

        near = difflib.get_close_matches(argv[0], COMMANDS, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        print(f"topstitch: there is no command {argv[0]!r}.{meant} See topstitch --help.", file=sys.stderr)
        return 2
    command = importlib.import_module(f".{argv[0]}", __name__)
    try:
        return command.main(argv[1:]) or 0
    except SystemExit as stop:  # tyro has said what it did not understand, or printed its help
        return stop.code if isinstance(stop.code, int) else 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (Wrong, ValueError, OSError, ImportError) as error:
        if os.environ.get("TOPSTITCH_TRACEBACK"):
            raise
        print(f"topstitch {argv[0]}: {printable(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, Wrong) else 1
    except KeyboardInterrupt:
        done = {"train": "learned", "bench": "learned", "run": "learned", "collect": "collected"}.get(argv[0])
        more = f" What was {done} is kept: the same command{' with --resume' if argv[0] == 'train' else ''} goes on." if done else ""
        print(f"\ntopstitch {argv[0]}: interrupted.{more}", file=sys.stderr)
        return 130


def printable(text: str) -> str:
    """Words of a stranger's file for a terminal: what would move its cursor is shown as �."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "�" for letter in text)


def verbatim(text: str):
    """The same for rich, which would read [words in brackets] as markup."""
    from rich.text import Text

    return Text(printable(text).replace("\n", "�"))


def start_jax() -> None:
    """One XLA device per core on a CPU, and compiled programs kept between runs. Before JAX starts, or not at all."""
    import contextlib

    import jax

    if "JAX_NUM_CPU_DEVICES" not in os.environ:
        with contextlib.suppress(RuntimeError):  # it has started: a program that calls `main` twice
            jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        jax.config.update("jax_compilation_cache_dir", os.path.join(cache, "topstitch", "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def parse(kind, argv: list[str], *, command: str, about: str):
    """Arguments as a dataclass `kind`; `about` is the help's opening, with an example."""
    import tyro

    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
    return tyro.cli(kind, args=argv, prog=f"topstitch {command}", description=about, config=config)
