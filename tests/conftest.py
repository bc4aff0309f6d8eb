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


@pytest.fixture(scope="session")
def point_smac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of datasets with PointRobot/smac, built once; for :func:`built`, which copies it."""
    from offlinemeta import datasets

    folder = tmp_path_factory.mktemp("point") / "datasets"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(folder))
        datasets.build("PointRobot/smac")
    return folder


@pytest.fixture
def built(here: Path, point_smac: Path) -> Path:
    """PointRobot/smac in :func:`here`, without a flat copy; its HDF5 file."""
    import shutil

    shutil.copytree(point_smac, here)
    return here / "OfflineMeta" / "PointRobot" / "smac-v1" / "data" / "main_data.hdf5"


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
