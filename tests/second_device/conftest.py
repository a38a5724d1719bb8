"""The second device is there before the first of these tests, and not while tests are collected."""

import pytest

from tests.support import second_device


@pytest.fixture(scope="session", autouse=True)
def _second_device() -> None:
    second_device.register()
