import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data sets, which is not part of the repository."""
    folder = Path(os.environ.get("TOPSTITCH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real data sets are not in {folder} (set TOPSTITCH_SHARED_DATA)")
    return folder
