"""Players and drums: strokes sit where the notation says, and the sound has its onsets there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavedeck.recipes.sousa.drums import KITS, ROOMS, Drum, Kit, bounces, render
from wavedeck.recipes.sousa.notation import load_rudiments
from wavedeck.recipes.sousa.players import TIERS, Performance, Profile, make_profiles, perform

RUDIMENTS = load_rudiments()
RATE = 16_000
PROFILES = {profile.tier.name: profile for profile in make_profiles(40, 0) if profile.dominant_hand == "right"}


def play(slug: str, tempo: float = 100.0, tier: str = "professional", seed: int = 0, **options: float) -> Performance:
    return perform(RUDIMENTS[slug], PROFILES[tier], tempo, 4.0, np.random.default_rng(seed), **options)


@pytest.mark.parametrize("slug", RUDIMENTS)
def test_primaries_of_a_machine_sit_on_the_notated_grid_whatever_the_graces(slug: str) -> None:
    """Dividing the cycle by all strokes, graces included, would fail this for every flam and drag rudiment."""
    rudiment, beat_ms = RUDIMENTS[slug], 600.0
    performance = play(slug, timing=0.0, dynamics=0.0, lead_in_ms=100.0)
    primaries = [stroke for stroke in performance.strokes if stroke.stroke_type != "grace"]
    offsets = [float(note.offset) for note in rudiment.notes]
    for index, stroke in enumerate(primaries):
        cycle, place = divmod(index, len(offsets))
        expected = 100.0 + (cycle * float(rudiment.cycle_beats) + offsets[place]) * beat_ms
        assert stroke.actual_time_ms == stroke.intended_time_ms == pytest.approx(expected)
        assert stroke.hand == rudiment.notes[place].hand
        assert stroke.is_accent == rudiment.notes[place].accent
        assert stroke.actual_velocity == stroke.intended_velocity


@given(
    slug=st.sampled_from(sorted(RUDIMENTS)), tempo=st.floats(40, 220), profile=st.sampled_from(make_profiles(24, 1)),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_what_a_player_intends_is_the_notation_at_any_tempo(
    slug: str, tempo: float, profile: Profile, seed: int
) -> None:
    """Whatever the player's skill, `intended_time_ms` of the primaries is the notated grid, cycle after cycle."""
    rudiment = RUDIMENTS[slug]
    strokes = perform(rudiment, profile, tempo, 4.0, np.random.default_rng(seed)).strokes
    primaries = [stroke for stroke in strokes if stroke.stroke_type != "grace"]
    for index, stroke in enumerate(primaries):
        cycle, place = divmod(index, len(rudiment.notes))
        beats = cycle * rudiment.cycle_beats + rudiment.notes[place].offset
        assert stroke.intended_time_ms == pytest.approx(120.0 + float(beats) * 60_000 / tempo)
    graces = sum(stroke.stroke_type == "grace" for stroke in strokes)
    assert graces == sum(rudiment.notes[index % len(rudiment.notes)].graces for index in range(len(primaries)))


@pytest.mark.parametrize("slug", ["flam", "drag", "triple_ratamacue", "flamacue"])
@pytest.mark.parametrize("tier", [tier.name for tier in TIERS])
def test_graces_lean_on_their_stroke_from_the_other_hand(slug: str, tier: str) -> None:
    strokes = play(slug, tier=tier).strokes
    graces = [stroke for stroke in strokes if stroke.stroke_type == "grace"]
    assert graces
    for grace in graces:
        assert grace.parent is not None
        parent = strokes[grace.parent]
        assert parent.stroke_type != "grace"
        assert grace.hand != parent.hand
        assert 5 < parent.actual_time_ms - grace.actual_time_ms < 180
        assert grace.intended_velocity < parent.intended_velocity


def test_professional_flams_are_25_to_35_ms() -> None:
    spacings = [stroke.flam_spacing_ms for seed in range(20) for stroke in play("flam", seed=seed).strokes]
    assert 20 < np.median([spacing for spacing in spacings if spacing]) < 35


@pytest.mark.parametrize("slug", RUDIMENTS)
def test_strokes_never_overtake_each_other(slug: str) -> None:
    strokes = play(slug, RUDIMENTS[slug].tempo_high, "beginner").strokes
    primaries = [stroke.actual_time_ms for stroke in strokes if stroke.stroke_type != "grace"]
    assert np.all(np.diff(primaries) > 0)


def test_skill_narrows_timing_and_dynamics() -> None:
    def spread(tier: str) -> tuple[float, float]:
        strokes = [s for seed in range(10) for s in play("single_paradiddle", 80, tier, seed).strokes]
        errors = [s.actual_time_ms - s.intended_time_ms for s in strokes]
        return float(np.std(errors)), float(np.std([s.actual_velocity / s.intended_velocity for s in strokes]))

    spreads = [spread(tier.name) for tier in TIERS]
    assert [timing for timing, _ in spreads] == sorted((timing for timing, _ in spreads), reverse=True)
    assert spreads[0][1] > spreads[-1][1]


def test_left_handed_players_lead_with_the_left() -> None:
    lefty = next(profile for profile in make_profiles(100, 0) if profile.dominant_hand == "left")
    strokes = perform(RUDIMENTS["single_paradiddle"], lefty, 100, 2.0, np.random.default_rng(0)).strokes
    assert "".join(stroke.hand for stroke in strokes[:8]) == "LRLLRLRR"


def sound(slug: str, **options: float) -> tuple[np.ndarray, Performance]:
    rng = np.random.default_rng(1)
    performance = play(slug, 90.0)
    return render(performance.strokes, KITS[1], ROOMS[0], 4.0, RATE, rng, noise_db=-70.0, **options), performance


@pytest.mark.parametrize("slug", ["single_paradiddle", "flam", "nine_stroke_roll"])
def test_every_primary_stroke_is_heard_at_its_time(slug: str) -> None:
    """Energy in the 8 ms after a stroke exceeds that of the 8 ms before it (before its graces, where it has some)."""
    wave_S, performance = sound(slug)
    for stroke in performance.strokes:
        if stroke.stroke_type == "grace":
            continue
        onset = round(stroke.actual_time_ms * RATE / 1000)
        before = onset - round((stroke.flam_spacing_ms or 0) * RATE / 1000) - 8
        energy = [float((wave_S[start : start + 128] ** 2).sum()) for start in (before - 128, onset)]
        assert energy[1] > 1.5 * energy[0], stroke


def test_accents_are_louder_by_some_decibels() -> None:
    wave_S, performance = sound("single_paradiddle")

    def level(accent: bool) -> float:
        onsets = [round(s.actual_time_ms * RATE / 1000) for s in performance.strokes if s.is_accent == accent]
        peaks = [np.abs(wave_S[onset : onset + 320]).max() for onset in onsets if onset < len(wave_S) - 320]
        return float(np.median(peaks))

    assert 4 < 20 * np.log10(level(True) / level(False)) < 16


def test_kits_differ_more_from_each_other_than_from_themselves() -> None:
    """Held-out kits mean little when one that was heard sounds the same. A kit's tuning differs from clip to clip; two
    kits must differ twice as much, in spectrum (third octaves) and decay (10 ms) together, in decibels."""

    def heard(kit: Kit, seed: int) -> np.ndarray:
        drum = Drum(kit, 1.0, RATE, np.random.default_rng(seed))
        hits = np.stack([drum.hit("R", 80.0) for _ in range(12)])
        power_K = (np.abs(np.fft.rfft(hits, 4096)) ** 2).mean(axis=0)
        edges = np.geomspace(8, len(power_K), 22).astype(int)
        bands = 10 * np.log10([power_K[low:high].mean() for low, high in zip(edges, edges[1:], strict=False)])
        decay = 10 * np.log10((hits.reshape(12, -1, 160) ** 2).mean(axis=(0, 2)) + 1e-9)
        return np.concatenate([bands - bands.mean(), decay - decay.max()])

    def apart(ones: list[np.ndarray], others: list[np.ndarray]) -> float:
        return float(np.mean([np.abs(one - other).mean() for one in ones for other in others if one is not other]))

    assert len(KITS) >= 12 and len({kit.name for kit in KITS}) == len(KITS)
    clips = [[heard(kit, seed) for seed in range(4)] for kit in KITS]
    for index, ones in enumerate(clips):
        for others in clips[:index]:
            assert apart(ones, others) > 2 * max(apart(ones, ones), apart(others, others))


def test_hand_timbre_is_what_tells_the_hands_apart() -> None:
    def centroid(hand: str, timbre: float) -> float:
        drum = Drum(KITS[0], timbre, RATE, np.random.default_rng(3))
        power = np.mean([np.abs(np.fft.rfft(drum.hit(hand, 80.0))) ** 2 for _ in range(40)], axis=0)
        return float((power * np.arange(len(power))).sum() / power.sum())

    assert centroid("R", 1.0) > 1.1 * centroid("L", 1.0)
    assert centroid("R", 0.0) == pytest.approx(centroid("L", 0.0), rel=0.05)


def test_a_buzz_is_three_to_eight_fading_bounces() -> None:
    drum = Drum(KITS[0], 1.0, RATE, np.random.default_rng(0))
    for _ in range(50):
        played = bounces(drum, "R", 70.0)
        assert 3 <= len(played) <= 8
        assert np.all(np.diff([delay for delay, _ in played]) > 0.008)
        assert np.all(np.diff([velocity for _, velocity in played]) < 0)


def test_clips_are_finite_in_range_and_repeatable() -> None:
    for slug in ("multiple_bounce_roll", "double_drag_tap", "thirteen_stroke_roll"):
        one, other = sound(slug)[0], sound(slug)[0]
        assert np.array_equal(one, other)
        assert one.dtype == np.float32
        assert one.shape == (4 * RATE,)
        assert np.isfinite(one).all()
        assert 0.3 < np.abs(one).max() <= 1.0


def test_diddles_tell_nothing_where_the_hands_do_not() -> None:
    """With hands that sound alike a diddle's strokes are taps: their loudness would tell the sticking."""
    for slug in ("double_paradiddle", "paradiddle_diddle"):
        levels = {
            timbre: {stroke.intended_velocity for stroke in play(slug, hand_timbre=timbre).strokes}
            for timbre in (0.0, 0.5, 1.0)
        }
        assert levels == {0.0: {120.0, 65.0}, 0.5: {120.0, 65.0, 70.0}, 1.0: {120.0, 65.0, 75.0}}
