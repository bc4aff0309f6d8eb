"""Draw the pictures of the families that the site shows: the expert at work. They need OpenGL, so they are committed.

Run ``python docs/site/pictures.py`` from the repository's root, or with names of families for those alone.
"""

from __future__ import annotations

import sys
from pathlib import Path

from families import shown
from PIL import Image

from offlinemeta.cli.film import draw, get_policy
from offlinemeta.envs import TaskEnv, get_family

FOLDER = Path(__file__).parent.parent / "pictures" / "families"
STEPS = {"PointRobot": 4, "SparsePointRobot": 5, "RotatedPointRobot": 1, "ML1-pick-place": 60}
CLOSER = dict.fromkeys(("PointRobot", "SparsePointRobot", "RotatedPointRobot"), (110, 110, 370, 370))
"""What is kept of pictures of small things in a wide view: left, top, right, bottom [pixels]."""
TASKS = {"PointRobot": 2, "RotatedPointRobot": 4}
"""Test tasks that show more than the second one does."""


def picture(name: str) -> None:
    """Write the picture of a family: its expert, told the task, after some steps in a test task."""
    family = get_family(name)
    task = family.task(TASKS.get(name, 1), "test")
    policy = get_policy(family, task, "expert", 0)
    env = TaskEnv(family, split="test", task=task.index, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    for _ in range(STEPS.get(name, 40)):
        observation, *_ = env.step(policy.act(observation[None])[0])
    frame = Image.fromarray(draw(env)).resize((480, 480))
    frame = frame.crop(CLOSER[name]).resize((480, 480)) if name in CLOSER else frame
    frame.save(FOLDER / f"{name}.jpg", quality=82, optimize=True)
    env.close()


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in sys.argv[1:] or shown():
        picture(each)
