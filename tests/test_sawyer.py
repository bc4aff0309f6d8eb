"""SawyerScene: its aims by hand, its physics, the tasks that it refuses, and what its scripts can do."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
from scenes import DENSE, FAMILY, NOISE, idle, near, run, simulate, told, wandering

from offlinemeta.datasets.manipulation import BEHAVIOURS, RandomBehaviour, aimed
from offlinemeta.envs import SPLITS, Task, TaskEnv
from offlinemeta.envs.errors import TaskFileError
from offlinemeta.envs.families import sawyer_layout as scene
from offlinemeta.envs.families.sawyer import SawyerScene
from offlinemeta.envs.mujoco_simulator import MujocoSimulator
from offlinemeta.envs.task import write_tasks


def task(aim: str, **params: float) -> np.ndarray:
    """Parameters of a task with all things, a closed handle and an open bottom drawer."""
    values = {"side": 1, "stack_x": 0.6, "stack_y": 0.145, "handle drawer": 1, "bottom drawer": 2, "button": 1}
    values |= {"tray": 1, "tray_x": 0.7, "tray_y": -0.1, "object": 1, "object_x": 0.76, "object_y": -0.14}
    values |= {name.replace("_", " ") if name.endswith("drawer") else name: value for name, value in params.items()}
    names = [name.removesuffix(" [m]") for name in scene.PARAMS]
    assert set(values) <= set(names)
    return np.array([scene.AIMS.index(aim), *(float(values[name]) for name in names[1:])])


NO_TRAY, NO_OBJECT = {"tray": 0, "tray_x": 0, "tray_y": 0}, {"object": 0, "object_x": 0, "object_y": 0}


def unknown(aim: float) -> np.ndarray:
    """Parameters of a task whose aim is a number that stands for none."""
    return np.array([aim, *task("press_button", **NO_TRAY)[1:]])


FEATURES = {"tool": 0, "object": 3, "block": 6, "handle": 9, "bottom": 10, "button": 11}


def features(**values: tuple[float, ...]) -> np.ndarray:
    """Features of a scene in which nothing has happened, but for some."""
    row = np.array([0.6, -0.15, 0.17, 0.76, -0.14, 0.022, 0.756, 0.145, 0.028, 0.0, 0.156, 0.0])
    for name, value in values.items():
        row[FEATURES[name] : FEATURES[name] + len(value)] = value
    return row[None]


@pytest.mark.parametrize(
    ("aim", "short", "met"),
    [
        ("move_hand", {"tool": (0.675, 0.06, 0.315)}, {"tool": (0.675, 0.06, 0.31)}),  # 0.0814 and 0.0781 m away
        ("open_handle", {"handle": (0.09,)}, {"handle": (0.092,)}),  # 0.066 and 0.064 m from its end
        ("close_handle", {"handle": (0.066,)}, {"handle": (0.064,)}),
        ("press_button", {"button": (0.009,)}, {"button": (0.011,)}),
        ("open_bottom", {"bottom": (0.09,)}, {"bottom": (0.092,)}),
        ("close_bottom", {"bottom": (0.066,)}, {"bottom": (0.064,)}),
        ("move_block", {"block": (0.75, 0.081, 0.02)}, {"block": (0.75, 0.079, 0.02)}),
        ("move_object", {"object": (0.75, 0.06, 0.08)}, {"object": (0.75, -0.05, 0.08)}),  # 0.0849 and 0.0781 m
        ("object_in_tray", {"object": (0.771, -0.1, 0.02)}, {"object": (0.769, -0.169, 0.059)}),
        ("object_in_tray", {"object": (0.7, -0.1, 0.061)}, {"object": (0.7, -0.1, 0.059)}),  # above the walls
    ],
)
def test_success_by_hand(aim: str, short: dict[str, tuple[float, ...]], met: dict[str, tuple[float, ...]]) -> None:
    params = task(aim)[None]
    assert FAMILY.reward(features(**short), params) == -1
    assert FAMILY.reward(features(**met), params) == 0
    assert -1 <= DENSE.reward(features(**short), params) < 0
    assert DENSE.reward(features(**met), params) == 0


def test_what_is_not_there_meets_no_aim() -> None:
    nothing = features(object=(0, 0, 0), block=(0, 0, 0), handle=(-1,), bottom=(-1,), button=(0,))
    for aim in scene.AIMS:
        assert FAMILY.reward(nothing, task(aim)[None]) == -1


def test_dense_rewards_by_hand() -> None:
    """d / 0.3 and e / 0.15, at most 1 each, and half their sum."""
    grasped = features(tool=(0.76, -0.14, 0.022))  # the object is 0.1404 m from its goal
    left = np.hypot(0.01, 0.14)
    left = np.hypot(left, 0.002) - 0.08
    assert DENSE.reward(grasped, task("move_object")[None]) == pytest.approx(-0.5 * left / 0.15, abs=1e-9)
    pressing = features(tool=(0.6, 0.145, 0.189 - 0.03), button=(0.004,))  # the button's centre is at 0.189 - 0.004
    assert DENSE.reward(pressing, task("press_button")[None]) == pytest.approx(-0.5 * (0.026 / 0.3 + 0.6), abs=1e-9)
    bar = features(tool=(0.6, 0.0075, 0.1125), handle=(0.0,))  # at the bar; the drawer has 0.156 - 0.065 m to go
    assert DENSE.reward(bar, task("open_handle")[None]) == pytest.approx(-0.5 * 0.091 / 0.15, abs=1e-9)
    far = features(tool=(0.5, -0.2, 0.01))
    assert DENSE.reward(far, task("close_bottom")[None]) == pytest.approx(-0.5 * (1 + 0.091 / 0.15), abs=1e-9)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        (task("move_object", object=0), "its aim move_object needs an object; its object is 0"),
        (task("object_in_tray", tray=0), "its aim object_in_tray needs a tray"),
        (task("object_in_tray", object=0), "its aim object_in_tray needs an object"),
        (task("move_block", bottom_drawer=0), "needs a bottom drawer that starts open, for the block is in it"),
        (task("move_block", bottom_drawer=1), "needs a bottom drawer that starts open, for the block is in it"),
        (task("press_button", button=0), "its aim press_button needs a button; its button is 0"),
        (task("open_bottom", bottom_drawer=1, button=0), "needs a button to drive it"),
        (
            task("open_bottom"),
            "needs a bottom drawer that starts closed; its bottom drawer is 2",
        ),  # solved at the start
        (task("close_bottom", bottom_drawer=1), "needs a bottom drawer that starts open"),
        (task("close_handle"), "needs a handle drawer that starts open"),
        (task("open_handle", handle_drawer=2), "needs a handle drawer that starts closed"),
        (
            unknown(9),
            "its aim is 9, which is none of 0 (move_hand), 1 (open_handle), 2 (close_handle), 3 (press_button)",
        ),
        (unknown(-1), "its aim is -1, which is none of 0 (move_hand)"),
        (unknown(2.5), "its aim is 2.5, which is none of 0 (move_hand)"),
        (task("press_button", object=7), "its object is 7, which is none of 0 (none), 1 (mug), 2 (sofa), 3 (camera)"),
        (
            task("press_button", handle_drawer=3),
            "its handle drawer is 3, which is none of 0 (none), 1 (closed), 2 (open)",
        ),
        (task("press_button", tray=0.5), "its tray is 0.5, which is none of 0 (none), 1 (one)"),
        (task("press_button", side=0), "its side is 0, which is none of -1 (at y < 0), 1 (at y > 0)"),
        (task("press_button", stack_x=0.8), "its stack at x=0.8, y=0.145 m is out of reach"),
        (task("press_button", stack_y=-0.145), "its stack at x=0.6, y=-0.145 m is out of reach"),
        (task("press_button", object=0, object_x=0, object_y=0, tray_x=2), "its tray at x=2, y=-0.1 m is out of reach"),
        (task("press_button", **NO_TRAY, object_y=-0.3), "its object at x=0.76, y=-0.3 m is out of reach"),
        (
            task("press_button", **NO_TRAY, object_x=0.6),
            "its handle drawer (x 0.506 to 0.694, y -0.159 to 0.227 m) and ",
        ),
        (
            task("press_button", **NO_TRAY, object_x=0.75, object_y=0.12),
            "drawer (x 0.518 to 0.838, y 0.051 to 0.239 m)",
        ),
        (
            task("press_button", handle_drawer=0),
            "its tray (x 0.625 to 0.775, y -0.175 to -0.025 m) and its object (x 0.7",
        ),
        (task("object_in_tray", handle_drawer=0, object_x=0.7, object_y=-0.1), "its tray (x 0.625 to 0.775, y -0.175"),
        (
            task("press_button", **NO_OBJECT, tray_y=0.14),
            "and its tray (x 0.625 to 0.775, y 0.065 to 0.215 m) are in each",
        ),
        (task("move_object", **NO_TRAY, object_y=-0.05), "its object is at the goal from the start (they are 0.051 m"),
        (
            task("move_block", tray_x=0.78, tray_y=-0.04, **NO_OBJECT),
            "its tray (x 0.705 to 0.855, y -0.115 to 0.035 m)",
        ),
        (task("press_button", tray=0), "it has no tray, so that the tray's place is to be 0, 0, not 0.7, -0.1"),
        (task("press_button", object=0), "it has no object, so that the object's place is to be 0, 0, not 0.76, -0.14"),
        (task("move_object", **NO_TRAY), None),
    ],
)
def test_tasks_that_cannot_be_are_refused(
    params: np.ndarray, why: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why is None:
        assert FAMILY.refuse(params.tolist()) is None
        return
    assert why in str(FAMILY.refuse(params.tolist()))
    lists = {split: [list(t.params) for t in FAMILY.tasks[split]] for split in SPLITS}
    lists["val"][3] = params.tolist()
    write_tasks(tmp_path / "SawyerScene.json", "SawyerScene", scene.PARAMS, lists)
    monkeypatch.setattr("offlinemeta.envs.family.TASK_FILES", tmp_path)
    with pytest.raises(TaskFileError, match=r"val task 3 cannot be: it") as error:
        _ = SawyerScene().tasks
    assert why in str(error.value)


def test_each_aim_has_its_share_of_each_list_and_none_is_met_at_the_start() -> None:
    for split, tasks in FAMILY.tasks.items():
        shares = np.bincount(FAMILY.params(tasks)[:, scene.AIM].astype(int), minlength=len(scene.AIMS))
        assert shares.max() - shares.min() <= 1, split
        assert DENSE.params(DENSE.tasks[split]).tolist() == FAMILY.params(tasks).tolist()
    params = np.concatenate([FAMILY.params(tasks) for tasks in FAMILY.tasks.values()])
    for seed in range(3):
        step = simulate(params, seed).step(np.zeros((len(params), 4)))
        assert not step.info["success"].any()
    held = FAMILY.params([*FAMILY.tasks["train"], *FAMILY.tasks["test"], *FAMILY.tasks["test100"]])
    away = np.abs(FAMILY.params(FAMILY.tasks["ood"])[:, scene.STACK_X] - 0.6)
    assert away.min() > 0.015 > np.abs(held[:, scene.STACK_X] - 0.6).max()


def energy(simulator: MujocoSimulator, i: int) -> float:
    """Kinetic energy [J]."""
    model, data = simulator._model_of(i), simulator._load(i)
    mujoco.mj_energyVel(model, data)
    return float(data.energy[1])


def test_physics_settles() -> None:
    """Idle for 50 steps: nothing falls through anything, wanders off or jitters."""
    params = FAMILY.params(FAMILY.tasks["train"])
    simulator = simulate(params)
    before, idle = simulator.observe(), np.tile([0.0, 0.0, 0.0, -1.0], (50, 1))  # the fingers stay open
    for _ in range(50):
        step = simulator.step(idle)
        assert not step.diverged.any()
    moved = simulator.observe() - before
    assert max(energy(simulator, i) for i in range(50)) < 1e-9
    assert np.abs(moved).max() < 0.003  # they come to rest on soft contacts
    assert np.abs(moved[:, [4, 5, 7, 8]]).max() < 3e-4  # not sideways
    still = simulator.observe()
    simulator.step(idle)
    assert np.abs(simulator.observe() - still).max() < 1e-6


def test_both_sides_are_alike() -> None:
    """Mirrored scenes, actions and all give mirrored episodes, with contacts, up to what grows from rounding."""
    ours = FAMILY.draw_params(90, np.random.RandomState(3))
    theirs = ours.copy()
    theirs[:, [scene.SIDE, scene.TRAY_Y, scene.OBJECT_Y]] *= -1
    one, other = simulate(ours), simulate(theirs)
    flips = np.ones(one._state.shape[1])
    flips[1 + np.array([1, 10, 13, 15, 17, 20, 22])] = -1  # y of hand and things; x and z of their quaternions
    parked = ours[:, scene.BOTTOM] == 0
    other._state[:] = one._state * flips
    other._state[parked, 1 + 17] = 1.0
    mirror, checked = np.array([1.0, -1.0, 1.0, 1.0]), 1 + np.array([0, 1, 2, 5, 6, 7, 9, 10, 11, 16, 18])
    for t in range(75):
        actions = aimed(one.observe(), ours, t)
        assert not one.step(actions).diverged.any()
        other.step(actions * mirror)
        apart = np.abs(one._state - other._state * flips)[:, checked].max()
        assert apart < (1e-9 if t < 5 else 0.01), t


def test_the_button_drives_the_drawer_over_the_following_steps() -> None:
    """A short press is enough; the drawer goes its way while the hand goes elsewhere, a bit in each step; once."""
    params = np.stack([task("close_bottom", tray=0), task("open_bottom", bottom_drawer=1, tray=0)])
    simulator, opened = simulate(params), []
    for t in range(75):
        pressing = aimed(simulator.observe(), params, t)
        pressed = (simulator._state[:, 1 + 8] > 0.006).any()
        step = simulator.step(np.where(pressed, [0.0, -0.5, 1.0, 0.0], pressing))
        opened.append(step.features[:, 10])
        if step.features[:, 2].min() > 0.24:
            assert step.features[:, 11] == pytest.approx(0, abs=1e-6)  # the button is up again
    travelled = np.abs(np.diff(np.array(opened), axis=0))
    assert opened[0] == pytest.approx([0.156, 0.0], abs=1e-3)
    assert opened[-1] == pytest.approx([0.0, 0.156], abs=0.01)
    assert travelled.max() < 0.02
    assert (travelled > 0.001).sum(0).min() > 15


def test_observations_by_hand() -> None:
    params = np.stack(
        [task("move_hand"), task("move_hand", side=-1, handle_drawer=0, bottom_drawer=0, tray=0, object=0)]
    )
    seen = simulate(params).observe()
    assert seen[0, :3] == pytest.approx([0.6, -0.15, 0.17], abs=0.0101)
    assert seen[0, 3] == pytest.approx(0.08)
    assert seen[0, 4:7] == pytest.approx([0.76, -0.14, 0.0225], abs=0.0101)
    assert seen[0, 7:10] == pytest.approx([0.756, 0.145, 0.03], abs=0.0101)
    assert seen[0, 10:] == pytest.approx([0.756, 0.0075, 0.189], abs=1e-6)  # the button's centre on two drawers
    assert seen[1, 1] == pytest.approx(0.15, abs=0.0101)
    assert seen[1, 4:12].tolist() == [0.0] * 8
    assert seen[1, 12] == pytest.approx(0.0125 + 0.0265)  # its base is on the table
    aims = np.stack([task("move_hand"), task("press_button")])
    seen = MujocoSimulator(FAMILY, 2, 1)
    for i, row in enumerate(aims):
        seen.set_task(i, Task(FAMILY.name, "train", i, tuple(row.tolist())))
        seen.reset(i, np.random.default_rng(0))
    assert np.array_equal(*seen.observe())  # the aim is never in it


SHARES = dict(zip(scene.AIMS, (0.98, 0.9, 0.9, 0.98, 0.85, 0.85, 0.7, 0.9, 0.85), strict=True))
"""The least share of scenes in which a script has to succeed."""


@pytest.mark.parametrize("aim", scene.AIMS)
def test_scripts_succeed_with_noise(aim: str) -> None:
    """In 100 random scenes, until the end of the episode: what is put down stays there."""
    params = FAMILY.draw_params(900, np.random.RandomState(11))
    params = params[params[:, scene.AIM] == scene.AIMS.index(aim)]
    assert len(params) == 100
    success, _ = run(params, told(params))
    assert success[-1].mean() >= SHARES[aim]


def test_nothing_short_of_an_aim_is_paid_more_than_meeting_it() -> None:
    """In each scene the dense return of the told script is above that of standing still or just short of the aim."""
    params = FAMILY.draw_params(54, np.random.RandomState(13))
    _, paid = run(params, told(params))
    for act in (idle(params), near(params), wandering(params)):
        success, rewards = run(params, act)
        short = ~success.any(0)
        assert short.mean() > 0.4
        assert (rewards.sum(0)[short] < paid.sum(0)[short]).all()


def test_random_behaviour_meets_about_half_of_the_aims_and_does_not_look_at_them() -> None:
    params, rng = FAMILY.draw_params(180, np.random.RandomState(12)), np.random.default_rng(0)
    act = RandomBehaviour(params, NOISE)
    met = run(params, lambda seen, t: act(seen, params, rng))[0].any(0).mean()
    assert 0.4 < met < 0.65
    assert 1.3 < act.done.sum(1).mean() < 2.5  # behaviours that were finished in an episode
    there = params > 0
    for column, name in ((scene.HANDLE, "handle"), (scene.BUTTON, "button"), (scene.BOTTOM, "block")):
        done = act.done[:, BEHAVIOURS.index(name)]
        assert not done[~there[:, column]].any()
        assert done[there[:, column]].mean() > 0.1
    others = params.copy()
    others[:, scene.AIM] = (others[:, scene.AIM] + 1) % len(scene.AIMS)
    seen = simulate(params).observe()
    plain, changed = (RandomBehaviour(rows, NOISE)(seen, rows, np.random.default_rng(1)) for rows in (params, others))
    assert np.array_equal(plain, changed)


@pytest.mark.gl
def test_pictures_show_what_is_there() -> None:
    """A task's own model is drawn: moving or painting a tray changes pictures of scenes that have one, no others."""
    env = TaskEnv("SawyerScene", render_mode="rgb_array", width=160, height=160)
    trays = FAMILY.params(FAMILY.tasks["train"])[:, scene.TRAY]
    for there in (1, 0):
        env.reset(seed=0, options={"task": int(np.flatnonzero(trays == there)[0])})
        whole = env.render()
        model = env._simulator._model_of(0)
        kept = model.body("tray").pos.copy()
        model.body("tray").pos[:] = (0.0, 0.0, 9.0)
        changed = (env.render() != whole).any(-1).mean()
        model.body("tray").pos[:] = kept
        assert changed > 0.01 if there else changed == 0
        colours = model.geom_rgba.copy()
        model.geom("tray_floor").rgba[:] = (0.0, 0.0, 1.0, 1.0)
        assert ((env.render() != whole).any(-1).mean() > 0.001) == there
        model.geom_rgba[:] = colours
    env.close()
