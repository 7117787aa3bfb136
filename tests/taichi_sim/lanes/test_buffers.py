"""The engine's memory."""

import pytest
import torch
from processes import CARD, run

import taichi_sim as ts
from taichi_sim.lanes import buffers


@pytest.mark.cpu
def test_a_cards_layout_gives_the_same():
    """One lane, blocks innermost, vectors written out, tried on the CPU: to the last bit."""
    run(
        """
        import torch
        import taichi_sim as ts

        def results():
            model, generator = ts.load("ant"), torch.Generator().manual_seed(0)
            sim = ts.Simulator(model, 8, parameters="body_mass")
            rest = sim.initial_state()
            qpos = rest.qpos.clone()
            qpos[:, 2] -= 0.6 * torch.rand(8, generator=generator, dtype=sim.dtype)
            qvel, ctrl = torch.randn(8, 22, generator=generator, dtype=sim.dtype).split([model.nv, model.nu], 1)
            leaves = [qpos, 0.5 * qvel, 0.3 * ctrl, torch.tensor(model.body_mass)]
            qpos, qvel, ctrl, mass = (x.detach().requires_grad_() for x in leaves)
            state = rest._replace(qpos=qpos, qvel=qvel)
            for _ in range(3):
                state = sim.step(state, ctrl, {"body_mass": mass})
            (state.qpos.square().sum() + state.qvel.square().sum()).backward()
            found = [state.qpos, state.qvel, *(x.grad for x in (qpos, qvel, ctrl, mass))]
            return [*found, sim.forward(state, ctrl).qfrc_contact]

        ts.init("cpu", "f64")
        before = results()
        as_on_a_card()
        after = results()
        card = ts.Simulator(ts.load("ant"), 8)
        assert card._lanes == 1 and card._engine._fields.state._together
        assert all(x.any() and torch.equal(x, y) for x, y in zip(before, after, strict=True))
        """,
        prelude=CARD,
    )


def test_more_than_kernels_can_address_is_refused(monkeypatch):
    """A tape of 64 GB and more, here with fewer worlds and a lower bound."""
    sim = ts.Simulator(ts.load("cartpole"), 64)
    ctrl = torch.zeros(64, 1, dtype=sim.dtype, requires_grad=True)
    state = sim.step(sim.initial_state(), ctrl)
    monkeypatch.setattr(buffers, "MOST_CELLS", 100)
    with pytest.raises(MemoryError, match="Simulator of 64 worlds would take [0-9,]+ vectors"):
        sim.step(state, ctrl)
