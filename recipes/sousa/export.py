"""`python -m wavedeck.recipes.sousa.export RUN OUT.safetensors`: a run's weights as one plain file, adapters merged in.

The file holds the network's tensors under their own names and nothing of a training; `model.weights=OUT.safetensors`
begins with them. RUN is the run's directory (`wavedeck show RUN --json` names it as `dir`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save

from ...engine.checkpoints import CheckpointLine, fault, read_checkpoints
from ...engine.config import from_resolved
from ...engine.errors import UsageError, WavedeckError
from ...engine.files import write_atomic
from ...engine.format import size
from ...engine.manifest import read_manifest
from ...engine.planning import choose_checkpoint
from ...engine.rundir import RunDir
from .config import SousaConfig, outdated
from .network import load_network
from .recipe import RECIPE
from .strategies import merge
from .tables import class_names

_STEPS = 1000
"""AdaLoRA is planned for a number of steps; weights that are only read do not depend on it."""


def export(run: RunDir, out: Path, checkpoint: str = "best") -> CheckpointLine:
    """Write the weights of a checkpoint of `run` to `out`; returns which checkpoint that was.

    Parameters
    ----------
    checkpoint: `best`, `last`, a step or a file's name.

    Raises
    ------
    WavedeckError: it is no run of this recipe, has no such whole checkpoint, or what its adapter stands on cannot be
        had any more.
    OSError: the file cannot be written.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out.name} has to end in .safetensors: that is what is written.")
    manifest = read_manifest(run.manifest)
    if manifest.recipe != RECIPE.name:
        raise UsageError(f"{run.id} is no run of the recipe {RECIPE.name}: only those have such weights.")
    reason = outdated(manifest.config)
    if reason is not None:
        raise UsageError(reason)
    line = choose_checkpoint(read_checkpoints(run.checkpoint_manifest), checkpoint, RECIPE.headline)
    wrong = fault(run.checkpoints, line)
    if wrong is not None:
        raise WavedeckError(f"checkpoint {line.name} {wrong}: choose another with --checkpoint.")
    config: SousaConfig = from_resolved(SousaConfig, manifest.config)
    network = load_network(config, len(class_names(config)), _STEPS, run.checkpoints / line.name, _tell)
    tensors = {name: value.detach().contiguous().clone() for name, value in merge(network.adapted).state_dict().items()}
    about = {"recipe": RECIPE.name, "run": run.id, "checkpoint": line.name, "classes": " ".join(class_names(config))}
    write_atomic(out, save(tensors, about))
    return line


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser("wavedeck.recipes.sousa.export", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path, help="the run's directory")
    parser.add_argument("out", type=Path, help="the file to write, which ends in .safetensors")
    parser.add_argument("--checkpoint", default="best", help="best, last, a step, or a checkpoint's file name")
    given = parser.parse_args(argv)
    try:
        line = export(RunDir(given.run.expanduser().absolute()), given.out, given.checkpoint)
    except WavedeckError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    except OSError as error:
        print(f"{given.out} cannot be written: {error.strerror or error}.", file=sys.stderr)
        return 1
    print(f"{given.out}: {line.name}, {size(given.out.stat().st_size)}. Begin with it: model.weights={given.out}")
    return 0


def _tell(text: str, level: str = "info") -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
