"""How a network is trained: LoRA, AdaLoRA, IA³, all of it, or from scratch; planned and checked before and after.

`plan` resolves a strategy against a network without touching it, `apply` carries it out, and the result is an `Adapted`
that trains, saves and merges the same way whichever strategy it is. peft is loaded with the first adapter only.
"""

from .adapted import Adapted, apply, merge, trained_names
from .adapter_file import (
    AdapterCard,
    SavedAdapter,
    adapter_state,
    base_digest,
    load_adapter,
    load_adapter_state,
    read_card,
    save_adapter,
)
from .checks import DeadWeights, check_gradients, check_reload, check_start, logits_of
from .plan import Schedule, StrategyPlan, plan, schedule

__all__ = [
    "AdapterCard", "Adapted", "DeadWeights", "SavedAdapter", "Schedule", "StrategyPlan", "adapter_state", "apply",
    "base_digest", "check_gradients", "check_reload", "check_start", "load_adapter", "load_adapter_state", "logits_of",
    "merge", "plan", "read_card", "save_adapter", "schedule", "trained_names",
]  # fmt: skip
