"""Every annotation of a shape is checked, every silent broadcast and every warning is an error."""

import gc
import importlib.metadata
import itertools
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Tests compile thousands of programs and run each for a moment: what makes programs faster costs more than it gains.
CHEAP = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA stops at a flag that it does not know
    CHEAP += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", CHEAP)
# There are as many workers as cores: threads of one would only wait for those of the others.
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "PJRT_NPROC"):
    os.environ.setdefault(threads, "1")
sys.path.insert(0, str(Path(__file__).parent))

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("topstitch", "beartype.beartype").__enter__()

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
# Tracing makes small objects by the million: at Python's own threshold a tenth of the time goes into looking for garbage.
gc.set_threshold(50_000)


@pytest.fixture(autouse=True)
def _room_for_programs():
    """Every compiled program holds mappings of memory, of which Linux gives a process some 65,000: let go of the programs in time."""
    yield
    if next(TESTS) % 16 == 0 and MAPPINGS.is_file() and len(MAPPINGS.read_bytes().splitlines()) > 12_000:
        jax.clear_caches()
        gc.collect()


MAPPINGS, TESTS = Path("/proc/self/maps"), itertools.count()
