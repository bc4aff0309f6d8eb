"""The algorithms' equations by golden numbers worked out by hand, and where gradients go."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from offlinemeta import datasets
from offlinemeta.baselines.parts import networks, optimiser, posterior
from offlinemeta.baselines.parts.awac import awac_weights
from offlinemeta.baselines.parts.buffer import Batch, TaskBuffer, gather, pad
from offlinemeta.baselines.parts.config import later_fields, options
from offlinemeta.baselines.parts.encoder import Encoder
from offlinemeta.baselines.parts.exploration import LatentPolicy
from offlinemeta.baselines.parts.networks import Normaliser
from offlinemeta.baselines.registry import METHODS, learner_class, make_config
from offlinemeta.baselines.training import diagnostics, gap
from offlinemeta.baselines.training.explored import Explored, explored
from offlinemeta.benchmark.agent import RandomAgent
from offlinemeta.benchmark.context import Context, as_context, empty_context, join_contexts
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.datasets.dataset import Dataset
from offlinemeta.envs import Task, TaskFamily, get_family
from offlinemeta.envs.errors import ArgumentError, UnknownNameError

CPU = torch.device("cpu")


@cache
def point() -> Dataset:
    return datasets.load("PointRobot/smac")


@cache
def hopper() -> Dataset:
    return datasets.load("HopperParam/smac")


def make(method: str, seed: int = 0, dataset: Dataset | None = None, **changes: Any) -> Any:
    config, dataset = replace(make_config(method, "smoke"), **changes), dataset or point()
    learner = learner_class(method)(config, dataset.family, torch.Generator().manual_seed(seed))
    learner.load(dataset)
    return learner


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normaliser(dataset: Dataset, fitted: bool = False) -> Normaliser:
    made = Normaliser(dataset.family, CPU)
    if fitted:
        made.fit(dataset.observations)
    return made


def sample(buffer: TaskBuffer, tasks: torch.Tensor, count: int, generator: torch.Generator) -> Batch:
    return buffer.take(tasks, buffer.draw(tasks, count, generator))


# --- equations


def test_product_of_gaussians() -> None:
    """N(0, 1) · N(3, 1/2): precision 1 + 2 = 3, mean (0 · 1 + 3 · 2) / 3 = 2."""
    mean, variance = posterior.product_of_gaussians(torch.tensor([[[0.0], [3.0]]]), torch.tensor([[[1.0], [0.5]]]))
    assert mean.item() == pytest.approx(2.0)
    assert variance.item() == pytest.approx(1 / 3)


def test_what_is_masked_is_no_factor() -> None:
    mean, variance = torch.randn(2, 5, 3), torch.rand(2, 5, 3) + 0.1
    mask = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    masked = posterior.product_of_gaussians(mean, variance, mask)
    alone = posterior.product_of_gaussians(mean[:1, :3], variance[:1, :3])
    torch.testing.assert_close(masked[0][:1], alone[0])
    torch.testing.assert_close(masked[1][:1], alone[1])


def test_the_encoder_ignores_the_order_of_a_context() -> None:
    family, order = get_family("PointRobot"), torch.randperm(10)
    net = Encoder(family, 2, (8,), True, generator())
    rows = [torch.randn(3, 10, 2), torch.randn(3, 10, 2), torch.randn(3, 10), torch.randn(3, 10, 2), torch.zeros(3, 10)]
    for one, other in zip(net(Batch(*rows)), net(Batch(*(x[:, order] for x in rows))), strict=True):
        torch.testing.assert_close(one, other)


def test_a_padded_context_is_encoded_as_it_is_alone() -> None:
    contexts = [as_context(point()[0]), join_contexts([as_context(point()[e]) for e in (1, 2, 3)])]
    normalise, net = (
        normaliser(point(), fitted=True),
        Encoder(get_family("PointRobot"), 2, (8,), False, generator()),
    )
    together = net(*pad(contexts, normalise))
    for i, context in enumerate(contexts):
        for one, alone in zip(together, net(*pad([context], normalise)), strict=True):
            torch.testing.assert_close(one[i], alone[0])


def test_kl_to_prior() -> None:
    """½ Σ (μ² + σ² - ln σ² - 1): ½ (4 + 1 - 0 - 1) + ½ (0 + e - 1 - 1) = 2 + (e - 2) / 2."""
    value = posterior.kl_to_prior(posterior.Gaussian(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, math.e]])))
    assert value.item() == pytest.approx(2 + (math.e - 2) / 2)


def test_kl_between_gaussians() -> None:
    """KL(N(1, 2) || N(3, 4)) = ½ (2/4 + (3-1)²/4 - 1 - ln(2/4)) = ½ (0.5 + ln 2); to the prior it is the other one."""
    one = posterior.Gaussian(torch.tensor([1.0]), torch.tensor([2.0]))
    value = posterior.kl_between(one, posterior.Gaussian(torch.tensor([3.0]), torch.tensor([4.0])))
    assert value.item() == pytest.approx(0.5 * (0.5 + math.log(2)))
    to_prior = posterior.kl_between(one, posterior.Gaussian(torch.zeros(1), torch.ones(1)))
    assert to_prior.item() == pytest.approx(posterior.kl_to_prior(one).item())


def test_awac_weights() -> None:
    """N softmax(A / λ): advantages 0 and λ ln 3 weigh 2 · 1/4 and 2 · 3/4."""
    weights = awac_weights(torch.tensor([[0.0, 7 * math.log(3)]]), 7.0)
    torch.testing.assert_close(weights, torch.tensor([[0.5, 1.5]]))


def test_log_prob_of_a_squashed_gaussian() -> None:
    """a = tanh(u): log N(u; 0, 1) - log(1 - a²); at a = 0 that is -½ ln 2π, at a = ½ it has u = ½ ln 3."""
    u = networks.Normal(torch.zeros(2, 1), torch.zeros(2, 1))
    actions = torch.tensor([[0.0], [0.5]])
    expected = [-0.5 * math.log(2 * math.pi)]
    expected.append(expected[0] - 0.5 * (0.5 * math.log(3)) ** 2 - math.log(0.75))
    torch.testing.assert_close(u.log_prob(actions), torch.tensor(expected))


def test_a_sample_has_its_own_log_prob() -> None:
    u = networks.Normal(torch.randn(100, 3) / 2, torch.randn(100, 3) / 4 - 1)
    actions, log_prob = u.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(u.log_prob(actions), log_prob, rtol=1e-3, atol=1e-3)


def test_an_action_on_the_edge_has_a_finite_likelihood() -> None:
    edge = torch.tensor([[1.0, -1.0]])
    assert networks.Normal(torch.zeros(1, 2), torch.zeros(1, 2)).log_prob(edge).isfinite().all()


def test_step_sizes_drop_in_the_second_half() -> None:
    values = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    adam = torch.optim.Adam([{"params": [values[0]]}, {"params": [values[1]]}])
    seen = []
    for done in (0.0, 0.49, 0.5, 1.0):
        optimiser.decay(adam, [0.4, 0.2], 0.25, done)
        seen.append([group["lr"] for group in adam.param_groups])
    assert seen == [[0.4, 0.2], [0.4, 0.2], [0.1, 0.05], [0.1, 0.05]]


def test_polyak() -> None:
    target, source = [torch.tensor([1.0])], [torch.tensor([3.0])]
    optimiser.polyak(target, source, 0.25)
    assert target[0].item() == 1.5


def test_two_critics_at_once_are_two_critics() -> None:
    both, x = networks.Dense((3, 8, 8, 1), generator(), n=2), torch.randn(4, 5, 3)
    for i in range(2):
        one = networks.Dense((3, 8, 8, 1), generator())
        for mine, theirs in zip(one.parameters(), both.parameters(), strict=True):
            mine.data.copy_(theirs.data[i : i + 1])
        torch.testing.assert_close(one(x), both(x)[i])


def test_layer_norm_normalises_what_goes_into_a_relu() -> None:
    net, x = networks.Dense((3, 8, 8, 1), generator(), layer_norm=True), torch.randn(5, 3)
    h = x
    for w, b in list(zip(net.weights, net.biases, strict=True))[:-1]:
        h = h @ w[0] + b[0]
        h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
        h = h.clamp_min(0)
    torch.testing.assert_close(net(x), h @ net.weights[-1][0] + net.biases[-1][0])


def batch_of(rewards: float, terminations: float, like: Any) -> Batch:
    o, a = (like.family.observation_space.shape[0], like.family.action_space.shape[0])
    one = torch.ones(1, 1)
    return Batch(torch.zeros(1, 1, o), torch.zeros(1, 1, a), rewards * one, torch.zeros(1, 1, o), terminations * one)


def constant(net: networks.Dense, values: list[float]) -> None:
    """Make a network give constants."""
    for parameter in net.parameters():
        parameter.data.zero_()
    net.biases[-1].data.copy_(torch.tensor(values)[:, None, None])


@pytest.mark.parametrize(("termination", "expected"), [(0.0, 5 * 2.0 + 0.99 * 3.0), (1.0, 10.0)])
def test_smac_targets_bootstrap_unless_the_mdp_has_ended(termination: float, expected: float) -> None:
    """y = 5 r + γ (1 - d) min(7, 3)."""
    learner = make("smac")
    constant(learner.targets, [7.0, 3.0])
    z = torch.zeros(1, learner.config.latent)
    y = learner.target(batch_of(2.0, termination, learner), z, z)
    assert y.item() == pytest.approx(expected)


def test_only_the_policy_of_smacs_target_reads_the_second_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The action is tanh z'₁, with z'₁ = ½, and Q' = 3 a₁ + z₁, with z₁ = 2: y = γ (3 tanh ½ + 2)."""
    learner = make("smac", hidden=())
    for net in (learner.actor.net, learner.targets):
        for parameter in net.parameters():
            parameter.data.zero_()
    learner.actor.net.weights[-1].data[0, 2, :2] = 1.0  # two observations, then z; the means of two actions
    learner.targets.weights[-1].data[:, 2, 0] = 3.0  # two observations, two actions, then z
    learner.targets.weights[-1].data[:, 4, 0] = 1.0
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: torch.zeros(*shape))
    z, z_next = torch.zeros(1, 5), torch.zeros(1, 5)
    z[0, 0], z_next[0, 0] = 2.0, 0.5
    y = learner.target(batch_of(0.0, 0.0, learner), z, z_next)
    assert y.item() == pytest.approx(0.99 * (3 * math.tanh(0.5) + 2))
    learner.config = replace(learner.config, target_draw="all")
    y = learner.target(batch_of(0.0, 0.0, learner), z, z_next)
    assert y.item() == pytest.approx(0.99 * (3 * math.tanh(0.5) + 0.5))


@pytest.mark.parametrize(("termination", "expected"), [(0.0, (1.0 - 6.95) ** 2 + (2.0 - 6.95) ** 2), (1.0, 16.0 + 9.0)])
def test_pearl_critics_bootstrap_from_the_value_unless_the_mdp_has_ended(termination: float, expected: float) -> None:
    """y = 5 · 1 + 0.975 (1 - d) 2; Q are 1 and 2."""
    learner = make("pearl", discount=0.975)
    constant(learner.critics, [1.0, 2.0])
    constant(learner.value_target, [2.0])
    loss = learner.critic_loss(batch_of(1.0, termination, learner), torch.zeros(1, learner.config.latent))
    assert loss.item() == pytest.approx(expected)


def test_time_limits_are_no_terminations_in_the_buffer() -> None:
    """PointRobot's episodes are all truncated, Hopper's terminate; the buffer has terminations alone."""
    for dataset, there in ((point(), False), (hopper(), True)):
        buffer = TaskBuffer.of(dataset.tasks, dataset, normaliser(dataset))
        everything = buffer.take(
            torch.arange(len(buffer.tasks)), torch.arange(120 if not there else 1200).expand(len(buffer.tasks), -1)
        )
        assert bool(everything.terminations.any()) == there
        assert everything.terminations.mean().item() == pytest.approx(dataset.terminations.mean())


def test_the_decoder_fits_unscaled_rewards() -> None:
    learner = make("smac")
    constant(learner.decoder, [1.5])
    loss = learner.decoder_loss(batch_of(2.0, 0.0, learner), torch.zeros(1, learner.config.latent))
    assert loss.item() == pytest.approx(0.25)


# --- the buffer


def test_a_meta_batch_is_of_its_tasks() -> None:
    dataset = point()
    buffer = TaskBuffer.of(dataset.tasks, dataset, normaliser(dataset))
    tasks = torch.tensor([3, 0, 3])
    batch = sample(buffer, tasks, 50, torch.Generator().manual_seed(0))
    for place, rows in zip(tasks.tolist(), batch.observations.numpy(), strict=True):
        own = {row.tobytes() for e in dataset.by_task()[dataset.tasks[place]] for row in e.observations[:-1]}
        assert {row.tobytes() for row in rows} <= own
    params = dataset.family.params([dataset.tasks[place] for place in tasks.tolist()])
    paid = dataset.family.reward(batch.next_observations.double().numpy(), params[:, None])
    np.testing.assert_allclose(batch.rewards.numpy(), paid, rtol=1e-4, atol=1e-5)


def test_what_lies_beside_the_buffer_is_gathered_by_the_same_rows() -> None:
    buffer, g = TaskBuffer.of(point().tasks, point(), normaliser(point())), torch.Generator().manual_seed(0)
    tasks = torch.tensor([5, 2])
    rewards = torch.stack([buffer.take(torch.tensor([i]), torch.arange(120)[None]).rewards[0] for i in range(80)])
    for rows in (buffer.draw(tasks, 7, g), torch.arange(60).reshape(2, 3, 10)):
        torch.testing.assert_close(gather(rewards, tasks, rows), buffer.take(tasks, rows).rewards, rtol=0, atol=0)


def test_numbers_of_steps_are_laid_out_as_the_buffer_lays_out_its_transitions() -> None:
    dataset = hopper()
    buffer = TaskBuffer.of(dataset.tasks, dataset, normaliser(dataset))
    laid = buffer.lay_out(dataset, [np.stack([e.rewards, np.arange(len(e))], axis=1) for e in dataset])
    tasks = torch.tensor([7, 0, 3])
    rows = torch.tensor([[0, 3], [1, 1], [5, 2]])[..., None] * 200 + torch.arange(200)  # two rollouts of each
    batch, beside = buffer.take(tasks, rows), gather(laid, tasks, rows)
    torch.testing.assert_close(beside[..., 0], batch.rewards, rtol=0, atol=0)
    begins = torch.cat([torch.ones(3, 2, 1), batch.terminations[..., :-1]], dim=-1) == 1
    assert bool((beside[..., 1] == 0)[begins].all()), "an episode's first step, after each end"


def test_nothing_is_drawn_from_nothing() -> None:
    buffer = TaskBuffer(point().tasks, normaliser(point()))
    buffer.add([e for e in point() if e.task == point().tasks[1]])
    assert buffer.draw(torch.tensor([1]), 3, generator()).shape == (1, 3)
    with pytest.raises(ArgumentError, match=r"nothing to draw from for Task\(PointRobot train\[2\]"):
        buffer.draw(torch.tensor([1, 2]), 3, generator())


def test_what_is_collected_is_told_apart_from_what_is_logged() -> None:
    dataset = point()
    grown, again = (TaskBuffer.of(dataset.tasks, dataset, normaliser(dataset)) for _ in range(2))
    episodes = [e for e in dataset if e.task == dataset.tasks[1]] * 2
    grown.add(episodes)
    assert len(grown) == len(dataset.rewards) + sum(map(len, episodes))
    assert int(grown.logged.sum()) == len(dataset.rewards)
    rows, sizes = grown.collected()
    assert sizes.nonzero().tolist() == [[1]]
    assert len(rows) == sizes[1] == 240
    again.extend(rows, sizes)
    g, tasks = [torch.Generator().manual_seed(0) for _ in range(2)], torch.arange(len(dataset.tasks))
    for one, other in zip(sample(grown, tasks, 99, g[0]), sample(again, tasks, 99, g[1]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert int(grown.draw_context(tasks, 500, g[0], "all", logged=True).max()) < 120
    assert int(grown.draw(tasks, 500, g[0]).max()) >= 120


def test_a_task_that_a_buffer_does_not_have_is_refused() -> None:
    heldout = datasets.load("PointRobot/smac-heldout")
    with pytest.raises(ArgumentError, match="has no"):
        TaskBuffer.of(point().tasks, point(), normaliser(point())).add([heldout[0]])


def test_normalised_observations_have_zero_mean_and_unit_scale() -> None:
    buffer = TaskBuffer.of(hopper().tasks, hopper(), normaliser(hopper(), fitted=True))
    batch = sample(buffer, torch.arange(50), 2000, torch.Generator().manual_seed(0))
    assert batch.observations.mean((0, 1)).abs().max() < 0.1
    assert (batch.observations.std((0, 1)) - 1).abs().max() < 0.15
    observations = torch.randn(2, 11)
    assert torch.equal(normaliser(hopper())(observations), observations), "until it is fitted, it changes nothing"


# --- gradients


def touched(loss: torch.Tensor, nets: dict[str, torch.nn.Module]) -> set[str]:
    """Which networks a loss has gradients for."""
    for net in nets.values():
        net.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, net in nets.items() if any(p.grad is not None and p.grad.any() for p in net.parameters())}


def attached(learner: Any) -> tuple[Batch, torch.Tensor]:
    tasks = learner.data.draw_tasks(4, learner.generator)
    batch, context = (sample(learner.data, tasks, 16, learner.generator) for _ in range(2))
    return batch, learner.encoder(context)[0]


def test_smac_gradients_reach_what_the_paper_says() -> None:
    learner = make("smac")
    batch, z = attached(learner)
    q = learner.q(learner.critics, batch, z.detach())
    assert touched(learner.decoder_loss(batch, z), learner.nets) == {"encoder", "decoder"}
    assert touched(learner.actor_loss(batch, z.detach(), q.detach()), learner.nets) == {"actor"}
    assert touched((q - learner.target(batch, z.detach(), z.detach())).square().mean(), learner.nets) == {"critics"}
    learner.step = learner.config.offline_steps  # the self-supervised phase: through the critics, not into them
    assert touched(learner.actor_loss(batch, z.detach(), q.detach()), learner.nets) == {"actor"}


def test_pearl_trains_the_encoder_by_the_critics_alone() -> None:
    learner = make("pearl")
    batch, z = attached(learner)
    assert touched(learner.critic_loss(batch, z), learner.nets) == {"encoder", "critics"}
    losses = learner.actor_and_value_loss(batch, z.detach())
    assert touched(losses["actor"], learner.nets) == {"actor"}
    assert touched(losses["value"], learner.nets) == {"value"}


@pytest.mark.parametrize(
    ("method", "changes", "loss", "trained"),
    [
        ("smac", {}, "decoder_loss", False),
        ("smac", {"encoder_loss": "q"}, "decoder_loss", True),
        ("bc", {}, "decoder_loss", False),
        ("pearl", {}, "critic_loss", False),
    ],
)
def test_updates_send_no_other_loss_into_the_encoder(
    method: str, changes: dict[str, Any], loss: str, trained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the loss that trains it taken away and no KL, an update leaves the encoder without a gradient."""
    learner = make(method, kl_weight=0.0, **changes)
    monkeypatch.setattr(learner, loss, lambda batch, z: torch.zeros((), requires_grad=True))
    learner.update()
    assert any(p.grad is not None and p.grad.any() for p in learner.encoder.parameters()) == trained
    assert any(p.grad is not None and p.grad.any() for p in learner.actor.parameters())


def fixed_policy(learner: Any, mean: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """u is the mean, surely, with log std 0 for densities: a = tanh(mean)."""
    constant(learner.actor.net, [mean])
    size = learner.family.action_space.shape[0]
    learner.actor.net.biases[-1].data[0, 0, :size] = mean
    learner.actor.net.biases[-1].data[0, 0, size:] = 0.0
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: torch.zeros(*shape))


LOG_AT_ZERO = 2 * -0.5 * math.log(2 * math.pi)
"""log π(0) of two components with mean 0 and standard deviation 1."""


def test_smac_actor_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row weighs 1, whatever λ: -log π(0); in the self-supervised phase minus λ_pearl min(2, 7)."""
    learner = make("smac", pearl_weight=0.5)
    fixed_policy(learner, 0.0, monkeypatch)
    constant(learner.critics, [2.0, 7.0])
    batch, z, q = batch_of(0.0, 0.0, learner), torch.zeros(1, 5), torch.tensor([[[4.0]], [[3.0]]])
    assert learner.actor_loss(batch, z, q).item() == pytest.approx(-LOG_AT_ZERO)
    learner.step = learner.config.offline_steps
    assert learner.actor_loss(batch, z, q).item() == pytest.approx(-LOG_AT_ZERO - 0.5 * 2.0)
    learner = make("smac", actor="pearl")
    constant(learner.critics, [2.0, 7.0])
    assert learner.actor_loss(batch, z, q).item() == pytest.approx(-2.0)


def test_smac_weighs_by_advantage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows, actions 0 and ½, advantages 0 and λ ln 3: weights ½ and 3/2; in units of their spread, λ is 1."""
    o = torch.zeros(1, 2, 2)
    actions = torch.tensor([[[0.0, 0.0], [0.5, 0.5]]])
    batch, z = Batch(o, actions, torch.zeros(1, 2), o, torch.zeros(1, 2)), torch.zeros(1, 5)
    second = LOG_AT_ZERO - (0.5 * math.log(3)) ** 2 - 2 * math.log(0.75)
    for relative, temperature in ((False, 7.0), (True, math.sqrt(2) / 1)):
        learner = make("smac", temperature=temperature, relative_advantages=relative)
        fixed_policy(learner, 0.0, monkeypatch)
        constant(learner.critics, [1.0, 1.0])
        gap = 7 * math.log(3)  # the spread of {0, gap} is gap / √2, so gap is √2 units
        w = 1.5 if not relative else 2 * math.e / (1 + math.e)
        q = torch.tensor([[[1.0, 1.0 + gap]]] * 2)
        expected = -((2 - w) * LOG_AT_ZERO + w * second) / 2
        assert learner.actor_loss(batch, z, q).item() == pytest.approx(expected, rel=1e-5)


def test_pearl_actor_and_value_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """L_π = log π - min Q + regulariser, L_V = (V - (min Q - log π))², with a = tanh(½ ln 3) = ½ surely."""
    learner = make("pearl", regularisation=0.1)
    mean = 0.5 * math.log(3)
    fixed_policy(learner, mean, monkeypatch)
    constant(learner.critics, [3.0, 2.0])
    constant(learner.value, [1.0])
    log_prob = LOG_AT_ZERO - 2 * math.log(0.75)  # u is at its mean; the slope of tanh there is ¾
    losses = learner.actor_and_value_loss(batch_of(0.0, 0.0, learner), torch.zeros(1, 5))
    assert losses["actor"].item() == pytest.approx(log_prob - 2.0 + 0.1 * mean**2, rel=1e-5)
    assert losses["value"].item() == pytest.approx((1.0 - (2.0 - log_prob)) ** 2, rel=1e-5)


@pytest.mark.parametrize(("method", "expected"), [("smac", 0.3 * 2.0), ("bc", 0.3 * 2.0), ("pearl", 0.3 * 8.0)])
def test_kl_is_a_mean_over_tasks_for_smac_and_a_sum_for_pearl(
    method: str, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four tasks of KL 2 each, weight 0.3."""
    import importlib

    learner = make(method, meta_batch=4, kl_weight=0.3)
    home = importlib.import_module(type(learner).__module__.replace("_checked", ""))
    monkeypatch.setattr(home, "kl_to_prior", lambda q: q.mean.sum(-1) * 0 + 2.0)
    assert learner.update()["kl"].item() == pytest.approx(expected)


def weights(net: torch.nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize(
    ("trained", "moves"), [("actor-critic", set()), ("encoder", {"encoder"}), ("all", {"encoder", "decoder"})]
)
def test_the_self_supervised_phase_trains_what_it_is_told_to(trained: str, moves: set[str]) -> None:
    learner = make("smac", online_nets=trained, online_rewards="true" if trained == "all" else "decoder")
    while learner.offline:
        learner.update()
    names = ("encoder", "decoder", "actor", "critics")
    before = {name: weights(learner.nets[name]) for name in names}
    learner.update()
    c = learner.config
    rollouts = c.round_tasks * (c.round_prior + c.round_posterior)
    assert learner.env_steps == rollouts * 20 == int((learner.data.sizes - learner.data.logged).sum())
    learner.update()
    after = {name: weights(learner.nets[name]) for name in (*names, "labeller")}
    moved = {n for n in names if any(not torch.equal(a, b) for a, b in zip(before[n], after[n], strict=True))}
    assert moved == moves | {"actor", "critics"}
    labels = zip(before["encoder"], after["labeller"], strict=True)
    assert all(torch.equal(a, b) for a, b in labels), "labels are of the encoder of the offline phase"


def test_critics_may_go_ahead_in_the_self_supervised_phase() -> None:
    learner, moved = make("smac", offline_steps=2, rounds=1, round_steps=4, critic_steps=2), []
    while learner.step < 6:
        before = [weights(net) for net in (learner.actor, learner.critics)]
        learner.update()
        after = [weights(net) for net in (learner.actor, learner.critics)]
        moved.append(
            [any(not torch.equal(*pair) for pair in zip(a, b, strict=True)) for a, b in zip(before, after, strict=True)]
        )
    assert moved == [[True, True]] * 2 + [[False, True]] * 2 + [[True, True]] * 2


def test_own_labels_are_the_decoders_and_the_oracles_are_true() -> None:
    """No true reward reaches the self-supervised learner: what it adds is what its decoder says."""
    for method in ("smac", "oracle", "true-labels"):
        learner = make(method, offline_steps=0)
        constant(learner.decoder, [123.0])
        learner.collect(learner.data)
        rows, _ = learner.data.collected()
        rewards = rows[:, 4]  # two observations, two actions, the reward
        assert bool((rewards == 123.0).all()) == (method == "smac")
        assert bool((rewards <= 0.0).all()) == (method != "smac")


def test_labels_are_of_the_rollouts_own_task_and_of_logged_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """z is the mean first observation of a context, and the decoder returns it: labels name whose context it was."""
    learner = make("smac", offline_steps=0, round_tasks=80, round_prior=1, round_posterior=1)
    for place in range(len(learner.data.tasks)):
        learner.data._block[place, :, 0] = place  # a code for each task, in the logged data alone
    for net in (learner.encoder, learner.labeller):
        monkeypatch.setattr(
            net,
            "forward",
            lambda context: posterior.Gaussian(
                context.observations[..., :1].mean(1).expand(-1, 5), torch.zeros(len(context.rewards), 5)
            ),
        )
    monkeypatch.setattr(learner, "decode", lambda batch, z: z[:, None, 0].expand(-1, batch.rewards.shape[1]))
    learner.collect(learner.data)
    rows, sizes = learner.data.collected()
    for place, own in enumerate(rows.split(sizes.tolist())):
        assert len(own) == 40
        assert bool((own[:, 4] == place).all())


def test_other_rows_are_those_that_were_not_drawn() -> None:
    learner = make("bc")
    data, g = learner.data, generator()
    tasks = torch.tensor([2, 0, 2])
    taken = torch.stack([torch.arange(37), torch.arange(3, 40), torch.arange(37).flip(0)])
    drawn = data.draw_others(tasks, taken, 5000, g)
    left = int(data.sizes[0])
    assert [set(row.tolist()) for row in drawn] == [
        set(range(37, left)), {0, 1, 2, *range(40, left)}, set(range(37, left))
    ]  # fmt: skip
    with pytest.raises(ArgumentError, match=r"No transition of .* is left"):
        data.draw_others(tasks[:1], torch.arange(left)[None], 1, g)


def test_own_visits_are_drawn_from_and_nothing_else() -> None:
    learner = make("smac", offline_steps=0, online_contexts="visit", round_tasks=3, round_prior=1, round_posterior=1)
    learner.collect(learner.data)
    learner.collect(learner.data)
    tasks = torch.arange(len(learner.data.tasks))
    logged, now = learner.data.logged, learner.data.sizes
    for _ in range(20):
        first, end = learner.visit(learner.data, tasks)
        visited = now > logged
        assert bool((end - first == torch.where(visited, 40, logged)).all()), "what was logged stands for a visit"
        assert bool((((first - logged) % 40 == 0) | ~visited).all())
        assert bool((torch.where(visited, (first >= logged) & (end <= now), end <= logged)).all())


@pytest.mark.parametrize(("online", "source"), [*product([False, True], ["all", "prior", "rollout"]), (True, "visit")])
def test_contexts_come_from_the_source_that_is_asked_for(source: str, online: bool) -> None:
    """Six logged rollouts of a task, the first three of which explore; then two visits, of two rollouts each."""
    count, field = len(point().tasks), "online_contexts" if online else "contexts"
    learner = make(
        "smac", offline_steps=1, round_tasks=count, round_prior=1, round_posterior=1, dataset=point(), **{field: source}
    )
    learner.step = int(online)
    if online:
        learner.collect(learner.data)
        learner.collect(learner.data)
    tasks, rows = torch.arange(count), learner.data._block
    rows[..., 4] = (torch.arange(rows.shape[1]) // 20).float()  # rewards tell the rollout
    drawn = [set(row.int().tolist()) for row in learner.context(learner.data, tasks, 400).rewards]
    everything = set(range(10 if online else 6))
    if source == "all":
        assert drawn == [everything] * count
    elif source == "prior":
        assert drawn == [{0, 1, 2, 6, 8} & everything] * count
    elif source == "rollout":
        assert all(len(kinds) == 1 for kinds in drawn)
        assert set.union(*drawn) == everything
    else:
        assert {tuple(sorted(kinds)) for kinds in drawn} == {(6, 7), (8, 9)}


@pytest.mark.parametrize(("source", "rollouts"), [("all", 6), ("prior", 3), ("rollout", 1)])
def test_labels_come_from_logged_contexts_of_the_kind_that_was_trained_on(
    source: str, rollouts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards tell the rollout. Memory that was never written must not be read, whatever is in it."""
    learner = make("smac", offline_steps=0, contexts=source, round_tasks=80, round_prior=1, round_posterior=1)
    read: list[torch.Tensor] = []
    forward = type(learner.labeller).forward
    spy = lambda context: read.append(context.rewards) or forward(learner.labeller, context)  # noqa: E731
    monkeypatch.setattr(learner.labeller, "forward", spy)
    for _ in range(2):
        block, end = learner.data._block, int(learner.data.sizes.max())
        block[:, :end, 4] = (torch.arange(end) // 20).float()
        block[:, end:] = math.nan
        read.clear()
        learner.collect(learner.data)
        drawn = [set(row.int().tolist()) for context in read for row in context]
        assert {len(kinds) for kinds in drawn} == {rollouts}
        assert set.union(*drawn) == set(range(3 if source == "prior" else 6)), "of what was logged"


def test_a_decoder_is_not_trained_on_its_own_labels() -> None:
    with pytest.raises(ArgumentError, match="online_nets=all needs true rewards"):
        make("smac", online_nets="all")


@pytest.mark.parametrize("method", ["smac", "pearl", "bc", "macaw"])
def test_a_logged_context_ends_the_exploration(method: str) -> None:
    with pytest.raises(ArgumentError, match="explore_rollouts=3 does not fit"):
        make_config(method, "default", {"explore_rollouts": 3})


def test_contexts_of_exploring_rollouts_need_such() -> None:
    learner = make("bc", contexts="prior", dataset=datasets.load("PointRobot/expert"))
    with pytest.raises(ArgumentError, match=r"No rollout of .* explored"):
        learner.update()


@pytest.mark.parametrize("source", ["all", "visit"])
def test_a_posterior_rollout_follows_the_exploration_of_its_own_visit(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make("smac", offline_steps=0, round_tasks=80, round_prior=2, round_posterior=1, online_contexts=source)
    read: list[torch.Tensor] = []
    forward = type(learner.encoder).forward

    def spy(context: Batch, mask: Any = None) -> Any:
        read.append(context.observations)
        return forward(learner.encoder, context, mask)

    monkeypatch.setattr(learner.encoder, "forward", spy)
    learner.collect(learner.data)
    learner.collect(learner.data)
    assert len(read) == 2, "in each visit, one rollout has a posterior"
    places = {tuple(row) for row in learner.data._block[:, :, :2].flatten(0, 1).tolist()}
    last = learner.data._block[:, learner.data.sizes[0] - 60 : learner.data.sizes[0] - 20, :2].flatten(0, 1)
    visit = {tuple(row) for row in last.tolist()}
    seen = {tuple(row) for row in read[-1].flatten(0, 1).tolist()}
    assert seen <= places
    assert (seen <= visit) == (source == "visit")


@pytest.mark.parametrize(("period", "draws"), [(0, 1), (1, 6), (2, 3), (4, 2)])
def test_z_is_drawn_anew_as_often_as_asked(period: int, draws: int, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, seen = make("smac"), np.zeros((500, 2), dtype=np.float32)
    z: list[torch.Tensor] = []
    nothing = torch.zeros(500, 2)
    monkeypatch.setattr(learner.actor, "forward", lambda x: z.append(x[:, 2:]) or networks.Normal(nothing, nothing))
    q = posterior.Gaussian(torch.full((500, 5), 7.0), torch.full((500, 5), 4.0))
    by_the_mean = np.zeros(500, dtype=bool)
    policy = LatentPolicy(learner.actor, learner.normaliser, q, period, by_the_mean, np.random.default_rng(0))
    for _ in range(6):
        policy.act(seen)
    assert len({each[0, 0].item() for each in z}) == draws
    assert z[-1].mean().item() == pytest.approx(7, abs=0.2)
    assert z[-1].std().item() == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("method", ["smac", "pearl", "bc"])
def test_a_long_context_is_read_in_part_where_that_is_asked(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty of forty steps, each once; all of twenty."""
    learner, read = make(method, test_context=30), list[Any]()
    forward = type(learner.encoder).forward
    monkeypatch.setattr(
        learner.encoder, "forward", lambda c, mask: read.append((c, mask)) or forward(learner.encoder, c, mask)
    )
    first, second = as_context(point()[0]), as_context(point()[1])
    learner.infer([join_contexts([first, second]), first])
    (batch, mask), known = read[0], np.concatenate([first.observations, second.observations])
    assert mask.sum(1).tolist() == [30, 20]
    drawn = batch.observations[0].numpy()
    places = [int(np.flatnonzero((known == row).all(1))[0]) for row in drawn]
    assert len(set(places)) == 30
    assert places == sorted(places)
    learner.infer([join_contexts([first, second])])
    assert not torch.equal(read[1][0].observations[0], batch.observations[0]), "drawn anew"


@pytest.mark.parametrize("mean", [True, False])
def test_exploring_episodes_are_acted_by_the_mean_where_that_is_asked(mean: bool) -> None:
    learner, context = make("smac", explore_mean=mean, latent=1), as_context(point()[0])
    learner.actor.net.weights[0].data[:, 2:] = 0.0  # z is not read, so that only actions can differ
    for contexts, sampled in (([empty_context(learner.family)], not mean), ([join_contexts([context] * 2)], False)):
        acts = []
        for seed in (0, 1):
            learner.seed(seed)
            acts.append(learner.adapt(contexts).act(np.zeros((1, 2), dtype=np.float32)))
        assert bool((acts[0] != acts[1]).any()) == sampled


def test_online_pearl_starts_from_the_first_rollouts_of_each_task_alone() -> None:
    for dataset, horizon in ((point(), 20), (hopper(), 200)):
        data = make("pearl-online", dataset=dataset, start_rollouts=2).data
        assert bool((data.sizes == 2 * horizon).all())
        for place, task in enumerate(dataset.tasks):
            first = np.concatenate([e.actions for e in dataset.by_task()[task]])[: 2 * horizon]
            np.testing.assert_array_equal(
                data.take(torch.tensor([place]), torch.arange(2 * horizon)[None]).actions[0], first
            )


def test_online_pearl_collects_true_rewards_and_draws_contexts_from_the_last_visit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner, family = make("pearl-online", round_prior=2, round_posterior=1, meta_batch=80, context=50), point().family
    read: list[torch.Tensor] = []
    forward = type(learner.encoder).forward

    def spy(context: Batch, mask: Any = None) -> Any:
        read.append(context.rewards)
        return forward(learner.encoder, context, mask)

    monkeypatch.setattr(learner.encoder, "forward", spy)
    for _ in range(2):
        learner.collect(learner.data)
    assert learner.env_steps == 2 * 80 * 3 * 20 == int(learner.data.sizes.sum() - learner.data.logged.sum())
    tasks = torch.arange(80)
    visit = learner.data.take(tasks, learner.data.sizes[:, None] - 60 + torch.arange(60))
    params = family.params(point().tasks)[:, None]
    np.testing.assert_allclose(
        visit.rewards, family.reward(visit.next_observations.double().numpy(), params), atol=1e-5
    )
    before = [set(row[:40].tolist()) for row in visit.rewards]  # what the posterior rollout was inferred from
    assert all(set(row.tolist()) <= seen for row, seen in zip(read[-1], before, strict=True))
    context = learner.context(learner.data, tasks).rewards
    whole = [set(row.tolist()) for row in visit.rewards]
    assert all(set(row.tolist()) <= seen for row, seen in zip(context, whole, strict=True))
    assert any(not set(row.tolist()) <= seen for row, seen in zip(context, before, strict=True))


# --- learners as a whole

CERTAIN = {"told", "borel", "borel-rr"}
"""Methods that draw nothing at test."""


@pytest.mark.parametrize("method", METHODS)
def test_networks_are_drawn_from_the_runs_generator(method: str) -> None:
    torch.manual_seed(0)
    first = make(method)
    torch.manual_seed(1)
    state, drawn = torch.get_rng_state(), make(method)
    assert torch.equal(torch.get_rng_state(), state), "global randomness is left alone"
    other = make(method, seed=1)
    for name, net in first.nets.items():
        assert all(torch.equal(a, b) for a, b in zip(weights(net), weights(drawn.nets[name]), strict=True))
    assert not torch.equal(weights(first.actor)[0], weights(other.actor)[0])


@pytest.mark.parametrize("method", METHODS)
def test_an_evaluation_seeds_the_agent_and_leaves_the_training_alone(method: str) -> None:
    """The same seed gives the same returns whatever happened before; another one, another exploration."""
    learner, benchmark = make(method), get_benchmark("PointRobot/smac/online-3")
    state = learner.generator.get_state()
    first, again, other = (evaluate(learner, benchmark, seed, repeats=1) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert torch.equal(learner.generator.get_state(), state)
    if method not in CERTAIN:
        contexts, seen = [empty_context(learner.family)] * 2, np.zeros((2, 2), dtype=np.float32)

        def act(seed: int) -> np.ndarray:
            learner.seed(seed)
            return learner.adapt(contexts).act(seen)

        assert (act(5) == act(5)).all()
        assert (act(5) != act(6)).all()


@pytest.mark.parametrize("method", METHODS)
def test_updates_are_finite_and_the_same_seed_gives_the_same_losses(method: str) -> None:
    first, again, other = (make(method, seed) for seed in (0, 0, 1))
    steps = first.config.steps
    for _ in range(steps):
        losses, same, different = (
            {k: v.item() for k, v in learner.update().items()} for learner in (first, again, other)
        )
        assert np.isfinite(list(losses.values())).all()
        assert losses == same
        assert losses != different
    assert first.step == steps


@pytest.mark.parametrize("method", METHODS)
def test_families_that_terminate_are_learned_from(method: str) -> None:
    if method == "borel-rr":
        with pytest.raises(ArgumentError, match="cannot be relabelled"):
            make(method, dataset=hopper())
        return
    learner = make(method, dataset=hopper(), normalise=True)
    for _ in range(learner.config.steps):
        assert all(v.isfinite() for v in learner.update().values())


@pytest.mark.parametrize("method", METHODS)
def test_adapting_to_nothing_works_and_changes_nothing(method: str) -> None:
    agent, family = make(method), get_family("PointRobot")
    before = {name: weights(net) for name, net in agent.nets.items()}
    tells = hasattr(agent, "tell")
    assert tells == (method == "told")
    if tells:
        agent.tell([])
    assert agent.adapt([]).act(np.zeros((0, 2), dtype=np.float32)).shape == (0, 2)
    if tells:
        agent.tell(list(family.tasks["test"][:3]))
    actions = agent.adapt([empty_context(family)] * 3).act(np.zeros((3, 2), dtype=np.float32))
    assert actions.shape == (3, 2)
    assert (np.abs(actions) <= 1).all()
    for name, net in agent.nets.items():
        assert all(torch.equal(a, b) for a, b in zip(before[name], weights(net), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_what_acts_is_among_the_nets_and_is_all_that_an_agent_needs(method: str) -> None:
    """With all other nets made useless, the agent acts as before."""
    family = get_family("PointRobot")
    tasks, contexts = family.tasks["test"][:2], [as_context(point()[0]), empty_context(family)]

    def acts(agent: Any) -> np.ndarray:
        agent.seed(1)
        if hasattr(agent, "tell"):
            agent.tell(tasks)
        return agent.adapt(contexts).act(np.ones((2, 2), dtype=np.float32))

    learner = make(method, normalise=True)
    expected = acts(learner)
    for name, net in learner.nets.items():
        if name not in learner.acting:
            for parameter in net.parameters():
                parameter.data.fill_(torch.nan)
    np.testing.assert_array_equal(acts(learner), expected)


# --- configs


def test_configs_are_read_from_text() -> None:
    config: Any = make_config(
        "smac", "default", {"lr": "0.01", "hidden": "64,32", "actor": "pearl", "normalise": "false"}
    )
    assert (config.lr, config.hidden, config.actor, config.normalise) == (0.01, (64, 32), "pearl", False)
    for method, rewards, trained in (
        ("smac", "decoder", "encoder"),
        ("smac-frozen", "decoder", "actor-critic"),
        ("true-labels", "true", "encoder"),
        ("oracle", "true", "all"),
    ):
        assert (make_config(method).online_rewards, make_config(method).online_nets) == (rewards, trained)


@pytest.mark.parametrize(
    ("method", "preset", "overrides", "message"),
    [
        ("smca", "default", {}, "Did you mean 'smac'"),
        ("smac", "papr", {}, "Did you mean 'paper'"),
        ("smac", "default", {"latnt": "5"}, "Did you mean 'latent'"),
        ("smac", "default", {"latent": "many"}, "latent='many' does not fit"),
        ("smac", "default", {"batch": "0"}, "batch='0' does not fit"),
        ("smac", "default", {"hidden": "64,-1"}, "hidden='64,-1' does not fit"),
        ("pearl", "default", {"discount": "1.5"}, "discount='1.5' does not fit"),
        ("bc", "default", {"lr": "nan"}, "lr='nan' does not fit"),
        ("smac", "default", {"actor": "sac"}, "actor='sac' does not fit"),
    ],
)
def test_a_wrong_config_is_refused(method: str, preset: str, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises((UnknownNameError, ArgumentError), match=message):
        make_config(method, preset, overrides)


@pytest.mark.parametrize("method", METHODS)
def test_every_field_of_a_config_is_explained(method: str) -> None:
    for option in options(make_config(method)):
        assert option.meaning.endswith("."), option.name
        assert option.allowed not in ("", "text"), option.name


def test_allowed_values_are_said_in_words() -> None:
    allowed = {option.name: option.allowed for option in options(make_config("smac"))}
    assert allowed["latent"] == "whole number above 0"
    assert allowed["discount"] == "number at least 0 and at most 1"
    assert allowed["actor"] == "awac or pearl"
    assert allowed["hidden"] == "comma-separated: whole number above 0"
    assert allowed["normalise"] == "true or false"


def test_fields_of_later_phases_are_told_by_the_config() -> None:
    config: Any = make_config("smac")
    later = later_fields(type(config), config.phases, "offline")
    assert {"rounds", "online_lr", "online_rewards", "z_period"} <= later
    assert not {"lr", "batch", "offline_steps", "contexts", "actor"} & later
    assert later_fields(type(config), config.phases, "online") == set()


# --- diagnostics


class Reads(RandomAgent):
    """Explores at random, and infers z by a function of a context."""

    def __init__(self, function: Any, family: TaskFamily | None = None) -> None:
        super().__init__(family or get_family("PointRobot"))
        self.function = function

    def infer(self, contexts: Any) -> posterior.Gaussian:
        mean = torch.as_tensor(np.stack([self.function(context) for context in contexts]))
        return posterior.Gaussian(mean, torch.ones_like(mean))


def played(agent: Any, name: str = "PointRobot") -> tuple[Explored, Explored]:
    """What an agent sees of training tasks and of test tasks."""
    known, new = (diagnostics.twice_explored(agent, get_family(name), split, 0) for split in ("train", "test"))
    return known, new


def slope_of_rewards(context: Context) -> np.ndarray:
    """Where squared distances to the goal point: -r² is linear in the place but for its square."""
    places = context.next_observations.astype(np.float64)
    x = np.concatenate([2 * places, np.ones((len(places), 1))], axis=1)
    squared = (places**2).sum(1) - context.rewards.astype(np.float64) ** 2  # 2 place·goal - goal²
    return np.linalg.lstsq(x, squared, rcond=None)[0][:2]


def test_the_probe_finds_what_z_knows() -> None:
    """The best-paid place of a context is near PointRobot's goal; where it starts says nothing of it."""
    logged, heldout = (datasets.load(f"PointRobot/{name}") for name in ("spread", "spread-heldout"))

    def score(function: Any) -> dict[str, float]:
        agent: Any = Reads(function)
        return diagnostics.probe(agent, logged, heldout, *played(agent), 0)

    best_paid = score(lambda context: context.next_observations[context.rewards.argmax()])
    assert best_paid["probe_r2"] > 0.9
    assert score(lambda context: 1e-3 * context.next_observations[context.rewards.argmax()]) == pytest.approx(best_paid)
    assert score(lambda context: context.observations[0])["probe_r2"] < 0.2
    assert best_paid["own_probe_r2"] < best_paid["probe_r2"], "a random walk stays far from the goal"
    towards = score(slope_of_rewards)
    assert towards["own_probe_r2"] > 0.9, "but which way the rewards grow tells where it is"


def test_a_decoder_is_judged_on_heldout_tasks() -> None:
    learner, heldout = make("smac"), datasets.load("PointRobot/smac-heldout")
    constant(learner.decoder, [float(heldout.rewards.mean())])
    figures = diagnostics.decoder_error(learner, heldout, learner.normaliser, 0)
    assert figures["decoder_error"] == pytest.approx(figures["reward_variance"], rel=0.05)
    assert figures["reward_variance"] == pytest.approx(float(heldout.rewards.var()), rel=0.1)


def test_what_z_knows_is_measured_wherever_the_agent_lives() -> None:
    """A moment that is not on the CPU refuses to become an array; this one stands for it."""

    class Elsewhere(torch.Tensor):
        def cpu(self) -> torch.Tensor:  # type: ignore[override]
            return self.as_subclass(torch.Tensor)

        def numpy(self, **_: Any) -> Any:
            raise TypeError("can't convert device tensor to numpy")

    agent: Any = Reads(lambda context: 10 * context.next_observations[context.rewards.argmax()])
    infer = agent.infer
    agent.infer = lambda contexts: posterior.Gaussian(*(m.as_subclass(Elsewhere) for m in infer(contexts)))
    logged, heldout = (datasets.load(f"PointRobot/{name}") for name in ("spread", "spread-heldout"))
    known, new = played(agent)
    assert diagnostics.probe(agent, logged, heldout, known, new, 0)["probe_r2"] > 0.9
    assert diagnostics.kl_shift(agent, logged, known, 0)["kl_shift"] > 0


def test_a_belief_that_tightens_is_seen_to_tighten() -> None:
    """A belief of deviation 1/√n after n steps, whose mean finds PointRobot's goal as soon as rewards tell it."""
    agent: Any = Reads(lambda context: slope_of_rewards(context).astype(np.float32))
    infer = agent.infer

    def narrowing(contexts: Any) -> posterior.Gaussian:
        mean = infer(contexts).mean
        counts = torch.tensor([float(len(context)) for context in contexts])
        return posterior.Gaussian(mean, (1 / counts)[:, None].expand_as(mean))

    agent.infer = narrowing
    family = get_family("PointRobot")
    found = diagnostics.tightening(agent, family, "val", rollouts=2, points=4, seed=0)
    assert found.steps.tolist() == [5, 10, 15, 20, 25, 30, 35, 40]
    assert found.returns.shape == (2 * len(family.tasks["val"]), 2)
    np.testing.assert_allclose(found.deviations, np.broadcast_to(found.steps**-0.5, found.deviations.shape), rtol=1e-5)
    assert found.r2[-1] > 0.9
    assert diagnostics.tightening(agent, family, "val", 2, 4, seed=1).returns[0, 0] != found.returns[0, 0]


def test_the_first_steps_of_a_context_keep_its_episodes_apart() -> None:
    steps = np.arange(5, dtype=np.float32)
    columns = (steps[:, None], steps[:, None], steps, steps[:, None] + 1, steps == 4)
    context = Context(*columns, lengths=np.array([2, 3]))
    for count, lengths in ((1, [1]), (2, [2]), (3, [2, 1]), (5, [2, 3]), (9, [2, 3])):
        cut = diagnostics.first(count, context)
        assert cut.lengths.tolist() == lengths
        assert cut.rewards.tolist() == steps[:count].tolist()


def test_a_gap_is_taken_apart() -> None:
    """A random walk's rewards tell the goal, which is lost on who reads nothing of them, or walks on at random."""
    heldout = datasets.load("PointRobot/spread-heldout")
    sees: Any = Reads(slope_of_rewards)
    blind: Any = Reads(lambda context: context.observations[0].astype(np.float64))
    for agent, read in ((sees, True), (blind, False)):
        agent.seed(0)
        found = gap.gap(agent, heldout, *played(agent), 0)
        assert list(found) == [f"gap_{part}" for part in gap.PARTS]
        told, exact, reader, own, given = found.values()
        assert told - 0.2 < exact < told + 0.2
        assert (exact - reader < 0.5) == read
        assert reader - own > 2, "it walks at random, whatever it has read"
        assert own == pytest.approx(given, abs=4)


def test_rewards_that_are_no_formula_are_not_read_exactly() -> None:
    agent = make("bc", dataset=hopper())
    found = gap.gap(agent, datasets.load("HopperParam/smac-heldout"), *played(agent, "HopperParam"), 0)
    assert list(found) == ["gap_told", "gap_reader", "gap_own", "gap_logged"]
    assert np.isfinite(list(found.values())).all()


def test_a_charge_for_divergence_is_not_taken_for_a_reward() -> None:
    """Two steps, standing still, whose rewards name the faster task; a charge of 50 at a high speed fits the slower."""
    family = get_family("CheetahVel")
    slow, fast = (Task("CheetahVel", "train", i, (speed,)) for i, speed in enumerate((0.5, 2.0)))
    features = np.zeros((3, len(family.feature_names)), dtype=np.float32)
    features[2, 0] = 2.5
    rewards = family.reward(features, family.params([fast])).astype(np.float32)
    rewards[2] = -50.0
    steps = np.zeros((3, 1), dtype=np.float32)
    context = Context(steps, steps, rewards, steps.copy(), np.zeros(3, dtype=bool), np.array([3]))
    for last_is_sound, said in ((False, fast), (True, slow)):
        seen = Explored([fast], [context], [features], [np.array([True, True, last_is_sound])])
        assert gap.read_rewards(family, seen, [slow, fast], np.random.default_rng(0)) == [said]


def test_features_of_own_steps_are_kept_in_their_order() -> None:
    """Where humanoids fall, a rollout has several episodes; the formula gives each of its steps what the agent saw."""
    family = get_family("HumanoidDir")
    agent: Any = Reads(lambda context: context.observations[0], family)
    found = explored(agent, family, family.tasks["test"][:2], np.random.default_rng(0))
    assert min(len(context.lengths) for context in found.contexts) > 4
    for task, context, features in zip(found.tasks, found.contexts, found.features, strict=True):
        assert len(context) == len(features) == 400
        expected = family.reward(features, family.params([task]))
        np.testing.assert_allclose(context.rewards, expected, rtol=1e-4, atol=1e-4)
    assert all(sound.all() for sound in found.sound)
