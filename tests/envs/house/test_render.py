import math
import os
import subprocess
import sys

import numpy as np
import pytest

from embodied_mem.envs.house import classes as K
from embodied_mem.envs.house.builder import PlanBuilder
from embodied_mem.envs.house.reference import TorchRenderer
from embodied_mem.envs.house.render import NumbaRenderer
from embodied_mem.envs.house.sensors import SensorConfig, Sensors

from .conftest import furnished, put_agent, two_rooms, world_of

IMAGES = ("rgb", "depth", "semantic")


def pictures(world, images=IMAGES, threads=1):
    return {
        name: value.copy() for name, value in Sensors(world, SensorConfig(images, threads=threads)).observe().items()
    }


def box_room(width=65, height=49, hfov=80.0, **box):
    """A bare 6 x 5 m room of height 2.5 with one box; the camera at (2, 1) looks along +z."""
    builder = PlanBuilder("analytic", 2.5)
    room = builder.room("Office", [(0, 0), (0, 5), (6, 5), (6, 0)])
    if box:
        builder.box("Safe", room, flags=0, **box)
    world = world_of(builder.build(), width=width, height=height, hfov=hfov)
    put_agent(world, 2.0, 1.0, 0.0)
    return world


def rays(world, yaw=0.0):
    config = world.config
    focal = config.width / (2 * math.tan(math.radians(config.hfov) / 2))
    u = (np.arange(config.width) + 0.5 - config.width / 2) / focal
    v = (np.arange(config.height) + 0.5 - config.height / 2) / focal
    return np.meshgrid(u, v)


def empty_room_depth(world):
    """The analytic depth of the bare room for a camera at (2, 1.5, 1) that looks along +z."""
    u, v = rays(world)
    with np.errstate(divide="ignore"):
        side = np.where(u > 0, (6 - 2) / u, np.where(u < 0, -2 / u, np.inf))
        level = np.where(v > 0, 1.5 / v, np.where(v < 0, (1.5 - 2.5) / v, np.inf))
    return np.minimum(np.minimum(side, 4.0), level)


def test_depth_of_a_bare_room_is_exact():
    world = box_room()
    assert np.abs(pictures(world)["depth"][0] - empty_room_depth(world)).max() < 1e-3


def test_depth_of_a_turned_box_is_exact():
    angle, size, x, z = 0.5, (1.0, 0.8, 0.6), 2.3, 3.0
    world = box_room(x=x, z=z, yaw=angle, size=size)
    u, v = rays(world)
    c, s = math.cos(angle), math.sin(angle)
    low, high = np.zeros(u.shape), np.full(u.shape, np.inf)
    ox, oz = 2.0 - x, 1.0 - z
    slabs = (
        (ox * c - oz * s, u * c - s, size[0] / 2),
        (1.5 - size[1] / 2, -v, size[1] / 2),
        (ox * s + oz * c, u * s + c, size[2] / 2),
    )
    for origin, direction, half in slabs:
        with np.errstate(divide="ignore"):  # a ray along a slab meets it at infinity
            a, b = (-half - origin) / direction, (half - origin) / direction
        low, high = np.maximum(low, np.minimum(a, b)), np.minimum(high, np.maximum(a, b))
    expected = np.where(low < high, np.minimum(low, empty_room_depth(world)), empty_room_depth(world))
    drawn = pictures(world)
    assert np.abs(drawn["depth"][0] - expected).max() < 1e-3
    hit = low < high
    assert hit.sum() > 100
    assert (drawn["semantic"][0][hit] == world.plan(0).box_instance[0]).all()


@pytest.mark.parametrize("horizon", [-30.0, 30.0, 60.0])
def test_looking_up_or_down_shifts_the_principal_point_only(horizon):
    world = box_room(x=2.3, z=3.0, yaw=0.5, size=(1.0, 0.8, 0.6))
    put_agent(world, 2.0, 1.0, 0.0, horizon)
    sensors = Sensors(world, SensorConfig(("depth", "intrinsics")))
    seen = sensors.observe()
    fx, fy, cx, cy = seen["intrinsics"][0]
    assert cy == pytest.approx(49 / 2 - fy * math.tan(math.radians(horizon)), rel=1e-5)
    v = (np.arange(49) + 0.5 - cy) / fy
    floor = np.where(v > 0, 1.5 / np.where(v > 0, v, 1), np.inf)
    lowest = int(np.argmin(floor))
    if np.isfinite(floor[lowest]) and floor[lowest] < 1.2:
        assert seen["depth"][0, lowest] == pytest.approx(floor[lowest], abs=1e-3)


def test_reference_draws_the_same_pixels(varied_world):
    ours = pictures(varied_world)
    theirs = {name: value.numpy() for name, value in TorchRenderer(varied_world, IMAGES, "cpu").draw().items()}
    assert (np.abs(ours["depth"] - theirs["depth"]) > 1e-3).mean() < 1e-3
    assert (ours["semantic"] != theirs["semantic"]).mean() < 1e-3
    assert (ours["rgb"] != theirs["rgb"]).any(-1).mean() < 1e-3


def test_triton_draws_the_same_pixels():
    """Runs in a process of its own: Triton reads TRITON_INTERPRET when a kernel is defined."""
    code = (
        "import numpy as np, sys\n"
        "from embodied_mem.envs.house.batch import HouseWorld, WorldConfig\n"
        "from embodied_mem.envs.house.generator import GeneratorConfig, generate\n"
        "from embodied_mem.envs.house.library import PlanLibrary\n"
        "from embodied_mem.envs.house.sensors import SensorConfig, Sensors\n"
        "images = ('rgb', 'depth', 'semantic')\n"
        "library = PlanLibrary()\n"
        "world = HouseWorld(2, library, WorldConfig(width=24, height=20))\n"
        "config = GeneratorConfig(rooms=(2, 3), boxes=20, containers=2, closed_doors=0.5)\n"
        "plans = [library.add(generate(seed, config)) for seed in (1, 2)]\n"
        "world.load(np.arange(2), np.array(plans))\n"
        "spots = np.array([world.free_positions(plan)[9] for plan in plans])\n"
        "world.place(np.arange(2), spots[:, 0], spots[:, 1], np.array([30.0, 200.0]), 30.0)\n"
        "for row, plan in enumerate(plans): world.set_open(row, int(world.containers(plan)[0]), True)\n"
        "seen = [{k: v.copy() for k, v in Sensors(world, SensorConfig(images, backend=name)).observe().items()}\n"
        "        for name in ('numba', 'triton')]\n"
        "share = max(float((a != b).reshape(2, 20, 24, -1).any(-1).mean())\n"
        "            for a, b in ((seen[0][k], seen[1][k]) for k in ('rgb', 'semantic')))\n"
        "gap = float((np.abs(seen[0]['depth'] - seen[1]['depth']) > 1e-3).mean())\n"
        "print(share, gap)\n"
        "sys.exit(0 if max(share, gap) <= 1e-3 else 1)\n"
    )
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


def test_triton_kernel_compiles_for_a_gpu():
    code = (
        "import triton\n"
        "from triton.backends.compiler import GPUTarget\n"
        "from triton.compiler import ASTSource\n"
        "from embodied_mem.envs.house._triton_kernel import draw\n"
        "constants = dict(WANT_RGB=True, WANT_DEPTH=True, WANT_IDS=True, COLUMNS=16, ROWS=64)\n"
        "real = {'camera', 'door_openness', 'box_pose', 'plan_float', 'edge_float', 'opening_float', 'box_size',\n"
        "        'class_top', 'depth_out'}\n"
        "scalar = dict(eye='fp32', focal='fp32', ceiling_rgb='i32', rows='i32', columns='i32', door_stride='i32',\n"
        "              box_stride='i32')\n"
        "other = dict(box_shown='*u8', rgb='*u8', walls='*i64')\n"
        "pointer = {n: '*fp32' if n in real else other.get(n, '*i32') for n in draw.arg_names}\n"
        "kinds = {n: 'constexpr' if n in constants else scalar.get(n, pointer[n]) for n in draw.arg_names}\n"
        "values = {(draw.arg_names.index(n),): v for n, v in constants.items()}\n"
        "made = triton.compile(ASTSource(draw, kinds, constexprs=values), target=GPUTarget('cuda', 90, 32))\n"
        "assert len(made.asm['cubin']) > 1000\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


def test_any_subset_of_images_and_threads_gives_the_same_pixels(varied_world):
    everything = pictures(varied_world)
    for images in (("rgb",), ("depth",), ("semantic",), ("depth", "semantic")):
        for name, value in pictures(varied_world, images).items():
            assert np.array_equal(value, everything[name]), images
    for name, value in pictures(varied_world, threads=2).items():
        assert np.array_equal(value, everything[name])


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (33, 70), (160, 120)])
def test_any_size(size):
    plan, _ = furnished()
    world = world_of(plan, width=size[0], height=size[1])
    put_agent(world, 2.0, 2.0, 90.0)
    seen = pictures(world)
    assert seen["rgb"].shape == (1, size[1], size[0], 3)
    reference = TorchRenderer(world, IMAGES, "cpu").draw()
    assert (seen["semantic"] != reference["semantic"].numpy()).mean() <= 2e-3
    assert np.isfinite(seen["depth"]).all() and (seen["depth"] > 0).all()


def test_camera_in_a_doorway_sees_both_rooms():
    plan = two_rooms()[0].build()
    world = world_of(plan, width=64, height=48)
    for x in (4.0, 4.0 - 1e-7, 4.0 + 1e-7):
        for yaw in (0.0, 90.0, 180.0, 270.0, 60.0, 240.0):
            put_agent(world, x, 2.0, yaw)
            ours = pictures(world)
            theirs = TorchRenderer(world, IMAGES, "cpu").draw()
            assert (np.abs(ours["depth"] - theirs["depth"].numpy()) > 1e-3).mean() < 2e-3, (x, yaw)


def test_closed_door_hides_the_next_room_and_half_open_shows_part():
    plan, boxes = furnished()
    world = world_of(plan, width=64, height=64)
    put_agent(world, 2.5, 2.0, 90.0)
    table = plan.box_instance[boxes["table"]]
    seen = []
    for openness in (1.0, 0.5, 0.0):
        world.set_door(0, 0, openness)
        picture = pictures(world)["semantic"][0]
        seen.append(((picture == table).sum(), (picture == 4).sum()))
    tables, doors = zip(*seen)
    assert tables[0] > tables[1] > tables[2] == 0
    assert 0 == doors[0] < doors[1] < doors[2]


def test_opening_a_container_shows_what_is_inside():
    plan, boxes = furnished()
    world = world_of(plan, width=64, height=64)
    put_agent(world, 1.6, 2.0, 270.0)
    apple = plan.box_instance[boxes["apple"]]
    assert not (pictures(world)["semantic"] == apple).any()
    world.set_open(0, boxes["cabinet"], True)
    assert (pictures(world)["semantic"] == apple).any()
    world.set_open(0, boxes["cabinet"], False)
    assert not (pictures(world)["semantic"] == apple).any()


def test_classes_in_a_picture_are_told_apart_by_colour():
    plan, boxes = furnished()
    world = world_of(plan, width=96, height=96)
    put_agent(world, 4.6, 2.0, 90.0)
    seen = pictures(world)
    ids, rgb = seen["semantic"][0], seen["rgb"][0].astype(float)
    means = [rgb[ids == k].mean(0) for k in np.unique(ids) if (ids == k).sum() > 20]
    assert len(means) >= 4
    gaps = [np.abs(a - b).max() for i, a in enumerate(means) for b in means[i + 1 :]]
    assert min(gaps) > 8


def test_every_semantic_id_has_a_class(varied_world):
    ids = pictures(varied_world, ("semantic",))["semantic"]
    for row in range(varied_world.num_envs):
        table = varied_world.plan(row).instance_class
        assert ids[row].min() >= 1 and ids[row].max() < len(table)
        assert (table[np.unique(ids[row])] != K.VOID).all()


def test_renderer_keeps_up_with_added_plans():
    plan, _ = furnished()
    world = world_of(plan, width=32, height=32)
    put_agent(world, 2.0, 2.0, 90.0)
    renderer = NumbaRenderer(world, ("rgb",))
    out = {"rgb": np.zeros((1, 32, 32, 3), np.uint8)}
    renderer.render(out)
    before = out["rgb"].copy()
    bright = two_rooms()[0]
    bright.room("Office", [(20, 0), (20, 4), (24, 4), (24, 0)], wall_rgb=(255, 0, 0))
    new = world.library.add(bright.build())
    world.load(np.array([0]), np.array([new]))
    put_agent(world, 22.0, 2.0, 0.0)
    renderer.render(out)
    assert not np.array_equal(before, out["rgb"])
    assert (out["rgb"][0, 12, :, 0] > 120).all() and (out["rgb"][0, 12, :, 1] < 20).all()


@pytest.mark.cuda
def test_triton_on_a_gpu_draws_the_same_pixels(varied_world):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    ours, theirs = pictures(varied_world), {}
    for name, value in Sensors(varied_world, SensorConfig(IMAGES, backend="triton")).observe().items():
        theirs[name] = value
    for name in IMAGES:
        gap = np.abs(ours[name].astype(float) - theirs[name]) > 1e-3
        assert gap.reshape(*ours["depth"].shape, -1).any(-1).mean() <= 1e-3
