"""Speech: words reach the memory with the first frame after them, silence costs nothing, a local model writes them."""

import json

import numpy as np
import pytest

from embodied_mem.errors import UsageError
from embodied_mem.stream.audio import RATE
from embodied_mem.stream.session import Session, SessionConfig
from embodied_mem.stream.sources import ArraySource
from embodied_mem.stream.speech import LocalSpeech, SpeechTrack

av = pytest.importorskip("av")


def write(path, samples):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        packed = (np.asarray(samples) * 32767).astype(np.int16)
        for first in range(0, len(packed), 1600):
            frame = av.AudioFrame.from_ndarray(packed[None, first : first + 1600], format="s16", layout="mono")
            frame.sample_rate, frame.pts = RATE, first
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tone(seconds, level=0.5):
    return level * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture
def film(tmp_path):
    """Loud, silent and quieter windows of two seconds."""
    return write(tmp_path / "a.wav", np.concatenate([tone(2), np.zeros(2 * RATE), tone(2, 0.25), tone(1, 0.1)]))


def named(samples):
    """A speech model that tells how loud its window is."""
    return f"level {round(float(np.abs(samples).max()), 1)}"


def source(seconds=8):
    return ArraySource(np.zeros((seconds, 8, 8, 3), np.uint8), np.arange(seconds, dtype=float))


def test_words_come_with_the_first_frame_after_them_and_silence_is_not_transcribed(film):
    track = SpeechTrack(film, named, window_s=2.0)
    heard = [track.heard(t) for t in (0.0, 1.9, 2.0, 3.0, 5.9, 7.0, 9.0)]
    assert heard == ["", "", "said: level 0.5", "", "", "said: level 0.2 level 0.1", ""] and track.calls == 3
    with pytest.raises(UsageError, match="read forward"):
        track.heard(1.0)


def test_what_was_said_is_recalled_as_text(film):
    config = SessionConfig(memory="last_k", memory_config={"slots": 9}, frame_side=0)
    with Session(source(), config, speech=SpeechTrack(film, named, window_s=2.0)) as session:
        session.run()
        lines = {span.t0: span.text for span in session.recall().text}
    assert lines[2.0] == "said: level 0.5" and lines[6.0] == "said: level 0.2" and lines[7.0] == "said: level 0.1"
    assert lines[4.0] == "frame at 4.00 s"


def test_a_session_that_goes_on_hears_nothing_twice(film, tmp_path):
    config = SessionConfig(memory="last_k", memory_config={"slots": 9}, frame_side=0, checkpoint=str(tmp_path / "c"))
    with Session(source(), config, speech=SpeechTrack(film, named, window_s=2.0)) as first:
        first.run(4)
    track = SpeechTrack(film, named, window_s=2.0)
    with Session(source(), config, speech=track) as second:
        second.run()
        said = [span.text for span in second.recall().text if span.text.startswith("said")]
    assert said == ["said: level 0.5", "said: level 0.2", "said: level 0.1"] and track.calls == 2


def test_a_model_that_fails_ends_the_stream(film):
    def broken(samples):
        raise UsageError("the speech model in x failed: no memory")

    track = SpeechTrack(film, broken, window_s=2.0)
    with Session(source(), SessionConfig(frame_side=0), speech=track) as session:
        with pytest.raises(UsageError, match="no memory"):
            session.run()
    assert len(SpeechTrack(film, lambda samples: "word " * 900, window_s=2.0).heard(2.0).encode()) <= 1024


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A Whisper of a few thousand random weights, with a tokenizer of bytes."""
    transformers = pytest.importorskip("transformers")
    import torch
    from tokenizers import pre_tokenizers

    folder = tmp_path_factory.mktemp("whisper")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|transcribe|>",
        "<|translate|>",
        "<|notimestamps|>",
    ]
    vocabulary = {word: number for number, word in enumerate([*letters, *special])}
    tokenizer = transformers.WhisperTokenizer(vocab=vocabulary, merges=[])
    start, english, write_down, translate, untimed = (vocabulary[word] for word in special[1:])
    config = transformers.WhisperConfig(
        vocab_size=len(vocabulary), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=8, max_target_positions=32,
        decoder_start_token_id=start, eos_token_id=256, bos_token_id=256, pad_token_id=256,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.WhisperForConditionalGeneration(config)
    generation = model.generation_config
    generation.is_multilingual, generation.no_timestamps_token_id = True, untimed
    generation.lang_to_id, generation.task_to_id = (
        {"<|en|>": english},
        {"transcribe": write_down, "translate": translate},
    )
    generation.language, generation.task = "en", "transcribe"
    model.save_pretrained(folder)
    features = transformers.WhisperFeatureExtractor(feature_size=8)
    transformers.WhisperProcessor(features, tokenizer).save_pretrained(folder)
    return folder


def test_a_local_whisper_writes_what_it_hears(whisper, film):
    speech = LocalSpeech(whisper, max_tokens=8)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)
    said = [speech(samples) for samples in (noise, noise, tone(2).astype(np.float32))]
    assert said[0] == said[1] and said[0], "greedy decoding says the same again"
    track = SpeechTrack(film, speech, window_s=2.0)
    assert track.heard(2.0).startswith("said: ") and track.calls == 1


def test_errors_are_one_line(tmp_path, film):
    with pytest.raises(UsageError, match="no config.json there"):
        LocalSpeech(tmp_path)
    for content in ({"model_type": "llama"}, {"model_type": "clip"}):
        (tmp_path / "config.json").write_text(json.dumps(content))
        with pytest.raises(UsageError, match="speech model in .* failed") as caught:
            LocalSpeech(tmp_path)(np.ones(RATE, np.float32))
        assert "\n" not in str(caught.value)
    for values in ({"window_s": 0.0}, {"silence_db": 1.0}):
        with pytest.raises(UsageError, match="expected"):
            SpeechTrack(film, named, **values)


def test_ask_takes_a_folder_of_a_speech_model(film, whisper, tmp_path):
    from embodied_mem.stream.asking import ask, speech_track

    with pytest.raises(UsageError, match="name of a media file"):
        ask(source(), "what was said?", speech=whisper)
    with pytest.raises(UsageError, match="no config.json"):
        speech_track(film, tmp_path)
    assert isinstance(speech_track(str(film), whisper), SpeechTrack)
