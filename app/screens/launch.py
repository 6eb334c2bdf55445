"""Configure and start a training: a form generated from the recipe's config, and the command line it equals."""

from __future__ import annotations

import asyncio
import shlex
from typing import ClassVar, cast

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Button, Footer, Input, Label, Select, Static

from ...engine import format as fmt
from ...engine.backup.policy import BackupPolicy
from ...engine.config import check_field, compose, describe
from ...engine.errors import UsageError, WavedeckError
from ...engine.estimate import Machine, estimate_from, machine_of
from ...engine.hosts import LOCAL, HostView
from ...engine.planning import Wish, check_recipe, parse_gpus, plan_recipe
from ...engine.recipe import Recipe, load_recipe, recipe_names
from ...remote import operations
from ...widgets.config_form import ConfigForm
from ...widgets.gpu_words import is_idle, short_name
from ...widgets.palette import Palette
from ...widgets.runs_table import bar
from ...widgets.title_bar import TitleBar
from ..deck import deck_of
from ..messages import LaunchProgress
from .backup_fields import BackupFields

START = "Launch  ctrl+l"
WHOLE = "whole pipeline"
NONE = "–"
SETTLE_S = 0.15
"""A form that is being typed into is not costed at every key."""


class LaunchScreen(Screen[None]):
    """Recipe, stage, preset and groups on the left; every field on the right; the equal command below."""

    HELP_TITLE = "Launch"
    AUTO_FOCUS = "#find"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+l", "start", "Launch", id="launch.start", tooltip="Start this training", priority=True),
        Binding("ctrl+f", "find", "Find field", id="launch.find", tooltip="Show only fields with these words"),
        Binding("ctrl+r", "reset", "Reset", id="launch.reset", tooltip="Forget every edit"),
        Binding("escape", "back", "Back", id="launch.back", tooltip="Leave without starting anything"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._recipe: Recipe | None = None
        self._wish: Wish | None = None
        self._policy: BackupPolicy | None = None
        self._busy = False

    def compose(self) -> ComposeResult:
        """Choices, form, command, keys."""
        yield TitleBar("Launch")
        with Horizontal(id="launch-body"):
            with Vertical(id="choices"):
                yield Label("recipe")
                names = recipe_names()
                yield Select([(name, name) for name in names], allow_blank=not names, id="recipe", compact=True)
                yield Static("", id="summary")
                yield Label("stage")
                yield Select([(WHOLE, WHOLE)], allow_blank=False, id="stage", compact=True)
                yield Label("preset")
                yield Select([(NONE, NONE)], allow_blank=False, id="preset", compact=True)
                yield Label("host")
                yield Select(host_options(deck_of(self).hosts), allow_blank=False, id="host", compact=True)
                yield Label("GPUs")
                yield Input(placeholder="all, or 0,1 or none", id="gpus", compact=True, max_length=200)
                yield Static("", id="gpu-note", markup=False)
                yield Vertical(id="groups")
                yield Label("name of the run")
                yield Input(placeholder="as the recipe", id="name", compact=True)
                yield BackupFields(deck_of(self).hosts, id="backup")
            with Vertical(id="fields"):
                yield Input(placeholder="find: words of a field's name or help", id="find", compact=True)
                yield ConfigForm(id="form")
        with Horizontal(id="launch-bar"):
            yield Static("", id="command")
            yield Button(START, id="start", variant="success")
        yield Footer()

    @on(Select.Changed, "#recipe")
    async def _recipe_chosen(self, event: Select.Changed) -> None:
        try:
            recipe = load_recipe(str(event.value))
        except WavedeckError as error:
            self._say_error(str(error))
            return
        self._recipe = recipe
        self.query_one("#summary", Static).update(Text(recipe.summary))
        stages = [WHOLE, *(stage.name for stage in recipe.stages)]
        self.query_one("#stage", Select).set_options([(stage, stage) for stage in stages])
        presets = list(recipe.presets)
        select = self.query_one("#preset", Select)
        select.set_options([(preset, preset) for preset in [*presets, NONE]])
        select.value = recipe.default_preset or (presets[0] if presets else NONE)
        await self._draw_groups(recipe)
        values = self._base_values()
        form = self.query_one(ConfigForm)
        await form.show(describe(recipe.config), values, lambda name, text: check_field(recipe, name, text))
        self._refresh_plan()

    async def _draw_groups(self, recipe: Recipe) -> None:
        box = self.query_one("#groups", Vertical)
        await box.remove_children()
        for group, options in recipe.groups.items():
            await box.mount(
                Label(Text(group)),
                Select(
                    [(NONE, NONE), *((option, option) for option in options)],
                    allow_blank=False,
                    id=f"group-{group}",
                    classes="group",
                    compact=True,
                ),
            )

    @on(Select.Changed, "#preset")
    @on(Select.Changed, ".group")
    def _base_changed(self) -> None:
        """Preset and groups move the fields that nobody edited."""
        if self._recipe is not None and self.query_one(ConfigForm).children:
            self.query_one(ConfigForm).set_values(self._base_values())
        self._refresh_plan()

    @on(Select.Changed, "#stage")
    @on(Input.Changed, "#name")
    @on(Input.Changed, "#gpus")
    @on(ConfigForm.Changed)
    @on(BackupFields.Changed)
    def _something_changed(self) -> None:
        self._refresh_plan()

    @property
    def _preset(self) -> str | None:
        value = str(self.query_one("#preset", Select).value)
        return None if value == NONE else value

    @property
    def _groups(self) -> list[str]:
        chosen = []
        for select in self.query(".group").results(Select):
            if select.value not in (NONE, Select.BLANK):
                chosen.append(f"{cast(str, select.id).removeprefix('group-')}={select.value}")
        return chosen

    @property
    def _host(self) -> str:
        return str(self.query_one("#host", Select).value)

    def _chosen_gpus(self) -> tuple[int, ...] | None:
        """What the field says.

        Raises
        ------
        UsageError: it is no list of GPUs, or names one that the host does not have.
        """
        chosen = parse_gpus(self.query_one("#gpus", Input).value)
        view = self._host_view()
        if chosen and view is not None and view.reading is not None:
            there = {gpu.index for gpu in view.gpus if not gpu.lost}
            missing = [index for index in chosen if index not in there]
            if missing:
                have = ", ".join(map(str, sorted(there))) or "none"
                raise UsageError(f"{view.name} has no GPU {missing[0]} to give (there: {have}).")
        return chosen

    def _host_view(self) -> HostView | None:
        return next((view for view in deck_of(self).hosts if view.name == self._host), None)

    @on(Select.Changed, "#host")
    def _host_chosen(self) -> None:
        """Say what is free there."""
        view = self._host_view()
        self.query_one("#gpu-note", Static).update(gpu_note(view) if view else "")
        self._refresh_plan()

    def _base_values(self) -> dict[str, object]:
        """Dotted name -> value as preset and groups give it."""
        assert self._recipe is not None
        return _flatten(compose(self._recipe, self._groups, self._preset).resolved)

    def _refresh_plan(self) -> None:
        """Check everything together and show the equal command, or what is wrong."""
        self._wish = None
        if self._recipe is None:
            return
        form = self.query_one(ConfigForm)
        if form.errors:
            self._say_error(form.errors[0])
            return
        stage = str(self.query_one("#stage", Select).value)
        try:
            self._wish = check_recipe(
                self._recipe,
                [*self._groups, *form.overrides],
                stage=None if stage == WHOLE else stage,
                preset=self._preset,
                name=self.query_one("#name", Input).value.strip() or None,
                host=self._host,
                gpus=self._chosen_gpus(),
            )
            fields = self.query_one(BackupFields)
            self._policy = fields.policy(deck_of(self).home, self._host)
            words = fields.command_words()
        except WavedeckError as error:
            self._wish = None
            self._say_error(str(error))
            return
        line = Text("$ ", style="dim")
        line.append(shlex.join([*self._wish.equivalent, *words]), style="bold")
        self.query_one("#command", Static).update(Text.assemble(line, ("\nestimating …", "dim")))
        self.query_one("#start", Button).disabled = False
        view = self._host_view()
        machine = machine_of(self._wish, view.price_per_hour if view is not None else None)
        self._say_cost(self._wish, machine, line)

    @work(exclusive=True, group="estimate", name="estimating time and cost", exit_on_error=False)
    async def _say_cost(self, wish: Wish, machine: Machine, line: Text) -> None:
        """Time and cost below the command, once they are known: files of many runs may be read for them."""
        await asyncio.sleep(SETTLE_S)
        guess = await asyncio.to_thread(estimate_from, deck_of(self).views, wish, machine)
        if wish is self._wish and not self._busy:
            self.query_one("#command", Static).update(Text.assemble(line, (f"\n{guess.line}", "dim")))

    def _say_error(self, sentence: str) -> None:
        text = Text(f"✗ {sentence}", style=self.app.theme_variables["error"])
        self.query_one("#command", Static).update(text)
        self.query_one("#start", Button).disabled = True

    def show_progress(self, message: LaunchProgress) -> None:
        """How far the preparation of another host is, in the place of the command."""
        if not self._busy:
            return
        palette = Palette.of(self.app)
        text = Text("⋯ ", style=palette.accent).append(f"{fmt.plain(message.host, 40)}: ", style=palette.muted)
        text.append(fmt.plain(message.text, 200), style=palette.text)
        if message.done is not None and message.total:
            text.append("  ").append_text(bar(message.done / message.total, 16, palette))
        self.query_one("#command", Static).update(text)

    # --- keys

    @on(Button.Pressed, "#start")
    def action_start(self) -> None:
        """Launch, then show the new run. The app does it, so that leaving this screen cannot cut it short."""
        if self._wish is None or self._busy:
            return
        self._busy = True
        self.query_one("#start", Button).label = "preparing …"
        work = self._launch(self._wish, self._policy)
        self.app.run_worker(work, name="launching", group="launch", exit_on_error=False)

    async def _launch(self, wish: Wish, policy: BackupPolicy | None) -> None:
        deck = deck_of(self)
        try:
            if wish.host == LOCAL:
                taken = [view.id for view in deck.views]
                plan = await asyncio.to_thread(plan_recipe, deck.home, wish, taken=taken)
                result = await operations.launch(deck.home, deck.host, plan.manifest, plan.attempt, policy=policy)
            else:
                self.show_progress(
                    LaunchProgress(wish.host, "looking what is there; the deck may be used meanwhile", None, None)
                )
                result = await deck.fleet.launch(wish.host, wish, policy)
        finally:
            self._busy = False
            if self.is_mounted:
                self.query_one("#start", Button).label = START
                self._refresh_plan()
        if result.notice:
            self.app.notify(result.notice, severity="warning", markup=False)
        deck.look_again()
        if self.is_active:
            self.app.pop_screen()
            deck.open_run(result.run.id)

    def action_find(self) -> None:
        """Go to the search line."""
        self.query_one("#find", Input).focus()

    @on(Input.Changed, "#find")
    def _find_typed(self, event: Input.Changed) -> None:
        self.query_one(ConfigForm).find(event.value)

    @on(Input.Submitted, "#find")
    def _found(self) -> None:
        """Enter goes to the first field found."""
        self.query_one(ConfigForm).focus_first()

    def action_reset(self) -> None:
        """Every field back to what preset and groups give."""
        self.query_one(ConfigForm).reset()

    def action_back(self) -> None:
        """Leave; what is being started right now goes on and appears among the runs."""
        self.app.pop_screen()


def host_options(views: tuple[HostView, ...]) -> list[tuple[str, str]]:
    """(words, name) of this machine and of every other."""
    others = [view for view in views if not view.is_local]
    return [("local: this machine", LOCAL), *((f"{view.name}: {_host_words(view)}", view.name) for view in others)]


def _host_words(view: HostView) -> str:
    if not view.link.up:
        return str(view.link)
    if not view.gpus:
        return "no GPU" if view.reading else str(view.link)
    return f"{len(view.gpus)} × {short_name(view.gpus[0])}"


def gpu_note(view: HostView) -> str:
    """`idle there: 5, 6` of a host with more than one GPU."""
    if len(view.gpus) < 2:
        return ""
    taken = {process.gpu for process in view.processes}
    idle = [gpu.index for gpu in view.gpus if gpu.index not in taken and is_idle(gpu)]
    return f"idle there: {', '.join(map(str, idle))}" if idle else "none of its GPUs is idle"


def _flatten(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
