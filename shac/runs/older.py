"""What run folders of earlier versions say, as today's would. Each entry names the day until which it was so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from shac.algos.normalizer import Normalizer


def upgrade_settings(content: dict[str, Any]) -> None:
    """Brings the content of a config.yaml up to date."""
    if content.get("algo") == "ppo":
        # 29 November 2026: it always was
        content.setdefault("shared_value", True)


def upgrade_learner(state: dict[str, Any]) -> None:
    """Brings a learner's state up to date; one that is not of the shape of its time is left to who reads it."""
    # 28 November 2026
    state.setdefault("since", 0)
    dynamics = state.get("dynamics")
    if isinstance(dynamics, dict) and "targets.mean" not in dynamics and "min_log_var" in dynamics:
        # 29 November 2026: MBPO's model learnt changes and rewards as they are
        as_they_are = Normalizer(len(dynamics["min_log_var"])).state_dict()
        dynamics |= {f"targets.{name}": value for name, value in as_they_are.items()}
    loss = state.get("loss")
    if isinstance(loss, Mapping) and "log_alpha" in loss:
        # 29 November 2026: the critics of SAC and MBPO were those of torchrl's SACLoss
        state["critics"] = _critics(loss, "qvalue_network_params.module.")
        state["target_critics"] = _critics(loss, "target_qvalue_network_params.module.")
        state["log_alpha"] = {"value": loss["log_alpha"]}
        if "critic_optimizer" in state:
            _reorder(state["critic_optimizer"]["state"])
        del state["loss"]


def _critics(loss: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """`networks.Ensemble`'s state."""
    kinds = {"weights": "weight", "biases": "bias"}
    found = {
        kind: [x for name, x in loss.items() if name.startswith(prefix) and name.endswith(end)]
        for kind, end in kinds.items()
    }
    return {f"{kind}.{k}": _shaped(x) for kind, entries in found.items() for k, x in enumerate(entries)}


def _shaped(x: torch.Tensor) -> torch.Tensor:
    """A layer's weights (critics, out, in) or biases (critics, out), as `networks.Ensemble` has them."""
    return x.mT.contiguous() if x.dim() == 3 else x[:, None]


def _reorder(moments: dict[int, dict[str, torch.Tensor]]) -> None:
    """Adam's moments of each layer's weight and bias -> of all weights, then of all biases."""
    order = [*range(0, len(moments), 2), *range(1, len(moments), 2)]
    entries = [{name: _shaped(x) if x.dim() else x for name, x in moments[k].items()} for k in order]
    moments.update(enumerate(entries))
