"""Run ids: sortable, speakable, and safe as a path component, a tmux session and a shell word.

`20261120-1759-voxformer-brisk-heron` = local date and time, what it is, and a two-word tail that people can say.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Collection, Sequence

from .errors import UsageError, suggestion

SET_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}"
"""Of a set of samples. Three readers share it: the reader of sets, the mirror here, and the agent there."""
_ADJECTIVES = """
    amber ample azure basic bold brave brief bright brisk broad calm candid chief civic clear clever
    close cool coral crisp curly daring deep deft dense direct eager early easy exact fair fast fine
    firm fleet fond frank free fresh full gentle glad golden grand great green happy hardy hazel hearty
    honest humble ideal ivory jade jolly keen kind large late lean level light lilac little lively local
    loud lucid lucky lunar maple mellow merry mild minty modest neat new nimble noble olive open opal
    ornate pale patient plain plucky polite prime proud pure quick quiet rapid rare ready rich robust
    rosy round royal ruby rustic safe sandy sharp shy silent silver simple sleek smooth snug solar solid
    sonic sound spare spry stable stark steady still stoic stout strong subtle sunny sure swift tall
    tame teal tender tidy tiny topaz true urban valid vast velvet vivid warm wary wide wild wise witty
    young zesty
"""
ADJECTIVES = tuple(_ADJECTIVES.split())
_ANIMALS = """
    adder albatross alpaca ant auk badger bat bear beaver bee bison bittern boar bongo buck camel
    caracal cat cheetah chough cicada civet cod colt condor coot coyote crab crane cricket crow cuckoo
    curlew deer dingo dipper dolphin dove duck dunlin eagle egret eider elk emu ermine falcon ferret
    finch firefly flicker fox frog gannet gazelle gecko gibbon goose grebe grouse gull hare harrier hawk
    hedgehog heron hoopoe hornet horse ibex ibis iguana impala jackal jackdaw jay kestrel kite kiwi
    koala lark lemur leopard linnet lion lizard llama loon lynx magpie mallard marlin marten martin
    merlin mink mole moose moth mouse newt nightjar ocelot octopus oriole osprey otter owl panda panther
    parrot pelican petrel pheasant pigeon pika pipit plover pony puffin puma quail rabbit raccoon raven
    redstart robin rook salmon seal shrew shrike siskin skua skylark snipe sparrow squid stork swallow
    swan swift tapir tern thrush tiger toad trout turtle viper vole walrus warbler weasel whale wigeon
    wolf wombat wren yak zebra
"""
ANIMALS = tuple(_ANIMALS.split())

RUN_ID = re.compile(r"^[0-9]{8}-[0-9]{4}-[a-z0-9][a-z0-9-]{0,63}$")
_NAME_LENGTH = 28


def slug(text: str) -> str:
    """`text` in lower-case letters, digits and single dashes, at most 28 characters; `run` when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_NAME_LENGTH].rstrip("-") or "run"


def new_run_id(name: str, now: float, taken: Collection[str] = (), rng: random.Random | None = None) -> str:
    """A fresh id for a run called `name`, started at `now` (seconds since the epoch, local time in the id).

    The two-word tail is not used by any id in `taken`, so that it alone names the run.
    """
    rng = rng or random.Random()
    tails = {tail(run_id) for run_id in taken}
    stamp = time.strftime("%Y%m%d-%H%M", time.localtime(now))
    for _ in range(1000):
        words = f"{rng.choice(ADJECTIVES)}-{rng.choice(ANIMALS)}"
        if words not in tails:
            break
    return f"{stamp}-{slug(name)}-{words}"


def tail(run_id: str) -> str:
    """The speakable two words at the end of an id."""
    return "-".join(run_id.rsplit("-", 2)[-2:])


def resolve(word: str, run_ids: Sequence[str]) -> str:
    """The id that `word` means: an id, a unique prefix, two-word tail or name, or `last` (the newest).

    `run_ids` are oldest first.

    Raises
    ------
    UsageError: nothing or more than one run matches; the sentence names the candidates.
    """
    if not run_ids:
        raise UsageError("there are no runs yet: start one with `wavedeck run` or `wavedeck demo`.")
    if word == "last":
        return run_ids[-1]
    if word in run_ids:
        return word
    by_tail = [run_id for run_id in run_ids if tail(run_id) == word]
    by_prefix = [run_id for run_id in run_ids if word and run_id.startswith(word)]
    by_tail_prefix = [run_id for run_id in run_ids if word and tail(run_id).startswith(word)]
    by_name = [run_id for run_id in run_ids if word and run_id.split("-", 2)[-1].rsplit("-", 2)[0] == slug(word)]
    for matches in (by_tail, by_name, by_prefix, by_tail_prefix):
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(sorted(matches)[-4:])
            raise UsageError(f"{word!r} fits {len(matches)} runs ({some}): give more of the name.")
    names = {tail(run_id): run_id for run_id in run_ids} | {run_id: run_id for run_id in run_ids}
    raise UsageError(f"there is no run {word!r}.{suggestion(word, names) or ' `wavedeck ps` lists them.'}")


def is_set_name(name: str) -> bool:
    """Whether a folder below a run's `samples/` can be a set; `agent_run` on a host says the same."""
    return re.fullmatch(SET_NAME, name) is not None
