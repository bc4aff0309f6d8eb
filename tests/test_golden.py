"""Rewards, features and ends worked out by hand."""

from __future__ import annotations

from math import atan2, pi

import numpy as np
import pytest

from offlinemeta.envs import TaskEnv, get_family
from offlinemeta.envs.errors import ArgumentError
from offlinemeta.envs.mujoco_family import MujocoFamily, State

A34 = atan2(0.8, 0.6)  # cos 0.6, sin 0.8


@pytest.mark.parametrize(
    ("family", "features", "params", "reward"),
    [
        ("PointRobot", (0.5, -0.25), (0.2, 0.15), -0.5),  # a 3-4-5 triangle
        ("SparsePointRobot", (0.9, 0.0), (1.0, 0.0), 0.9),
        ("SparsePointRobot", (0.81, 0.0), (1.0, 0.0), 0.81),
        ("SparsePointRobot", (0.79, 0.0), (1.0, 0.0), 0.0),  # beyond the radius
        ("RotatedPointRobot", (0.6, -0.8), (0.0, 1.0), -1.0),
        ("CheetahVel", (1.2, 1.5), (2.0,), -0.8 - 0.075),
        ("CheetahVel", (2.5, 0.0), (2.0,), -0.5),  # too fast is as bad as too slow
        ("CheetahDir", (1.2, 1.5), (-1.0,), -1.2 - 0.075),
        ("CheetahGear", (1.2, 1.5), (0.5, -0.5, 1.0, -1.0, 1.5, -1.5), 1.2 - 0.075),
        ("AntDir", (1.0, 2.0, 2.0, 1.0), (pi / 2,), 2.0 - 1.0 + 1.0),
        ("AntDir", (1.0, 2.0, 2.0, 0.0), (A34,), 0.6 + 1.6 - 1.0),  # fallen: no bonus
        ("AntGoal", (1.0, -2.0, 2.0), (3.0, 1.0), -(2.0 + 3.0) - 0.2),
        ("HumanoidDir", (2.0, 1.0, 0.5), (A34,), 1.25 * (1.2 + 0.8) - 0.05 + 5.0),
        ("HumanoidWalk", (2.0, 1.0, 0.5), (A34,), 1.25 * (1.2 + 0.8) - 0.05 + 1.0),
        ("WalkerParam", (1.5, 3.0), (1.0,) * 65, 1.5 + 1.0 - 0.003),
        ("HopperParam", (-0.5, 0.0), (1.0,) * 41, 0.5),
        # all other aims are in tests/test_sawyer.py; here the hand is 0.0781 and 0.0814 m from its goal
        ("SawyerScene", (0.675, 0.06, 0.31, *[0.0] * 9), (0.0, 1.0, 0.6, 0.145, *[0.0] * 9), 0.0),
        ("SawyerScene", (0.675, 0.06, 0.315, *[0.0] * 9), (0.0, 1.0, 0.6, 0.145, *[0.0] * 9), -1.0),
        # 0.11 m from it, of which 0.08 m need not be gone
        (
            "SawyerSceneDense",
            (0.675, 0.11, 0.26, *[0.0] * 9),
            (0.0, 1.0, 0.6, 0.145, *[0.0] * 9),
            -0.5 * (11 / 30 + 0.2),
        ),
    ],
)
def test_rewards(family: str, features: tuple[float, ...], params: tuple[float, ...], reward: float) -> None:
    got = get_family(family).reward(np.array([features]), np.array([params]))
    assert got == pytest.approx([reward], abs=1e-12)


@pytest.mark.parametrize(
    ("family", "variant", "features", "params", "reward"),
    [
        ("AntDir", "macaw", (1.0, 2.0, 2.0, 1.0), (pi / 2,), 2.0 - 1.0 + 1.0),
        ("AntDir", "macaw", (1.0, 2.0, 2.0, 0.0), (A34,), 0.6 + 1.6 - 1.0 + 1.0),  # the bonus comes in any case
        ("AntDir", "corro", (1.0, 2.0, 2.0, 0.0), (A34,), 0.6 + 1.6),
        ("CheetahVel", "macaw", (1.2, 1.5), (2.0,), -0.8 - 0.075),
        ("WalkerParam", "corro", (1.5, 3.0), (1.0,) * 32, 1.5 + 1.0 - 0.003),
    ],
)
def test_rewards_of_variants(
    family: str, variant: str, features: tuple[float, ...], params: tuple[float, ...], reward: float
) -> None:
    got = get_family(family, variant=variant).reward(np.array([features]), np.array([params]))
    assert got == pytest.approx([reward], abs=1e-12)


def test_definitions_of_variants() -> None:
    for variant in ("macaw", "corro"):
        ant = get_family("AntDir", variant=variant)
        assert not ant.terminated(state(15, 14, q2=0.1)).any()
        assert ant.terminates == "never"
        assert [task.params for task in ant.tasks["test"]] == [t.params for t in get_family("AntDir").tasks["test"]]
    tasks = get_family("CheetahVel", variant="macaw").tasks
    assert [task.params[0] for task in tasks["test"]] == pytest.approx([0.225, 0.6, 1.2, 1.8, 2.025])
    assert sorted(task.params[0] for task in tasks["train"] + tasks["test"]) == pytest.approx(np.linspace(0.075, 3, 40))
    walker, default = get_family("WalkerParam", variant="corro"), get_family("WalkerParam")
    assert walker.terminated(state(9, 9, q1=0.5)).all()
    assert not walker.terminated(state(9, 9, q1=0.51, q2=3.0)).any()
    whole = walker.observe(state(9, 9, q0=7.0, v8=50.0))[0]
    assert whole == pytest.approx([7.0, *[0] * 16, 50.0])
    assert [name.partition("[")[0] for name in walker.param_names] == ["body_mass"] * 8 + ["geom_friction"] * 24
    for name, factor in zip(walker.param_names, walker.tasks["train"][3].params, strict=True):
        assert default.tasks["train"][3].params[default.param_names.index(name)] == factor
    hidden = get_family("CheetahVel", position=False)
    assert hidden.observe(state(9, 9, q0=3.0, q1=0.1, v8=2.0))[0] == pytest.approx([0.1, *[0] * 15, 2.0])


def state(nq: int, nv: int, com: tuple[float, ...] = (), **qpos: float) -> State:
    """A state of zeros but for the given entries ``q0=..., v1=...``."""
    positions, velocities = np.zeros(nq), np.zeros(nv)
    for name, value in qpos.items():
        (positions if name[0] == "q" else velocities)[int(name[1:])] = value
    return State(positions[None], velocities[None], np.array([com]))


def mujoco_family(name: str) -> MujocoFamily:
    family = get_family(name)
    assert isinstance(family, MujocoFamily)
    return family


@pytest.mark.parametrize(
    ("family", "before", "after", "action", "features"),
    [
        # 0.1 m in 0.05 s; six actions of 0.5
        ("CheetahVel", state(9, 9, q0=1.0), state(9, 9, q0=1.1), [0.5] * 6, (2.0, 1.5)),
        ("AntDir", state(15, 14), state(15, 14, q0=0.1, q1=-0.05, q2=0.5), [0.5] * 8, (2.0, -1.0, 2.0, 1.0)),
        ("AntDir", state(15, 14), state(15, 14, q2=0.1), [0.0] * 8, (0.0, 0.0, 0.0, 0.0)),
        ("AntGoal", state(15, 14), state(15, 14, q0=3.0, q1=4.0), [1.0] * 8, (3.0, 4.0, 8.0)),
        # 0.03 m in 0.015 s; the control is 0.4 of the action: 17 * 0.16 * 0.25
        (
            "HumanoidDir",
            state(24, 23, (0.0, 0.0, 1.3)),
            state(24, 23, (0.03, -0.015, 1.2)),
            [0.5] * 17,
            (2.0, -1.0, 0.68),
        ),
        # 0.016 m in 0.008 s
        ("WalkerParam", state(9, 9), state(9, 9, q0=0.016), [1.0] * 6, (2.0, 6.0)),
        ("HopperParam", state(6, 6), state(6, 6, q0=-0.008), [0.5] * 3, (-1.0, 0.75)),
    ],
)
def test_features(family: str, before: State, after: State, action: list[float], features: tuple[float, ...]) -> None:
    definition = mujoco_family(family)
    got = definition.features(before, np.array([action]), after, definition.terminated(after))
    assert got[0] == pytest.approx(np.array(features), rel=1e-6)


@pytest.mark.parametrize("family", ["AntDir", "HumanoidDir"])
def test_progress_is_the_speed_along_the_wanted_direction(family: str) -> None:
    features = np.zeros((2, len(get_family(family).feature_names)), dtype=np.float32)
    features[:, :2] = (1.0, 2.0)
    assert mujoco_family(family).info(features, np.array([[pi / 2], [A34]]))["progress"] == pytest.approx([2.0, 2.2])
    env = TaskEnv(family, task=3)
    env.reset(seed=0)
    info = env.step(np.ones(env.action_space.shape))[4]
    angle = env.get_task().params[0]
    assert info["progress"] == pytest.approx(info["features"][0] * np.cos(angle) + info["features"][1] * np.sin(angle))
    env.close()


@pytest.mark.parametrize(
    ("family", "where", "ended"),
    [
        ("CheetahVel", state(9, 9, q1=-9.0), False),
        ("AntGoal", state(15, 14, q2=-9.0), False),
        ("AntDir", state(15, 14, q2=0.19), True),
        ("AntDir", state(15, 14, q2=0.21), False),
        ("AntDir", state(15, 14, q2=0.99), False),
        ("AntDir", state(15, 14, q2=1.01), True),
        ("HumanoidDir", state(24, 23, q2=0.99), True),
        ("HumanoidDir", state(24, 23, q2=1.4), False),
        ("HumanoidDir", state(24, 23, q2=2.01), True),
        ("WalkerParam", state(9, 9, q1=0.8), True),
        ("WalkerParam", state(9, 9, q1=1.2, q2=0.99), False),
        ("WalkerParam", state(9, 9, q1=1.2, q2=-1.0), True),
        ("HopperParam", state(6, 6, q1=0.71), False),
        ("HopperParam", state(6, 6, q1=0.7), True),
        ("HopperParam", state(6, 6, q1=1.2, q2=0.2), True),
        ("HopperParam", state(6, 6, q1=1.2, v4=100.0), True),
        ("HopperParam", state(6, 6, q1=1.2, q3=-100.0), True),
        ("HopperParam", state(6, 6, q0=500.0, q1=1.2), False),  # the distance run is no reason
    ],
)
def test_ends(family: str, where: State, ended: bool) -> None:
    assert mujoco_family(family).terminated(where).tolist() == [ended]


def test_observations() -> None:
    cheetah = mujoco_family("CheetahVel").observe(state(9, 9, q0=3.0, q1=0.1, q8=0.8, v0=1.0, v8=2.0))[0]
    assert cheetah == pytest.approx([0.1, *[0] * 6, 0.8, 1.0, *[0] * 7, 2.0, 3.0, 0.0, 0.8])
    ant = state(15, 14, q0=1.0, q1=2.0, q2=3.0, v13=4.0)
    assert mujoco_family("AntDir").observe(ant)[0] == pytest.approx([3.0, *[0] * 25, 4.0])
    assert mujoco_family("AntGoal").observe(ant)[0] == pytest.approx([1.0, 2.0, 3.0, *[0] * 25, 4.0])
    hopper = mujoco_family("HopperParam").observe(state(6, 6, q0=9.0, q1=1.2, v0=50.0, v5=-50.0))[0]
    assert hopper == pytest.approx([1.2, 0, 0, 0, 0, 10.0, 0, 0, 0, 0, -10.0])


def test_first_tasks() -> None:
    """The first numbers of numpy.random.RandomState(1337), written out."""
    velocities = [task.params[0] for task in get_family("CheetahVel").tasks["train"][:3]]
    assert velocities == pytest.approx([0.78607403, 0.47605192, 0.83437956], abs=1e-8)
    angles = [np.rad2deg(task.params[0]) for task in get_family("AntDir").tasks["train"][:2]]
    assert angles == pytest.approx([94.32888301, 57.12622998], abs=1e-8)
    assert [t.params[0] for t in get_family("CheetahVel").tasks["ood"]] == pytest.approx(np.arange(3.1, 4.05, 0.1))


def test_task_descriptions() -> None:
    assert get_family("AntDir").encode(np.array([pi / 2])) == pytest.approx([0.0, 1.0], abs=1e-7)
    assert get_family("CheetahVel").encode(np.array([1.5])) == pytest.approx([1.5])
    assert get_family("HopperParam").encode(np.full(41, np.e)) == pytest.approx(np.ones(41))


def test_a_point_walks_a_tenth_of_a_metre() -> None:
    env = TaskEnv("SparsePointRobot")
    assert env.reset(seed=0)[0].tolist() == [0.0, 0.0]
    observation, _, _, _, info = env.step(np.array([1.0, -0.5]))
    assert observation == pytest.approx([0.1, -0.05])
    assert info["features"] == pytest.approx([0.1, -0.05])
    env.close()


def test_a_point_s_actions_are_turned() -> None:
    """By the 3-4-5 triangle's angle; and out of the distribution, with a gain of 2, by a quarter."""
    family = get_family("RotatedPointRobot")
    moved = family.displacement(np.array([[1.0, -0.5], [1.0, -0.5]]), np.array([[0.6, 0.8], [0.0, 2.0]]))
    assert moved == pytest.approx(np.array([[0.06 + 0.04, 0.08 - 0.03], [0.1, 0.2]]))
    env = TaskEnv("RotatedPointRobot", task=5)
    before, _ = env.reset(seed=0)
    after, *_ = env.step(np.array([1.0, 0.0]))
    assert after - before == pytest.approx(0.1 * np.array(env.get_task().params), abs=1e-6)
    env.close()
    for split, gains in (("train", (1.0, 1.0)), ("test", (1.0, 1.0)), ("ood", (1.5, 2.0))):
        gain = np.hypot(*family.params(family.tasks[split]).T)
        assert ((gain > gains[0] - 1e-12) & (gain < gains[1] + 1e-12)).all()


def test_gears_are_reversed_as_often_as_not_and_stronger_out_of_the_distribution() -> None:
    family = get_family("CheetahGear")
    for split, (low, high) in (("train", (0.5, 1.5)), ("test", (0.5, 1.5)), ("ood", (1.5, 2.0))):
        factors = family.params(family.tasks[split])
        assert ((np.abs(factors) >= low) & (np.abs(factors) <= high)).all()
        assert 0.3 < (factors < 0).mean() < 0.7


@pytest.mark.parametrize(
    ("family", "size", "noise", "velocity"),
    [
        ("CheetahVel", 9, 0.1, "normal"),
        ("AntDir", 15, 0.1, "normal"),
        ("AntGoal", 15, 0.1, "normal"),
        ("HumanoidDir", 24, 0.01, "uniform"),
        ("WalkerParam", 9, 0.005, "uniform"),
        ("HopperParam", 6, 0.005, "uniform"),
    ],
)
def test_reset_noise(family: str, size: int, noise: float, velocity: str) -> None:
    rng = np.random.default_rng(0)
    draws = [mujoco_family(family).reset_state(np.ones(size), size, rng) for _ in range(400)]
    qpos, qvel = (np.array(part) for part in zip(*draws, strict=True))
    assert qpos.min() == pytest.approx(1 - noise, rel=noise / 10)
    assert qpos.max() == pytest.approx(1 + noise, rel=noise / 10)
    deviation = noise if velocity == "normal" else noise / np.sqrt(3)
    assert qvel.std() == pytest.approx(deviation, rel=0.05)
    assert (np.abs(qvel).max() > noise) == (velocity == "normal")


def test_points_start_anywhere_in_the_square() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([get_family("PointRobot").reset_state(rng) for _ in range(400)])
    assert starts.min(0) == pytest.approx([-1, -1], abs=0.02)
    assert starts.max(0) == pytest.approx([1, 1], abs=0.02)


def test_rewards_refuse_another_number_of_entries() -> None:
    for features, params in ((3, 2), (2, 1), (2, 3)):
        with pytest.raises(ArgumentError, match=r"PointRobot: .* expected \(2, 2\)"):
            get_family("PointRobot").reward(np.zeros((4, features)), np.zeros((4, params)))
