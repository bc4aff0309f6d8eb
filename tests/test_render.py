"""A window on a virtual screen, and films."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from offlinemeta.cli.film import explored, film_episode
from offlinemeta.envs import get_family
from offlinemeta.envs.render import write_film
from offlinemeta.files import FileError

SCRIPT = """
import importlib.util
import gymnasium as gym, offlinemeta
for name in ("AntDir", "PointRobot", *(["ML1-reach"] if importlib.util.find_spec("metaworld") else [])):
    env = gym.make(f"OfflineMeta/{name}-v0", render_mode="human")
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    env.close()
left_open = gym.make("OfflineMeta/AntDir-v0", render_mode="human")
left_open.reset(seed=0)
print("shown")
"""


def test_windows_open_follow_the_episode_and_close(tmp_path: Path) -> None:
    screen = shutil.which("xvfb-run")
    if screen is None:
        if os.environ.get("OFFLINEMETA_REQUIRE_GL"):
            pytest.fail("xvfb-run is required here: apt-get install -y xvfb libgl1")
        pytest.skip("no virtual screen: apt-get install -y xvfb libgl1")
    command = [screen, "-a", sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "shown" in done.stdout


def test_a_film_to_a_forbidden_place_is_refused_before_it_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    drawn = []

    def pictures() -> Iterator[np.ndarray]:
        drawn.append(1)
        yield np.zeros((32, 32, 3), dtype=np.uint8)

    (tmp_path / "b.gif").mkdir()
    for name, message in (("file/a.mp4", "Nothing can be written in"), ("b.gif", "is a folder")):
        with pytest.raises(FileError, match=message):
            write_film(tmp_path / name, pictures(), 20)
    assert not drawn


@dataclass
class Learns:
    """An agent that notes what it is given, and whose policy notes what it observes."""

    contexts: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)

    def adapt(self, contexts):
        self.contexts.append(len(contexts[0]))
        return self

    def act(self, observations):
        return np.full((len(observations), 2), 2.0)  # clipped to the box

    def observe(self, observations, actions, rewards, next_observations, over):
        assert actions.tolist() == [[1.0, 1.0]]
        assert np.abs(next_observations - observations) == pytest.approx(0.1, abs=1e-5)
        self.rewards.append(float(rewards[0]))


@pytest.mark.gl
def test_a_filmed_agent_has_explored_and_observes_its_steps(tmp_path: Path) -> None:
    family, agent = get_family("PointRobot"), Learns()
    task = family.tasks["val"][2]
    policy = explored(agent, family, task, rollouts=2)
    assert agent.contexts == [0, 20, 40]
    assert len(agent.rewards) == 40
    total = film_episode(family, tmp_path / "film.gif", task, policy, 0, Console(quiet=True))
    assert sum(agent.rewards[40:]) == pytest.approx(total, rel=1e-5)
    assert len(agent.rewards) == 60
