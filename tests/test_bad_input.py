"""Each mistake gets a typed error or warning that shows the value and the remedy."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from offlinemeta.envs import ReferenceWarning, Task, TaskEnv, TaskVectorEnv, get_family, mujoco_simulator
from offlinemeta.envs import task as task_module
from offlinemeta.envs.errors import (
    ActionError,
    ArgumentError,
    MissingExtraError,
    OfflineMetaError,
    RenderError,
    ResetNeededError,
    TaskError,
    TaskFileError,
    UnknownNameError,
)
from offlinemeta.envs.families.ml1 import ML1
from offlinemeta.envs.families.point import PointRobot
from offlinemeta.envs.render import write_film


def raises(error: type[OfflineMetaError], *says: str):
    return pytest.raises(error, match=".*".join(re.escape(part) for part in says))


@pytest.fixture
def point():
    env = gym.make("OfflineMeta/PointRobot-v0")
    env.reset(seed=0)
    yield env
    env.close()


def test_unknown_names() -> None:
    with raises(UnknownNameError, "Family 'AntDri' does not exist. Did you mean 'AntDir'?"):
        get_family("AntDri")
    with raises(UnknownNameError, "'qwxz' does not exist. There are: PointRobot"):
        get_family("qwxz")
    with raises(UnknownNameError, "Split 'tests' does not exist. Did you mean 'test'?"):
        gym.make("OfflineMeta/AntDir-v0", split="tests")
    with raises(UnknownNameError, "Split 'xyz'", "train, val, test, test100, ood"):
        gym.make_vec("OfflineMeta/AntDir-v0", num_envs=2, split="xyz")
    with raises(UnknownNameError, "Autoreset mode 'Same'", "SameStep"):
        gym.make_vec("OfflineMeta/AntDir-v0", num_envs=2, autoreset_mode="Same")
    with raises(UnknownNameError, "Render mode 'rgb'", "rgb_array"):
        TaskEnv("PointRobot", render_mode="rgb")


def test_task_indices(point: gym.Env) -> None:
    with raises(TaskError, "PointRobot has 80 train tasks, so there is no task 80. Valid indices are 0 to 79."):
        gym.make("OfflineMeta/PointRobot-v0", task=80)
    with raises(TaskError, "no task -1"):
        point.reset(options={"task": -1})
    with raises(TaskError, "AntDir has 0 ood tasks", "It has none"):
        gym.make("OfflineMeta/AntDir-v0", split="ood")
    with raises(TaskError, "not True"):
        point.unwrapped.set_task(True)
    for bad in (np.array(1), "train", 1.5, {0: 1}):
        with raises(TaskError, "Tasks are an index, a Task, or a sequence of 3"):
            gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=3).unwrapped._as_tasks(bad)
    with raises(TaskError, "2 tasks were given for 3 environments"):
        TaskVectorEnv("PointRobot", num_envs=3, task=[0, 1])
    with raises(TaskError, "0 ood tasks"):
        get_family("AntDir").sample_tasks(3, "ood", 0)
    with raises(TaskError, "0 ood tasks"):
        TaskVectorEnv("AntDir", num_envs=2, split="ood")


def test_a_split_goes_with_a_task(point: gym.Env) -> None:
    point.reset(options={"task": 7, "split": "ood"})
    assert point.unwrapped.get_task() == get_family("PointRobot").tasks["ood"][7]
    point.reset(options={"task": 2})  # the split stays
    assert point.unwrapped.get_task().split == "ood"
    with raises(ArgumentError, "split='test' needs a task"):
        point.reset(options={"split": "test"})
    with raises(UnknownNameError, "Split 'tests' does not exist. Did you mean 'test'?"):
        point.reset(options={"task": 0, "split": "tests"})
    with raises(TaskError, "no task 30"):
        point.reset(options={"task": 30, "split": "test"})
    assert point.unwrapped.get_task().split == "ood"
    point.reset(options={"task": 0, "split": "train"})


def test_tasks_of_other_families_and_made_up_ones(point: gym.Env) -> None:
    with raises(TaskError, "Task(AntDir train[0]", "is a task of AntDir, not of PointRobot"):
        point.reset(options={"task": get_family("AntDir").tasks["train"][0]})
    with raises(TaskError, "not in the frozen task lists"):
        point.unwrapped.set_task(Task("PointRobot", "train", 0, (0.0, 0.0)))
    point.reset()  # a refused task changes nothing
    assert point.unwrapped.get_task().index == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_actions_that_are_not_finite(bad: float, point: gym.Env) -> None:
    with raises(ActionError, "The action at [1] is", "finite numbers in [-1, 1]"):
        point.step(np.array([0.0, bad]))
    envs = TaskVectorEnv("PointRobot", num_envs=3)
    envs.reset(seed=0)
    actions = np.zeros((3, 2))
    actions[2, 0] = bad
    with raises(ActionError, "The action at [2, 0] is"):
        envs.step(actions)
    envs.step(np.zeros((3, 2)))  # nothing was lost
    envs.close()


def test_actions_of_the_wrong_shape_or_kind(point: gym.Env) -> None:
    with raises(ActionError, "Actions have shape (3,); expected (2,)"):
        point.step(np.zeros(3))
    for bad in ("left", ["0.1", "0.2"], [True, False], [1j, 0], [[0.1], [0.1, 0.2]], None):
        with raises(ActionError, "must be an array of numbers"):
            point.unwrapped.step(bad)
    assert point.unwrapped.step([0, 1])[0].shape == (2,)  # a list of ints will do
    envs = TaskVectorEnv("PointRobot", num_envs=3)
    envs.reset(seed=0)
    with raises(ActionError, "Actions have shape (2, 2); expected (3, 2)"):
        envs.step(np.zeros((2, 2)))
    envs.close()


def test_steps_without_an_episode() -> None:
    env = TaskEnv("PointRobot")
    with raises(ResetNeededError, "Call reset() before the first step()"):
        env.step(np.zeros(2))
    env.reset(seed=0)
    env.set_task(3)
    with raises(ResetNeededError, "The task has changed. Call reset()"):
        env.step(np.zeros(2))
    env.reset()
    for _ in range(20):
        env.step(np.zeros(2))
    with raises(ResetNeededError, "The episode ended after 20 steps. Call reset()"):
        env.step(np.zeros(2))
    env.close()
    made = gym.make("OfflineMeta/PointRobot-v0")
    with pytest.raises(gym.error.ResetNeeded):
        made.step(np.zeros(2))
    made.close()


def test_batch_steps_without_an_episode() -> None:
    envs = TaskVectorEnv("PointRobot", num_envs=2, autoreset_mode="Disabled")
    with raises(ResetNeededError, "environments [0, 1] have no running episode"):
        envs.step(np.zeros((2, 2)))
    envs.reset(seed=0)
    envs.reset(options={"reset_mask": np.array([True, False])})
    for _ in range(20):
        envs.step(np.zeros((2, 2)))
    with raises(ResetNeededError, "environments [0, 1] have ended", "reset_mask"):
        envs.step(np.zeros((2, 2)))
    envs.set_tasks(1)
    with raises(ResetNeededError, "Call reset() first"):
        envs.step(np.zeros((2, 2)))
    envs.close()


@pytest.mark.parametrize("count", [0, -3])
def test_counts(count: int) -> None:
    with raises(ArgumentError, f"num_envs={count} must be a whole number of at least 1"):
        gym.make_vec("OfflineMeta/AntDir-v0", num_envs=count)
    with raises(ArgumentError, f"num_threads={count}"):
        gym.make_vec("OfflineMeta/AntDir-v0", num_envs=2, num_threads=count)


def test_horizons_masks_and_seeds() -> None:
    with raises(ArgumentError, "max_episode_steps=21 must lie between 1 and PointRobot's 20"):
        gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=2, max_episode_steps=21)
    for bad in (10.5, True, "10", 0):
        with raises(ArgumentError, "max_episode_steps"):
            gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=2, max_episode_steps=bad)
    envs = TaskVectorEnv("PointRobot", num_envs=2)
    for seed in (-1, 1.5, True, "1", [1, -1]):
        with raises(ArgumentError, "must be a whole number of at least 0"):
            envs.reset(seed=seed)
    for mask in (np.zeros(2, bool), np.ones(3, bool), np.ones(2)):
        with raises(ArgumentError, "reset_mask must be 2 bools"):
            envs.reset(options={"reset_mask": mask})
    with raises(ArgumentError, "3 seeds were given for 2 environments"):
        envs.reset(seed=[1, 2, 3])
    with raises(ArgumentError, "make a single environment with gym.make"):
        TaskVectorEnv("PointRobot", num_envs=2, render_mode="human")
    envs.close()


def test_reset_options(point: gym.Env) -> None:
    with raises(UnknownNameError, "Reset option 'tasks' does not exist. Did you mean 'task'?"):
        point.reset(options={"tasks": 3})
    with raises(ArgumentError, "Reset options are a dict such as {'task': 3}"):
        point.unwrapped.reset(options=["task"])
    with raises(ArgumentError, "seed=-1"):
        point.unwrapped.reset(seed=-1)
    with raises(ArgumentError, "n=-1"):
        point.unwrapped.sample_tasks(-1)
    for size in ({"width": 0}, {"height": -5}):
        with raises(ArgumentError, "must be a whole number of at least 1"):
            TaskEnv("PointRobot", render_mode="rgb_array", **size)


def damaged(good: str) -> list[tuple[str | None, str]]:
    content = json.loads(good)
    return [
        (None, "No such file"),
        ("", "Expecting value"),
        (good[: len(good) // 2], "Expecting"),
        ("[]", "not a task list of PointRobot"),
        (json.dumps(content | {"family": "AntGoal"}), "not a task list of PointRobot"),
        (json.dumps(content | {"params": ["x"]}), "its parameters are ['x']"),
        (json.dumps({key: content[key] for key in content if key != "ood"}), "the list of ood tasks is missing"),
        (json.dumps(content | {"test": [[0.5]]}), "test task 0 is [0.5], not 2 finite numbers"),
        (json.dumps(content | {"test": [[0.5, float("nan")]]}), "test task 0 is [0.5, nan]"),
        (json.dumps(content | {"test": [[0.5, "x"]]}), "test task 0 is [0.5, 'x']"),
    ]


@pytest.mark.parametrize("case", range(10))
def test_corrupt_task_files(case: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, says = damaged((task_module.TASK_FILES / "PointRobot.json").read_text())[case]
    monkeypatch.setattr("offlinemeta.envs.family.TASK_FILES", tmp_path)
    if content is not None:
        (tmp_path / "PointRobot.json").write_text(content)
    with raises(TaskFileError, "PointRobot.json cannot be used", says, "python -m offlinemeta.envs.freeze PointRobot"):
        _ = PointRobot().tasks


@pytest.mark.parametrize("content", ["[]", '{"family": "ML1-reach", "params": 3}', "{", '{"family": "ML1-reach"}'])
def test_corrupt_meta_world_task_files(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offlinemeta.envs.families.ml1.TASK_FILES", tmp_path)
    (tmp_path / "ML1-reach.json").write_text(content)
    with raises(TaskFileError, "ML1-reach.json cannot be used", "python -m offlinemeta.envs.freeze ML1-reach"):
        _ = ML1("reach").param_names


def test_missing_extras(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "metaworld", None)
    with raises(MissingExtraError, "pip install 'offlinemeta[metaworld]'"):
        gym.make("OfflineMeta/ML1-reach-v0")
    with raises(MissingExtraError, "pip install 'offlinemeta[metaworld]'"):
        gym.make_vec("OfflineMeta/ML1-reach-v0", num_envs=3)
    monkeypatch.setitem(sys.modules, "imageio.v2", None)
    with raises(MissingExtraError, "pip install 'offlinemeta[plots]'"):
        write_film(tmp_path / "x.mp4", [], fps=1)


def test_another_mujoco_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mujoco, "__version__", "9.9.9")
    mujoco_simulator.warn_of_other_versions.cache_clear()
    with pytest.warns(ReferenceWarning, match=r"MuJoCo 9\.9\.9 .* pip install mujoco==3\.3\.0"):
        gym.make("OfflineMeta/CheetahVel-v0").close()
    gym.make("OfflineMeta/CheetahVel-v0").close()  # a second warning would be an error
    mujoco_simulator.warn_of_other_versions.cache_clear()


def test_another_asset_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    changed = replace(get_family("CheetahVel").physics, sha256="0" * 64)
    with pytest.warns(ReferenceWarning, match=r"another half_cheetah\.xml .* constraints\.txt"):
        mujoco_simulator.load_model(changed)


def test_rendering_without_a_screen_or_a_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: None)
    env = TaskEnv("PointRobot", render_mode="rgb_array")
    env.reset(seed=0)
    with raises(RenderError, "apt-get install -y libosmesa6"):
        env.render()
    env.close()
    env = TaskEnv("PointRobot", render_mode="human")
    with raises(RenderError, "no screen"):
        env.reset(seed=0)
    env.close()


def test_a_mujoco_that_draws_otherwise_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of what is patched moved in MuJoCo 3.6, and may move again."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("ctypes.util.find_library", lambda name: f"lib{name}.so")
    monkeypatch.delattr(sys.modules[mujoco.Renderer.__module__], "gl_context")
    env = TaskEnv("PointRobot", render_mode="rgb_array")
    env.reset(seed=0)
    with raises(RenderError, f"MuJoCo {mujoco.__version__} draws", "MUJOCO_GL to osmesa"):
        env.render()
    env.close()


def test_rendering_without_a_mode_and_films_of_no_format(point: gym.Env, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert point.unwrapped.render() is None
    with pytest.raises(ArgumentError, match=r"A film is a \.mp4 or a \.gif, not 'x\.avi'"):
        write_film(tmp_path / "x.avi", [], fps=1)
