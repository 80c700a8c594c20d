"""Plans, presets and folders: bad input is one line before anything runs."""

import pytest

from embodied_mem.cli.app import run
from embodied_mem.errors import UsageError
from embodied_mem.experiments.memory_atlas.plan import load, make_plan, open_folder, stored_plan


@pytest.mark.parametrize(("name", "size", "minutes"), [("short", (10, 6, 3), 90), ("long", (12, 8, 3), 432)])
def test_presets_have_the_promised_size(name, size, minutes):
    plan = make_plan(name)
    assert (len(plan.memories), len(plan.probes), len(plan.seeds)) == size
    assert len(plan.cells) * plan.cpu_seconds == 60 * minutes


def test_short_takes_one_memory_of_every_family():
    from embodied_mem import registry

    families = {registry.meta("memory", name).get("family") for name in registry.names("memory")}
    chosen = {registry.meta("memory", name)["family"] for name in make_plan("short").memories}
    # the probes show features only, and maps need depth and pose
    assert chosen == families - {"control", "spatial"}


BAD = {
    "memory": ("--memories gruu --probes repeat_first", "did you mean 'gru'"),
    "probe": ("--memories gru --probes repeat_frst", "did you mean 'repeat_first'"),
    "preset": ("shrt", "did you mean 'short'"),
    "nothing": ("", "expected a preset (long, short) or --memories"),
    "twice": ("--memories gru,gru --probes repeat_first", "expected distinct memories"),
    "seeds": ("short --seeds 0,x", "expected seeds such as"),
    "budget": ("short --cpu-seconds 0", "cpu_seconds > 0"),
    "jobs": ("short --jobs 0", "--jobs >= 1"),
    "nothing to resume": ("--resume --out {tmp}/new", "nothing to resume"),
    "resume what": ("short --resume", "give --out"),
    "foreign": ("--memories gru --probes repeat_first --out {tmp}", "other files are in"),
    "foreign resume": ("short --resume --out {tmp}", "nothing to resume in"),
    "file": ("--memories gru --probes repeat_first --out {tmp}/notes.txt", "expected a folder"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_2(words, message, tmp_path, capfd):
    (tmp_path / "notes.txt").write_text("mine")
    assert run(["atlas", *words.format(tmp=tmp_path).split()]) == 2
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]
    assert captured.out == "" and [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_resumed_folder_may_grow_but_not_change(plan, tmp_path):
    out = tmp_path / "atlas"
    open_folder(out, plan, resume=False)
    with pytest.raises(UsageError, match="holds an atlas already"):
        open_folder(out, plan, resume=False)
    more = make_plan(None, ["lstm"], ["repeat_first"], [3], 2.0, 16)
    whole = open_folder(out, more, resume=True)
    assert whole.memories == ("gru", "none", "lstm") and whole.seeds == (0, 1, 2, 3) and stored_plan(out) == whole
    for other in (make_plan(None, ["gru"], ["repeat_first"], [0], 3.0, 16), make_plan(None, ["gru"], ["repeat_first"])):
        with pytest.raises(UsageError, match="could not be compared"):
            open_folder(out, other, resume=True)


def test_a_preset_file_is_checked(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("memories: [gru]\nprobs: [repeat_first]\n")
    with pytest.raises(UsageError, match="did you mean 'probes'"):
        load(str(path))
    for wrong, expected in (
        ("memories: gru", "a list of str"),
        ("seeds: [a]", "a list of int"),
        ("episodes: x", "a number"),
    ):
        path.write_text(wrong)
        with pytest.raises(UsageError, match=f"expected {expected} under"):
            load(str(path))
    path.write_text("memories: [gru]\nprobes: [repeat_first]\nseeds: [5]\n")
    assert make_plan(str(path)).name == "mine"
