"""``offlinemeta datasets``: list, build, describe, download and publish. Heavy imports stay inside the commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from offlinemeta.datasets.spec import DatasetSpec

app = typer.Typer(
    invoke_without_command=True,
    rich_markup_mode="rich",
    help="List the datasets; build, verify, describe, download and publish them.",
    epilog="Examples:\n\n  offlinemeta datasets\n\n  offlinemeta datasets --family AntDir\n\n"
    "  offlinemeta datasets build AntDir/history\n\n  offlinemeta datasets card CheetahVel/smac",
)
console = Console()

Id = Annotated[str, typer.Argument(help="The dataset: OfflineMeta/AntDir/smac-v1, or AntDir/smac for short.")]
Remote = Annotated[
    str | None, typer.Option(help="The remote: hf://<user or organisation> or gcp://<bucket>. Default: MINARI_REMOTE.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not use the network.")]


@app.callback()
def datasets(
    context: typer.Context,
    family: Annotated[str | None, typer.Option(help="List only the datasets of this family.")] = None,
    local: Annotated[bool, typer.Option("--local", help="List only the datasets on this machine.")] = False,
) -> None:
    """List the datasets; build, describe, download and publish them."""
    if context.invoked_subcommand is None:
        from offlinemeta.cli import show

        Console(width=max(console.width, 100)).print(show.dataset_list(family, local))


@app.command(
    epilog="Examples:\n\n  offlinemeta datasets build CheetahVel/smac\n\n"
    "  offlinemeta datasets build AntDir/history AntDir/history-heldout\n\n"
    "  MINARI_DATASETS_PATH=/big/disk offlinemeta datasets build HumanoidDir/expert --force"
)
def build(
    ids: Annotated[
        list[str], typer.Argument(help="The datasets to build, such as AntDir/history, one after the other.")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace datasets that are already on this machine.")] = False,
    allow_other: Annotated[
        bool,
        typer.Option(
            "--allow-other",
            help="Keep a dataset whose content differs from the manifest's. Results trained on it are marked.",
        ),
    ] = False,
) -> None:
    """Collect datasets with the policies of this package, and write them as Minari datasets."""
    from offlinemeta.datasets.loading import build as build_dataset
    from offlinemeta.datasets.spec import get_spec

    for spec in [get_spec(name) for name in ids]:
        build_dataset(spec, force, console, allow_other)


@app.command(
    epilog="Examples:\n\n  offlinemeta datasets load AntDir/history\n\n  offlinemeta datasets load PointRobot/smac"
)
def load(
    name: Id,
    offline: Offline = False,
    rebuild: Annotated[
        bool, typer.Option(help="Build the dataset if neither this machine nor the remote has it.")
    ] = True,
) -> None:
    """Load a dataset from this machine, else from the remote, else build it; then list its content."""
    from offlinemeta.cli import show
    from offlinemeta.datasets.loading import load as load_dataset

    console.print(show.dataset_detail(load_dataset(name, rebuild=rebuild, offline=offline, console=console)))


@app.command(
    epilog="Examples:\n\n  offlinemeta datasets card CheetahVel/replay\n\n"
    "  offlinemeta datasets card AntDir/smac --out cards"
)
def card(
    name: Id,
    out: Annotated[Path, typer.Option(help="The folder into which the page and the picture are written.")] = Path(
        "out/cards"
    ),
    offline: Offline = False,
) -> None:
    """Write a dataset's card: a page and a picture about its returns, its coverage, and what can be learned from it."""
    from offlinemeta.console import bar, say
    from offlinemeta.datasets import identifiability
    from offlinemeta.datasets.card import write_card
    from offlinemeta.datasets.loading import load as load_dataset

    dataset = load_dataset(name, offline=offline, console=console)
    with bar(console) as track:
        paths = write_card(dataset, out, track("task identifiability", identifiability.WORK))
    for path in paths:
        say(console, f"wrote {path}")


@app.command(
    epilog="Examples:\n\n  MINARI_REMOTE=hf://<organisation> offlinemeta datasets download AntDir/history\n\n"
    "  offlinemeta datasets download AntDir/history --remote gcp://<bucket>"
)
def download(
    name: Id,
    remote: Remote = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the dataset if it is already on this machine.")
    ] = False,
) -> None:
    """Download a dataset through Minari, and verify its content against the manifest of this package."""
    from offlinemeta.console import say
    from offlinemeta.datasets import remote as remotes
    from offlinemeta.datasets import storage
    from offlinemeta.datasets.manifest import recorded
    from offlinemeta.datasets.spec import get_spec

    spec, address = get_spec(name), _address(remote)
    say(console, f"The same by Minari alone, unverified: {remotes.plain_command(spec, address)}")
    if storage.is_local(spec) and not force:
        say(console, f"{spec.id} is there already, in {storage.place(spec)}.")
        return
    with storage.locked(spec):
        remotes.fetch(spec, address, recorded(spec), console)


@app.command(
    epilog="Examples:\n\n  HF_TOKEN=... offlinemeta datasets publish AntDir/history --remote hf://<organisation>\n\n"
    "  offlinemeta datasets publish AntDir/history --remote gcp://<bucket> --key service-account.json\n\n"
    "  HF_TOKEN=... offlinemeta datasets publish --all --remote hf://<organisation>  [dim]# repeat it to continue[/dim]"
)
def publish(
    name: Annotated[
        str | None, typer.Argument(help="The dataset: OfflineMeta/AntDir/smac-v1, or AntDir/smac for short.")
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Publish all datasets of the manifest that the remote does not have: build those that are "
            "missing on this machine, upload, download again and compare.",
        ),
    ] = False,
    remote: Remote = None,
    key: Annotated[
        Path | None,
        typer.Option(help="The key of a Google service account, for gcp://. For hf://, set HF_TOKEN instead."),
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="The manifest to write, or with --all to read. Default: the one of this package."),
    ] = None,
) -> None:
    """Upload a local dataset through Minari, and record its hash in the manifest; or upload all of the manifest's."""
    from offlinemeta.console import say
    from offlinemeta.datasets import remote as remotes
    from offlinemeta.datasets.manifest import MANIFEST, read_manifest, write_manifest
    from offlinemeta.datasets.publishing import publish_all
    from offlinemeta.datasets.spec import get_spec
    from offlinemeta.envs.errors import ArgumentError

    if every == (name is not None):
        raise ArgumentError("Name one dataset to publish, or give --all.")
    address = _address(remote)
    token = str(key.resolve()) if key is not None else os.environ.get("HF_TOKEN")
    if not token or (key is None) != address.startswith("hf://"):
        raise ArgumentError("Publishing needs HF_TOKEN in the environment for hf://, or --key FILE for gcp://.")
    target = (manifest or MANIFEST).resolve()
    entries = read_manifest(target)
    if name is None:
        others = publish_all(entries, address, token, console)
        say(console, f"{len(entries) - len(others)} of {len(entries)} datasets are published at {address}.")
        if others or not entries:
            raise typer.Exit(1)
        return
    spec = get_spec(name)
    if not os.access(target if target.exists() else target.parent, os.W_OK):
        raise ArgumentError(f"The manifest {target} cannot be written. Name another with --manifest.")
    dataset = remotes.publish(spec, address, token, console)
    write_manifest(dataset, target)
    say(console, f"Published {spec.id}. Anybody gets it with: {remotes.plain_command(spec, address)}")
    say(console, f"Its hash is in {target}; commit that file.")


@app.command(
    epilog="Examples:\n\n  offlinemeta datasets references\n\n  offlinemeta datasets references AntDir --write"
)
def references(
    family: Annotated[
        str | None, typer.Argument(help="The family to measure. Without it, list the references of this package.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the measured references into references.json.")] = False,
    episodes: Annotated[int, typer.Option(min=1, help="Number of episodes on each task.")] = 20,
    doc: Annotated[
        Path | None, typer.Option(help="A Markdown file with a place for references, into which the list is written.")
    ] = None,
) -> None:
    """List the returns of random, blind and expert policies and the worth of a task; or measure those of a family."""
    from offlinemeta.cli import show
    from offlinemeta.console import bar
    from offlinemeta.datasets import measure as module
    from offlinemeta.datasets.references import shipped, write_references
    from offlinemeta.envs import SPLITS
    from offlinemeta.files import fill
    from offlinemeta.leaderboard.table import markdown

    if family is None:
        families = shipped()
        Console(width=max(console.width, 150)).print(show.reference_table(families))
        if doc is not None:
            fill(doc, "references", markdown(*show.reference_grid(families)))
        return
    with bar(console) as track:
        content = module.measure(family, track(family, module.work(family, episodes)), episodes)
    Console(width=max(console.width, 150)).print(show.reference_table({family: content}, SPLITS))
    if write:
        write_references(family, content)


@app.command(
    epilog="Examples:\n\n  offlinemeta datasets manifest CheetahVel/smac\n\n"
    "  offlinemeta datasets manifest --most-minutes 10"
)
def manifest(
    ids: Annotated[list[str] | None, typer.Argument(help="Datasets or families. Default: all families.")] = None,
    most_minutes: Annotated[
        float, typer.Option(help="Leave out datasets whose build takes roughly longer than this on two cores.")
    ] = float("inf"),
    force: Annotated[
        bool, typer.Option("--force", help="Record datasets again that the manifest already has.")
    ] = False,
) -> None:
    """Collect datasets, and record their hashes in the manifest; later builds are compared with these hashes."""
    from offlinemeta.console import bar, say
    from offlinemeta.datasets import loading, manifest
    from offlinemeta.datasets.collect import collect

    for spec in _chosen(ids):
        if loading.seconds(spec) > 60 * most_minutes or (manifest.recorded(spec) is not None and not force):
            continue
        with bar(console) as track:
            dataset = collect(spec, track(f"collecting {spec.short}", spec.steps))
        manifest.write_manifest(dataset)
        say(console, f"{spec.id}: {dataset.hash[:12]}... is in the manifest.")


@app.command(
    epilog="Examples:\n\n  offlinemeta datasets verify PointRobot/smac\n\n  offlinemeta datasets verify CheetahVel\n\n"
    "  offlinemeta datasets verify"
)
def verify(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Datasets, or families for all of their datasets. Default: all datasets of the manifest."),
    ] = None,
) -> None:
    """Collect datasets again and compare their content with the manifest of this package; write nothing."""
    from offlinemeta.console import bar, say
    from offlinemeta.datasets import loading, manifest
    from offlinemeta.datasets.errors import OtherContentError
    from offlinemeta.datasets.spec import get_spec

    named = {get_spec(name).id for name in ids or () if "/" in name}
    specs = [spec for spec in _chosen(ids) if manifest.recorded(spec) is not None or spec.id in named]
    others = 0
    for spec in specs:
        try:
            with bar(console) as track:
                dataset = loading.verify(spec, track(f"collecting {spec.short}", spec.steps))
            say(console, f"{spec.id}: {dataset.hash[:12]}..., as in the manifest.")
        except OtherContentError as error:
            others += 1
            say(console, str(error), style="red")
    say(console, f"{len(specs) - others} of {len(specs)} datasets have the content of the manifest.")
    if others or not specs:
        raise typer.Exit(1)


def _chosen(names: list[str] | None) -> list[DatasetSpec]:
    """Return the datasets that are named, and all of the families that are named; all datasets without names."""
    from offlinemeta.datasets.spec import DATASETS, get_spec
    from offlinemeta.envs import get_family

    if not names:
        return list(DATASETS.values())
    chosen: list[DatasetSpec] = []
    for name in names:
        family = None if "/" in name else get_family(name).name
        chosen += [get_spec(name)] if family is None else [s for s in DATASETS.values() if s.family == family]
    return chosen


def _address(remote: str | None) -> str:
    from offlinemeta.datasets.remote import check_address
    from offlinemeta.envs.errors import ArgumentError

    address = remote or os.environ.get("MINARI_REMOTE")
    if not address:
        raise ArgumentError("No remote was named. Set MINARI_REMOTE=hf://<organisation>, or give --remote.")
    return check_address(address)
