import numpy as np
import pytest
import torch
from gymnasium import spaces

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.perception.base import make_encoder
from embodied_mem.perception.encoder import EncoderConfig, ObservationEncoder

SCAN = spaces.Box(
    np.tile(np.array([0.0, 0.0, 0.0], np.float32), (12, 1)), np.tile(np.array([8.0, 20.0, 6.0], np.float32), (12, 1))
)
SPACE = spaces.Dict(
    {
        "rgb": spaces.Box(0, 255, (16, 16, 3), np.uint8),
        "depth": spaces.Box(0.0, 10.0, (16, 16), np.float32),
        "semantic": spaces.Box(0, 500, (16, 16), np.int32),
        "scan": SCAN,
        "vector": spaces.Box(-1.0, 1.0, (5,), np.float32),
        "pose": spaces.Box(-np.inf, np.inf, (5,), np.float32),
        "instruction": spaces.Box(0, 255, (24,), np.uint8),
    }
)


def observations(space, *lead, seed=0):
    rng = np.random.default_rng(seed)
    out = {}
    for key, box in space.spaces.items():
        low, high = np.maximum(box.low, -2.0), np.minimum(box.high, 255)
        values = low + rng.random((*lead, *box.shape)) * (high - low)
        out[key] = torch.from_numpy(values.astype(box.dtype))
    out["scan"][..., 1:] = out["scan"][..., 1:].floor()
    return out


def test_every_standard_entry_is_read_in_both_layouts():
    torch.manual_seed(0)
    encoder = ObservationEncoder(EncoderConfig(out_dim=32), SPACE)
    obs = observations(SPACE, 3, 4)
    rows = encoder(obs)
    assert rows.shape == (3, 4, 32) and rows.dtype == torch.float32
    flat = encoder({key: value.flatten(0, 1) for key, value in obs.items()})
    torch.testing.assert_close(rows.flatten(0, 1), flat)
    rows.square().sum().backward()
    silent = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent, f"parameters without gradient: {silent}"


@pytest.mark.parametrize("key", sorted(SPACE.spaces))
def test_each_entry_changes_the_features_unless_ignored(key):
    torch.manual_seed(0)
    encoder = ObservationEncoder(EncoderConfig(out_dim=32), SPACE)
    obs, other = observations(SPACE, 2), observations(SPACE, 2, seed=1)
    mixed = {**obs, key: other[key]}
    assert not torch.equal(encoder(obs), encoder(mixed))
    deaf = ObservationEncoder(EncoderConfig(out_dim=32, ignore=(key,)), SPACE)
    torch.testing.assert_close(deaf(obs), deaf(mixed), rtol=0, atol=0)


def test_scan_patches_share_their_layer():
    encoder = make_encoder("scan", SCAN, {"patch": 2})
    seen = []
    encoder.act.register_forward_hook(lambda module, inputs, output: seen.append(output))
    obs = observations(SPACE, 1)["scan"]
    encoder(obs)
    encoder(torch.roll(obs, 4, dims=1))
    torch.testing.assert_close(torch.roll(seen[0], 2, dims=1), seen[2])


def test_scan_equals_a_dense_layer_over_one_hot_codes():
    encoder = make_encoder("scan", SCAN, {"patch": 3, "channels": 5})
    obs = observations(SPACE, 2)["scan"]
    patches = obs.unflatten(1, (4, 3))
    expected = encoder.real(patches[..., 0] / 10.0)
    for code, size in ((0, 21), (1, 7)):
        rows = torch.nn.functional.one_hot(patches[..., code + 1].long(), size).float()
        start = int(encoder.starts[code, 0])
        expected = expected + rows.flatten(2) @ encoder.table.weight[start : start + 3 * size]
    got = encoder.act(encoder.dense(encoder.act(expected).flatten(1)))
    torch.testing.assert_close(encoder(obs), got)


def test_the_fovea_sees_the_middle_alone():
    encoder = make_encoder("scan", SCAN, {"patch": 2, "fovea": 2, "width": 7, "channels": 5})
    obs = observations(SPACE, 1)["scan"]
    sides, middle = obs.clone(), obs.clone()
    sides[:, 0, 1], middle[:, 5, 1] = (obs[:, 0, 1] + 1) % 20, (obs[:, 5, 1] + 1) % 20
    assert torch.equal(encoder(obs)[:, 7:], encoder(sides)[:, 7:]) and encoder.out_dim == 12
    assert not torch.equal(encoder(obs)[:, 7:], encoder(middle)[:, 7:])
    faint = make_encoder("scan", SCAN, {"patch": 2, "fovea": 2, "fovea_gain": 0.2, "width": 7, "channels": 5})
    faint.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(faint(obs), torch.cat([encoder(obs)[:, :7], 0.2 * encoder(obs)[:, 7:]], 1))


def test_text_ignores_padding_and_tells_texts_apart():
    from embodied_mem.spaces import encode_text

    box = spaces.Box(0, 255, (24,), np.uint8)
    encoder = make_encoder("text_bytes", box, {})
    texts = ["find the mug", "find the gum", "find the mug"]
    codes = torch.from_numpy(np.stack([encode_text(text, 24) for text in texts]))
    features = encoder(codes)
    assert torch.equal(features[0], features[2]) and not torch.allclose(features[0], features[1])
    torch.testing.assert_close(encoder(codes[:, :12]), features)
    assert not encoder(torch.zeros(1, 24, dtype=torch.uint8)).any()


def test_mlp_scales_bounded_entries_and_keeps_unbounded_ones():
    box = spaces.Box(np.array([-10.0, -np.inf], np.float32), np.array([5.0, np.inf], np.float32))
    encoder = make_encoder("mlp", box, {})
    torch.testing.assert_close(encoder(torch.tensor([[5.0, 3.0]])), torch.tensor([[0.5, 3.0]]))


def test_large_images_and_far_depth():
    rgb = make_encoder("cnn", spaces.Box(0, 255, (64, 48, 3), np.uint8), {"width": 10})
    assert rgb(torch.randint(0, 256, (2, 64, 48, 3), dtype=torch.uint8)).shape == (2, 10)
    depth = make_encoder("cnn", spaces.Box(0.0, np.inf, (16, 16), np.float32), {"max_depth": 4.0})
    far, cut = torch.full((1, 16, 16), 9.0), torch.full((1, 16, 16), 4.0)
    torch.testing.assert_close(depth(far), depth(cut))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (EncoderConfig(encoders={"rbg": "cnn"}), "did you mean 'rgb'"),
        (EncoderConfig(encoders={"rgb": "cnnn"}), "did you mean 'cnn'"),
        (EncoderConfig(options={"rgb": {"widht": 3}}), "did you mean 'encoder.options.cnn.width'|did you mean 'width'"),
        (EncoderConfig(activation="rleu"), "did you mean 'relu'"),
        (EncoderConfig(ignore=tuple(SPACE.spaces)), "at least one observation entry"),
        (EncoderConfig(options={"scan": {"fovea": 7}}), "at most 6 patches"),
        (EncoderConfig(options={"scan": {"patch": 5}}), "divides 12"),
        (EncoderConfig(encoders={"vector": "cnn"}), r"expected an image"),
    ],
)
def test_wrong_configs_are_explained(config, message):
    with pytest.raises(UsageError, match=message):
        ObservationEncoder(config, SPACE)


def test_gains_set_the_first_weight_of_an_entry():
    torch.manual_seed(0)
    plain = ObservationEncoder(EncoderConfig(out_dim=32), SPACE)
    torch.manual_seed(0)
    shy = ObservationEncoder(EncoderConfig(out_dim=32, gains={"vector": 0.5}), SPACE)
    changed = (plain.project.weight != shy.project.weight).any(0)
    assert changed.sum() == 5 and changed[-5:].all()
    torch.testing.assert_close(shy.project.weight[:, -5:], plain.project.weight[:, -5:] * 0.5)


def test_a_missing_entry_is_named():
    encoder = ObservationEncoder(EncoderConfig(), SPACE)
    with pytest.raises(UsageError, match="'scan'"):
        encoder({key: value for key, value in observations(SPACE, 2).items() if key != "scan"})


def test_unbounded_scan_codes_are_refused():
    with pytest.raises(UsageError, match="finite upper bound"):
        make_encoder("scan", spaces.Box(0, np.inf, (8, 3), np.float32), {})


def test_registry_names_all_encoders():
    assert {"mlp", "cnn", "scan", "text_bytes", "open_clip"} <= set(registry.names("encoder"))
