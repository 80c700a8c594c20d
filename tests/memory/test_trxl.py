"""What is special about Transformer-XL; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem.errors import UsageError
from embodied_mem.memory.contract import make_memory
from embodied_mem.memory.relative_attention import sinusoid

D, H, M = 8, 2, 5


def build(name="trxl", **config):
    torch.manual_seed(0)
    base = {"in_dim": 6, "out_dim": 4, "width": D, "heads": H, "memory": M}
    memory = make_memory(name, **{**base, **config}).double()
    with torch.no_grad():
        for parameter in memory.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return memory


def attend(attention, x, items):
    """One query over cached inputs, the oldest first and its own last; one head at a time."""
    read = []
    code = sinusoid(len(items), D).double()
    for h in range(H):
        q = x @ attention.query[h]
        scores = []
        for j, item in enumerate(items):
            place = code[len(items) - 1 - j] @ attention.place[h]
            content = (q + attention.content_bias[h]) @ (item @ attention.key[h])
            scores.append((content + (q + attention.place_bias[h]) @ place) / (D // H) ** 0.5)
        weights = torch.stack(scores).softmax(0)
        read.append(sum(w * (item @ attention.value[h]) for w, item in zip(weights, items)))
    return attention.out(torch.cat(read))


def seen(position, window):
    """Steps back that a query at this position of its episode may see."""
    return M if window == "sliding" else position % M + M


def by_hand(memory, x, resets, norm="post"):
    window, outputs = memory.config.window, []
    for t in range(len(x)):
        if t == 0 or resets[t]:
            caches, began = [[] for _ in memory.layers], t
        angle = (t - began) * memory.rates
        h = memory.embed(torch.cat([x[t], angle.sin(), angle.cos()]))
        for layer, cache in zip(memory.layers, caches):
            first, second = layer.norms
            cache.append(first(h) if norm == "pre" else h)
            a = attend(layer.attention, cache[-1], cache[-1 - seen(t - began, window) :])
            if norm == "pre":
                h = h + a
                h = h + layer.feed(second(h))
            else:
                h = first(h + a)
                h = second(h + layer.feed(h))
        outputs.append(memory.readout(memory.last(h)))
    return torch.stack(outputs)


@pytest.mark.parametrize("window", ["sliding", "segment"])
@pytest.mark.parametrize("norm,clock", [("post", 0), ("pre", 0), ("pre", 20)])
def test_equals_the_equations(window, norm, clock):
    memory = build(window=window, norm=norm, clock=clock)
    x = torch.randn(40, 6, dtype=torch.float64)
    resets = torch.rand(40, generator=torch.Generator().manual_seed(3)) < 0.06
    with torch.no_grad():
        want = by_hand(memory, x, resets, norm)
        for chunk in (None, 7):
            y, _ = memory.sequence(x.unsqueeze(0), None, resets.unsqueeze(0), chunk=chunk)
            assert torch.allclose(y[0], want, atol=1e-12)


@pytest.mark.parametrize("window,far", [("sliding", 2 * M), ("segment", 3 * M - 1)])
def test_layers_add_up_their_windows(window, far):
    """With two layers the last step sees 2 M back, or to the start of the segment before the segment before."""
    memory = build(window=window)
    T = 4 * M
    x = torch.randn(1, T, 6, dtype=torch.float64, requires_grad=True)
    (dx,) = torch.autograd.grad(memory.sequence(x)[0][:, -1].square().sum(), x)
    touched = dx[0].abs().amax(-1) > 0
    assert touched.tolist() == [t >= T - 1 - far for t in range(T)]


def test_reset_by_the_counter_equals_an_empty_cache():
    memory = build()
    x = torch.randn(3, 9, 6, dtype=torch.float64)
    with torch.no_grad():
        state = memory.sequence(x)[1]
        found, _ = memory.sequence(x, {**state, "count": torch.zeros_like(state["count"])})
        want, _ = memory.sequence(x)
    assert torch.equal(found, want)


def test_gradients_flow_through_the_cache_until_it_is_detached():
    memory = build()
    x = torch.randn(1, 6, 6, dtype=torch.float64, requires_grad=True)
    state = memory.sequence(x[:, :3])[1]
    flowing, _ = memory.sequence(x[:, 3:], state)
    stopped, _ = memory.sequence(x[:, 3:], memory.detach(state))
    assert torch.equal(flowing, stopped)
    assert torch.autograd.grad(flowing.square().sum(), x, retain_graph=True)[0][:, :3].any()
    assert not torch.autograd.grad(stopped.square().sum(), x)[0][:, :3].any()


def test_parity_with_an_installed_transformer_xl_body():
    """XLNet's causal form is Transformer-XL with a tanh-free stack: the same layers, cache and relative positions."""
    xlnet = pytest.importorskip("transformers.models.xlnet.modeling_xlnet", reason="transformers is not installed")
    from transformers import XLNetConfig

    torch.manual_seed(1)
    config = XLNetConfig(
        vocab_size=3, d_model=D, n_layer=2, n_head=H, d_inner=2 * D, ff_activation="relu", attn_type="uni", mem_len=M
    )
    config.dropout, config.layer_norm_eps, config.initializer_range = 0.0, 1e-5, 0.4
    peer = xlnet.XLNetModel(config).double().eval()
    memory = build(in_dim=D, norm="post")
    with torch.no_grad():
        for theirs, ours in zip(peer.layer, memory.layers):
            source, target = theirs.rel_attn, ours.attention
            for name, mine in (("q", "query"), ("k", "key"), ("v", "value"), ("r", "place")):
                getattr(target, mine).copy_(getattr(source, name).transpose(0, 1))
            target.content_bias.copy_(source.r_w_bias)
            target.place_bias.copy_(source.r_r_bias)
            target.out.weight.copy_(source.o.flatten(1))
            ours.feed[0].load_state_dict(theirs.ff.layer_1.state_dict())
            ours.feed[2].load_state_dict(theirs.ff.layer_2.state_dict())
            ours.norms[0].load_state_dict(source.layer_norm.state_dict())
            ours.norms[1].load_state_dict(theirs.ff.layer_norm.state_dict())
        x = torch.randn(2, 17, D, dtype=torch.float64)
        h = memory.embed(x)
        y, _ = memory.sequence(x)
        mems, steps = None, []
        for t in range(17):
            found = peer(inputs_embeds=h[:, t : t + 1], mems=mems, use_mems=True)
            mems = found.mems
            steps.append(found.last_hidden_state)
        # their position codes are float32
        assert torch.allclose(y, memory.readout(torch.cat(steps, 1)), atol=1e-6)
        segments = build(in_dim=D, norm="post", window="segment")
        segments.load_state_dict(memory.state_dict())
        first = peer(inputs_embeds=h[:, :M], use_mems=True)
        second = peer(inputs_embeds=h[:, M : 2 * M], mems=first.mems, use_mems=True)
        want = torch.cat([first.last_hidden_state, second.last_hidden_state], 1)
        assert torch.allclose(segments.sequence(x[:, : 2 * M])[0], segments.readout(want), atol=1e-6)


def test_position_code_is_sines_then_cosines_of_the_distance():
    code = sinusoid(7, 4)
    assert torch.allclose(code[:, 0], torch.arange(7).float().sin()) and torch.equal(
        code[0], torch.tensor([0, 0, 1, 1.0])
    )
    assert torch.allclose(code[5, 3], torch.tensor(5 / 100).cos())
    assert F.cosine_similarity(code[0], code[1], dim=0) > F.cosine_similarity(code[0], code[3], dim=0)


@pytest.mark.parametrize(
    "config",
    [{"layers": 0}, {"width": 7}, {"heads": 3}, {"memory": 0}, {"window": "all"}, {"norm": "rms"}, {"clock": -1}],
)
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        build(**config)


def test_the_clock_tells_equal_inputs_apart_by_their_step():
    """One layer over constant inputs: without the clock every full window reads the same."""
    x = torch.ones(1, 4 * M, 6, dtype=torch.float64)
    resets = torch.zeros(1, 4 * M, dtype=torch.bool)
    resets[0, 2 * M + 3] = True
    with torch.no_grad():
        plain = build(layers=1).sequence(x)[0][0]
        clocked, _ = build(layers=1, clock=20).sequence(x, None, resets)
    assert torch.allclose(plain[M], plain[-1])
    late, fresh = clocked[0, : 2 * M - 3], clocked[0, 2 * M + 3 :]
    assert torch.allclose(late, fresh), "the clock starts with the episode"
    assert not torch.allclose(clocked[0, M], clocked[0, M + 1])
