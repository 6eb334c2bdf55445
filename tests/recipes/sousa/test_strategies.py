"""Every network under every strategy: planned, put on, trained for two steps, saved, loaded, merged."""

from __future__ import annotations

import copy
import functools
import io
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from torch import Tensor, nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

from wavedeck.engine.errors import UsageError, WavedeckError  # noqa: E402
from wavedeck.recipes.sousa.config import ADAPTERS, MODELS, STRATEGIES, SousaConfig, StrategyConfig  # noqa: E402
from wavedeck.recipes.sousa.models import build  # noqa: E402
from wavedeck.recipes.sousa.models.base import AudioClassifier, ModelFacts  # noqa: E402
from wavedeck.recipes.sousa.strategies import (  # noqa: E402
    Adapted,
    DeadWeights,
    adapter_state,
    apply,
    base_digest,
    check_gradients,
    check_reload,
    check_start,
    load_adapter,
    load_adapter_state,
    logits_of,
    merge,
    plan,
    read_card,
    save_adapter,
    schedule,
    trained_names,
)

CLASSES = ("flam", "drag", "flam_tap", "lesson_25", "single_paradiddle")
CLIPS = 4


@functools.cache
def _built(model: str, seed: int) -> tuple[AudioClassifier, Tensor]:
    torch.manual_seed(seed)
    config = SousaConfig()
    config.model.name, config.model.size, config.model.weights = model, "debug", "random"
    config.model.dropout, config.data.duration_s = 0.0, 1.0
    net = build(config, len(CLASSES), lambda text, level: None)
    generator = torch.Generator().manual_seed(1)
    x = torch.stack([net.front_end(0.1 * torch.randn(16_000, generator=generator)) for _ in range(CLIPS)])
    norms = [module for module in net.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        net.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net.eval(), x


def network(model: str, seed: int = 0) -> tuple[AudioClassifier, Tensor]:
    """A debug network that has settled on its input, and that input: batch norms of a fresh one would hide a drift."""
    net, x = _built(model, seed)
    return copy.deepcopy(net), x


def strategy(name: str, **more: Any) -> StrategyConfig:
    return StrategyConfig(name=name, **{"rank": 2, "init_rank": 4, "dropout": 0.0, **more})


def train(adapted: Adapted, x: Tensor, steps: int, first: int = 1, optimizer: Any = None) -> Any:
    """Steps as the trainer does them; returns the optimizer."""
    adapted.train()
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = optimizer or torch.optim.AdamW(trained, lr=0.01)
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(adapted(x), torch.arange(len(x)) % len(CLASSES)) + adapted.extra_loss()
        loss.backward()
        if step <= 2:
            check_gradients(adapted, step)
        optimizer.step()
        adapted.after_step(step)
    return optimizer


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("model", MODELS)
def test_each_pair_trains_two_steps_saves_reloads_and_predicts_the_same(model: str, name: str, tmp_path: Path) -> None:
    net, x = network(model)
    names = set(net.state_dict())
    planned = plan(net, strategy(name), 4)
    before = logits_of(net, x)
    adapted = apply(net, planned)
    assert not adapted.training  # as the network was
    check_start(before, logits_of(adapted, x))
    trainable = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert trainable == planned.trainable
    assert planned.numbers()["parameters"] == sum(
        w.numel() for n, w in adapted.named_parameters() if "ranknum" not in n
    )
    assert net.rudiment_head.weight.requires_grad and isinstance(net.rudiment_head, nn.Linear)

    train(adapted, x, 2)
    after = logits_of(adapted, x)
    assert (after - before).abs().max() > 1e-3

    fresh, _ = network(model)
    if name in ADAPTERS:
        saved = save_adapter(adapted, tmp_path, CLASSES)
        again = load_adapter(tmp_path, fresh, CLASSES)
        assert saved.bytes == (tmp_path / "adapter.safetensors").stat().st_size and "Adapter of" in saved.words()
    else:
        again = apply(fresh, planned)
        again.load_state_dict(adapted.state_dict())
    check_reload(after, logits_of(again, x))
    assert torch.equal(after, logits_of(again, x))

    plain = merge(adapted.eval())
    assert set(plain.state_dict()) == names
    check_reload(after, logits_of(plain, x))
    assert torch.equal(after, logits_of(adapted, x))  # merging left it alone


def test_a_plan_changes_nothing_and_says_everything() -> None:
    net, _ = network("efficient_at")
    before = {name: (value.clone(), value.requires_grad) for name, value in net.named_parameters()}
    planned = plan(net, strategy("adalora"), 200)
    assert {name for name, _ in net.named_parameters()} == set(before)
    assert all(torch.equal(value, before[name][0]) and value.requires_grad for name, value in net.named_parameters())
    text = "\n".join(planned.words())
    assert "rank 4 pruned to 2" in text and "27 pointwise convolutions" in text and "rudiment_head" in text
    assert "until step 20" in text and "every 10 steps" in text and "at step 140 of 200" in text
    assert "statistics stay as they are" in text and "backbone.features.*" in text
    assert planned.facts().keys() == {"strategy", "trained", "batch norm", "ranks"}
    assert len(max(planned.words(), key=len)) < 300


@pytest.mark.parametrize(
    ("model", "kinds", "count"), [("ast", nn.Linear, 12), ("cnn", nn.Conv1d, 4), ("efficient_at", nn.Conv2d, 27)]
)
def test_targets_are_found_in_the_network(model: str, kinds: type[nn.Module], count: int) -> None:
    net, _ = network(model)
    targets = plan(net, strategy("lora"), 4).targets
    assert len(targets) == count and all(isinstance(net.get_submodule(name), kinds) for name in targets)
    assert not any("rudiment_head" in name for name in targets)


def test_targets_narrow_by_a_pattern_and_a_wrong_one_is_a_sentence() -> None:
    net, _ = network("ast")
    assert plan(net, strategy("lora", targets=r"\.[qv]_proj$"), 4).targets == tuple(
        f"backbone.layers.{layer}.attention.{side}_proj" for layer in (0, 1) for side in "qv"
    )
    with pytest.raises(UsageError, match=r"strategy\.targets=attention\.query matches no module .*q_proj"):
        plan(net, strategy("lora", targets="attention.query"), 4)
    with pytest.raises(UsageError, match="no regular expression"):
        plan(net, strategy("lora", targets="("), 4)
    with pytest.raises(UsageError, match="matches no module"):
        plan(net, strategy("lora", targets="rudiment_head"), 4)


def test_a_pattern_reaches_only_what_it_names() -> None:
    """peft matches lists by the ends of names: `fc1` of one layer must not take that of the others along."""
    net, _ = network("ast")
    adapted = apply(net, plan(net, strategy("lora", targets=r"layers\.0\.mlp\.fc1"), 4))
    assert {name.split(".lora_")[0] for name in adapter_state(adapted) if "lora_" in name} == {
        "backbone.layers.0.mlp.fc1"
    }


def test_strategies_are_held_against_the_weights() -> None:
    net, _ = network("cnn")
    assert "random" in plan(net, strategy("full_finetune"), 4).warnings[0]
    assert "random" in plan(net, strategy("lora"), 4).warnings[0]
    assert plan(net, strategy("from_scratch"), 4).warnings == ()
    net.facts = ModelFacts("CNN", 1, "hub some/where", "ab")
    assert plan(net, strategy("full_finetune"), 4).warnings == ()
    with pytest.raises(UsageError, match="from_scratch begins with random weights, but these are hub some/where"):
        plan(net, strategy("from_scratch"), 4)


def test_an_adapter_goes_on_once() -> None:
    net, _ = network("cnn")
    planned = plan(net, strategy("ia3"), 4)
    apply(net, planned)
    with pytest.raises(WavedeckError, match="carries an adapter already"):
        apply(net, planned)
    with pytest.raises(WavedeckError, match="full_finetune has no adapter"):
        adapter_state(apply(network("cnn")[0], plan(network("cnn")[0], strategy("full_finetune"), 4)))


# --- AdaLoRA


def test_schedules_fit_or_say_why_not() -> None:
    times = schedule(strategy("adalora"), 1000)
    assert (times.tinit, times.end, times.tfinal, times.delta) == (100, 700, 300, 10)
    for steps in range(2, 60):
        times = schedule(strategy("adalora"), steps)
        assert 0 <= times.tinit < times.end <= steps and times.tfinal == steps - times.end and times.end >= 2
        assert times.delta == 1 or times.delta * 4 <= times.end - times.tinit
    with pytest.raises(UsageError, match="larger init_rank"):
        schedule(strategy("adalora", init_rank=2), 100)
    with pytest.raises(UsageError, match="the first must be smaller"):
        schedule(strategy("adalora", prune_from=0.8), 100)
    with pytest.raises(UsageError, match="needs two steps"):
        schedule(strategy("adalora"), 1)


@pytest.mark.parametrize("steps", [2, 3, 12])
def test_adalora_reaches_its_budget_only_where_it_allocates(steps: int) -> None:
    net, x = network("ast")
    adapted = apply(net, plan(net, strategy("adalora"), steps))
    assert adapted.allocation is not None
    train(adapted, x, steps)
    ranks = adapted.allocation.ranks()
    assert sum(ranks.values()) == adapted.allocation.budget == 2 * len(adapted.plan.targets)
    assert set(ranks) == set(adapted.plan.targets)

    idle, _ = network("ast")
    idle_adapted = apply(idle, plan(idle, strategy("adalora"), steps))
    idle_adapted.after_step = lambda step: None  # type: ignore[method-assign]
    train(idle_adapted, x, steps)
    assert idle_adapted.allocation is not None
    assert sum(idle_adapted.allocation.ranks().values()) == 4 * len(adapted.plan.targets)


@pytest.mark.parametrize("cut", [3, 9])
def test_a_resumed_adalora_ends_like_an_unbroken_one(cut: int) -> None:
    """Cut while it prunes, and after; its averages are in the state dict."""
    net, x = network("ast")
    adapted = apply(net, plan(net, strategy("adalora"), 12))
    optimizer = train(adapted, x, cut)
    state = {name: value.clone() for name, value in adapted.state_dict().items()}
    steps = torch.load(_saved(optimizer), weights_only=True)
    train(adapted, x, 12 - cut, cut + 1, optimizer)

    fresh, _ = network("ast")
    resumed = apply(fresh, plan(fresh, strategy("adalora"), 12))
    other = torch.optim.AdamW([weight for weight in resumed.parameters() if weight.requires_grad], lr=0.01)
    other.load_state_dict(steps)
    resumed.load_state_dict(state)
    train(resumed, x, 12 - cut, cut + 1, other)
    assert adapted.allocation is not None and resumed.allocation is not None
    assert resumed.allocation.ranks() == adapted.allocation.ranks()
    for name, value in adapted.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def _saved(optimizer: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(optimizer.state_dict(), buffer)
    buffer.seek(0)
    return buffer


def test_averages_of_another_rank_are_refused() -> None:
    net, _ = network("cnn")
    adapted = apply(net, plan(net, strategy("adalora"), 12))
    state = adapted.state_dict()
    missing = dict(state)
    del missing["allocation.stays"]
    with pytest.raises(RuntimeError, match=r"allocation\.stays"):
        adapted.load_state_dict(missing)
    with pytest.raises(RuntimeError, match="another network or rank"):
        adapted.load_state_dict({**state, "allocation.stays": torch.ones(3)})


def test_an_overflowed_step_does_not_poison_the_allocation() -> None:
    net, x = network("cnn")
    adapted = apply(net, plan(net, strategy("adalora"), 8))
    optimizer = train(adapted, x, 1)
    for name, weight in adapted.named_parameters():
        if ".lora_" in name:
            weight.grad = torch.full_like(weight, math.inf) if ".lora_E." in name else None
    adapted.after_step(2)
    train(adapted, x, 6, 3, optimizer)
    assert adapted.allocation is not None
    assert sum(adapted.allocation.ranks().values()) == adapted.allocation.budget
    assert torch.isfinite(adapted.state_dict()["allocation.sensitivity"]).all()


def test_the_orthogonality_loss_by_hand() -> None:
    net, _ = network("cnn")
    adapted = apply(net, plan(net, strategy("adalora", orthogonality=3.0), 8))
    for name, weight in adapted.named_parameters():
        if ".lora_A." in name:
            nn.init.zeros_(weight)  # as far from orthogonal as the identity is long: √4
        elif ".lora_B." in name:
            nn.init.orthogonal_(weight)
    loss = adapted.extra_loss()
    assert isinstance(loss, Tensor) and loss.item() == pytest.approx(3.0 * (2.0 + 0.0) / 2, abs=1e-5)
    other, _ = network("cnn")
    assert apply(other, plan(other, strategy("lora"), 8)).extra_loss() == 0.0


# --- batch norm


@pytest.mark.parametrize("name", sorted(ADAPTERS))
def test_frozen_batch_norms_do_not_drift(name: str) -> None:
    net, x = network("efficient_at")
    adapted = apply(net, plan(net, strategy(name), 4))
    before = {key: value.clone() for key, value in net.named_buffers()}
    train(adapted, 3 * x, 2)
    adapted.train().eval()
    adapted.train()
    adapted(x)
    assert before.keys() == dict(net.named_buffers()).keys()
    assert all(torch.equal(value, before[key]) for key, value in net.named_buffers())


def test_saved_batch_norms_move_and_come_back_with_the_adapter(tmp_path: Path) -> None:
    net, x = network("efficient_at")
    adapted = apply(net, plan(net, strategy("lora", batch_norm="saved"), 4))
    before = {key: value.clone() for key, value in net.named_buffers()}
    trainable = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert trainable == adapted.plan.trainable
    train(adapted, 3 * x, 2)
    assert not any(torch.equal(value, before[key]) for key, value in net.named_buffers() if "running" in key)
    save_adapter(adapted, tmp_path, CLASSES)
    again = load_adapter(tmp_path, network("efficient_at")[0])
    check_reload(logits_of(adapted, x), logits_of(again, x))


def test_forgotten_statistics_are_what_the_reload_check_finds() -> None:
    net, x = network("efficient_at")
    adapted = apply(net, plan(net, strategy("lora", batch_norm="saved"), 4))
    train(adapted, 3 * x, 2)
    state = {name: value for name, value in adapter_state(adapted).items() if "running" not in name}
    other, _ = network("efficient_at")
    again = apply(other, adapted.plan)
    with pytest.raises(WavedeckError, match="does not fit the network"):
        load_adapter_state(again, state)
    again.net.load_state_dict(state, strict=False)
    with pytest.raises(WavedeckError, match="answers differently after loading"):
        check_reload(logits_of(adapted, x), logits_of(again, x))


# --- dead weights


class Odd(AudioClassifier):
    """A network with a module that its `forward` forgets, and one whose activations are computed again the old way."""

    input_kind = "spectrogram"

    def __init__(self) -> None:
        super().__init__("odd", nn.Identity())  # type: ignore[arg-type]
        self.facts = ModelFacts("odd", 0, "random")
        self.used, self.forgotten = nn.Linear(6, 6), nn.Linear(6, 6)
        self.rudiment_head = nn.Linear(6, len(CLASSES))
        self.again, self.use_head = False, True

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = checkpoint(self.used, x, use_reentrant=True) if self.again else self.used(x)
        return self.rudiment_head(mixed) if self.use_head else mixed[:, : len(CLASSES)]

    def checkpoint_activations(self) -> None:
        self.again = True


@pytest.mark.parametrize(("name", "tensors"), [("lora", 2), ("adalora", 3), ("ia3", 1)])
def test_a_dead_adapter_is_named_after_the_first_step(name: str, tensors: int) -> None:
    net = Odd()
    adapted = apply(net, plan(net, strategy(name, targets="forgotten"), 4))
    with pytest.raises(
        DeadWeights, match=r"adapter tensors have no gradient after step 1 \(forgotten.*strategy\.targets"
    ):
        train(adapted, torch.randn(4, 6), 1)
    assert len([key for key in adapter_state(adapted) if "forgotten" in key and "ranknum" not in key]) == tensors


def test_half_an_adapter_that_is_dead_is_found_too() -> None:
    net = Odd()
    adapted = apply(net, plan(net, strategy("lora"), 4))
    with pytest.raises(DeadWeights, match="1 of 4 adapter tensors"):
        train(adapted, torch.randn(4, 6), 1)


def test_a_head_that_is_passed_by_is_found_under_every_strategy() -> None:
    for name in STRATEGIES:
        net = Odd()
        net.use_head = False
        adapted = apply(net, plan(net, strategy(name, targets="used"), 4))
        with pytest.raises(DeadWeights, match="no gradient"):
            train(adapted, torch.randn(4, 6), 1)


def test_a_side_that_stays_dead_is_found_in_the_second_step() -> None:
    net = Odd()
    adapted = apply(net, plan(net, strategy("lora", targets="used"), 4))
    optimizer = train(adapted, torch.randn(4, 6), 1)
    side = next(weight for name, weight in adapted.named_parameters() if ".lora_A." in name)
    side.register_hook(torch.zeros_like)
    with pytest.raises(DeadWeights, match="1 of 2 adapter tensors have no gradient after step 2"):
        train(adapted, torch.randn(4, 6), 1, 2, optimizer)


def test_an_overflow_proves_nothing() -> None:
    net = Odd()
    adapted = apply(net, plan(net, strategy("ia3", targets="used"), 4))
    adapted(torch.randn(4, 6)).sum().backward()
    assert check_gradients(adapted, 1) == []
    for weight in adapted.parameters():
        if weight.grad is not None:
            weight.grad.fill_(math.nan)
    assert len(check_gradients(adapted, 1)) == 3


# --- gradient checkpointing


@pytest.mark.parametrize("model", ["ast", "hts_at", "beats", "efficient_at"])
def test_checkpointing_beside_a_frozen_backbone_gives_the_same_gradients(model: str) -> None:
    found = []
    for again in (False, True):
        net, x = network(model)
        torch.manual_seed(3)
        adapted = apply(net, plan(net, strategy("lora"), 4)).train()
        if again:
            adapted.checkpoint_activations()
        adapted(x).square().sum().backward()
        check_gradients(adapted, 1)
        found.append({name: weight.grad for name, weight in adapted.named_parameters() if weight.requires_grad})
    assert all(torch.allclose(found[0][name], gradient, rtol=1e-3, atol=1e-5) for name, gradient in found[1].items())


def test_checkpointing_of_the_old_kind_learns_too() -> None:
    """Reentrant checkpoints return no gradient where no input asks for one; the adapter inside would be dead."""
    net, x = Odd(), torch.randn(4, 6)
    adapted = apply(net, plan(net, strategy("lora", targets="used"), 4))
    net.checkpoint_activations()
    with pytest.warns(UserWarning, match="None of the inputs"), pytest.raises(DeadWeights):
        train(adapted, x, 1)
    adapted.checkpoint_activations()
    train(adapted, x, 2)


# --- files


def test_an_adapter_is_small_and_holds_no_backbone(tmp_path: Path) -> None:
    net, _ = network("beats")
    adapted = apply(net, plan(net, strategy("lora", rank=1, targets="q_proj"), 4))
    saved = save_adapter(adapted, tmp_path, CLASSES)
    assert saved.bytes < saved.base_bytes / 10
    names = trained_names(adapted)
    assert {name.removeprefix("net.") for name in names} == set(adapter_state(adapted))
    assert all(".lora_" in name or "rudiment_head" in name for name in names)
    card = read_card(tmp_path)
    assert card.plan == adapted.plan and card.classes == CLASSES and card.base_weights == "random"


def test_what_was_measured_on_the_data_travels_with_the_adapter(tmp_path: Path) -> None:
    """`cnn` keeps the training split's mean and deviation; whoever loads the adapter has not seen that split."""
    net, x = network("cnn")
    net.calibrate(-3.0, 2.0)
    digest = base_digest(net, planned := plan(net, strategy("ia3"), 4))
    adapted = apply(net, planned)
    assert {"net.mean", "net.deviation"} <= trained_names(adapted)
    train(adapted, x, 2)
    assert base_digest(adapted.net, planned) == digest == base_digest(network("cnn")[0], planned)
    save_adapter(adapted, tmp_path, CLASSES)
    check_reload(logits_of(adapted, x), logits_of(load_adapter(tmp_path, network("cnn")[0]), x))


def test_an_adapter_refuses_what_it_was_not_made_for(tmp_path: Path) -> None:
    net, _ = network("cnn")
    save_adapter(apply(net, plan(net, strategy("lora"), 4)), tmp_path, CLASSES)
    with pytest.raises(WavedeckError, match="another backbone"):
        load_adapter(tmp_path, network("cnn", seed=7)[0])
    with pytest.raises(WavedeckError, match="in another order"):
        load_adapter(tmp_path, network("cnn")[0], CLASSES[::-1])
    with pytest.raises(WavedeckError, match="another backbone"):
        load_adapter(tmp_path, network("ast")[0])
    tensors, card = tmp_path / "adapter.safetensors", tmp_path / "adapter.json"
    whole = tensors.read_bytes()
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(WavedeckError, match="does not match its sha256"):
        load_adapter(tmp_path, network("cnn")[0])
    card.write_bytes(card.read_bytes().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(WavedeckError, match="newer wavedeck"):
        read_card(tmp_path)
    card.write_bytes(b"{}")
    with pytest.raises(WavedeckError, match="no adapter's card"):
        read_card(tmp_path)
    with pytest.raises(WavedeckError, match="no adapter in"):
        read_card(tmp_path / "elsewhere")


def test_a_changed_start_is_found() -> None:
    with pytest.raises(WavedeckError, match="changed the network's answers"):
        check_start(torch.ones(2, 5), torch.ones(2, 5) * 1.01)
    with pytest.raises(WavedeckError, match="changed the network's answers"):
        check_start(torch.ones(2, 5), torch.full((2, 5), math.nan))
    check_start(torch.ones(2, 5), torch.ones(2, 5) + 1e-6)


def test_adalora_follows_its_network_to_another_device() -> None:
    """peft keeps its averages in plain dicts, which stay where they were made; the meta device stands for a GPU."""
    net, _ = network("ast")
    adapted = apply(net, plan(net, strategy("adalora"), 10)).to("meta")
    for weight in adapted.parameters():
        if weight.requires_grad:
            weight.grad = torch.zeros_like(weight)
    assert adapted.allocation is not None
    allocator = adapted.allocation.tuner.rankallocator
    adapted.allocation._follow(adapted.allocation._weights())
    places = {value.device.type for value in (*allocator.exp_avg_ipt.values(), *allocator.exp_avg_unc.values())}
    assert places == {"meta"}
    allocator.update_ipt(net)
