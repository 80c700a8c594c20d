"""The action expert: what it is conditioned on, its schedules, guidance; checks 6 and 7 of MemoryVLA."""

import pytest
import torch

from embodied_mem.errors import UsageError
from embodied_mem.policies.vla.config import ExpertConfig, ScheduleConfig
from embodied_mem.policies.vla.expert import ActionExpert

P, D_P, D_C, A = 4, 8, 16, 2


def expert(seed=0, **config):
    torch.manual_seed(seed)
    schedule = ScheduleConfig(**{"train_steps": 50, **config.pop("schedule", {})})
    sizes = {"chunk": 3, "execute": 1, "width": 32, "layers": 2, "heads": 2}
    return ActionExpert(ExpertConfig(**{**sizes, **config}, schedule=schedule), A, D_P, D_C)


def inputs(n=5, seed=1):
    g = torch.Generator().manual_seed(seed)
    shapes = ((n, 3, A), (n, P, D_P), (n, D_C))
    return [torch.randn(*shape, generator=g) for shape in shapes]


def test_6_perceptual_tokens_come_in_by_learning():
    """Only the output projection of the cross-attention is zero, so queries and keys learn from the second step on."""
    made = expert()
    noisy, perceptual, cognitive = inputs()
    level = torch.full((5,), 20.0)

    def depends():
        with torch.no_grad():
            return not torch.equal(
                made(noisy, level, perceptual, cognitive), made(noisy, level, -perceptual, cognitive)
            )

    assert not depends()
    optimiser = torch.optim.AdamW(made.parameters(), lr=1e-3)
    for step in range(2):
        optimiser.zero_grad()
        (made(noisy, level, perceptual, cognitive) - noisy).square().mean().backward()
        grads = [getattr(block.cross, name).weight.grad for block in made.blocks for name in ("query", "key")]
        assert all(bool(grad.any()) == (step > 0) for grad in grads)
        optimiser.step()
        assert depends()


@torch.no_grad()
def test_7_ddim_is_deterministic_for_fixed_noise():
    made = expert()
    noise, perceptual, cognitive = inputs()
    first, second = (made.sample(perceptual, cognitive, noise) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, made.sample(perceptual, cognitive, -noise))


@pytest.mark.parametrize("kinds", [("ddim", "dpm"), pytest.param(("flow",), marks=pytest.mark.full)])
def test_7_both_modes_of_a_toy_are_recovered(kinds):
    """Half of the actions are -0.5, half 0.5, whatever is seen; samplers of one schedule share their network."""
    sizes = {"chunk": 1, "width": 16, "layers": 1, "guidance": 1.0}
    made = expert(**sizes, schedule={"kind": kinds[0]})
    optimiser = torch.optim.AdamW(made.parameters(), lr=5e-3)
    g = torch.Generator().manual_seed(0)
    seen = torch.zeros(32, P, D_P), torch.zeros(32, D_C)
    modes = torch.where(torch.arange(32) % 2 == 0, -0.5, 0.5).view(32, 1, 1).expand(32, 1, A).contiguous()
    for _ in range(500):
        optimiser.zero_grad()
        made.loss(modes, torch.ones(32, 1), *seen, g).backward()
        optimiser.step()
    for kind in kinds:
        other = expert(**sizes, schedule={"kind": kind})
        other.load_state_dict(made.state_dict())
        with torch.no_grad():
            drawn = other.sample(torch.zeros(256, P, D_P), torch.zeros(256, D_C), torch.randn(256, 1, A, generator=g))
        assert ((drawn[:, 0, 0].abs() - 0.5).abs() < 0.15).float().mean() > 0.9, kind
        assert 0.3 < (drawn[:, 0, 0] > 0).float().mean() < 0.7, kind


@torch.no_grad()
def test_guidance_of_0_is_unconditional_and_of_1_conditional():
    noise, perceptual, cognitive = inputs()
    for made in (expert(guidance=0.0), expert(guidance=1.0), expert(guidance=2.0)):
        made.null.fill_(3.0)
        with_it, other = made.sample(perceptual, cognitive, noise), made.sample(perceptual, -cognitive, noise)
        assert torch.allclose(with_it, other) == (made.config.guidance == 0.0)
        if made.config.guidance == 1.0:
            both = expert(guidance=1.0 + 1e-9)
            both.null.fill_(3.0)
            assert torch.allclose(with_it, both.sample(perceptual, cognitive, noise), atol=1e-5)


def test_the_null_vector_learns_from_dropped_conditions():
    for share, learns in ((0.0, False), (0.9, True)):
        made = expert(drop_condition=share)
        actions, perceptual, cognitive = inputs(16)
        made.loss(actions, torch.ones(16, 3), perceptual, cognitive, torch.Generator().manual_seed(0)).backward()
        assert bool(made.null.grad.any()) == learns


def test_actions_without_weight_do_not_count():
    """The same draws on a chunk without weight leave the loss of the others as it is."""
    actions, perceptual, cognitive = inputs()
    weight = torch.ones(5, 3)
    weight[3:] = 0
    made = expert(schedule={"predict": "sample"})
    losses = []
    for last in (0.3, 0.9):
        actions[3:] = last
        losses.append(made.loss(actions, weight, perceptual, cognitive, torch.Generator().manual_seed(0)).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) and losses[0] > 0


@pytest.mark.parametrize("predict", ["epsilon", "sample", "v_prediction"])
def test_a_perfect_prediction_takes_all_noise_away(predict):
    from embodied_mem.policies.vla.schedule import Schedule

    schedule = Schedule(ScheduleConfig(train_steps=50, predict=predict))
    g = torch.Generator().manual_seed(0)
    clean, noise = torch.rand(6, 3, A, generator=g) * 2 - 1, torch.randn(6, 3, A, generator=g)
    shares = schedule._scheduler.alphas_cumprod

    def oracle(x, level):
        a = shares[level.long()].view(-1, 1, 1)
        e = (x - a.sqrt() * clean) / (1 - a).sqrt()
        return {"epsilon": e, "sample": clean, "v_prediction": a.sqrt() * e - (1 - a).sqrt() * clean}[predict]

    assert torch.allclose(schedule.denoise(oracle, noise), clean, atol=2e-3)


@pytest.mark.parametrize(
    "config", [{"chunk": 0}, {"execute": 4}, {"width": 33}, {"drop_condition": 1.0}, {"schedule": {"steps": 60}}]
)
def test_impossible_configs_are_refused(config):
    with pytest.raises(UsageError, match="expected"):
        expert(**config)
