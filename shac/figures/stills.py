"""Figures 1 and 5: the trained bodies in motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shac.env import Env
from shac.errors import UserError
from shac.figures import plot
from shac.figures.figure import Budget, Figure, Run
from shac.figures.grid import MODELS, TITLES, training
from shac.film import film
from shac.runs.checkpoint import load_run, path_of
from taichi_sim.render.camera import Camera

# Time filmed [s]: a pole is up, and a body runs, before it ends.
FILMED = 4.0
# Figure 1's moment of it: the pole swings, the bodies have found their gait.
MOMENTS = {"cartpole": 0.25}
MOMENT = 0.6
CAMERAS = {"cartpole": Camera(azimuth=90, elevation=-8, distance=3.2), "humanoid_mtu": Camera(distance=2.2)}
SIZE = 240
# Room for what stands above a picture [inches].
TITLE = 0.3
# Figure 5: frames, and the time between two [s], so that they cover a stride of 0.5 s.
FRAMES, EVERY = 6, 0.09
# Pixels, as many as the picture has for a frame, so that the renderer's bar of colours stays legible.
WIDTH, HEIGHT = 220, 290
# Near enough to tell muscles from each other, with room for a stride [m].
GAIT_CAMERA = Camera(azimuth=105, distance=2.2)


class Figure1(Figure):
    number = 1
    title = "The six bodies in motion"

    def runs(self, budget: Budget) -> list[Run]:
        return [training(model, "shac", 0, budget) for model in MODELS]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        wanted = [run for run in self.runs(budget) if path_of(runs / run.name, "best").is_file()]
        if not wanted:
            raise UserError(f"none of figure 1's runs in {runs} has begun")
        plt = plot.pyplot()
        size = SIZE * len(wanted) / plot.DPI, SIZE / plot.DPI + TITLE
        figure, panels = plt.subplots(1, len(wanted), figsize=size, squeeze=False)
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0)
        table = []
        for panel, run in zip(panels[0], wanted):
            poses, episode = longest_episode(runs / run.name)
            index = episode[round(MOMENTS.get(run.model, MOMENT) * (len(episode) - 1))]
            camera = CAMERAS.get(run.model, Camera())
            (picture,) = film.draw(poses, np.array([index]), camera, SIZE, SIZE, strip=True)
            panel.imshow(picture)
            panel.set_title(TITLES[run.model])
            panel.set_axis_off()
            table.append((run.model, run.name, (index - episode[0]) * poses.timestep))
        plot.write_csv(out / "data" / "fig01.csv", ("model", "run", "seconds_of_episode"), table)
        plot.save(figure, out / "fig01.png")


class Figure5(Figure):
    number = 5
    title = "Six moments of Humanoid MTU's gait, muscles coloured by activation"

    def runs(self, budget: Budget) -> list[Run]:
        return [training("humanoid_mtu", "shac", 0, budget)]

    def draw(self, runs: Path, out: Path, budget: Budget) -> None:
        (run,) = self.runs(budget)
        poses, episode = longest_episode(runs / run.name)
        # as far apart as wanted, or as the policy stays up
        step = min(EVERY / poses.timestep, (len(episode) - 1) / (FRAMES - 1))
        middle = episode[0] + (len(episode) - 1) // 2
        offsets = np.rint(step * (np.arange(FRAMES) - (FRAMES - 1) / 2)).astype(int)
        indices = np.clip(middle + offsets, episode[0], episode[-1])
        pictures = film.draw(poses, indices, GAIT_CAMERA, WIDTH, HEIGHT, strip=True)
        times = (indices - episode[0]) * poses.timestep
        plt = plot.pyplot()
        figure, panels = plt.subplots(1, FRAMES, figsize=(FRAMES * WIDTH / plot.DPI, HEIGHT / plot.DPI + TITLE))
        figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0)
        for panel, picture, time in zip(panels, pictures, times):
            panel.imshow(picture)
            panel.set_title(f"{time - times[0]:.2f} s")
            panel.set_axis_off()
        header = ("seconds_of_episode", "pelvis_x_m", "activation_mean", "activation_max")
        rows = [(t, poses.xpos[i, 1, 0].item(), *_activation(poses.act[i])) for t, i in zip(times.tolist(), indices)]
        plot.write_csv(out / "data" / "fig05.csv", header, rows)
        plot.save(figure, out / "fig05.png")


def longest_episode(run_dir: Path) -> tuple[film.Poses, np.ndarray]:
    """A film of a run's best policy, and the indices of its poses that are of the longest episode in it."""
    task, policy, config = load_run(run_dir, "best")
    env = Env(task, 1, device=config.device, substeps=config.policy_substeps, theta=config.theta)
    poses = film.roll_out(env, policy, round(FILMED / env.sim.model.opt.control_timestep))
    begins = [*sorted(poses.starts), len(poses)]
    begin, end = max(zip(begins, begins[1:]), key=lambda pair: pair[1] - pair[0])
    return poses, np.arange(begin, end)


def _activation(act: np.ndarray) -> tuple[float, float]:
    return act.mean().item(), act.max().item()
