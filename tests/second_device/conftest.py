"""The second device, in processes of its own: `tests/test_second_device.py` starts them.

It must be there before autograd starts, and a process that has it can't fork any more. So these
tests run where nothing else was asked for: `python -m pytest -n0 tests/second_device`.
"""

from pathlib import Path

import pytest

from tests.support import second_device


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    folder = Path(__file__).parent
    asked = [Path(argument.split("::")[0]).resolve() for argument in config.args]
    alone = all(path == folder or folder in path.parents for path in asked)
    return None if alone else True


@pytest.fixture(scope="session", autouse=True)
def _second_device() -> None:
    second_device.register()
