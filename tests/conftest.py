"""The engine's tests compare digits: all tests of a process run in double precision on the CPU."""

import pytest

import taichi_sim as ts


@pytest.fixture(scope="session", autouse=True)
def _double_precision():
    ts.init(device="cpu", precision="f64")
