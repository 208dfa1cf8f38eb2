"""Every annotation of a shape is checked, every silent broadcast and every warning is an error."""

import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
sys.path.insert(0, str(Path(__file__).parent))

from jaxtyping import install_import_hook

install_import_hook("topstitch", "beartype.beartype").__enter__()

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def _room_for_programs():
    """Every compiled program holds mappings of memory, of which Linux gives a process some 65,000: let go of the programs in time."""
    yield
    if MAPPINGS.is_file() and len(MAPPINGS.read_bytes().splitlines()) > 12_000:
        jax.clear_caches()


MAPPINGS = Path("/proc/self/maps")
