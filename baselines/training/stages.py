"""The stages of an online training in one small file, as they ship: ``datasets/online/<family>.safetensors``.

``python -m offlinemeta.baselines.training.stages RUN FILE COMMAND`` packs the agents that a run kept at the ends of its
phases, weights in float16, together with the command, the learning curve on training tasks (mean return of three
episodes), the last agent's returns by benchmark, versions, and the cost of each stage.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from offlinemeta.baselines.parts.learner import Learner
from offlinemeta.baselines.registry import read_config
from offlinemeta.baselines.training.checkpoint import describe, learner_of
from offlinemeta.baselines.training.log import read_log
from offlinemeta.baselines.training.run import file_name
from offlinemeta.benchmark.errors import RunError
from offlinemeta.benchmark.result import about_here, read_result
from offlinemeta.datasets.spec import ONLINE
from offlinemeta.envs import TaskFamily, env_id
from offlinemeta.files import read_tensors, write_tensors

EXACT = "normaliser."
"""Tensors whose names begin like this stay in float32."""


def pack(folder: Path, file: Path, command: str) -> dict[str, Any]:
    """Write the agents of a run's phases into one file.

    Args:
        folder: the run's folder.
        file: the file to write.
        command: the command that trained the run.

    Returns:
        What the file says of the stages.

    Raises:
        RunError: the run has not finished, or an agent file is damaged.
        FileError: there is no space or no permission.
    """
    config = read_config(*_method_of(folder))
    names = [phase.name for phase in config.phases[:-1]]
    files = [*(folder / file_name("agent", name) for name in names), folder / file_name("agent")]
    tensors, stages = {}, []
    for i, agent in enumerate(files):
        about = describe(agent)
        stages.append({"stage": i + 1, **{key: about[key] for key in ("step", "env_steps", "seconds")}})
        for name, tensor in read_tensors(agent, "pt")[0].items():
            tensors[f"{i:02}.{name}"] = tensor if name.startswith(EXACT) else tensor.half()
    curve = [{k: entry[k] for k in ("step", "seconds", "curve")} for entry in read_log(folder) if _watched(entry)]
    results = [read_result(file) for file in sorted((folder / "results").glob("*.json"))]
    returns = {result.benchmark: result.array().mean((0, 1)).round(2).tolist() for result in results}
    facts = {"command": command, "stages": stages, "curve": curve, "returns": returns, **about_here()}
    kept = {key: about[key] for key in ("method", "config", "dataset", "sha256", "env", "seed")}
    write_tensors(file, tensors, {**kept, **facts})
    return facts


def load_stage(file: Path, family: TaskFamily, stage: int | None = None) -> tuple[Learner, dict[str, Any]]:
    """Return the agent of a stage, counted from 1, by default the last one, and what is known of its training.

    Raises:
        RunError: the file is of another family, or has no such stage.
        FileError: the file is missing or damaged.
    """
    tensors, about = read_tensors(file, "pt")
    count = len(about["stages"])
    stage = count if stage is None else stage
    if about["env"] != env_id(family) or not 1 <= stage <= count:
        raise RunError(f"{file} has stages 1 to {count} of {about['env']}, not stage {stage} of {env_id(family)}.")
    prefix = f"{stage - 1:02}."
    mine = {key.removeprefix(prefix): t.float() for key, t in tensors.items() if key.startswith(prefix)}
    return learner_of(about, family, mine), {**about, **about["stages"][stage - 1], "name": about["method"]}


def shipped(family: TaskFamily) -> Path:
    """Return the file of the stages that ship for a family.

    Raises:
        RunError: none ships.
    """
    file = ONLINE / f"{family.name}.safetensors"
    if not file.exists():
        names = ", ".join(sorted(path.stem for path in ONLINE.glob("*.safetensors")))
        raise RunError(f"No online PEARL ships for {family.name}, only for {names}.")
    return file


def load_agent(family: TaskFamily, checkpoint: Path | None = None) -> Learner:
    """Return the last stage in a file of stages, by default in the one that ships for the family.

    Raises:
        RunError: no file ships, or the file is of another family.
        FileError: the file is missing or damaged.
    """
    return load_stage(checkpoint or shipped(family), family)[0]


def _method_of(folder: Path) -> tuple[str, dict[str, Any]]:
    about = describe(folder / file_name("agent"))
    return about["method"], about["config"]


def _watched(entry: dict[str, Any]) -> bool:
    """Tell whether an entry of the log is a curve on training tasks."""
    return "curve" in entry and "result" not in entry


def main() -> None:
    """Pack the run that the command line names."""
    parser = argparse.ArgumentParser(
        description="Pack the agents that an online training kept into one file, as they ship.",
        epilog="Example: python -m offlinemeta.baselines.training.stages out/runs/PointRobot-random/pearl-online-s0 "
        "datasets/online/PointRobot.safetensors offlinemeta train pearl-online PointRobot/random --preset online",
    )
    parser.add_argument("run", type=Path, help="folder of the finished run")
    parser.add_argument("file", type=Path, help="file to write")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="command that trained the run, to be kept in the file"
    )
    options = parser.parse_args()
    said = pack(options.run, options.file, " ".join(options.command))
    print(f"{options.file}: {len(said['stages'])} stages, {options.file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
