"""The README's Python block runs, and the commands it shows exist."""

import re
from pathlib import Path

from typer.main import get_command

from embodied_mem.cli.app import build_app

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run():
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_first_commands_are_the_two_that_set_up_everything():
    first = re.search(r"```\n(.*?)```", TEXT, flags=re.DOTALL).group(1)
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


def test_shown_commands_exist():
    known = set(get_command(build_app()).commands)
    texts = [TEXT, *(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))]
    shown = {word for text in texts for word in re.findall(r"^\s*embodied-mem ([a-z]+)", text, flags=re.MULTILINE)}
    assert shown and shown <= known, f"unknown commands in the docs: {shown - known}"


def test_linked_files_exist():
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (ROOT / target).exists(), target
