"""A small city whose every turn can be checked by hand.

    o
    m
    n
a b c d e f        e is a T: its third street, g - h, leads south
    s     g
    t     h
"""

import gzip
import json

import pytest

PLACES = {
    "a": (0, 0), "b": (10, 0), "c": (20, 0), "d": (30, 0), "e": (40, 0), "f": (50, -2),
    "n": (20, 10), "m": (22, 20), "o": (23, 30), "s": (20, -10), "t": (20, -20), "g": (40, -10), "h": (42, -20),
}  # fmt: skip
LINKS = """a,90,b
b,270,a
b,90,c
c,270,b
c,90,d
c,0,n
c,180,s
d,270,c
d,90,e
e,270,d
e,100,f
e,180,g
f,280,e
n,180,c
n,10,m
m,190,n
m,5,o
o,185,m
s,0,c
s,180,t
t,0,s
g,0,e
g,170,h
h,350,g
"""
ROUTES = [
    {"route_id": 1, "route_panoids": ["b", "c", "n", "m"], "start_heading": 0.0, "navigation_text": "Turn left at c."},
    {"route_id": 2, "route_panoids": ["b", "c", "d", "e"], "start_heading": 90.0, "navigation_text": "Go to the T."},
    {"route_id": 3, "route_panoids": ["d", "e", "g"], "start_heading": 270, "navigation_text": "Turn round, right."},
]


def write_city(root):
    folder = root / "touchdown"
    folder.mkdir(parents=True)
    degree = 111_320.0
    nodes = [f"{name},0,{40.73 + z / degree},{-74 + x / degree / 0.757702}" for name, (x, z) in PLACES.items()]
    (folder / "nodes.txt").write_text("\n".join(nodes) + "\n")
    (folder / "links.txt.gz").write_bytes(gzip.compress(LINKS.encode()))
    (folder / "dev_unseen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROUTES))
    (root / "map2seq").mkdir()
    rows = [{**row, "instructions_id": 10 * row["route_id"], "id": row["route_id"]} for row in ROUTES[1:2]]
    (root / "map2seq" / "dev_seen.jsonl.gz").write_bytes(gzip.compress(json.dumps(rows[0]).encode()))


@pytest.fixture
def city(tmp_path, monkeypatch):
    """The folder of the small city, as EMBODIED_MEM_DATA."""
    write_city(tmp_path / "data")
    monkeypatch.setenv("EMBODIED_MEM_DATA", str(tmp_path / "data"))
    return tmp_path / "data"
