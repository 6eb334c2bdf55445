"""Configs: Hydra's grammar in, typed and checked dataclasses out, one sentence for whatever does not fit."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.engine.config import (
    Composed,
    check_field,
    compose,
    describe,
    from_resolved,
    knob,
    parse_value,
    signature,
    to_resolved,
    write_override,
)
from wavedeck.engine.errors import UsageError
from wavedeck.tests.fakes.recipe_fake import RECIPE, Config, Norm


def _compose(*overrides: str, preset: str | None = None) -> Composed:
    return compose(RECIPE, overrides, preset)


def _refusal(*overrides: str, preset: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        compose(RECIPE, overrides, preset)
    return str(caught.value)


# -- describing


def test_describe_flattens_sections_with_all_that_a_form_needs() -> None:
    fields = {field.name: field for field in describe(Config)}
    assert list(fields)[:5] == ["seed", "name", "norm", "training.lr", "training.steps"]
    lr = fields["training.lr"]
    assert (lr.type, lr.default, lr.help, lr.bounds, lr.group) == (
        "number", 1e-3, "peak learning rate", "> 0 and ≤ 1", "training",
    )  # fmt: skip
    assert fields["training.schedule.warmup"].unit == "steps"
    assert fields["training.schedule.warmup"].group == "training.schedule"
    assert fields["training.schedule.shape"].choices == ("cosine", "constant")
    assert fields["norm"].choices == ("layer", "rms") and fields["norm"].default == "layer"
    assert fields["training.precision"].choices == ("32-true", "bf16-mixed")
    assert fields["training.clip"].type == "number or null" and fields["training.clip"].default is None
    assert fields["data.bands"].type == "list of numbers"
    json.dumps([field.default for field in fields.values()])


def test_a_mistake_in_a_recipe_is_a_type_error() -> None:
    odd = dataclasses.make_dataclass("odd", [("x", bytes, knob(b"", "what no config holds"))])
    with pytest.raises(TypeError, match="x: a config field cannot be of type"):
        describe(odd)
    wrong = dataclasses.make_dataclass("wrong", [("x", int, knob("many", "a count"))])
    with pytest.raises(TypeError, match="x: its default 'many' is no whole number"):
        describe(wrong)


def test_a_field_without_default_must_be_given() -> None:
    needy = dataclasses.make_dataclass("needy", [("corpus", str)])
    recipe = dataclasses.replace(RECIPE, config=needy, groups={}, presets={})
    with pytest.raises(UsageError, match="corpus must be given: expected text"):
        compose(recipe, [])
    assert compose(recipe, ["corpus=clips"]).config.corpus == "clips"


# -- layers


def test_defaults_alone() -> None:
    composed = _compose()
    assert composed.config == Config()
    assert (composed.preset, composed.overrides, composed.changed) == (None, [], {})
    assert json.loads(json.dumps(composed.resolved)) == composed.resolved
    assert len(composed.signature) == 12 and int(composed.signature, 16) >= 0


def test_layers_apply_in_their_own_order_however_they_are_typed() -> None:
    composed = _compose("data.items=9", "training.lr=2e-4", "strategy=fast", "data=tiny", "preset=debug")
    config = composed.config
    assert (config.data.items, config.data.crop) == (9, (0.0, 0.5))  # dotted over group
    assert (config.training.lr, config.training.compile) == (2e-4, True)  # dotted over group over preset
    assert config.training.steps == 20  # preset over default
    assert composed.preset == "debug"
    assert composed.overrides == ["strategy=fast", "data=tiny", "data.items=9", "training.lr=0.0002"]
    assert composed.changed["training.lr"] == (1e-3, 2e-4)
    assert "seed" not in composed.changed


def test_group_beats_preset() -> None:
    assert _compose("strategy=fast", preset="debug").config.training.lr == 0.1


def test_a_group_chosen_replaces_the_presets_choice_altogether() -> None:
    assert _compose(preset="debug").config.data.items == 8
    assert _compose("data=full", preset="debug").config.data.items == 1000


def test_preset_as_override_and_as_argument_are_the_same() -> None:
    assert _compose("preset=debug") == _compose(preset="debug") == _compose("preset=debug", preset="debug")
    assert "two presets" in _refusal("preset=debug", preset="broken")


def test_default_preset_applies_only_when_none_is_named() -> None:
    recipe = dataclasses.replace(RECIPE, default_preset="debug", presets={**RECIPE.presets, "plain": ()})
    assert compose(recipe, []).preset == "debug"
    assert compose(recipe, []).config.training.steps == 20
    assert compose(recipe, [], "plain").config == Config()


def test_arguments_are_the_equal_command() -> None:
    assert _compose("training.lr=2e-4", "preset=debug").arguments == ["training.lr=0.0002", "--preset", "debug"]


# -- values


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.lr=2e-4", 2e-4),
        ("training.lr=1", 1.0),
        ("training.steps=1e4", 10_000),
        ("training.steps=10_000", 10_000),
        ("training.clip=null", None),
        ("training.clip=.5", 0.5),
        ("training.compile=yes", True),
        ("training.compile=false", False),
        ("name=1e3", "1e3"),
        ("name=null", "null"),
        ("name=", ""),
        ("name='a, b'", "a, b"),
        ("norm=RMS", Norm.RMS),
        ("norm=rms", Norm.RMS),
        ("data.bands=[1,2.5]", [1.0, 2.5]),
        ("data.crop=[0,.5]", (0.0, 0.5)),
        ("data.languages=[en,'d e']", ("en", "d e")),
        ("data.root=/tmp/x", Path("/tmp/x")),
        ("data.weights={a:1}", {"a": 1.0}),
        ("seed=${training.steps}", 100),
        ("name='${norm}-${seed}'", "layer-0"),
    ],
)
def test_values_are_typed_and_reproducible(override: str, expected: Any) -> None:
    composed = _compose(override)
    value = composed.config
    for part in override.partition("=")[0].split("."):
        value = getattr(value, part)
    assert value == expected and type(value) is type(expected)
    assert compose(RECIPE, composed.overrides, composed.preset) == composed
    assert from_resolved(Config, json.loads(json.dumps(composed.resolved))) == composed.config


def test_a_section_can_be_given_as_a_table() -> None:
    composed = _compose("training={lr:0.5,steps:1e2}")
    assert (composed.config.training.lr, composed.overrides) == (0.5, ["training.lr=0.5", "training.steps=100"])


def test_a_reference_sees_the_final_value() -> None:
    assert _compose("seed=${training.steps}", "preset=debug").config.seed == 20


# -- refusals: one sentence naming field, value, and what is allowed

REFUSALS = [
    ("training.lrr=1", "training has no field 'lrr'. Did you mean training.lr?"),
    ("lr=1", "fake has no field 'lr'. Did you mean training.lr?"),
    ("sede=1", "fake has no field 'sede'. Did you mean seed?"),
    ("qqqq=1", "fake has no field 'qqqq'. `wavedeck recipes fake` lists them."),
    ("training=3", "training is a section of fields: set one of them, like training.lr=value."),
    ("training.lr=fast", "training.lr=fast: expected a number > 0 and ≤ 1."),
    ("training.lr=5", "training.lr=5: expected a number > 0 and ≤ 1."),
    ("training.lr=0", "training.lr=0: expected a number > 0 and ≤ 1."),
    ("training.lr=nan", "training.lr=nan: expected a number > 0 and ≤ 1."),
    ("training.lr=true", "training.lr=true: expected a number > 0 and ≤ 1."),
    ("training.lr=${training.steps}", "training.lr=100: expected a number > 0 and ≤ 1."),
    ("training.clip=-1", "training.clip=-1: expected a number > 0, or null."),
    ("training.steps=1.5", "training.steps=1.5: expected a whole number ≥ 1 (steps)."),
    ("training.steps=1e300", "training.steps=1e300: expected a whole number ≥ 1 (steps)."),
    ("training.compile=2", "training.compile=2: expected true or false."),
    ("norm=batch", "norm=batch: expected one of layer, rms."),
    ("training.precision=bf16", "expected one of 32-true, bf16-mixed. Did you mean bf16-mixed?"),
    ("data.bands=[1,-2]", "data.bands=[1,-2]: expected a list of numbers, written [a,b], each ≥ 0."),
    ("data.crop=[0,1,1]", "data.crop=[0,1,1]: expected 2 values, written [number, number], each ≥ 0 and ≤ 1."),
    ("data.languages=en", "data.languages=en: expected a list of texts, written [a,b]."),
    ("data=tny", "data=tny: expected one of tiny, full. Did you mean tiny?"),
    ("preset=debu", "fake has no preset 'debu'. Did you mean debug?"),
    ("training.lr", "'training.lr' has no '=value': write training.lr=value."),
    ("=3", "'=3' does not name a field"),
    ("data@x=tiny", "'data@x=tiny' does not name a field"),
    ("name=f(", "'name=f(' cannot be read: put its value in quotes, like \"name='…'\"."),
    ("seed=1,2", "'seed=1,2' names several values, but seed takes one"),
    ("seed=range(1,4)", "'seed=range(1,4)' names several values, but seed takes one"),
    ("~seed", "'~seed' deletes a field"),
    ("+seed=3", "'+seed=3' adds a field, but a recipe's fields are fixed: write seed=3"),
    ("++seed=3", "'++seed=3' adds a field"),
    ("name=${oc.env:HOME}", "environment variables are refused"),
    ("name='${oc.${name}:HOME}'", "environment variables are refused"),
    ("data.languages=['${oc.env:HOME}']", "environment variables are refused"),
    ("name=${name}", "the reference in name leads nowhere or in a circle"),
    ("name=${nope}", "the reference in name leads nowhere or in a circle"),
    ("strategy=broken", "in strategy=broken, training.lr=5: expected a number > 0 and ≤ 1."),
    ("preset=broken", "in preset 'broken', training.lr=5: expected a number > 0 and ≤ 1."),
    ("preset=typo", "in preset 'typo', training has no field 'lrr'. Did you mean training.lr?"),
    ("training.schedule.warmup=1000", "training.schedule.warmup is longer than training.steps."),
    ("seed=" + "9" * 5000, "…"),
]


@pytest.mark.parametrize(("override", "sentence"), REFUSALS, ids=[override[:30] for override, _ in REFUSALS])
def test_refusals_are_one_sentence(override: str, sentence: str) -> None:
    refusal = _refusal(override)
    assert sentence in refusal
    assert "\n" not in refusal and len(refusal) < 300


def test_environment_never_reaches_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "top-secret")
    assert "top-secret" not in _refusal("name='x${oc.env:WANDB_API_KEY}'")


# -- checking while typing


def test_check_field_says_what_compose_would() -> None:
    assert check_field(RECIPE, "training.lr", "2e-4") is None
    assert check_field(RECIPE, "data", "tiny") is None
    assert check_field(RECIPE, "preset", "debug") is None
    assert check_field(RECIPE, "seed", "${training.steps}") is None
    for dotted, text in (("training.lr", "fast"), ("training.lrr", "1"), ("data", "tny"), ("name", "${oc.env:HOME}")):
        assert check_field(RECIPE, dotted, text) == _refusal(f"{dotted}={text}")


def test_check_field_keeps_up_with_typing() -> None:
    """2 ms a key at most; the best of several, since the machine is shared."""
    check_field(RECIPE, "training.lr", "1")
    durations_s = []
    for _ in range(20):
        start = time.process_time()
        check_field(RECIPE, "training.lr", "2e-4")
        durations_s.append(time.process_time() - start)
    assert min(durations_s) < 0.002


def test_parse_value() -> None:
    assert [parse_value(text) for text in ("2e-4", "null", "[1,a]", "true", "'x'")] == [2e-4, None, [1, "a"], True, "x"]
    with pytest.raises(UsageError, match="names several values"):
        parse_value("1,2")


# -- saved configs


def test_a_saved_config_from_another_version() -> None:
    saved = to_resolved(Config())
    del saved["training"]["lr"]
    assert from_resolved(Config, saved) == Config(), "a field added since takes its default"
    with pytest.raises(UsageError, match=r"has 'training\.old', which this version"):
        from_resolved(Config, {**saved, "training": {"old": 1}})
    with pytest.raises(UsageError, match="in the saved config, seed='x': expected a whole number"):
        from_resolved(Config, {"seed": "x"})


def test_signature_is_of_values_not_of_order_or_spelling() -> None:
    assert signature({"a": 1, "b": {"c": 2, "d": 3}}) == signature({"b": {"d": 3, "c": 2}, "a": 1})
    assert signature({"a": 1}) != signature({"a": 2})
    assert _compose("training.lr=1e-3").signature == _compose().signature == _compose("training.lr=0.001").signature
    assert _compose("seed=1").signature != _compose().signature


# -- properties


def _numeric_overrides() -> st.SearchStrategy[str]:
    finite = {"allow_nan": False, "allow_infinity": False}
    numbers = {
        "seed": st.integers(-(2**63), 2**63 - 1),
        "training.lr": st.floats(0, 1, exclude_min=True),
        "training.clip": st.floats(min_value=0, exclude_min=True, **finite) | st.none(),  # type: ignore[arg-type]
        "training.steps": st.integers(10, 2**40),
        "data.items": st.integers(1, 2**63 - 1),
        "data.bands": st.lists(st.floats(min_value=0, **finite), max_size=4),  # type: ignore[arg-type]
        "data.crop": st.tuples(st.floats(0, 1), st.floats(0, 1)),
    }
    return st.one_of([values.map(lambda value, n=name: f"{n}={_typed(value)}") for name, values in numbers.items()])


def _typed(value: Any) -> str:
    """A number as a user types it; on purpose not by the writer that is under test."""
    return "null" if value is None else str(list(value) if isinstance(value, tuple) else value).replace(" ", "")


def _round_trip(overrides: Sequence[str]) -> None:
    first = compose(RECIPE, overrides)
    again = compose(RECIPE, first.overrides, first.preset)
    assert (again.signature, again.config, again.overrides) == (first.signature, first.config, first.overrides)


@settings(max_examples=60, deadline=None)
@given(st.lists(_numeric_overrides(), max_size=4))
def test_numbers_round_trip(overrides: list[str]) -> None:
    _round_trip(overrides)


@settings(max_examples=80, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda text: "${" not in text))
def test_any_text_round_trips_when_written_by_us(text: str) -> None:
    composed = compose(RECIPE, [write_override("name", text)])
    assert composed.config.name == text
    _round_trip(composed.overrides)


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=20))
def test_whatever_is_typed_there_is_a_config_or_a_sentence(text: str) -> None:
    for override in (text, f"training.lr={text}", f"name={text}"):
        try:
            _round_trip([override])
        except UsageError as error:
            assert str(error)


# -- manners


def test_import_is_cheap() -> None:
    """Recipe faces import `knob`, and the deck imports faces: neither Hydra nor torch may come along."""
    code = (
        "import sys, wavedeck.engine.config, wavedeck.tests.fakes.recipe_fake;"
        "print([m for m in ('hydra', 'omegaconf', 'torch', 'lightning', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_composed_is_frozen_and_types_are_whole() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        _compose().preset = "x"  # type: ignore[misc]
    assert get_type_hints(Config)["training"] is type(_compose().config.training)
