"""Who may import whom: every import statement of the package is read, wherever it stands."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "topstitch"

# Each layer may import itself and what stands before it in its row. `algos` may not import one another.
MAY = {
    "core": [],
    "ops": [],
    "nets": ["core", "ops"],
    "disk": [],
    "data": ["core", "disk"],
    "worlds": ["core", "nets", "data"],
    "stats": [],
    "loop": ["core", "data"],
    "algos": ["core", "ops", "nets", "data", "worlds"],
    "ope": ["core", "ops", "nets", "disk", "data", "worlds", "loop"],
    "preferences": ["core", "nets", "data", "loop"],
    "watching": ["core", "data", "loop", "algos"],
    "store": ["core", "disk", "loop"],
    "evaluation": ["core", "data", "disk", "loop"],
    "decisions": ["core", "data", "disk", "store"],
    "supply": ["core", "disk", "nets", "data"],
    "collection": ["core", "disk", "nets", "data", "loop", "evaluation"],
    "listeners": ["disk", "loop", "store"],
    "runs": ["core", "data", "disk", "loop", "store", "listeners", "algos"],
    "online": ["core", "data", "disk", "loop", "store", "listeners", "runs", "evaluation", "collection"],
    "bench": [
        "core",
        "nets",
        "data",
        "disk",
        "algos",
        "worlds",
        "loop",
        "listeners",
        "runs",
        "stats",
        "evaluation",
        "collection",
        "supply",
        "ope",
    ],
    "testing": ["core", "data", "nets", "loop", "store", "worlds"],
    "study": ["core", "ops", "nets", "disk", "data", "worlds", "stats", "loop", "algos", "ope", "store", "evaluation", "listeners", "runs"],
    "report": ["disk"],  # stored results only
    "cli": [
        "core",
        "disk",
        "data",
        "algos",
        "worlds",
        "stats",
        "store",
        "evaluation",
        "listeners",
        "runs",
        "online",
        "loop",
        "bench",
        "collection",
        "decisions",
    ]
    + ["supply", "ope", "study", "report"],
    "__init__": [
        "algos",
        "data",
        "collection",
        "decisions",
        "evaluation",
        "online",
        "ope",
        "preferences",
        "runs",
        "store",
        "testing",
        "watching",
        "worlds",
    ],
    "__main__": ["cli"],
}
SOLVERS_OF_SIMULATORS = {
    "gym",
    "gymnasium",
    "gymnasium_robotics",
    "mujoco",
    "minari",
    "minatar",
    "ogbench",
    "ray",
    "icu_sepsis",
    "tensorboardX",
}


def files():
    return sorted(ROOT.rglob("*.py"))


def imports(path: Path):
    """(absolute name of a module, whether it is imported when the file is) for every import in a file."""
    package = ("topstitch", *path.relative_to(ROOT).parent.parts)
    tree = ast.parse(path.read_text())
    deferred = {inner for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.Lambda)) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node not in deferred) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield module, node not in deferred
            if not node.module:
                yield from ((f"{module}.{alias.name}", node not in deferred) for alias in node.names)


def layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    mine = layer(".".join(("topstitch", *path.relative_to(ROOT).with_suffix("").parts)))
    assert mine in MAY, f"{mine} has no place among the layers"
    for module, _ in imports(path):
        if module.split(".")[0] == "topstitch" and module != "topstitch":  # the version stands in the package itself
            theirs = layer(module)
            assert theirs == mine or theirs in MAY[mine] or theirs.startswith("__version"), f"{path.name} imports {module}"


@pytest.mark.parametrize("path", sorted((ROOT / "algos").rglob("*.py")), ids=lambda p: p.stem)
def test_algorithms_do_not_know_each_other(path):
    for module, _ in imports(path):
        if module.startswith("topstitch.algos."):
            assert module == "topstitch.algos.steps", f"{path.name} imports {module}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_simulators_are_not_imported_with_the_package(path):
    now = {module.split(".")[0] for module, at_once in imports(path) if at_once}
    assert not now & SOLVERS_OF_SIMULATORS


def test_no_algorithm_is_known_by_name_below_the_table():
    from topstitch.algos import ALGORITHMS

    names = {place.split(":")[1] for place in ALGORITHMS.values()}
    for path in [
        ROOT / "core.py",
        ROOT / "loop.py",
        ROOT / "store.py",
        ROOT / "evaluation.py",
        ROOT / "listeners.py",
        *(ROOT / "data").rglob("*.py"),
    ]:
        used = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not used & names, path


def test_importing_the_package_does_not_import_jax():
    import subprocess
    import sys

    code = "import sys, topstitch; assert 'jax' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
