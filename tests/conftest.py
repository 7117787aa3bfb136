"""The engine's tests compare digits: all tests of a process run in double precision; on the CPU, unless asked."""

import pytest
import torch

import taichi_sim as ts


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the tests compute: cpu (default), cuda, cuda:1, ...")


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda: what only a card shows; skipped unless torch finds one")
    config.addinivalue_line("markers", "cpu: what only the CPU shows")
    # at the head of a distributed run nothing is computed
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        # before tests are imported: some make their tensors then
        runtime = ts.init(device=config.getoption("--device"), precision="f64")
        if runtime.device.type != "cpu":
            _compute_on(runtime.device)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("cuda") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="torch finds no CUDA card"))
        if item.get_closest_marker("cpu") and config.getoption("--device") != "cpu":
            item.add_marker(pytest.mark.skip(reason="of the CPU only"))


def _compute_on(device: torch.device) -> None:
    """New tensors and generators are the device's, and NumPy may look at what it has."""
    torch.set_default_device(device)
    kind = torch.Generator

    class Generator(kind):
        def __new__(cls, device=device):
            return super().__new__(cls, device)

    torch.Generator = Generator
    numpy, array, from_numpy = torch.Tensor.numpy, torch.Tensor.__array__, torch.from_numpy
    torch.Tensor.numpy = lambda self, **options: numpy(self.cpu(), **options)
    torch.Tensor.__array__ = lambda self, *options, **named: array(self.cpu(), *options, **named)
    torch.from_numpy = lambda x: from_numpy(x).to(device)
