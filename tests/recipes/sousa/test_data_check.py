"""The corrupt-data suite: what is wrong with a set is found before training, and named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch")

from wavedeck.engine.context import Context  # noqa: E402
from wavedeck.engine.errors import UsageError  # noqa: E402
from wavedeck.engine.planning import check_recipe  # noqa: E402
from wavedeck.recipes.sousa.config import data_signature  # noqa: E402
from wavedeck.recipes.sousa.data import SousaData, check_set, load_clip  # noqa: E402
from wavedeck.recipes.sousa.data import check as check_module  # noqa: E402
from wavedeck.recipes.sousa.preflight import refuse_label_inputs  # noqa: E402
from wavedeck.recipes.sousa.recipe import RECIPE  # noqa: E402
from wavedeck.recipes.sousa.tables import STROKE_COLUMNS, DataError, Sample, read_samples  # noqa: E402
from wavedeck.tests.fakes.sousa_data import SLUGS, data_config, rewrite, table  # noqa: E402

Say = Callable[[str, str], None]


@pytest.fixture
def own_set(made_set: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(made_set, tmp_path / "set"))


def judge(root: Path, say: Say, depth: str = "headers") -> None:
    check_set(data_config(path=str(root), check_audio=depth), read_samples(root, SLUGS), root, say)


def cut(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def hurt_middle(path: Path) -> None:
    """A frame of noise in the middle; header and end stay whole."""
    whole = bytearray(path.read_bytes())
    middle = len(whole) // 2
    whole[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(bytes(whole))


def write_nan(path: Path) -> None:
    wave_S = np.zeros(16_000, dtype=np.float32)
    wave_S[5_000] = np.nan
    soundfile.write(path, wave_S, 16_000, format="WAV", subtype="FLOAT")


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "gone": (Path.unlink, "headers", "is missing"),
    "emptied": (lambda path: path.write_bytes(b""), "headers", "is empty"),
    "a text": (lambda path: path.write_text("not found"), "headers", "is damaged or cut short"),
    "cut in its header": (lambda path: path.write_bytes(path.read_bytes()[:60]), "headers", "damaged or cut short"),
    "cut in the middle": (lambda path: cut(path, 0.5), "headers", "cut short"),
    "cut near its end": (lambda path: cut(path, 0.95), "headers", "cut short"),
    "without samples": (lambda path: soundfile.write(path, np.zeros(0), 16_000, format="WAV"), "headers", "is empty"),
    "too short": (lambda path: soundfile.write(path, np.zeros(3_000), 16_000), "headers", "lasts 0.2 s, the table"),
    "too long": (lambda path: soundfile.write(path, np.zeros(200_000), 16_000), "headers", "lasts 12.5 s"),
    "of a low rate": (lambda path: soundfile.write(path, np.zeros(8_000), 8_000), "headers", "has 8000 Hz, less than"),
    "hurt inside": (hurt_middle, "all", "damaged or cut short"),
    "with NaN": (write_nan, "all", "no numbers"),
}  # fmt: skip


def test_a_whole_set_passes_without_a_word(made_set: Path, say: Say, said: list[str]) -> None:
    for depth in ("headers", "all", "none"):
        judge(made_set, say, depth)
    assert said == []


@pytest.mark.parametrize("how", DAMAGE)
def test_a_sound_that_is_unfit_is_named(how: str, own_set: Path, say: Say) -> None:
    damage, depth, words = DAMAGE[how]
    victim = read_samples(own_set, SLUGS)[7].audio
    damage(victim)
    with pytest.raises(DataError) as refusal:
        judge(own_set, say, depth)
    assert str(refusal.value).startswith(f"1 of 48 sounds cannot be used: {victim} ")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)
    judge(own_set, say, "none")


def test_of_many_faults_five_are_named_and_all_counted(own_set: Path, say: Say) -> None:
    for sample in read_samples(own_set, SLUGS)[:9]:
        sample.audio.unlink()
    with pytest.raises(DataError, match=r"^9 of 48 sounds .*; and 4 more\. Restore") as refusal:
        judge(own_set, say)
    assert str(refusal.value).count("is missing") == 5


def test_a_large_set_is_sampled_evenly_and_all_are_looked_for(
    own_set: Path, say: Say, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check_module, "MOST_OPENED", 16)
    samples = read_samples(own_set, SLUGS)
    samples[1].audio.write_text("unseen: only every third is opened")
    judge(own_set, say)
    assert said == ["info: of 48 sounds one in 3 is opened (data.check_audio=all reads them all)."]
    samples[2].audio.unlink()
    with pytest.raises(DataError, match="is missing"):
        judge(own_set, say)


def test_another_rate_than_the_rest_is_said(own_set: Path, say: Say, said: list[str]) -> None:
    odd = read_samples(own_set, SLUGS)[3].audio
    soundfile.write(odd, np.zeros(48_000), 48_000)
    judge(own_set, say)
    assert said == [
        f"warning: 1 sounds have another rate than the usual 16000 Hz: {odd.name} (48000 Hz). All are resampled to "
        "16000 Hz."
    ]


def test_classes_that_a_split_lacks_are_said_and_an_empty_split_is_refused(
    own_set: Path, say: Say, said: list[str]
) -> None:
    rows = table(own_set)
    rewrite(own_set, [row for row in rows if (row["split"], row["rudiment_slug"]) != ("val", "drag")])
    judge(own_set, say)
    assert said == ["warning: the val split has no clip of drag: its scores leave them out."]
    rewrite(own_set, [row for row in rows if row["split"] != "test"])
    with pytest.raises(DataError, match="the test split is empty"):
        judge(own_set, say)
    rewrite(own_set, [row for row in rows if row["rudiment_slug"] != "flam"])
    with pytest.raises(DataError, match="no training clip of flam"):
        judge(own_set, say)


def test_the_annotations_are_never_the_input(context: Context) -> None:
    for column in (*STROKE_COLUMNS, "rudiment_slug", "tempo_bpm", "overall_score", "midi_path"):
        with pytest.raises(DataError, match=f"{column} cannot be the input"):
            refuse_label_inputs(["audio_path", column])
    refuse_label_inputs(["audio_path"])
    with pytest.raises(DataError, match="has to hear something"):
        refuse_label_inputs([])
    with pytest.raises(DataError, match="stroke_type, hand cannot be the input"):
        SousaData(data_config(inputs=("stroke_type", "hand")), context)


def test_a_user_who_names_a_column_of_annotations_is_refused_before_the_launch() -> None:
    with pytest.raises(UsageError, match=r"stroke_type cannot be the input of a model.*Only the sound"):
        check_recipe(RECIPE, ["data.inputs=[audio_path,stroke_type]"])
    assert check_recipe(RECIPE, ["data.inputs=[audio_path]"]).composed.config.data.inputs == ("audio_path",)
    assert data_signature(data_config(inputs=("audio",))) == data_signature(data_config())  # the clips stay the same


def test_a_sound_that_goes_bad_after_the_check_is_named(own_set: Path) -> None:
    sample = read_samples(own_set, SLUGS)[0]
    cut(sample.audio, 0.5)
    with pytest.raises(DataError, match=f"{sample.sample_id}.* take {sample.sample_id} out"):
        load_clip(sample, 16_000, 16_000)
    sample.audio.unlink()
    with pytest.raises(DataError, match="is missing"):
        load_clip(sample, 16_000, 16_000)
    bad = replace(sample, audio=own_set / "nan.wav")
    write_nan(bad.audio)
    with pytest.raises(DataError, match="no numbers"):
        load_clip(bad, 16_000, 16_000)


def test_a_clip_is_cut_padded_and_resampled(tmp_path: Path) -> None:
    def clip(rate: int, seconds: float) -> Sample:
        path = tmp_path / f"{rate}-{seconds}.wav"
        soundfile.write(path, np.sin(np.arange(int(rate * seconds)) * 2 * np.pi * 500 / rate), rate)
        return Sample("a", "p", "flam", "beginner", path, "train")

    assert load_clip(clip(16_000, 0.5), 16_000, 16_000)[8_000:].max() == 0
    assert len(load_clip(clip(16_000, 2.0), 16_000, 16_000)) == 16_000
    for seconds in (1.0, 3.0):
        resampled = load_clip(clip(44_100, seconds), 16_000, 16_000)
        assert len(resampled) == 16_000 and np.argmax(np.abs(np.fft.rfft(resampled))) == 500
    with pytest.raises(DataError, match=r"8000 Hz, less than data\.sample_rate=16000"):
        load_clip(clip(8_000, 1.0), 16_000, 16_000)
