"""What the critic is fitted to, and the fit: Xu et al. 2022, equations 7 and 6."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from shac.algos.networks import NORM_EPSILON, Critic


def td_lambda(rewards: Tensor, next_values: Tensor, ended: Tensor, *, gamma: float, lambda_: float) -> Tensor:
    """TD(lambda) targets of a window: Xu et al. 2022, equation 7.

    The exponentially weighted mean of the k-step returns that fit into the window and into the episode, by the
    recursion G_t = r_t + gamma * ((1 - lambda) * V_t+1 + lambda * G_t+1), which begins anew wherever an episode ends.

    Args:
      rewards: rewards of the window's steps, (horizon, num_envs).
      next_values: value of the state that each step led to, before any reset; 0 where the episode terminated.
        (horizon, num_envs).
      ended: the step was its episode's last, terminated or truncated; bool, (horizon, num_envs).
      gamma: discount.
      lambda_: weight of longer returns; 0 gives one-step targets, 1 the longest returns.

    Returns:
      Targets for the values of the states in which the steps began, (horizon, num_envs).
    """
    carry = (gamma * lambda_) * (~ended).to(rewards.dtype)
    # Nothing is known beyond the window's last step: there the recursion begins.
    carry[-1] = 0
    local = torch.addcmul(rewards + gamma * next_values, carry, next_values, value=-1)
    targets = torch.empty_like(rewards)
    target = torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        target = torch.addcmul(local[t], carry[t], target, out=targets[t])
    return targets


class CriticFit:
    """Mean squared errors of a critic, reduced by Adam with gradients clipped to a norm.

    The gradient is written out: for networks this small autograd, clip_grad_norm_ and the optimiser's Python take as
    long as the arithmetic. On the CPU all of it is one call of TorchScript, which does not hold Python's lock: another
    thread can run the simulator meanwhile. On a card a pass is recorded once as a CUDA graph: its 170 launches take 20
    times as long as what they launch.

    Args:
      critic: what is fitted.
      optimizer: its Adam, whose moments and rates are used and kept.
      max_grad_norm: gradients are scaled down to it.
    """

    def __init__(self, critic: Critic, optimizer: torch.optim.Adam, max_grad_norm: float):
        self._critic, self._optimizer, self._max_grad_norm = critic, optimizer, max_grad_norm
        self._recorded: _Recorded | None = None

    @torch.no_grad()
    def __call__(self, obs: list[Tensor], targets: list[Tensor], passes: int) -> Tensor:
        """Goes through the minibatches, `passes` times.

        Args:
          obs: standardised observations of each minibatch, (n, num_obs).
          targets: their targets, (n,).
          passes: at least one.

        Returns:
          The sum of the minibatches' mean squared errors in the last pass, a scalar.
        """
        group, parameters = self._optimizer.param_groups[0], list(self._critic.parameters())
        states = [self._state(parameter) for parameter in parameters]
        moments = [[state[name] for state in states] for name in ("exp_avg", "exp_avg_sq", "step")]
        fitted = [[parameter.detach() for parameter in parameters], *moments]
        constants = (*group["betas"], group["eps"], NORM_EPSILON, self._max_grad_norm)
        if obs[0].device.type != "cuda":
            return _script()(*fitted, obs, targets, passes, group["lr"], *constants)
        if self._recorded is None or not self._recorded.fits(fitted, obs, constants):
            self._recorded = _Recorded(fitted, obs, targets, constants)
        return self._recorded(obs, targets, passes, group["lr"])

    def _state(self, parameter: torch.nn.Parameter) -> dict[str, Tensor]:
        """What a fused Adam keeps of a parameter, and makes at its first step."""
        state = self._optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state


class _Recorded:
    """A pass through minibatches on a card, as a CUDA graph: it reads and writes where it was recorded.

    Args:
      fitted: parameters, moments and steps: lists of tensors, changed where they are.
      obs, targets: minibatches of the shapes of all later ones.
      constants: the last arguments of `_fit`.
    """

    def __init__(self, fitted: list[list[Tensor]], obs: list[Tensor], targets: list[Tensor], constants: tuple):
        self._constants, self._places = constants, self._where(fitted)
        self._batches = [x.clone() for x in (*obs, *targets)]
        self._lr = torch.zeros((), dtype=torch.float32, device=obs[0].device)
        batches = self._batches[: len(obs)], self._batches[len(obs) :]
        # libraries make what they need at the first call, which must not be recorded; of copies, to change nothing
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            _fit(*([x.clone() for x in part] for part in fitted), *batches, 1, self._lr, *constants)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._total = _fit(*fitted, *batches, 1, self._lr, *constants)

    def fits(self, fitted: list[list[Tensor]], obs: list[Tensor], constants: tuple) -> bool:
        """Whether it is of these tensors, and of minibatches of these shapes."""
        same = [x.shape for x in obs] == [x.shape for x in self._batches[: len(obs)]]
        return same and self._where(fitted) == self._places and constants == self._constants

    def __call__(self, obs: list[Tensor], targets: list[Tensor], passes: int, lr: float) -> Tensor:
        """As `CriticFit.__call__`."""
        torch._foreach_copy_(self._batches, [*obs, *targets])
        self._lr.fill_(lr)
        for _ in range(passes):
            self._graph.replay()
        return self._total.clone()

    @staticmethod
    def _where(fitted: list[list[Tensor]]) -> list[int]:
        return [x.data_ptr() for part in fitted for x in part]


@functools.cache
def _script() -> Callable[..., Tensor]:
    with warnings.catch_warnings():
        # deprecated, but nothing else runs a loop of small operations without Python's lock, and starts at once
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(_fit)


def _fit(
    parameters: list[Tensor],
    exp_avgs: list[Tensor],
    exp_avg_sqs: list[Tensor],
    steps: list[Tensor],
    obs: list[Tensor],
    targets: list[Tensor],
    passes: int,
    lr: float,
    beta1: float,
    beta2: float,
    adam_epsilon: float,
    norm_epsilon: float,
    max_grad_norm: float,
) -> Tensor:
    """`CriticFit.__call__`; parameters as in `networks.mlp`: a weight, a bias and LayerNorm's two for each layer.

    As Python it also takes the rate as a tensor.
    """
    # one after the other, so that a norm is a single operation
    flat = torch.empty(sum([p.numel() for p in parameters]), dtype=obs[0].dtype, device=obs[0].device)
    grads = [part.view_as(p) for part, p in zip(flat.split([p.numel() for p in parameters]), parameters)]
    last = len(parameters) - 2
    total = torch.zeros_like(flat[0])
    for _ in range(passes):
        total.zero_()
        for x, target in zip(obs, targets):
            inputs = [x]
            hidden: list[Tensor] = []
            means: list[Tensor] = []
            scales: list[Tensor] = []
            for i in range(0, last, 4):
                y = torch.ops.aten.elu_(torch.addmm(parameters[i + 1], inputs[-1], parameters[i].t()))
                normed, mean, scale = torch.native_layer_norm(
                    y, [y.size(1)], parameters[i + 2], parameters[i + 3], norm_epsilon
                )
                inputs.append(normed)
                hidden.append(y)
                means.append(mean)
                scales.append(scale)
            error = torch.addmm(parameters[last + 1], inputs[-1], parameters[last].t()).squeeze(1) - target
            total += error.square().mean()

            grad = (error * (2.0 / error.numel())).unsqueeze(1)
            torch.mm(grad.t(), inputs[-1], out=grads[last])
            torch.sum(grad, [0], out=grads[last + 1])
            for k in range(len(hidden)):
                layer = len(hidden) - 1 - k
                i = 4 * layer
                y = hidden[layer]
                grad, gain, shift = torch.ops.aten.native_layer_norm_backward(
                    torch.mm(grad, parameters[i + 4]),
                    y,
                    [y.size(1)],
                    means[layer],
                    scales[layer],
                    parameters[i + 2],
                    parameters[i + 3],
                    [True, True, True],
                )
                grads[i + 2].copy_(gain)
                grads[i + 3].copy_(shift)
                # of the input, from the output y: 1 where that is positive, else y + 1
                grad = torch.ops.aten.elu_backward(grad, 1.0, 1.0, 1.0, True, y)
                torch.mm(grad.t(), inputs[layer], out=grads[i])
                torch.sum(grad, [0], out=grads[i + 1])

            norm = torch.ops.aten.linalg_vector_norm(flat)
            flat.mul_((max_grad_norm / (norm + 1e-6)).clamp(max=1.0))
            torch._foreach_add_(steps, 1)
            torch._fused_adam_(
                parameters,
                grads,
                exp_avgs,
                exp_avg_sqs,
                [],
                steps,
                lr=lr,
                beta1=beta1,
                beta2=beta2,
                weight_decay=0.0,
                eps=adam_epsilon,
                amsgrad=False,
                maximize=False,
            )
    return total
