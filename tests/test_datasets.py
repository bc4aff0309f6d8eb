"""The contract of every dataset, on tiny builds: what is collected is what we, Minari and TorchRL load."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offlinemeta import datasets
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.datasets import loading, storage
from offlinemeta.datasets import manifest as manifests
from offlinemeta.datasets import spec as specs
from offlinemeta.datasets.behaviour import GRID
from offlinemeta.datasets.collect import collect, in_batches, roll_out
from offlinemeta.datasets.dataset import Dataset, Episode, join_episodes
from offlinemeta.datasets.errors import DamagedDatasetError, DatasetError, DatasetMissingError, OtherContentError
from offlinemeta.datasets.policies import behaviours
from offlinemeta.datasets.references import read_references
from offlinemeta.datasets.spec import DATASETS, RANDOM_BEHAVIOUR, DatasetSpec, get_spec, spread
from offlinemeta.envs import Task, get_family
from offlinemeta.envs.errors import NotRelabelableError, TaskError, UnknownNameError


@dataclass(frozen=True)
class Tiny(DatasetSpec):
    """A dataset on one or two tasks of each split."""

    @property
    def tasks(self) -> tuple[Task, ...]:
        lists = get_family(self.family).tasks
        return (lists["test"][1], *lists["ood"][:1]) if self.heldout else lists["train"][:2]


def tiny(spec: DatasetSpec, rollouts: int = 2) -> Tiny:
    return Tiny(spec.family, spec.quality, spec.heldout, rollouts)


@pytest.fixture
def short_ml1(monkeypatch: pytest.MonkeyPatch) -> None:
    from offlinemeta.envs.families.ml1 import ML1

    monkeypatch.setattr(ML1, "horizon", 40)


def build(spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Build a dataset that has an id of the package's, and other content."""
    monkeypatch.setattr(manifests, "MANIFEST", Path("no manifest"))
    monkeypatch.setitem(specs.DATASETS, spec.id, spec)  # type: ignore[index]
    return datasets.build(spec)


def of_one_ml1(spec: DatasetSpec) -> bool:
    """All of one Meta-World task, and one of each other: they share all code but the script."""
    return get_family(spec.family).suite is None or spec.family == "ML1-reach" or spec.name == "smac-v1"


CONTRACT = [
    pytest.param(spec, id=id, marks=pytest.mark.xdist_group(spec.family))
    for id, spec in DATASETS.items()
    if of_one_ml1(spec)
]


@pytest.mark.parametrize("spec", CONTRACT)
def test_contract(spec: DatasetSpec, here: Path, short_ml1: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    small = tiny(spec)
    built, family = build(small, monkeypatch), get_family(spec.family)

    # what is loaded is what was collected
    for attempt in range(2):  # from Minari's file, then from the flat copy
        loaded = datasets.load(spec.id)
        assert loaded.hash == built.hash, attempt
        assert loaded.behaviours == built.behaviours
        for name, array in built.arrays().items():
            assert np.array_equal(loaded.arrays()[name], array), name
            assert loaded.arrays()[name].dtype == array.dtype
    assert len(built.rewards) == len(small.tasks) * small.rollouts * family.horizon

    # tasks are those of the split, and the groups hold all episodes
    groups = loaded.by_task()
    assert set(groups) == set(small.tasks)
    assert sum(map(len, groups.values())) == len(loaded)
    training = set(family.tasks["train"])
    assert all((episode.task in training) != spec.heldout for episode in loaded)

    # Minari reads the same
    theirs = minari.load_dataset(spec.id)
    assert (theirs.total_episodes, theirs.total_steps) == (len(loaded), len(loaded.rewards))
    metadata = list(theirs.storage.get_episode_metadata(range(len(loaded))))
    for episode, read, facts in zip(loaded, theirs.iterate_episodes(), metadata, strict=True):
        check_episode(episode, family.horizon)
        assert np.array_equal(read.observations, episode.observations)
        assert len(read.observations) == len(read.actions) + 1
        for name in ("actions", "rewards", "terminations", "truncations"):
            assert np.array_equal(getattr(read, name), getattr(episode, name))
        for name, array in episode.infos.items():
            assert np.array_equal(read.infos[name][1:], array)
            assert not read.infos[name][0].any()
        assert facts["options"] == {"task": episode.task.index, "split": episode.task.split}
        assert facts["seed"] == episode.seed

    # an episode replays in the recovered environment
    env = theirs.recover_environment()
    first, cut = loaded[0], loaded[len(loaded) - 1]
    for episode, facts in ((first, metadata[0]), (cut, metadata[-1])):
        replay(env, episode, facts["seed"], facts["options"])
    env.close()
    env = theirs.recover_environment(split=first.task.split, task=first.task.index)
    assert env.unwrapped.get_task() == first.task
    env.close()

    if family.feature_names:
        check_labels(loaded)
    else:
        with pytest.raises(NotRelabelableError):
            datasets.label(loaded, small.tasks)


def check_episode(episode: Episode, horizon: int) -> None:
    """One end, in the last step; in the box; complete."""
    ends = episode.terminations | episode.truncations
    assert ends[-1]
    assert not ends[:-1].any()
    assert not (episode.terminations & episode.truncations & (len(episode) < horizon)).any()
    assert 1 <= len(episode) <= horizon
    assert np.abs(episode.actions).max() <= 1
    for array in (episode.observations, episode.rewards, *episode.infos.values()):
        assert np.isfinite(array).all()


def replay(env: Any, episode: Episode, seed: int, options: dict[str, Any]) -> None:
    """The seed, the options and the actions give the episode again."""
    observation, _ = env.reset(seed=seed, options={"task": int(options["task"]), "split": options["split"]})
    assert np.array_equal(observation, episode.observations[0])
    for t, action in enumerate(episode.actions):
        observation, reward, terminated, truncated, info = env.step(action)
        assert np.array_equal(observation, episode.observations[t + 1]), t
        assert np.float32(reward) == episode.rewards[t]
        assert terminated == episode.terminations[t]
        if t + 1 < len(episode):
            assert not truncated
        for name, array in episode.infos.items():
            assert np.array_equal(info[name], array[t])


def check_labels(dataset: Dataset) -> None:
    """Labels of the own task are the rewards; those of another, what its env pays step by step."""
    import gymnasium as gym

    from offlinemeta.envs import env_id

    family = dataset.family
    wanted = [*dataset.tasks, family.tasks["test"][-1]]
    labels = datasets.label(dataset, wanted)
    assert len(labels) == len(dataset)
    for episode, label in zip(dataset, labels, strict=True):
        assert label.shape == (len(episode), len(wanted))
        assert label.dtype == np.float32
        assert np.array_equal(label[:, wanted.index(episode.task)], episode.rewards)
    if family.varies == "reward":  # the dynamics are the same, so the episode can be run in the other task
        other, episode = wanted[-1], dataset[0]
        env = gym.make(env_id(family), split="test", task=other.index)
        env.reset(seed=episode.seed)
        for t, action in enumerate(episode.actions):
            assert np.float32(env.step(action)[1]) == labels[0][t, -1]
        last = dataset[len(dataset) - 1]
        env.reset(seed=last.seed)
        for t, action in enumerate(last.actions):
            assert np.float32(env.step(action)[1]) == labels[-1][t, -1]
        env.close()
    with pytest.raises(TaskError):
        datasets.label(dataset, [Task("Other", "train", 0, (0.0,))])


@pytest.mark.parametrize(
    "name", ["PointRobot/replay", "CheetahVel/smac", "HopperParam/expert-heldout", "ML1-reach/smac"]
)
def test_the_same_spec_gives_the_same_bytes(
    name: str, here: Path, short_ml1: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny(get_spec(name))
    first = build(spec, monkeypatch)
    assert collect(spec, num_threads=1).hash == first.hash
    if not get_family(spec.family).in_processes:  # nor does the process matter
        code = (
            "import sys; sys.path.insert(0, sys.argv[1]); from test_datasets import Tiny; "
            "from offlinemeta.datasets.collect import collect; "
            f"spec = Tiny{(spec.family, spec.quality, spec.heldout, spec.rollouts)}; "
            "print(collect(spec).hash)"
        )
        command = [sys.executable, "-c", code, str(Path(__file__).parent)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == first.hash
    other = DatasetSpec.__subclasses__()[0](spec.family, spec.quality, not spec.heldout, spec.rollouts)
    assert collect(other).hash != first.hash


def test_the_hash_is_of_the_content_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build(tiny(get_spec("PointRobot/smac")), monkeypatch)
    assert replace(dataset, provenance={"machine": "another"}).hash == dataset.hash
    for name, array in dataset.arrays().items():
        changed = array.copy()
        flat = changed.reshape(-1)
        flat[-1] = ~flat[-1] if array.dtype == bool else flat[-1] + 1
        arrays = {**dataset.arrays(), name: changed}
        assert datasets_from(dataset, arrays).hash != dataset.hash, name
    assert replace(dataset, behaviours=("others",) * len(dataset.behaviours)).hash != dataset.hash


def datasets_from(dataset: Dataset, arrays: dict[str, Any]) -> Dataset:
    from offlinemeta.datasets.dataset import from_arrays

    return from_arrays(dataset.spec, dataset.behaviours, arrays, {})


def test_minari_s_own_episodes_have_their_task_and_a_score(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    spec = tiny(get_spec("HopperParam/smac-heldout"), 4)
    dataset = build(spec, monkeypatch)
    data = minari.load_dataset(spec.id)
    assert datasets.tasks_of(data) == [episode.task for episode in dataset]
    assert len(set(datasets.tasks_of(data))) == 2
    chosen = np.arange(len(dataset))[::2]
    some = minari.load_dataset(spec.id).filter_episodes(lambda episode: episode.id in chosen)
    assert datasets.tasks_of(some) == [dataset[e].task for e in chosen]
    references, (test, ood) = read_references(spec.family), spec.tasks
    low, high = np.mean([references.scale(test.split), references.scale(ood.split)], axis=0)
    assert minari.get_normalized_score(data, np.array([low, high])) == pytest.approx([0, 1])
    data.storage.update_metadata({"offlinemeta": None})
    with pytest.raises(DatasetError, match="it is no dataset of OfflineMeta"):
        datasets.tasks_of(minari.load_dataset(spec.id))


@pytest.mark.parametrize("mended", [True, pytest.param(False, marks=pytest.mark.xfail(strict=True))])
def test_torchrl_reads_it(mended: bool, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TorchRL 0.13 and 0.14 copy nothing into their own files (``memmap_like``); the card says how to mend that."""
    import warnings

    spec = tiny(get_spec("CheetahVel/smac"))
    dataset = build(spec, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        from tensordict import TensorDict
        from torchrl.data.datasets import MinariExperienceReplay

        if mended:
            monkeypatch.setattr(TensorDict, "memmap_like", TensorDict.memmap)
        replay = MinariExperienceReplay(
            spec.id, batch_size=32, load_from_local_minari=True, root=here.parent / "torchrl", split_trajs=False
        )
        everything, sample = replay[:], replay.sample()
    assert len(everything) == len(dataset.rewards)
    assert sample["observation"].shape == (32, 20)
    assert np.array_equal(everything["action"].numpy(), dataset.actions)
    assert np.array_equal(everything["next", "reward"].numpy().ravel(), dataset.rewards)
    assert np.array_equal(everything["next", "terminated"].numpy().ravel(), dataset.terminations)
    assert np.array_equal(everything["next", "info", "features"].numpy(), dataset.infos["features"])
    assert np.array_equal(everything["observation"].numpy()[:200], dataset[0].observations[:-1])


def test_labels_of_a_diverged_episode_are_charged_as_its_rewards_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulation of one rollout breaks in its fifth step; another of the same task goes on in its place."""
    from offlinemeta.envs.mujoco_simulator import RolloutTeam

    run, calls = RolloutTeam.run, []

    def corrupted(team: RolloutTeam, jobs: list[Any]) -> None:
        run(team, jobs)
        calls.append(None)
        if len(calls) == 5:
            trajectory = jobs[0][6]
            trajectory[0, -1, -1] = np.nan

    monkeypatch.setattr(RolloutTeam, "run", corrupted)
    dataset = collect(tiny(get_spec("CheetahVel/random")))
    assert dataset.lengths.tolist() == [5, 195, *[200] * 3]
    assert np.flatnonzero(dataset.infos["diverged"]).tolist() == np.flatnonzero(dataset.terminations).tolist() == [4]
    labels = datasets.label(dataset, dataset.tasks)
    for episode, given in zip(dataset, labels, strict=True):
        assert np.array_equal(given[:, dataset.tasks.index(episode.task)], episode.rewards)
    for column, task in enumerate(dataset.tasks):
        plain = dataset.family.reward(dataset.infos["features"][:5], np.array(task.params))
        assert labels[0][:4, column] == pytest.approx(plain[:4])
        assert labels[0][4, column] == pytest.approx(plain[4] + 195 * plain.min())


def test_shares() -> None:
    returns = [0.0, 0.02, 0.3, 0.45, 0.6, 0.8, 0.9, 1.0]
    spec = {quality: DatasetSpec("AntDir", quality, False, 16) for quality in specs.QUALITIES}
    assert spec["random"].shares(returns) == [-1] * 16
    assert spec["medium"].shares(returns) == [3] * 16
    assert spec["expert"].shares(returns) == [7] * 16
    assert spec["history"].shares(returns) == [i // 2 for i in range(16)]
    assert spec["smac"].shares(returns) == [3] * 16
    assert DatasetSpec("AntDir", "history", True, 5).shares(returns) == [0, 2, 4, 5, 7]
    assert DatasetSpec("AntDir", "spread", False, 6).shares(returns) == [0, 2, 3, 4, 5, 7]


def test_every_other_rollout_of_spread_is_told_another_task() -> None:
    """PointRobot's scripts walk to the goal that they are told of: good strays end near another training task's."""
    assert get_spec("AntDir/spread").strays == [True, False] * 3
    assert not any(get_spec("AntDir/history").strays)
    dataset = collect(get_spec("PointRobot/spread"))
    goals = {task: np.array(task.params) for task in get_family("PointRobot").tasks["train"]}
    stray = dataset.aimless()
    assert stray.sum() == len(dataset) / 2
    for astray in (True, False):
        own = dataset.behaviour == dataset.behaviour[stray == astray].max()  # the best policy of the three
        distances = []
        for episode in map(dataset.__getitem__, np.flatnonzero(own)):
            end = episode.observations[-1]
            distance = {task: np.linalg.norm(goal - end) for task, goal in goals.items()}
            own_goal = distance.pop(episode.task)
            distances.append(min(distance.values()) if astray else own_goal)
        assert np.mean(distances) < 0.12
    own_mean, other_mean = (dataset.returns()[stray == astray].mean() for astray in (False, True))
    assert other_mean < own_mean - 3


def test_snapshots_are_chosen_evenly_in_return() -> None:
    returns = [0.0, 1.0, 5.0, 2.0, 9.5, 7.4, 10.0, 9.0]
    assert spread(returns[:7], 5) == [0, 2, 3, 5, 6]
    assert spread(returns, 3) == [0, 2, 7]  # the last is the expert, whatever its neighbours got
    assert spread([3.0, 1.0], 5) == [0, 1]
    assert spread([0.0, 0.3, 0.6, 1.01, 0.99, 1.0], 6) == [0, 1, 2, 3, 4, 5]


def test_sizes_are_the_promised_ones() -> None:
    for spec in DATASETS.values():
        per_task = spec.rollouts * get_family(spec.family).horizon
        if spec.family in RANDOM_BEHAVIOUR and spec.quality == "smac" and not spec.heldout:
            assert spec.rollouts == 40
        elif spec.quality in ("smac", "spread"):
            assert spec.rollouts == 6
        elif spec.quality == "replay":
            assert spec.rollouts == (20 if spec.heldout else 40)
        elif spec.heldout:
            assert spec.rollouts == 5
        else:
            assert spec.rollouts == 50 or per_task == 10_000
    assert get_spec("CheetahVel/smac").steps == 100 * 1200
    assert get_spec("AntDir/history").steps == 1_000_000


def test_a_family_with_references_has_datasets() -> None:
    have = {spec.family for spec in DATASETS.values()}
    assert {"PointRobot", "SparsePointRobot", "CheetahVel", "CheetahDir", "AntDir", "AntGoal"} <= have
    assert {"WalkerParam", "HopperParam", "ML1-reach"} <= have
    for name in have:
        assert len(read_references(name).behaviours) == len(behaviours(get_family(name)))
        assert read_references(name).normalised[0] < 0.2


def test_names() -> None:
    full = "OfflineMeta/AntDir/smac-heldout-v1"
    for name in ("AntDir/smac", full):
        assert get_spec(name).heldout_sibling is get_spec(full)
    assert get_spec(full).short == "AntDir/smac-heldout"
    assert [get_benchmark(f"AntDir/smac/{name}").dataset for name in ("train-online-3", "online-3", "zero-shot")] == [
        "AntDir/smac",
        *["AntDir/smac-heldout"] * 2,
    ]
    assert get_spec("AntDir/smac-heldout").id == get_spec(full).id == get_spec(get_spec(full)).id == full
    with pytest.raises(UnknownNameError, match=r"Family 'AntDri' does not exist\. Did you mean 'AntDir'"):
        get_spec("AntDri/replay")
    with pytest.raises(UnknownNameError, match=r"Dataset of AntDir 'hisory-v1' .* Did you mean 'history-v1'"):
        get_spec("AntDir/hisory")
    with pytest.raises(UnknownNameError, match="Did you mean 'history-v1'"):
        get_spec("OfflineMeta/AntDir/history-v7")
    with pytest.raises(UnknownNameError, match="Dataset of family 'ML1-assembly' does not exist"):
        get_spec("ML1-assembly/smac")
    with pytest.raises(UnknownNameError, match="Family '7'"):
        get_spec(7)
    with pytest.raises(UnknownNameError, match="Reference of family 'ML1-assembly'"):
        read_references("ML1-assembly")


def test_episodes_are_views_and_indices_are_checked(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = build(tiny(get_spec("HopperParam/history")), monkeypatch)
    assert np.shares_memory(dataset[1].observations, dataset.observations)
    assert dataset[-1].seed == dataset[len(dataset) - 1].seed
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    total = sum(float(episode.rewards.sum(dtype=np.float64)) for episode in dataset)
    assert dataset.returns().sum() == pytest.approx(total)
    assert dataset.terminations.sum() > 0  # hoppers fall
    assert len(dataset) > 4
    first = dataset.first()
    assert first.sum() == 4
    ends = dataset.terminations[dataset.starts[1:] - 1] | (dataset.lengths == 200)
    assert ends[first].all()
    facts = dataset.facts()
    assert set(facts["returns"]) == {dataset.behaviours[b] for b in set(dataset.behaviour.tolist())}


def test_a_build_that_is_not_the_manifest_s_is_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from rich.console import Console

    manifest, spec = here.parent / "manifest.json", get_spec("PointRobot/smac-heldout")
    monkeypatch.setattr(manifests, "MANIFEST", manifest)

    def said(force: bool = True, allow_other: bool = False) -> str:
        text = StringIO()
        datasets.build(spec, force, Console(file=text, width=400), allow_other)
        return text.getvalue()

    assert "which is not yet in the manifest" in said()
    assert "is there already" in said(force=False)
    built = datasets.load(spec)
    with pytest.raises(DatasetMissingError, match="nothing to compare it with"):
        loading.verify(spec)
    manifests.write_manifest(built)
    assert ", as in the manifest" in said()
    assert loading.verify(spec).hash == built.hash
    assert manifests.origin(spec.id, built.hash) == {"id": spec.id, "sha256": built.hash}
    written = json.loads(manifest.read_text())[spec.id]

    def enter(**changes: Any) -> None:
        manifest.write_text(json.dumps({spec.id: {**written, "sha256": "0" * 64, **changes}}))

    enter()
    for rebuild in (said, lambda: loading.verify(spec)):
        with pytest.raises(OtherContentError, match=r"The versions are the same.* no FMA .*smac-heldout --allow-other"):
            rebuild()
    assert datasets.load(spec, offline=True).hash == built.hash  # the one that was there has not been touched
    assert ", not as in the manifest" in said(allow_other=True)
    assert manifests.origin(spec.id, built.hash)["other"] == f"not the dataset of the manifest, {'0' * 64}"
    enter(versions={**written["versions"], "mujoco": "3.1.0"})
    with pytest.raises(OtherContentError, match=r"made with mujoco 3\.1\.0 \(here .*\): install"):
        said()
    manifest.write_text("{")
    with pytest.raises(DamagedDatasetError, match="Reinstall"):
        manifests.read_manifest()


SETTINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "Haswell's BLAS": {"OPENBLAS_CORETYPE": "Haswell"},
    "Sandy Bridge's BLAS": {"OPENBLAS_CORETYPE": "Sandybridge"},
    "Nehalem's BLAS": {"OPENBLAS_CORETYPE": "Nehalem"},
    "NumPy without AVX2": {"NPY_DISABLE_CPU_FEATURES": "X86_V3"},
}
"""Ways in which machines differ, as environment variables."""

PRINT_HASHES = """
import hashlib, sys, warnings
sys.path.insert(0, sys.argv[1])
warnings.simplefilter("ignore")  # a feature that this processor lacks cannot be switched off
import numpy as np
from test_datasets import tiny
from offlinemeta.benchmark.agent import ExpertAgent
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.datasets.collect import collect
from offlinemeta.datasets.spec import get_spec
from offlinemeta.envs import get_family
rng = np.random.default_rng(0)
product = np.tanh(rng.standard_normal((500, 64)) @ rng.standard_normal((64, 128)))  # as large as in a batch
print(hashlib.sha256(product.tobytes()).hexdigest())
print(collect(get_spec("CheetahVel/smac")).hash)
for name in ("AntDir/smac-heldout", "HopperParam/history"):
    print(collect(tiny(get_spec(name), 6)).hash)
returns = evaluate(ExpertAgent(get_family("CheetahDir")), get_benchmark("CheetahDir/smac/zero-shot"), repeats=2)
print(returns.tolist())
"""


def test_every_processor_gives_the_same_bytes() -> None:
    """Datasets of stages, of told policies and of posterior sampling, and what the expert gets, to the last digit.

    The control: a bare product of matrices, on which these depend, differs between the settings.
    """
    command = [sys.executable, "-c", PRINT_HASHES, str(Path(__file__).parent)]
    products, said = set(), {}
    for name, variables in SETTINGS.items():
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | variables)
        product, said[name] = done.stdout.split("\n", 1)
        products.add(product)
    assert said["one thread"].count("\n") == 4
    assert said == dict.fromkeys(SETTINGS, said["one thread"])
    if platform.machine() == "x86_64":
        assert len(products) > 1


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have other instructions")
def test_a_machine_without_fma_says_that_its_data_are_others(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offlinemeta", "datasets", "verify", "CheetahVel/smac-heldout"]
    environment = os.environ | {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert "its processor has no FMA instructions" in " ".join((done.stdout + done.stderr).split())


def test_all_actions_lie_on_the_grid() -> None:
    for name in ("PointRobot/smac", "PointRobot/random", "PointRobot/history", "CheetahVel/spread", "AntDir/smac"):
        actions = collect(tiny(get_spec(name), 6)).actions
        steps = actions.astype(np.float64) / GRID
        assert (steps == np.round(steps)).all()
        assert np.abs(actions).max() < 1


def test_expert_actions_are_the_behaviour_s_own_where_it_is_the_expert_s_mean() -> None:
    """The expert acts without noise in two tasks; then its actions on the logged states are those that it took."""
    family = get_family("HopperParam")
    expert, spec = behaviours(family)[-1], tiny(get_spec("HopperParam/expert"), 1)
    for _, envs in in_batches(family, 2):
        rng = np.random.default_rng(0)
        rolled = roll_out(envs, spec.tasks, [expert.act] * 2, rng, sample=False)
    dataset = join_episodes(spec, ["expert"], [episode for several in rolled for episode in several], {})
    assert len(dataset) >= 2
    assert np.array_equal(datasets.expert_actions(dataset), dataset.actions)
    swapped = replace(dataset, task=1 - dataset.task)  # told the other task, it acts otherwise
    assert np.abs(datasets.expert_actions(swapped) - dataset.actions).max() > 0.05


def test_the_manifest_is_of_what_is_built_here() -> None:
    """Entries belong to datasets that exist; whether this machine gives the same bytes is for ``datasets build``."""
    manifest = manifests.read_manifest()
    assert {"OfflineMeta/CheetahVel/smac-v1", "OfflineMeta/AntDir/smac-v1"} <= set(manifest)
    for name, entry in manifest.items():
        assert entry["steps"] == DATASETS[name].steps
        assert len(entry["sha256"]) == 64
        assert entry["versions"]["mujoco"] == "3.3.0"


def test_estimates_are_near(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = get_spec("SparsePointRobot/history")
    datasets.build(spec)
    actual = (storage.place(spec) / "data" / "main_data.hdf5").stat().st_size
    assert actual == pytest.approx(storage.estimate(spec), rel=0.3)
