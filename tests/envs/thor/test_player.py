"""The real client against the stand-in: scenes, motion, objects, cameras, refusals."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from embodied_mem.envs.thor.player import Player, PlayerConfig, PlayerFailure, unity_build
from embodied_mem.errors import UsageError
from embodied_mem.geometry.camera import camera_to_world, unproject

pytest.importorskip("ai2thor")
HOUSES = Path(os.environ.get("EMBODIED_MEM_DATA", "../shared/data")) / "procthor" / "houses_sample.jsonl.gz"


def agent(event):
    place, data = event.metadata["agent"]["position"], event.metadata["agent"]
    return np.array([place["x"], place["z"], data["rotation"]["y"], data["cameraHorizon"]])


def find(event, **wanted):
    return [entry for entry in event.metadata["objects"] if all(entry[key] == wanted[key] for key in wanted)]


def stand_before(player, key):
    """Put the agent where an object can be touched."""
    pose = player.step("GetInteractablePoses", objectId=key).metadata["actionReturn"][0]
    place = {axis: pose[axis] for axis in "xyz"}
    return player.step("Teleport", position=place, rotation=pose["rotation"], horizon=pose["horizon"], standing=True)


def test_a_scene_is_loaded_and_walked_in(player):
    first = player.reset("FloorPlan1")
    assert first.metadata["sceneName"] == "FloorPlan1_physics" and first.frame.shape == (24, 32, 3)
    assert len(np.unique(first.frame.reshape(-1, 3), axis=0)) > 3, "there is something to see"
    points = player.step("GetReachablePositions").metadata["actionReturn"]
    assert len(points) > 20
    moved = blocked = 0
    for name in ["MoveAhead"] * 40:
        before = agent(player.step("Pass"))
        event = player.step(name)
        step = agent(event)[:2] - before[:2]
        heading = np.radians(before[2])
        if event:
            moved += 1
            assert np.allclose(step, 0.25 * np.array([np.sin(heading), np.cos(heading)]), atol=1e-6)
        else:
            blocked += 1
            assert np.allclose(step, 0) and "blocking" in event.metadata["errorMessage"]
            break
    assert blocked and moved + blocked <= 40
    here = agent(player.step("Pass"))
    assert np.abs(np.array([(p["x"], p["z"]) for p in points]) - here[:2]).max(axis=1).min() < 1e-6
    assert agent(player.step("RotateRight"))[2] == (here[2] + 90) % 360
    assert agent(player.step("RotateLeft"))[2] == here[2]
    assert agent(player.step("MoveBack"))[:2] == pytest.approx(here[:2] - step_of(here), abs=1e-6)
    assert agent(player.step("LookDown"))[3] == 30 and player.step("LookDown") and not player.step("LookDown")
    assert not player.step("Teleport", position={"x": 99.0, "y": 0.9, "z": 0.0})


def step_of(pose):
    heading = np.radians(pose[2])
    return 0.25 * np.array([np.sin(heading), np.cos(heading)])


def test_depth_pose_and_objects_agree(player):
    event = player.reset("FloorPlan1")
    key = next(entry["objectId"] for entry in event.metadata["objects"] if entry["receptacle"])
    event = stand_before(player, key)
    mask, depth = event.instance_masks[key], event.depth_frame
    assert mask.any() and key in {entry["objectId"] for entry in find(event, visible=True)}
    data = event.metadata
    camera = data["cameraPosition"]
    angles = np.radians([data["agent"]["rotation"]["y"], data["agent"]["cameraHorizon"]])
    pose = np.array([camera["x"], camera["y"], camera["z"], *angles])
    focal = 12.0 / np.tan(np.radians(45.0))
    points = camera_to_world(unproject(np.array(depth), np.array([focal, focal, 16.0, 12.0])), pose)[mask]
    box = find(event, objectId=key)[0]["axisAlignedBoundingBox"]
    middle, size = (np.array([box[name][axis] for axis in "xyz"]) for name in ("center", "size"))
    assert (np.abs(points - middle) <= 0.5 * size + 0.02).all(), "the true pitch of the camera is drawn and reported"


def test_objects_are_picked_up_put_down_and_refused(player):
    event = player.reset("FloorPlan1")
    item = find(event, pickupable=True)[0]
    holder = next(entry for entry in event.metadata["objects"] if entry["receptacle"] and not entry["openable"])
    far = player.step("Teleport", position=farthest(player, item))
    assert not player.step("PickupObject", objectId=item["objectId"]) and not far.metadata["inventoryObjects"]
    stand_before(player, item["objectId"])
    event = player.step("PickupObject", objectId=item["objectId"])
    assert event and event.metadata["inventoryObjects"][0]["objectId"] == item["objectId"]
    assert find(event, isPickedUp=True)[0]["objectId"] == item["objectId"]
    assert not player.step("PickupObject", objectId=item["objectId"]), "one hand"
    stand_before(player, holder["objectId"])
    event = player.step("PutObject", objectId=holder["objectId"])
    assert event, event.metadata["errorMessage"]
    assert find(event, objectId=item["objectId"])[0]["parentReceptacles"] == [holder["objectId"]]
    assert item["objectId"] in find(event, objectId=holder["objectId"])[0]["receptacleObjectIds"]
    assert not player.step("PutObject", objectId=holder["objectId"]), "the hand is empty"


def farthest(player, item):
    points = player.step("GetReachablePositions").metadata["actionReturn"]
    place = item["position"]
    return max(points, key=lambda p: (p["x"] - place["x"]) ** 2 + (p["z"] - place["z"]) ** 2)


def test_wrong_actions_are_refused_in_the_clients_terms(player):
    player.reset("FloorPlan1")
    with pytest.raises(UsageError, match="refuses FlyAway: FlyAway is no action"):
        player.step("FlyAway")
    with pytest.raises(UsageError, match="missing a required argument"):
        player.step("PickupObject")
    with pytest.raises(UsageError, match="unexpected keyword"):
        player.step("Pass", colour=1)
    with pytest.raises(UsageError, match="not contained in build"):
        player.reset("FloorPlan999")
    assert player.step("Pass"), "the player goes on"
    assert not player.step("PickupObject", objectId="Mug|+00.00|+00.00|+00.00")


@pytest.mark.skipif(not HOUSES.is_file(), reason="needs the ProcTHOR sample houses")
def test_a_procthor_house_is_made_and_its_doors_are_passed(player):
    with gzip.open(HOUSES, "rt") as stream:
        houses = [json.loads(line) for _, line in zip(range(5), stream)]
    house = max(houses, key=lambda item: len(item["rooms"]))
    event = player.reset(house)
    assert event.metadata["sceneName"] == "Procedural"
    kinds = {item["objectType"] for item in house["objects"]}
    assert len(kinds & {entry["objectType"] for entry in event.metadata["objects"]}) > len(kinds) / 2
    openable = find(event, openable=True)
    assert openable, "the house has something to open"
    opened = 0
    for entry in openable:
        poses = player.step("GetInteractablePoses", objectId=entry["objectId"]).metadata["actionReturn"]
        if not poses:
            continue
        stand_before(player, entry["objectId"])
        event = player.step("OpenObject", objectId=entry["objectId"], openness=0.5)
        assert event and find(event, objectId=entry["objectId"])[0]["openness"] == 0.5
        assert player.step("CloseObject", objectId=entry["objectId"])
        assert not player.step("CloseObject", objectId=entry["objectId"]), "it is closed already"
        opened += 1
        break
    assert opened
    way = player.step("GetShortestPath", objectId=openable[0]["objectId"]).metadata["actionReturn"]["corners"]
    assert len(way) >= 1


def test_a_camera_above_sees_the_floor(player):
    player.reset("FloorPlan1")
    view = player.step("GetMapViewCameraProperties").metadata["actionReturn"]
    event = player.step("AddThirdPartyCamera", **view)
    picture = event.third_party_camera_frames[0]
    assert picture.shape == (24, 32, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 3
    before = np.array(picture)
    item = find(event, pickupable=True)[0]
    high = {**item["position"], "y": 1.0}
    event = player.step("TeleportObject", objectId=item["objectId"], position=high, rotation={"x": 0, "y": 0, "z": 0})
    assert find(event, objectId=item["objectId"])[0]["position"]["y"] == pytest.approx(1.0)
    assert event.third_party_camera_frames[0].shape == before.shape
    assert not player.reset("FloorPlan1").third_party_camera_frames, "cameras end with the scene"


def test_numbers_in_cuda_visible_devices_do_not_start_a_search_for_gpus(make_player, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(PlayerFailure, match="exit status 3"):
        # The client looks for Vulkan before it starts the process; that this one ends itself says that it was started.
        make_player("standin --fault exit@ChangeResolution").reset("FloorPlan2")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_a_missing_build_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert unity_build() is None
    with pytest.raises(UsageError, match="not downloaded.*player='standin'"):
        Player(PlayerConfig()).reset("FloorPlan1")
    with pytest.raises(UsageError, match="before the first action"):
        Player(PlayerConfig()).step("Pass")
    with pytest.raises(UsageError, match="fov in"):
        PlayerConfig(fov=500.0)
