"""The engine's tests compare digits: all tests of a process run in double precision; on the CPU, unless asked."""

import functools

import pytest
import torch

import taichi_sim as ts


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", help="where the tests compute: cpu (default), cuda, cuda:1, ...")
    parser.addoption("--shipped", action="store_true", help="what takes hours, too: files of wheels, random mechanisms")


def pytest_configure(config):
    config.addinivalue_line("markers", "cuda: what only a card shows; skipped unless torch finds one")
    config.addinivalue_line("markers", "cpu: what only the CPU shows")
    config.addinivalue_line("markers", "shipped: what takes hours; skipped unless --shipped is given")
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
        if item.get_closest_marker("shipped") and not config.getoption("--shipped"):
            item.add_marker(pytest.mark.skip(reason="takes hours: --shipped"))


def _compute_on(device: torch.device) -> None:
    """New tensors and generators are the device's, a test's own numbers the CPU's; NumPy may look at the device's."""
    torch.set_default_device(device)
    torch.Generator = _generators_of(device)
    for name in ("rand", "randn", "randint", "randperm"):
        setattr(torch, name, _drawn_on_the_cpu(getattr(torch, name), device))
    numpy, array, from_numpy = torch.Tensor.numpy, torch.Tensor.__array__, torch.from_numpy
    torch.Tensor.numpy = lambda self, **options: numpy(self.cpu(), **options)
    torch.Tensor.__array__ = lambda self, *options, **named: array(self.cpu(), *options, **named)
    torch.from_numpy = lambda x: from_numpy(x).to(device)


def _generators_of(device):
    kind = torch.Generator

    class Generator(kind):
        """With another of the CPU beside it, seeded alike."""

        def __new__(cls, device=device):
            return super().__new__(cls, device)

        def __init__(self, device=device):
            self.twin = kind("cpu")

        def manual_seed(self, seed):
            self.twin.manual_seed(seed)
            return super().manual_seed(seed)

    return Generator


def _drawn_on_the_cpu(draw, device):
    """Where no device is asked for: a test sees the same numbers wherever it runs."""

    @functools.wraps(draw)
    def drawn(*sizes, generator=None, requires_grad=False, **options):
        if "device" in options:
            return draw(*sizes, generator=generator, requires_grad=requires_grad, **options)
        numbers = draw(*sizes, generator=getattr(generator, "twin", generator), device="cpu", **options)
        return numbers.to(device).requires_grad_(requires_grad)

    return drawn
