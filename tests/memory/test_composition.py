"""Memories made of memories: joined by config, checked at the door; the contract itself is in test_contract_*.py."""

import pytest
import torch
from torch.nn import functional as F

from embodied_mem import registry
from embodied_mem.errors import UsageError
from embodied_mem.memory.composition import under
from embodied_mem.memory.contract import MemoryConfig, MemoryInput, MemoryModule, StateSpec, make_memory

D, N, T = 5, 3, 11


def build(name, **config):
    torch.manual_seed(0)
    return make_memory(name, **{"in_dim": D, "out_dim": 4, **config}).double()


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def resets():
    return torch.rand(N, T, generator=torch.Generator().manual_seed(2)) < 0.2


def test_a_stack_is_one_memory_on_top_of_the_other():
    layers = [{"name": "hcam", "config": {"out_dim": 7}}, {"name": "gated_delta"}]
    memory, x = build("stack", layers=layers), drawn(N, T, D)
    lower, upper = memory.parts.values()
    assert (lower.in_dim, lower.out_dim, upper.in_dim, upper.out_dim) == (D, 7, 7, 4)
    with torch.no_grad():
        y, state = memory.sequence(x, None, resets())
        between, below = lower.sequence(x, None, resets())
        want, above = upper.sequence(between, None, resets())
    assert torch.equal(y, want)
    for name, held in (("layer0", below), ("layer1", above)):
        assert all(torch.equal(under(state, name)[key], value) for key, value in held.items())
    assert memory.macs_per_token() == lower.macs_per_token() + upper.macs_per_token()
    assert memory.bytes_per_env() == lower.bytes_per_env() + upper.bytes_per_env()


def test_what_overflows_in_a_lower_layer_stays_in_its_episode():
    memory = make_memory("stack", in_dim=D, out_dim=4, layers=[{"name": "lru"}, {"name": "gated_delta"}])
    x, opened = drawn(N, T, D).float(), torch.zeros(N, T, dtype=torch.bool)
    opened[:, 6] = True
    loud = x.clone()
    loud[1, 3] = 3e38
    with torch.no_grad():
        assert not torch.isfinite(memory.parts["layer0"].sequence(loud, None, opened)[0][1, 3:6]).all()
        y, want = (memory.sequence(v, None, opened)[0] for v in (loud, x))
    assert torch.equal(y[:, 6:], want[:, 6:]) and torch.equal(y[[0, 2]], want[[0, 2]])
    assert not torch.isfinite(y[1, 3:6]).all()


def test_residual_adds_what_the_memory_makes_of_the_normalised_input():
    memory, x = build("residual", inner={"name": "gru"}, out_dim=D, mlp=6), drawn(N, T, D)
    with torch.no_grad():
        normed = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * memory.norm.weight
        h = x + memory.parts["inner"].sequence(normed, None, resets())[0]
        first, _, second = memory.mlp[1], memory.mlp[2], memory.mlp[3]
        again = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        want = h + second(F.gelu(first(again)))
        assert torch.allclose(memory.sequence(x, None, resets())[0], want, atol=1e-12)


def test_pre_norm_alone_and_residual_alone_are_config_values():
    x = drawn(N, T, D)
    pre = build("residual", inner={"name": "gru"}, skip=False, norm="layer")
    plain = build("residual", inner={"name": "gru"}, norm="none")
    with torch.no_grad():
        want = pre.parts["inner"].sequence(F.layer_norm(x, (D,)))[0]
        assert torch.allclose(pre.sequence(x)[0], want, atol=1e-12)
        want = x @ plain.skip.weight.T + plain.parts["inner"].sequence(x)[0]
        assert torch.allclose(plain.sequence(x)[0], want, atol=1e-12)


def test_hybrid_reads_the_window_exactly_and_gates_it_against_the_memory():
    memory, x = build("hybrid", window=4, memory={"name": "gru"}), drawn(1, T, D)
    window = memory.parts["window"]
    with torch.no_grad():
        window.age.copy_(drawn(2, 4))
        y = memory.sequence(x)[0]
        K = window.config.head_dim
        query = window.query(x[0]).view(T, 2, K)
        keys, values = (part.reshape(T, 2, K) for part in window.keys_values(x[0]).chunk(2, -1))
        far = memory.parts["memory"].sequence(x)[0][0]
        for t in range(T):
            heads = []
            for h in range(2):
                ages = [age for age in range(1, 5) if t - age >= 0]
                logits = [query[t, h] @ keys[t - age, h] / K**0.5 + window.age[h, age - 1] for age in ages]
                weights = torch.stack([torch.zeros((), dtype=torch.float64), *logits]).softmax(0)[1:]
                heads.append(sum((w * values[t - age, h] for w, age in zip(weights, ages)), 0 * values[0, h]))
            near = window.out(torch.cat(heads))
            gate = memory.gate(torch.cat([x[0, t], near, far[t]])).sigmoid()
            want = memory.skip(x[0, t]) + gate * near + (1 - gate) * far[t]
            assert torch.allclose(y[0, t], want, atol=1e-12), t


def test_frozen_parameters_stay_while_the_state_runs_and_gradients_pass():
    memory, x = build("frozen", inner={"name": "gru"}), drawn(N, T, D).requires_grad_()
    before = {key: value.clone() for key, value in memory.parts.state_dict().items()}
    trained = [parameter for parameter in memory.parameters() if parameter.requires_grad]
    assert len(trained) == 4
    y, state = memory.sequence(x)
    optimiser = torch.optim.AdamW(memory.parameters(), 0.1)
    y.square().sum().backward()
    optimiser.step()
    assert all(torch.equal(before[key], value) for key, value in memory.parts.state_dict().items())
    assert x.grad[:, 0].any() and state["inner/h"].any()
    assert all(parameter.grad.any() for parameter in trained)


def test_a_frozen_memory_without_adapter_is_that_memory():
    memory, x = build("frozen", inner={"name": "gru"}, adapter=False), drawn(N, T, D)
    trained = make_memory("gru", in_dim=D, out_dim=4).double()
    memory.parts["inner"].load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.equal(memory.sequence(x, None, resets())[0], trained.sequence(x, None, resets())[0])
    assert not any(parameter.requires_grad for parameter in memory.parameters())


class Posed(MemoryModule):
    """Needs a pose, moves by segments, may be cleared softly: what a composed memory must pass on."""

    Config = MemoryConfig
    needs = frozenset({"pose"})
    properties = frozenset({"segment_window", "soft_reset", "hard_write"})

    def __init__(self, config):
        super().__init__(config)
        self.scale = torch.nn.Parameter(torch.ones(()))

    def state_spec(self):
        return {"sum": StateSpec((5,))}

    def forward_step(self, inputs, state, reset, *, donate, soft_reset=None):
        clear = torch.zeros(len(inputs.x), dtype=torch.bool) if reset is None else reset
        clear = clear if soft_reset is None else clear | soft_reset
        total = state["sum"].masked_fill(clear.unsqueeze(1), 0) + inputs.pose
        return F.pad(total, (0, self.out_dim))[:, : self.out_dim] * self.scale, {"sum": total}

    def forward_sequence(self, inputs, state, resets, *, valid, chunk, soft_resets=None):
        outputs = []
        for t in range(inputs.x.shape[1]):
            now = MemoryInput(inputs.x[:, t], pose=inputs.pose[:, t])
            hard, soft = (None if v is None else v[:, t] for v in (resets, soft_resets))
            y, state = self.forward_step(now, state, hard, donate=False, soft_reset=soft)
            outputs.append(y)
        return torch.stack(outputs, 1), state

    def macs_per_token(self, t=None):
        return 5

    @classmethod
    def sample_input(cls, config, n, T, generator):
        return MemoryInput(torch.zeros(n, T, config.in_dim), pose=torch.randn(n, T, 5, generator=generator))


@pytest.mark.parametrize(
    "name,config",
    [
        ("stack", {"layers": [{"name": "gru"}, {"name": "posed"}]}),
        ("residual", {"inner": {"name": "posed"}}),
        ("hybrid", {"memory": {"name": "posed"}}),
        ("frozen", {"inner": {"name": "posed"}}),
        ("hierarchical", {"spatial": "posed"}),
    ],
)
def test_needs_properties_and_soft_resets_are_those_of_the_parts(name, config):
    with registry.scope("memory"):
        registry.register("memory", "posed", family="test", source="test")(Posed)
        memory = make_memory(name, in_dim=D, out_dim=4, **config)
        assert memory.needs == {"pose"} and memory.parallel == "loop"
        assert {"segment_window", "soft_reset", "hard_write"} <= memory.properties
        assert not {"compilable", "stateless"} & memory.properties
        x = memory.sample_input(memory.config, N, T, torch.Generator().manual_seed(0))
        with pytest.raises(UsageError, match="needs pose"):
            memory.sequence(x.x)
        soft = resets()
        (key,) = (key for key in memory.state_spec() if key.endswith("/sum"))
        with torch.no_grad():
            y, state = memory.sequence(x, soft_resets=soft)
            again, step = [], memory.initial_state(N)
            for t in range(T):
                out, step = memory.step(MemoryInput(x.x[:, t], pose=x.pose[:, t]), step, soft_reset=soft[:, t])
                again.append(out)
        assert torch.allclose(y, torch.stack(again, 1), atol=1e-5)
        last = [max([t for t in range(T) if soft[row, t]], default=0) for row in range(N)]
        for row, t in enumerate(last):
            assert torch.allclose(state[key][row], x.pose[row, t:].sum(0), atol=1e-5)


def test_stateless_parts_make_a_stateless_memory():
    memory = build("stack", layers=[{"name": "none"}, {"name": "residual", "config": {"inner": {"name": "none"}}}])
    assert memory.properties == {"stateless", "compilable"} and memory.parallel == "scan"
    assert "stateless" not in build("stack", layers=[{"name": "none"}, {"name": "gru"}]).properties


def test_losses_packing_and_ages_are_those_of_the_parts():
    memory = build("stack", layers=[{"name": "memo_hops"}, {"name": "perceptual_cognitive_bank"}]).float()
    _, state = memory.sequence(drawn(N, T, D).float())
    first, second = memory.parts.values()
    assert set(memory.aux_losses()) == {f"layer0/{key}" for key in first.aux_losses()} != set()
    packed = memory.pack(state)
    assert packed["layer1/cognitive/time"].dtype == torch.float32 and packed["layer0/ring"].dtype == torch.float16
    assert {key: value.dtype for key, value in memory.unpack(packed).items()} == {k: v.dtype for k, v in state.items()}
    assert set(memory.ages(state)) == {"layer0/ring", "layer1/perceptual/bank", "layer1/cognitive/bank"}
    assert build("frozen", inner={"name": "memo_hops"}).aux_losses() == {}


@pytest.mark.parametrize(
    "name,config,message",
    [
        ("stack", {"layers": []}, "at least one layer"),
        ("stack", {"layers": [{"name": "gru"}, {"name": "gated_dleta"}]}, r"layers\[1\].name: .*mean 'gated_delta'"),
        (
            "stack",
            {"layers": [{"name": "gated_delta", "config": {"head": 2}}]},
            r"layers\[0\].config.head.*mean 'heads'",
        ),
        ("stack", {"layers": [{"nam": "gru"}]}, r"'layers\[0\].nam' \(did you mean 'name'"),
        ("stack", {"layers": [{"name": "gru", "config": {"out_dim": 3}}]}, "expected out_dim = 4 for 'layers"),
        ("residual", {"inner": {"name": "gruu"}}, "inner.name: unknown memory 'gruu' .did you mean 'gru'"),
        ("residual", {"mlp": -1}, "expected mlp >= 0"),
        ("hybrid", {"memory": {"name": "gru", "config": {"layer": 2}}}, "memory.config.layer.*mean 'layers'"),
        ("hybrid", {"window": 0}, "expected window >= 1"),
        ("frozen", {"inner": {"name": "gru", "config": {"in_dim": 9}}}, "expected in_dim = 5 for 'inner'"),
    ],
)
def test_impossible_configs_are_refused(name, config, message):
    with pytest.raises(UsageError, match=message):
        build(name, **config)
