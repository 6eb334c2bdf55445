"""A recipe's run goes on elsewhere with the very config it had, whatever the recipe's defaults have become since."""

from __future__ import annotations

import sys

import msgspec

from wavedeck.engine.config import compose
from wavedeck.engine.manifest import read_manifest, write_record
from wavedeck.engine.recipe import load_recipe
from wavedeck.remote import operations
from wavedeck.remote.failover.move import move

from .conftest import Hosts, lost_run, until


async def test_a_recipe_goes_on_with_its_own_config(hosts: Hosts) -> None:
    home = hosts.home
    run = lost_run(home, checkpoints=())
    recipe = load_recipe("sousa")
    composed = compose(recipe, ["training.lr=0.00123"], "debug")
    config = msgspec.json.decode(msgspec.json.encode(composed.resolved))
    before = msgspec.structs.replace(
        read_manifest(run.manifest),
        recipe="sousa",
        preset="debug",
        overrides=composed.overrides,
        config=config,
        signature=composed.signature,
        headline=recipe.headline,
        columns=list(recipe.columns),
    )
    write_record(run.manifest, before)
    gpu2 = await hosts.up("gpu2")
    result = await move(home, run, None, gpu2, from_scratch=True, environ={})
    child, there = result.child, hosts.servers["gpu2"].remote_home
    manifest = read_manifest(child.manifest)
    assert manifest.config == before.config and manifest.signature == before.signature
    assert (manifest.headline, manifest.columns, manifest.preset) == (before.headline, before.columns, "debug")
    directory = str(there / "runs" / child.id)
    assert manifest.command == [sys.executable, "-P", "-m", "wavedeck.engine.pipeline", directory]
    await until(lambda: child.events.exists() and b'"phase"' in child.events.read_bytes(), "its first stage", 40)
    await operations.request_stop(gpu2, child)
    await until(child.exit.exists, "its end", 40)
