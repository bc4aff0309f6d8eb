"""Publishing all datasets of a manifest: what is missing is built and uploaded, then downloaded and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console

from offlinemeta.console import say
from offlinemeta.datasets import remote, storage
from offlinemeta.datasets.errors import OtherContentError
from offlinemeta.datasets.loading import build
from offlinemeta.datasets.spec import get_spec


def publish_all(manifest: Mapping[str, Mapping[str, Any]], address: str, token: str, console: Console) -> list[str]:
    """Publish every dataset of a manifest that a remote does not have; repeat it to go on where it was stopped.

    A dataset that is not on this machine is built first. Only content with the manifest's hash is uploaded, and what
    was uploaded is downloaded again and compared.

    Args:
        manifest: the datasets' facts by id, of which ``sha256`` is needed.
        address: the remote.
        token: as for :func:`offlinemeta.datasets.remote.publish`.
        console: where to say what happens.

    Returns:
        The datasets of which the remote has another content than the manifest; they are left as they are.

    Raises:
        RemoteError: the remote is down or refuses. What was published before stays published.
        OtherContentError: a dataset on this machine has another content than the manifest.
        DatasetError: a dataset is damaged, cannot be built, or is in the hands of another process.
    """
    others, counted = [], f"of {len(manifest)}"
    for place, (name, facts) in enumerate(manifest.items(), start=1):
        spec, where = get_spec(name), f"{place} {counted}"
        there = remote.remote_hash(spec, address)
        if there == facts["sha256"]:
            say(console, f"{where}: {spec.id} is published, with the content of the manifest.")
            continue
        if there is not None:
            others.append(spec.id)
            say(console, f"{where}: {address} has {spec.id} with another content, {there}.", style="red")
            continue
        found = build(spec, console=console).hash
        if found != facts["sha256"]:
            raise OtherContentError(
                f"{spec.id} has the content {found} here, and {facts['sha256']} in the manifest, so it is not "
                f"published. Build it anew with: offlinemeta datasets build {spec.short} --force"
            )
        remote.publish(spec, address, token, console)
        with storage.locked(spec):
            remote.check(spec, address, facts["sha256"], console)
        say(console, f"{where}: published {spec.id}, downloaded it again, and found the content of the manifest.")
    return others
