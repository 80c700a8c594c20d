"""``indoor-vln``: R2R or RxR episodes on Matterport graphs, both files brought by the user."""

from __future__ import annotations

from embodied_mem.evaluation.suite import Option, Suite, Task
from embodied_mem.evaluation.suites._street import AGENT_OPTIONS, ENV
from embodied_mem.registry import register

ABOUT = "indoor navigation after instructions (R2R, RxR) on connectivity files of your own"
OPTIONS = (
    Option("--data", "data", str, "Episodes: an R2R .json or an RxR .jsonl.gz file."),
    Option("--connectivity", "connectivity", str, "Folder of SCAN_connectivity.json files."),
    Option("--max-actions", "max_actions", int, "Actions until an episode is cut (default 55)."),
)


@register("suite", "indoor-vln", about=ABOUT)
def indoor_vln() -> Suite:
    """Return the suite."""
    kwargs = {"connectivity": "connectivity", "order": "listed", "record": True, "max_links": 14}
    task = Task(ENV, "vln", variant="indoor", kwargs=kwargs, agent_options=AGENT_OPTIONS)
    return Suite("indoor-vln", ABOUT, (task,), episodes=None, options=OPTIONS)
