"""What a spatial memory held, drawn over time."""

import numpy as np

from embodied_mem.viewer.spatial import draw_memory, moments


def trace(steps=12):
    leaf = np.full((steps, 9, 3), np.nan, np.float16)
    leaf[:, :3] = [[0.0, 0.0, -1], [0.125, 0.0, -1], [0.25, 0.0, 0.75]]
    node = np.full((steps, 4, 2), np.nan, np.float32)
    node[:, :2] = [[0, 0], [0, 1]]
    edge = np.zeros((steps, 4, 4), bool)
    edge[:, 0, 1] = edge[:, 1, 0] = True
    recalled = np.full((steps, 2), np.nan, np.float32)
    recalled[6:] = [0.25, 0.0]
    return {"read_leaf": leaf, "read_node": node, "read_edge": edge, "read_recalled": recalled}


FACTS = {
    "map": {"bounds": [0.0, 0.0, 4.0, 4.0], "walls": [[[0, 0], [0, 4]]]},
    "steps": [{"xz": [2.0, 2.0 + 0.1 * step], "yaw": 90.0} for step in range(13)],
}


def test_every_moment_shows_leaves_graph_and_what_was_recalled():
    drawn = draw_memory(FACTS, trace())
    assert drawn.count("<svg") == len(moments(12)) == 6
    assert drawn.count('class="node"') == 12 and drawn.count('class="edge"') == 6
    assert drawn.count("<circle") - 12 - 6 == 3, "recalled in the second half alone"
    # two floor leaves side by side are one run of a quarter metre
    assert "h0.25v0.12h-0.25z" in drawn and "3 columns of leaves, 2 places" in drawn
    assert "rotate(90.00)" in drawn


def test_traces_without_it_are_left_alone():
    arrays = trace()
    del arrays["read_edge"]
    assert draw_memory(FACTS, arrays) == "" == draw_memory({"map": {}, "steps": []}, trace())
