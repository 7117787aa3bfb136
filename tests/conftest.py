"""The engine's tests compare digits: all tests of a process run in double precision; on the CPU, unless asked."""

import pytest
import torch

import taichi_sim as ts


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the tests compute: cpu (default), cuda, cuda:1, ...")


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda: what only a card shows; skipped unless torch finds one")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA card"))


@pytest.fixture(scope="session", autouse=True)
def _double_precision(request):
    ts.init(device=request.config.getoption("--device"), precision="f64")
