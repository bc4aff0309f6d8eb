"""One contract over every registered family."""

from __future__ import annotations

import copy
import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from helpers import by_family, pickled

from offlinemeta.datasets.scripted import SCRIPTED, walk_to_goal
from offlinemeta.envs import FAMILIES, SPLITS, TaskEnv, TaskFamily, TaskVectorEnv, env_id, get_family
from offlinemeta.envs.errors import ArgumentError, NotRelabelableError, ResetNeededError, UnknownNameError
from offlinemeta.envs.freeze import agree

T = 12  # steps of a short rollout


def actions(family: TaskFamily, steps: int = T, envs: int | None = None, seed: int = 0) -> np.ndarray:
    shape = (steps, *(() if envs is None else (envs,)), *family.action_space.shape)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def rollout(env: gym.Env, plan: np.ndarray, task: int = 0, seed: int = 3) -> dict[str, np.ndarray]:
    """Follow a plan of actions, resetting where an episode ends."""
    observation, info = env.reset(seed=seed, options={"task": task})
    rows: list[tuple[Any, ...]] = [(observation, 0.0, False, False, info["features"])]
    for action in plan:
        observation, reward, terminated, truncated, info = env.step(action)
        rows.append((observation, reward, terminated, truncated, info["features"]))
        if terminated or truncated:
            env.reset()
    return dict(
        zip(
            ("obs", "reward", "terminated", "truncated", "features"),
            map(np.array, zip(*rows, strict=True)),
            strict=True,
        )
    )


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(a[key], b[key]) for key in a)


@by_family()
def test_gymnasium_checker_is_silent(bare: TaskEnv) -> None:
    check_env(bare, skip_render_check=True)  # its warnings are errors here


@by_family()
def test_observations_lie_in_their_space_are_finite_and_not_aliased(env: gym.Env, family: TaskFamily) -> None:
    observation, _ = env.reset(seed=0, options={"task": 0})
    seen = [observation]
    for action in actions(family):
        observation, reward, terminated, truncated, _ = env.step(action)
        assert type(reward) is float
        assert np.isfinite(reward)
        assert type(terminated) is bool
        assert type(truncated) is bool
        seen.append(observation)
        if terminated or truncated:
            seen.append(env.reset()[0])
    kept = [observation.copy() for observation in seen]
    seen[0][:] = 7.0  # writing into one must reach neither another nor the simulator
    following = env.step(actions(family)[0])[0] if not (terminated or truncated) else env.reset()[0]
    assert family.observation_space.contains(following)
    for observation, copied in zip(seen[1:], kept[1:], strict=True):
        assert family.observation_space.contains(observation)
        assert np.isfinite(observation).all()
        assert np.array_equal(observation, copied)


@by_family()
def test_same_seed_and_actions_give_the_same_trajectory_under_any_global_seed(env: gym.Env, family: TaskFamily) -> None:
    runs = []
    for global_seed in (0, 1):
        random.seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        runs.append(rollout(env, actions(family)))
    assert same(*runs)


@by_family()
def test_reset_states_are_random_but_for_those_that_are_fixed(env: gym.Env, family: TaskFamily) -> None:
    first, second = (env.reset(seed=seed, options={"task": 0})[0] for seed in (0, 1))
    assert np.array_equal(first, second) == family.fixed_start


def scripted_plan(env: gym.Env, family: TaskFamily, steps: int = 40) -> np.ndarray:
    """What the family's script does in task 0."""
    params, plan = family.params(family.tasks["train"][:1]), []
    observation, _ = env.reset(seed=3, options={"task": 0})
    for t in range(steps):
        plan.append(SCRIPTED[family.name](observation[None], params, t)[0])
        observation = env.step(plan[-1])[0]
    return np.array(plan)


def telling_plan(env: gym.Env, bare: TaskEnv, family: TaskFamily) -> np.ndarray:
    """Actions whose rewards tell tasks apart: random ones, or a script's on task 0 where the reward needs skill."""
    if family.name == "SparsePointRobot":
        goal = family.params(family.tasks["train"][:1])
        return np.array([walk_to_goal(t * np.clip(goal, -0.1, 0.1), goal, t)[0] for t in range(family.horizon)])
    if family.varies == "both":
        return scripted_plan(env, family)
    if family.suite is None:
        return actions(family, 40)
    from metaworld.policies import ENV_POLICY_MAP

    policy, plan = ENV_POLICY_MAP[f"{family.task_name}-v3"](), []
    observation, _ = env.reset(seed=0, options={"task": 0})
    for _ in range(200):
        goal = bare._simulator._envs[0]._target_pos  # hidden from agents; Meta-World's scripts need it
        action = np.clip(policy.get_action(np.append(observation[:-3], goal).astype(float)), -1, 1)
        plan.append(action)
        observation = env.step(action)[0]
    return np.array(plan)


@pytest.mark.filterwarnings("ignore:Constant.s. may be too high")  # Meta-World's scripts
@by_family()
def test_tasks_differ_in_reward_or_dynamics(env: gym.Env, bare: TaskEnv, family: TaskFamily) -> None:
    plan = telling_plan(env, bare, family)
    first, second = (rollout(env, plan, task=task) for task in (0, 1))
    if family.varies == "dynamics":
        assert np.array_equal(first["obs"][0], second["obs"][0])
        assert not np.array_equal(first["obs"][1:], second["obs"][1:])
        return
    assert not np.array_equal(first["reward"], second["reward"])
    if family.varies == "both":
        assert not np.array_equal(first["obs"][0], second["obs"][0])
    elif family.suite != "ML1":  # Meta-World's tasks place objects too
        assert np.array_equal(first["obs"], second["obs"])


@by_family()
def test_the_time_limit_truncates_and_never_terminates(family: TaskFamily) -> None:
    short = copy.copy(family)
    short.horizon = 4
    env = TaskEnv(short)
    env.reset(seed=0)
    ends = [env.step(action)[2:4] for action in 0.1 * actions(family, 4)]
    env.close()
    assert ends == [(False, False)] * 3 + [(False, True)]


@by_family()
def test_info_has_the_same_keys_at_reset_and_at_every_step(env: gym.Env, family: TaskFamily) -> None:
    _, at_reset = env.reset(seed=0, options={"task": 1})
    _, _, _, _, at_step = env.step(actions(family)[0])
    assert at_reset.keys() == at_step.keys() == {"task", "features", "diverged", *family.info_names}
    for key in at_reset:
        assert type(at_reset[key]) is type(at_step[key])
        assert np.shape(at_reset[key]) == np.shape(at_step[key])
    assert at_reset["task"] == at_step["task"] == 1
    assert at_step["features"].shape == (len(family.feature_names),)
    assert at_step["features"].dtype == np.float32


@by_family()
def test_a_plain_reset_keeps_the_task(env: gym.Env, bare: TaskEnv) -> None:
    env.reset(seed=0, options={"task": 1})
    _, info = env.reset()
    assert info["task"] == bare.get_task().index == 1


@by_family()
def test_sampling_from_one_env_s_spaces_leaves_another_alone(bare: TaskEnv, family: TaskFamily) -> None:
    other = TaskEnv(family)
    for mine, theirs in ((bare.action_space, other.action_space), (bare.observation_space, other.observation_space)):
        mine.seed(0)
        first = mine.sample()
        mine.seed(0)
        theirs.seed(1)
        theirs.sample()
        assert np.array_equal(mine.sample(), first)
    other.close()


@by_family()
def test_stepping_one_env_leaves_another_alone(env: gym.Env, family: TaskFamily) -> None:
    plan = actions(family, 8)
    alone = rollout(env, plan, task=0)
    other = TaskEnv(family, task=1)
    other.reset(seed=5)
    env.reset(seed=3, options={"task": 0})
    rewards = [0.0]
    for action in plan:
        _, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
        if terminated or truncated:
            env.reset()
        if any(other.step(-action)[2:4]):
            other.reset()
    other.close()
    assert np.array_equal(rewards, alone["reward"])


@by_family()
def test_going_to_another_task_and_back_changes_nothing(env: gym.Env, family: TaskFamily) -> None:
    plan = actions(family, 6)
    first = rollout(env, plan, task=0)
    rollout(env, -plan, task=1)
    assert same(rollout(env, plan, task=0), first)


@by_family()
def test_a_batch_equals_single_envs_step_by_step_with_their_resets(env: gym.Env, family: TaskFamily) -> None:
    limit, tasks = 7, [1, 0, 1]
    plan = actions(family, 18, envs=3)
    envs = gym.make_vec(env_id(family), num_envs=3, max_episode_steps=limit, num_threads=2)
    observations, info = envs.reset(seed=10, options={"task": tasks})
    batch = [(observations, np.zeros(3), np.zeros(3, bool), np.zeros(3, bool), info)]
    batch += [envs.step(action) for action in plan]
    envs.close()
    for i, task in enumerate(tasks):
        observation, info = env.reset(seed=10 + i, options={"task": task})
        steps = 0
        assert np.array_equal(batch[0][0][i], observation)
        for (observations, rewards, terminated, truncated, infos), action in zip(batch[1:], plan[:, i], strict=True):
            observation, reward, ended, _, info = env.step(action)
            steps += 1
            cut = steps == limit
            assert (rewards[i], terminated[i], truncated[i]) == (reward, ended, cut)
            if ended or cut:
                assert infos["_final_obs"][i]
                assert np.array_equal(infos["final_obs"][i], observation)
                assert np.array_equal(infos["final_info"]["features"][i], info["features"])
                observation, info = env.reset()
                steps = 0
            else:
                assert "final_obs" not in infos or not infos["_final_obs"][i]
            assert np.array_equal(observations[i], observation)
            assert infos["task"][i] == info["task"] == task
            assert np.array_equal(infos["features"][i], info["features"])


@by_family(*(name for name, family in FAMILIES.items() if family.suite is None), "ML1-reach")
def test_a_copy_plays_the_present_task_and_begins_anew(family: TaskFamily) -> None:
    """However it was chosen, through wrappers too; the random generator goes on where the original's stood."""
    wanted, plan = family.tasks["test"][1], actions(family, 4)
    for choose in (
        lambda env: env.reset(seed=3, options={"task": 1, "split": "test"}),
        lambda env: env.unwrapped.set_task(wanted),
    ):
        env = gym.make(env_id(family), task=0)
        env.reset(seed=2)
        choose(env)
        for copied in (copy.deepcopy, pickled):
            twin = copied(env)
            assert twin.unwrapped.get_task() == env.unwrapped.get_task() == wanted
            assert twin.unwrapped.family is family
            assert twin.spec == env.spec
            with pytest.raises(ResetNeededError):
                twin.step(plan[0])
            assert np.array_equal(twin.unwrapped.np_random.random(3), copy.deepcopy(env.unwrapped.np_random).random(3))
            assert same(*(played(one, plan) for one in (twin, env)))
            twin.close()
        env.close()


def played(env: gym.Env, plan: np.ndarray) -> dict[str, np.ndarray]:
    observation, _ = env.reset(seed=5)
    steps = [(observation, 0.0), *(env.step(action)[:2] for action in plan)]
    return dict(zip(("obs", "reward"), map(np.array, zip(*steps, strict=True)), strict=True))


@by_family()
def test_the_reward_is_a_function_of_the_features_for_any_task(env: gym.Env, family: TaskFamily) -> None:
    tasks = family.tasks["train"][:2]
    if not family.feature_names:
        with pytest.raises(NotRelabelableError, match="another task"):
            family.reward(np.zeros((3, 0)), family.params(tasks[:1]))
        return
    runs = [rollout(env, actions(family, 30), task=task.index) for task in tasks]
    for task, run in zip(tasks, runs, strict=True):
        own = family.reward(run["features"][1:], family.params([task]))
        assert np.array_equal(own, run["reward"][1:])
        many = family.reward(run["features"][1:, None], family.params(family.tasks["train"]))
        assert many.shape == (30, len(family.tasks["train"]))
        assert np.array_equal(many[:, task.index], run["reward"][1:])
    if family.varies == "reward":  # the same experience, labelled for the other task, is what that env would have paid
        labels = family.reward(runs[0]["features"][1:], family.params([tasks[1]]))
        assert np.array_equal(labels, runs[1]["reward"][1:])


@by_family()
def test_splits_equal_their_formulas_and_are_disjoint(family: TaskFamily) -> None:
    drawn = family.draw_lists()
    for split in SPLITS:
        frozen = family.params(family.tasks[split])
        assert agree(frozen, drawn[split])  # not to the bit: a power's last one depends on the processor
        assert [task.index for task in family.tasks[split]] == list(range(len(frozen)))
    sets = [{task.params for task in family.tasks[split]} for split in SPLITS]
    if family.name == "CheetahDir":  # by definition there are two tasks, for training and for testing
        assert sets[0] == sets[1] == sets[2] == sets[3]
        return
    assert (len(sets[1]), len(sets[3])) == (20, 100)
    assert sum(map(len, sets)) == len(set.union(*sets)) == sum(len(tasks) for tasks in family.tasks.values())


@by_family()
def test_a_spec_survives_json(env: gym.Env, family: TaskFamily) -> None:
    wanted = family.tasks["test"][1]
    for given in ({"split": "test", "task": 1}, {"split": "test", "task": np.int64(1)}, {"task": wanted}):
        made = gym.make(env_id(family), **given)
        again = gym.make(EnvSpec.from_json(made.spec.to_json()))
        assert again.unwrapped.get_task() == made.unwrapped.get_task() == wanted
        made.close()
        again.close()


@by_family()
@pytest.mark.gl
def test_rendering_gives_pictures_that_move(family: TaskFamily) -> None:
    env = TaskEnv(family, render_mode="rgb_array", width=96, height=64)
    env.reset(seed=0)
    first = env.render()
    for _ in range(3):
        env.step(np.ones(family.action_space.shape))
    second = env.render()
    env.close()
    for picture in (first, second):
        assert picture.shape == (64, 96, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 1
    assert not np.array_equal(first, second)


@by_family()
def test_every_family_documents_itself(family: TaskFamily) -> None:
    assert type(family).__doc__
    assert family.summary
    assert len(set(family.param_names)) == len(family.param_names) == len(family.tasks["train"][0].params)
    assert FAMILIES[family.name] is family
    encoded = family.encode(family.params(family.tasks["train"]))
    assert encoded.shape[0] == len(family.tasks["train"])
    assert encoded.dtype == np.float32
    assert len(np.unique(encoded, axis=0)) == len(encoded)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (name, {option: value})
        for name, family in FAMILIES.items()
        for option in family.choices
        for value in family.choices[option][1:]
    ],
)
def test_families_with_options_keep_the_contract(name: str, options: dict[str, Any]) -> None:
    default, env = FAMILIES[name], gym.make(f"OfflineMeta/{name}-v0", split="test", task=1, **options)
    family = env.unwrapped.family
    assert family.options == options
    assert family is get_family(name, **options) is get_family(default, **options)
    assert env.unwrapped.get_task() == family.tasks["test"][1] != default.tasks["test"][1]
    assert len(family.param_names) == family.num_params == len(family.tasks["train"][0].params)
    check_env(env.unwrapped, skip_render_check=True)
    envs = gym.make_vec(f"OfflineMeta/{name}-v0", num_envs=2, task=0, **options)
    plan = actions(family, envs=2)
    assert np.array_equal(envs.reset(seed=3)[0][0], env.reset(seed=3, options={"task": 0, "split": "train"})[0])
    for action in plan:
        (observation, reward, *_), batch = env.step(action[0]), envs.step(action)
        assert np.array_equal(batch[0][0], observation)
        assert batch[1][0] == reward
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert again.unwrapped.family is family
    assert pickled(env).unwrapped.family.tasks == family.tasks
    assert env_id(family) == env_id(default)
    for each in (env, envs, again):
        each.close()


def test_options_that_do_not_exist() -> None:
    assert get_family("AntDir", variant=None) is FAMILIES["AntDir"]
    with pytest.raises(UnknownNameError, match=r"Option of AntDir 'varaint' does not exist\. Did you mean 'variant'\?"):
        gym.make("OfflineMeta/AntDir-v0", varaint="macaw")
    with pytest.raises(ArgumentError, match=r"variant of AntDir is \['x'\]\. Choose one of None, 'macaw', 'corro'"):
        TaskVectorEnv("AntDir", variant=["x"])
    with pytest.raises(UnknownNameError, match="Option of PointRobot 'variant'"):
        TaskEnv("PointRobot", variant="macaw")


def test_the_registry_holds_exactly_the_families() -> None:
    ids = {id for id in gym.registry if id.startswith("OfflineMeta/")}
    assert ids == {env_id(family) for family in FAMILIES.values()}
    assert len(FAMILIES) == 14 + 50
    envs = gym.make_vec("OfflineMeta/PointRobot-v0", num_envs=2)
    assert isinstance(envs, TaskVectorEnv)
    envs.close()
