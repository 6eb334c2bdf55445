"""What augmentation may and may not do to a clip, and that it is the same each time."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wavedeck.engine.training.stream import ItemKey, item_rng  # noqa: E402
from wavedeck.recipes.sousa.config import AugmentConfig  # noqa: E402
from wavedeck.recipes.sousa.data import Collate, Item, augment_spectrogram, augment_wave, collate_plain  # noqa: E402
from wavedeck.recipes.sousa.players import TIERS  # noqa: E402

NONE = {"time_masks": 0, "mel_mask": 0.0, "stretch": 0.0, "mixup": 0.0, "shift_ms": 0.0, "gain_db": 0.0}
HOP_MS, SILENCE, PER_DB, RATE = 6.0, -4.0, 0.06, 16_000


def only(**options: float) -> AugmentConfig:
    return AugmentConfig(**{**NONE, **options})  # type: ignore[arg-type]


def mel(config: AugmentConfig, x_MF: torch.Tensor, item: int = 0, epoch: int = 0) -> torch.Tensor:
    return augment_spectrogram(x_MF, config, HOP_MS, SILENCE, PER_DB, item_rng(0, ItemKey(item, epoch)))


def strokes(at_s: list[float], hertz: float = 2_000.0, seconds: float = 2.0) -> torch.Tensor:
    """Decaying tones at these times."""
    wave_S = np.zeros(int(seconds * RATE), dtype=np.float32)
    time_H = np.arange(1_600) / RATE
    for start in at_s:
        wave_S[int(start * RATE) :][:1_600] += np.sin(2 * np.pi * hertz * time_H) * np.exp(-time_H / 0.02)
    return torch.from_numpy(wave_S)


def onsets_s(wave_S: torch.Tensor) -> list[float]:
    """Where the loudness of 4-ms pieces jumps up, at most once in a tenth of a second."""
    level = wave_S.reshape(-1, 64).square().sum(dim=1).numpy()
    found = [-1.0]
    for piece in np.flatnonzero(level > 0.05 * level.max()):
        if piece * 64 / RATE > found[-1] + 0.1:
            found.append(float(piece * 64 / RATE))
    return found[1:]


@pytest.mark.parametrize("wave", [False, True])
def test_augmentation_is_a_function_of_seed_epoch_and_clip_and_leaves_the_clip_alone(wave: bool) -> None:
    x = strokes([0.2, 0.9]) if wave else torch.rand(48, 200)
    before = x.clone()

    def made(seed: int, epoch: int, item: int) -> torch.Tensor:
        rng = item_rng(seed, ItemKey(item, epoch))
        if wave:
            return augment_wave(x, AugmentConfig(), RATE, rng)
        return augment_spectrogram(x, AugmentConfig(), HOP_MS, SILENCE, PER_DB, rng)

    one = made(3, 0, 5)
    assert torch.equal(one, made(3, 0, 5)) and one.shape == x.shape and one.dtype == torch.float32
    for other in (made(3, 1, 5), made(3, 0, 6), made(4, 0, 5)):
        assert not torch.equal(one, other)
    assert torch.equal(x, before)


def test_without_any_augmentation_a_clip_stays_as_it_is() -> None:
    x_MF, wave_S = torch.rand(48, 200), strokes([0.2])
    assert torch.equal(mel(only(), x_MF), x_MF)
    assert torch.equal(augment_wave(wave_S, only(), RATE, item_rng(0, ItemKey(0, 0))), wave_S)


def test_time_masks_stay_shorter_than_a_grace_note_is_early() -> None:
    x_MF = torch.rand(48, 500)
    nearest_ms = min(tier.flam_ms for tier in TIERS)
    for item in range(50):
        masked = int((mel(only(time_masks=1), x_MF, item) != x_MF).any(dim=0).sum())
        assert masked * HOP_MS <= 12.0 < nearest_ms


def test_the_mask_of_bands_is_a_share_of_them() -> None:
    widths = [int((mel(only(mel_mask=0.12), torch.rand(128, 50), item) == 0).sum()) for item in range(2)]
    changed = []
    for item in range(100):
        x_MF = torch.rand(128, 50)
        changed.append(int((mel(only(mel_mask=0.12), x_MF, item) != x_MF).any(dim=1).sum()))
    assert 8 < max(changed) <= 15 and min(changed) == 0 and widths == [0, 0]


def test_a_shift_moves_and_fills_with_silence() -> None:
    x_MF = torch.zeros(4, 200)
    x_MF[:, 100] = 1.0
    for item in range(20):
        out_MF = mel(only(shift_ms=120.0), x_MF, item)
        place = float((out_MF[0].clamp(min=0) * torch.arange(200)).sum())
        assert 80 <= place <= 120
        assert float(out_MF.min()) in (0.0, SILENCE)


def test_a_change_of_level_adds_and_stops_at_silence() -> None:
    x_MF = torch.linspace(SILENCE, 2.0, 48)[:, None].expand(48, 100).contiguous()
    out_MF = mel(only(gain_db=6.0), x_MF)
    change_M = (out_MF - x_MF)[:, 0]
    assert abs(float(change_M[-1])) <= 6.0 * PER_DB and float(change_M[-1]) != 0
    assert torch.allclose(change_M[6:], change_M[-1].expand(42))
    assert float(change_M[0]) == 0 and float(out_MF.min()) >= SILENCE
    untouched = augment_spectrogram(x_MF, only(gain_db=6.0), HOP_MS, SILENCE, 0.0, item_rng(0, ItemKey(0, 0)))
    assert torch.equal(untouched, x_MF)


def test_a_stretch_moves_onsets_by_up_to_a_tenth_and_leaves_bands_where_they_are() -> None:
    x_MF = torch.zeros(16, 400)
    x_MF[5, [100, 101, 300, 301]] = 1.0  # a stroke is never shorter than a window, which is three frames
    rates = set()
    for item in range(30):
        out_F = mel(only(stretch=0.1), x_MF, item).clamp(min=0)
        assert not out_F[[band for band in range(16) if band != 5]].any()
        early, late = float(out_F[5, :200].argmax()), 200 + float(out_F[5, 200:].argmax())
        rates.add(round(200 / (late - early), 2))
        assert 0.89 <= 200 / (late - early) <= 1.12
    assert min(rates) < 0.96 and max(rates) > 1.04


def test_a_waveform_is_stretched_without_changing_its_pitch() -> None:
    wave_S, seen = strokes([0.2, 0.6, 1.0, 1.4]), set()
    for item in range(8):
        out_S = augment_wave(wave_S, only(stretch=0.1), RATE, item_rng(0, ItemKey(item, 0)))
        found = onsets_s(out_S)
        assert len(found) == 4
        rate = 1.2 / (found[3] - found[0])
        seen.add(round(rate, 2))
        assert 0.88 < rate < 1.12
        assert np.argmax(np.abs(np.fft.rfft(out_S.numpy()))) / 2.0 == pytest.approx(2_000, rel=0.02)
    assert max(seen) - min(seen) > 0.05


def test_masks_of_a_waveform_make_no_click() -> None:
    """A cut to zero would be heard as a stroke: no 4-ms piece may hold much more than it did before."""
    noise_S = torch.from_numpy(np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32))
    hum_S = torch.sin(torch.arange(2 * RATE) * 2 * np.pi * 300 / RATE) + 0.001 * noise_S
    out_S = augment_wave(hum_S, only(time_masks=4, mel_mask=0.0), RATE, item_rng(0, ItemKey(3, 0)))
    high = [torch.fft.rfft(wave.reshape(-1, 320)).abs()[:, 40:].square().sum(dim=1) for wave in (hum_S, out_S)]
    assert not torch.allclose(hum_S, out_S, atol=0.05)
    assert float(high[1].max()) < 100 * float(high[0].max())


def items(count: int, epoch: int = 0) -> list[Item]:
    return [Item(torch.full((3, 5), float(index)), index % 4, index, epoch) for index in range(count)]


def test_mixup_mixes_sound_and_labels_alike_and_the_same_each_time() -> None:
    collate = Collate(7, 0.2)
    batch, again, later = collate(items(16)), collate(items(16)), collate(items(16, 1))
    assert all(torch.equal(one, other) for one, other in zip(batch, again, strict=True))
    assert not torch.equal(batch.share, later.share)
    assert batch.x.shape == (16, 3, 5) and batch.label.tolist() == [index % 4 for index in range(16)]
    assert float(batch.share.min()) >= 0.5 and float(batch.share.max()) <= 1.0
    for index in range(16):
        share, value = float(batch.share[index]), float(batch.x[index, 0, 0])
        partner = (value - share * index) / (1 - share) if share < 0.999 else None
        if partner is not None:
            assert round(partner) % 4 == int(batch.other[index])


def test_nothing_is_mixed_without_alpha_or_outside_of_training() -> None:
    for batch in (Collate(7, 0.0)(items(8)), Collate(7, 0.2)(items(8, -1)), collate_plain(items(8))):
        assert torch.equal(batch.x[:, 0, 0], torch.arange(8.0))
        assert torch.equal(batch.label, batch.other) and batch.share.tolist() == [1.0] * 8
        assert batch.clip.tolist() == list(range(8))
