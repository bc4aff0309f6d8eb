"""Packages are the repository's top-level folders under one importable name; all else is in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
FOLDERS = ("benchmark", "envs", "datasets", "baselines", "leaderboard")
LINKS = ROOT / "src" / "offlinemeta"

if all((LINKS / folder).is_dir() for folder in FOLDERS):  # the links src/offlinemeta/<folder> are intact
    setup(packages=find_packages("src"), package_dir={"": "src"})
else:  # a checkout or archive without symbolic links
    packages, package_dir = ["offlinemeta", "offlinemeta.cli"], {"offlinemeta": "src/offlinemeta"}
    for folder in FOLDERS:
        package_dir[f"offlinemeta.{folder}"] = folder
        packages += [f"offlinemeta.{folder}", *(f"offlinemeta.{folder}.{p}" for p in find_packages(folder))]
    setup(packages=packages, package_dir=package_dir)
