"""Figure 3's edges against autograd's graph of a rollout."""

import torch
from cartpole_double import CartPoleDouble, CartPoleOnDouble
from torch import nn

from shac.algos.shac import SHAC
from shac.algos.window import Window
from shac.env import Env
from shac.figures.graphs import Node, edges
from shac.runs.config import resolve
from taichi_sim.types import State

WORLDS, HORIZON = 3, 3
# World 0 begins so far out [m] and moves outwards at 1 m/s, a sixtieth of a second a step; 4 m are passed in the fifth.
START = 4.0 - 4.5 / 60


class Failing(CartPoleOnDouble):
    """An action costs something; world 0, far out, fails while the others go on."""

    limit = 4.0

    def simulator(self, num_envs, device=None):
        return CartPoleDouble(num_envs, dtype=torch.float64)

    def reward(self, state, obs, action):
        return super().reward(state, obs, action) - action.square().sum(1)

    def terminated(self, state, obs):
        return obs[:, 0] > self.limit

    def reset(self, num, generator, sim, stochastic=True):
        state = super().reset(num, generator, sim, stochastic)
        if num == sim.num_worlds:
            state.qpos[0, 0], state.qvel[0, 0] = START, 1.0
        return state


class Recorder(Env):
    """Keeps the tensors of each step, those of a window's first state made to take a gradient."""

    def __init__(self, *args, **options):
        self.steps = []
        super().__init__(*args, **options)

    def cut(self):
        super().cut()
        self.state = State(*(x.requires_grad_() for x in self.state))
        self.obs = self.task.observe(self.state, self.action)
        return self.obs

    def step(self, action):
        before = self.state
        result = super().step(action)
        self.steps.append((before, action, result[1], result[4]["final_state"]))
        return result


class Valued(nn.Module):
    """A target critic that keeps the values it gives."""

    def __init__(self, critic):
        super().__init__()
        self.critic, self.values = critic, []

    def forward(self, obs):
        self.values.append(self.critic(obs))
        return self.values[-1]


def rollouts(windows: int, algo: str) -> tuple[dict[Node, list[torch.Tensor]], set[int]]:
    """The tensors of world 0's nodes in windows of a rollout, and the steps in which it fails."""
    task = Failing()
    horizon = HORIZON if algo == "shac" else HORIZON * windows
    settings = {"num_envs": WORLDS, "horizon": horizon, "actor_units": (8,), "critic_units": (8,)}
    config = resolve(task, algo, {**settings, "failure_gradient": False, "stagger": False, "critic_batches": 1})
    torch.set_num_threads(1)
    learner = SHAC(task, config)
    # Hardly any action: the cart rolls on.
    learner.actor.log_std.data.fill_(-6.0)
    learner.actor.mu[-1].weight.data.mul_(1e-2)
    learner.actor.mu[-1].bias.data.zero_()
    learner.env = Recorder(task, WORLDS)
    normalize = learner.normalizer.snapshot(torch.float64)
    nodes: dict[Node, list[torch.Tensor]] = {}
    failures = set()
    if learner.critic is not None:
        learner.target_critic = Valued(learner.target_critic)
    for index in range(windows if algo == "shac" else 1):
        window: Window = learner.rollout(normalize)
        nodes[Node("loss", index)] = [learner.actor_loss(window, normalize)]
        nodes[Node("parameters", index)] = list(learner.actor.parameters())
        failures |= {index * horizon + step for step in window.terminated[:, 0].nonzero().flatten().tolist()}
        if learner.critic is not None:
            nodes[Node("value", (index + 1) * horizon)] = learner.target_critic.values[-1:]
    for step, (before, action, reward, led_to) in enumerate(learner.env.steps):
        nodes.setdefault(Node("state", step), []).extend(before)
        nodes[Node("action", step)] = [action]
        nodes[Node("reward", step)] = [reward]
        closed = step in failures or (step + 1) % horizon == 0
        # A state that another world's reset was written beside is another tensor than the one that the step gave.
        nodes[Node("reached" if closed else "state", step + 1)] = list(led_to)
    return nodes, failures


def sources(target: Node, nodes: dict[Node, list[torch.Tensor]]) -> set[Node]:
    """Where a backward pass that begins at a node, in world 0, first arrives: at each node that it meets it ends."""
    met = set()

    def stop(node):
        def hook(gradient):
            if (gradient if node.kind in ("parameters", "loss") else gradient[0]).abs().sum() > 0:
                met.add(node)
            return torch.zeros_like(gradient)

        return hook

    own = {id(x) for x in nodes[target]}
    hooks = [
        x.register_hook(stop(node))
        for node, tensors in nodes.items()
        for x in tensors
        if x.requires_grad and id(x) not in own and (node.kind != "parameters" or node.index == window_of(target))
    ]
    begin = [x if x.ndim == 0 else x[0] for x in nodes[target] if x.requires_grad and x.numel()]
    if target.kind != "parameters" and begin:
        torch.autograd.backward(begin, [torch.ones_like(x) for x in begin], retain_graph=True)
    for hook in hooks:
        hook.remove()
    return met


def window_of(node: Node) -> int:
    return node.index if node.kind in ("loss", "parameters") else node.index // HORIZON


def found(nodes):
    return {(source, target) for target in nodes for source in sources(target, nodes)}


def flowing(table):
    return {(source, target) for source, target, link in table if link == "gradient"}


def test_shacs_edges_are_those_of_autograds_graph():
    nodes, failures = rollouts(3, "shac")
    assert failures == {4}
    table = edges(3, HORIZON, failures, critic=True)
    assert {edge.link for edge in table} == {"gradient", "window", "failure"}
    assert found(nodes) == flowing(table)


def test_bptts_edges_are_those_of_autograds_graph(monkeypatch):
    monkeypatch.setattr(Failing, "limit", 100.0)
    nodes, failures = rollouts(3, "bptt")
    assert not failures
    # All steps are in the one window.
    monkeypatch.setattr("test_graphs.HORIZON", 3 * HORIZON)
    assert found(nodes) == flowing(edges(1, HORIZON, critic=False))
