"""A training in several processes for tests: `python -m ranked FOLDER SIZE ...` leaves what each epoch came to.

One process forks the others, so that torch is imported once; there is no Taichi in them.
"""

import copy
import os
import socket
import sys
from pathlib import Path

import torch
from cartpole_double import CartPoleDouble, CartPoleOnDouble

from shac.algos.shac import SHAC
from shac.ranks import SOLO, joined
from shac.runs.config import resolve

EPOCHS = 5


class ShortEpisodes(CartPoleOnDouble):
    """In float64; windows meet time limits, early ones too, and worlds that begin far out fail at once."""

    episode_length = 5

    def simulator(self, num_envs, device=None):
        return CartPoleDouble(num_envs, dtype=torch.float64)

    def terminated(self, state, obs):
        return obs[:, 0].abs() > 1.4


def learner(ranks=SOLO):
    torch.set_num_threads(1)
    small = {"num_envs": 12, "horizon": 8, "max_epochs": 10, "actor_units": (8,), "critic_units": (8,)}
    more = {"critic_iterations": 2, "normalize_obs": True, "stagger": True, "early_limits": 0.3, "adjoint_bound": 0.8}
    return SHAC(ShortEpisodes(), resolve(ShortEpisodes(), "shac", {**small, **more}), ranks)


def train(shac, epochs: int) -> list[dict]:
    """What each epoch came to: its numbers, the actor's gradient, and the whole state."""
    results = []
    for _ in range(epochs):
        epoch = shac.train_epoch()
        gradient = torch.cat([parameter.grad.flatten() for parameter in shac.actor.parameters()])
        numbers = [epoch.actor_loss, epoch.critic_loss, epoch.grad_norm, epoch.finished]
        results.append({"numbers": numbers, "gradient": gradient, "state": copy.deepcopy(shac.state_dict())})
    return results


def main(size: int, folder: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ.update(dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)))
            os.environ.update(dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(size)))
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            with joined("cpu") as ranks:
                torch.save(train(learner(ranks), EPOCHS), folder / f"{size}-{rank}.pt")
            os._exit(0)
        children.append(child)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit("a process has failed")


if __name__ == "__main__":
    for size in sys.argv[2:]:
        main(int(size), Path(sys.argv[1]))
