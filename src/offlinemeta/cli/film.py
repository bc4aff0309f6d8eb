"""Films of one episode, for the command line: who acts in it, and what its pictures show."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.progress import track

from offlinemeta.benchmark.agent import Agent, FunctionPolicy, Policy
from offlinemeta.benchmark.context import empty_context
from offlinemeta.benchmark.runner import adapt, own_rollout, seed_agent
from offlinemeta.datasets.explorers import Wanderer
from offlinemeta.datasets.policies import behaviours
from offlinemeta.datasets.scripted import SCENES, SCRIPTED, Scripted
from offlinemeta.envs import Task, TaskEnv, TaskFamily, TaskVectorEnv
from offlinemeta.envs.errors import ArgumentError, UnknownNameError
from offlinemeta.envs.families.sawyer_layout import AIMS, asking
from offlinemeta.envs.render import write_film
from offlinemeta.envs.shapes import Array, Float, UInt8

MAX_FPS = 40
"""The most pictures per second of a film; where a simulation has more steps a second, some are left out."""

ROLLOUT = 3
"""Which of an agent's rollouts in a task is filmed: in two, it has explored."""

RANDOM_BEHAVIOUR = "random-behaviour"


# --- who acts


def get_task(family: TaskFamily, split: str, index: int | None, policy: str) -> Task:
    """Return the task of an index, by default the first one; for the script of an aim, the first with that aim."""
    if index is None and family.name in SCENES and policy in AIMS:
        return next(task for task in family.tasks[split] if family.describe(task.params) == policy)
    return family.task(index or 0, split)


def get_policy(family: TaskFamily, task: Task, name: str, seed: int, rollout: int = ROLLOUT) -> Policy:
    """Return a policy for one episode of a task, which all but random actions and agents are told.

    Args:
        family: the family.
        task: the task.
        name: ``random``, for uniform actions; ``scripted``; ``expert``, the best behaviour policy; in the manipulation
            scenes ``random-behaviour``, or the aim that a script is for; or the file of an agent.
        seed: seed of all randomness.
        rollout: which of an agent's rollouts in the task; it has adapted to those before.

    Raises:
        UnknownNameError: there is no such policy, or the family has none of that kind.
        ArgumentError: the scene does not allow what the script does; the message says why.
        RunError: the file of the agent is missing, damaged, or of another family.
    """
    rng, size = np.random.default_rng(seed), family.action_space.shape[0]
    if name.endswith(".safetensors"):
        from offlinemeta.baselines.training.checkpoint import load_agent

        return explored(load_agent(family, Path(name)), family, task, rollout - 1, seed)
    if name == "random":
        return FunctionPolicy(lambda observations: rng.uniform(-1, 1, (len(observations), size)))
    if name == "expert":
        best, params = behaviours(family)[-1], family.params([task])
        return FunctionPolicy(lambda observations: best.act(observations, params, None))
    if name == "scripted" and family.name in SCRIPTED:
        return _following(SCRIPTED[family.name], family.params([task]))
    if name == "scripted":
        raise UnknownNameError("Scripted policy of family", family.name, SCRIPTED)
    if family.name in SCENES and name == RANDOM_BEHAVIOUR:
        wander, params = Wanderer(family).explore([task]), family.params([task])
        return FunctionPolicy(lambda observations: wander(observations, params, rng))
    if family.name in SCENES and name in AIMS:
        told = asking(name, task.params)
        if (why := family.refuse(told)) is not None:
            raise ArgumentError(f"{name} cannot be filmed in {task}: {why}. Without --task, one is chosen.")
        return _following(SCRIPTED[family.name], np.array([told]))
    scripts = (RANDOM_BEHAVIOUR, *AIMS) if family.name in SCENES else ()
    raise UnknownNameError("Policy", name, ("random", "scripted", "expert", *scripts, "agent.safetensors of a run"))


def _following(script: Scripted, params: Float[Array, "1 P"]) -> Policy:
    clock = count()
    return FunctionPolicy(lambda observations: script(observations, params, next(clock)))


def explored(agent: Agent, family: TaskFamily, task: Task, rollouts: int, seed: int = 0) -> Policy:
    """Return an agent's policy for a task after some rollouts of its own in it."""
    envs, contexts = TaskVectorEnv(family, 1, autoreset_mode="Disabled"), [empty_context(family)]
    seed_agent(agent, seed)
    rng = np.random.default_rng(seed)
    for _ in range(rollouts):
        _, contexts = own_rollout(agent, envs, [task], contexts, rng)
    envs.close()
    return adapt(agent, contexts, [task])


# --- what its pictures show


def film_episode(family: TaskFamily, path: Path, task: Task, policy: Policy, seed: int, console: Console) -> float:
    """Film one episode in real time, and return the episode's return.

    A line in each picture says what the task is, and how it goes.

    Raises:
        RenderError: OpenGL is not available; the message names the remedy.
    """
    env = TaskEnv(family, split=task.split, task=task.index, render_mode="rgb_array")
    stride = math.ceil(env.metadata["render_fps"] / MAX_FPS)
    observe, total = getattr(policy, "observe", None), 0.0
    title = f"{family.name}, {task.split} task {task.index}"
    title += f": {described}" if (described := family.describe(task.params)) else ""

    def pictures() -> Iterator[UInt8[Array, "H W 3"]]:
        nonlocal total
        before, _ = env.reset(seed=seed)
        yield caption(draw(env), title, "step 0")
        for t in track(range(1, family.horizon + 1), f"filming {family.name}", console=console, transient=True):
            action = np.clip(policy.act(before[None]), -1, 1).astype(np.float32)
            after, reward, terminated, truncated, info = env.step(action[0])
            over = terminated or truncated
            if observe is not None:
                observe(before[None], action, np.array([reward], dtype=np.float32), after[None], np.array([over]))
            before, total = after, total + reward
            if t % stride == 0:
                success = ", success" if info.get("success") else ""
                yield caption(draw(env), title, f"step {t} of {family.horizon}, return {total:.1f}{success}")
            if over:
                return

    write_film(path, pictures(), fps=env.metadata["render_fps"] / stride)
    env.close()
    return total


def draw(env: TaskEnv) -> UInt8[Array, "H W 3"]:
    """Return a picture of an env made with ``rgb_array``."""
    picture = env.render()
    assert picture is not None
    return picture


def caption(picture: UInt8[Array, "H W 3"], *lines: str) -> UInt8[Array, "H W 3"]:
    """Return a picture with lines of text in its upper left corner."""
    image = Image.fromarray(picture)
    font, text = ImageFont.load_default(16), "\n".join(lines)
    ImageDraw.Draw(image).multiline_text((10, 8), text, "white", font, spacing=4, stroke_width=1, stroke_fill="#333")
    return np.asarray(image)
