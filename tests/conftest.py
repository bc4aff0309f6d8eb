"""Shape checks on, and what the tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook("offlinemeta", "helpers.checked")  # before offlinemeta is imported anywhere

import gymnasium as gym  # noqa: E402

import offlinemeta  # noqa: E402, F401
from offlinemeta.envs import FAMILIES, TaskEnv, TaskFamily, env_id  # noqa: E402
from offlinemeta.envs.errors import RenderError  # noqa: E402


@pytest.fixture(scope="module")
def family(request: pytest.FixtureRequest) -> TaskFamily:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def env(family: TaskFamily) -> Iterator[gym.Env]:
    """The family as a user makes it; shared, so every test begins with a seeded reset to a task."""
    env = gym.make(env_id(family))
    yield env
    env.close()


@pytest.fixture(scope="module")
def bare(env: gym.Env) -> TaskEnv:
    assert isinstance(env.unwrapped, TaskEnv)
    return env.unwrapped


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of datasets, and no remote."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.delenv("MINARI_REMOTE", raising=False)
    return tmp_path / "datasets"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs OpenGL where there is none, except where it is required (continuous integration)."""
    if item.get_closest_marker("gl") is None or os.environ.get("OFFLINEMETA_REQUIRE_GL"):
        return
    env = TaskEnv("PointRobot", render_mode="rgb_array", width=32, height=32)
    env.reset(seed=0)
    try:
        env.render()
    except RenderError as error:
        pytest.skip(str(error))
    finally:
        env.close()
