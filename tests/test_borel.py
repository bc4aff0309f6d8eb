"""BOReL: its equations by golden numbers worked out by hand, what its belief knows when, and what it trains on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from test_baselines import (
    LOG_AT_ZERO,
    batch_of,
    constant,
    fixed_policy,
    generator,
    hopper,
    make,
    point,
    touched,
    weights,
)
from torch.utils.flop_counter import FlopCounterMode

from offlinemeta import datasets
from offlinemeta.baselines import borel
from offlinemeta.baselines.parts import belief
from offlinemeta.baselines.parts.buffer import Batch, gather, rollouts_of
from offlinemeta.baselines.parts.networks import Dense
from offlinemeta.baselines.parts.posterior import Gaussian
from offlinemeta.benchmark.context import Context, as_context, empty_context, join_contexts
from offlinemeta.benchmark.protocol import get_benchmark
from offlinemeta.benchmark.runner import evaluate
from offlinemeta.envs import get_family
from offlinemeta.envs.errors import ArgumentError

# --- the ELBO


def golden(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[Any, Batch]:
    """A decoder that returns z where it is positive, and one meta-episode: rewards 2, 1; beliefs as given below."""
    learner = make("borel", latent=1, elbo_terms=0, decoded_steps=0, kl_weight=0.3, **changes)
    constant(learner.decoder.net, [0.0])
    learner.decoder.net.weights[0].data[0, 0, 0] = learner.decoder.net.weights[1].data[0, 0, 0] = 1.0
    beliefs = Gaussian(torch.tensor([[[0.0], [1.0], [2.0]]]), torch.tensor([[[1.0], [1.0], [4.0]]]))
    monkeypatch.setattr(learner.encoder, "beliefs", lambda batch: beliefs)
    monkeypatch.setattr(torch, "randn", lambda *shape, **options: torch.zeros(*shape))
    o = torch.zeros(1, 2, 2)
    return learner, Batch(o, o, torch.tensor([[2.0, 1.0]]), o, torch.zeros(1, 2))


def test_elbo_of_a_tiny_meta_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    """q_0, q_1, q_2 = N(0, 1), N(1, 1), N(2, 4), and z_t = μ_t decodes to rewards 0, 1, 2; they are 2, 1.

    Errors: (4 + 1)/2 + (1 + 0)/2 + (0 + 1)/2 = 3.5. KL: 0, then ½, then ½ (4 + 1 - 1 - ln 4) = 2 - ln 2.
    """
    learner, batch = golden(monkeypatch)
    losses = learner.elbo_loss(batch)
    assert losses["reconstruction"].item() == pytest.approx(3.5)
    assert losses["kl"].item() == pytest.approx(0.3 * (0.5 + 2 - math.log(2)))


def test_a_part_of_the_elbo_is_the_whole_on_average(monkeypatch: pytest.MonkeyPatch) -> None:
    """One t of three and one decoded step of two, each in turn."""
    learner, batch = golden(monkeypatch)
    whole, parts = learner.elbo_loss(batch), []
    for t in range(3):
        for k in range(2):
            some = {3: torch.tensor([t]), 2: torch.tensor([k])}
            monkeypatch.setattr(learner, "some", lambda count, wanted, some=some: some[count])
            parts.append(learner.elbo_loss(batch))
    assert np.mean([part["reconstruction"].item() for part in parts]) == pytest.approx(whole["reconstruction"].item())
    assert all(part["kl"].item() == whole["kl"].item() for part in parts)


def test_a_part_of_the_elbo_is_drawn_without_replacement() -> None:
    learner = make("borel")
    drawn = [learner.some(10, 4).tolist() for _ in range(50)]
    assert all(len(set(some)) == 4 for some in drawn)
    assert {number for some in drawn for number in some} == set(range(10))
    assert learner.some(10, 0).tolist() == learner.some(10, 99).tolist() == list(range(10))


def test_the_split_decoder_is_the_plain_one_and_builds_no_pairs() -> None:
    """Also in its gradients; its first layer costs T + K rows of products, not T K."""
    net, z, x = Dense((3 + 4, 8, 8, 2), generator()), torch.randn(5, 6, 3), torch.randn(5, 7, 4)
    pairs = torch.cat([z[:, :, None].expand(-1, -1, 7, -1), x[:, None].expand(-1, 6, -1, -1)], dim=-1)
    gradients = []
    for inputs in (net.pairs(z, x), net(pairs)):
        net.zero_grad()
        inputs.square().sum().backward()
        gradients.append([inputs, *(p.grad.clone() for p in net.parameters() if p.grad is not None)])
    for split, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(split, plain)
    with FlopCounterMode(display=False) as counter:
        net.pairs(z, x)
    assert counter.get_total_flops() == 2 * 5 * (6 * 3 * 8 + 7 * 4 * 8 + 6 * 7 * (8 * 8 + 8 * 2))


def test_what_is_decoded_in_turn_is_what_is_decoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for pairs in (10**9, 1, 2 * 41 * 40):
        monkeypatch.setattr(borel, "PAIRS", pairs)
        learner = make("borel", elbo_terms=0, decoded_steps=0)
        losses = learner.update()
        found.append(
            [*losses.values(), *(p.grad for name in ("encoder", "decoder") for p in learner.nets[name].parameters())]
        )
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-6)


def test_the_elbo_trains_encoder_and_decoders_and_nothing_else_does() -> None:
    for dataset, decoders in ((point(), {"decoder"}), (hopper(), {"decoder", "transition"})):
        learner = make("borel", dataset=dataset)
        batch = learner.data.take(torch.tensor([0, 1]), torch.arange(30).expand(2, -1))
        losses = learner.elbo_loss(batch)
        assert touched(losses["reconstruction"], learner.nets) == {"encoder", *decoders}
        assert touched(losses["kl"], learner.nets) == {"encoder"}
        s = torch.zeros(2, 30, learner.family.observation_space.shape[0] + 10)
        assert touched(learner.critic_loss(batch, s, s), learner.nets) == {"critics"}
        assert touched(learner.actor_loss(s), learner.nets) == {"actor"}


def test_the_phases_train_the_vae_and_then_the_policy() -> None:
    learner = make("borel")
    before = {name: weights(net) for name, net in learner.nets.items()}

    def moved() -> set[str]:
        return {
            name
            for name, net in learner.nets.items()
            if any(not torch.equal(a, b) for a, b in zip(before[name], weights(net), strict=True))
        }

    while learner.step < learner.config.vae_steps:
        learner.update()
    assert moved() == {"encoder", "decoder"}
    before = {name: weights(net) for name, net in learner.nets.items()}
    while learner.step < learner.config.steps:
        learner.update()
    assert moved() == {"actor", "critics", "targets"}


def test_transitions_are_decoded_in_their_own_scale() -> None:
    """Where dynamics vary, what has to be explained has a variance of 1, as far as it varies at all."""
    learner = make("borel", dataset=hopper(), normalise=True)
    batch = logged_batch(learner, list(range(50)), 6)
    moves = (batch.next_observations - batch.observations) / learner.moved
    assert bool((moves.std((0, 1)) < 1.1).all())
    assert float(moves.std((0, 1)).median()) == pytest.approx(1, abs=0.05)


# --- SAC


@pytest.mark.parametrize("termination", [0.0, 1.0])
def test_borel_critics_bootstrap_unless_the_mdp_has_ended(termination: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """y = 2 + 0.9 (1 - d) (min(7, 3) - 0.5 log π(0)); Q are 1 and 4."""
    learner = make("borel", alpha=0.5, discount=0.9)
    fixed_policy(learner, 0.0, monkeypatch)
    constant(learner.critics, [1.0, 4.0])
    constant(learner.targets, [7.0, 3.0])
    y = 2.0 + 0.9 * (1 - termination) * (3.0 - 0.5 * LOG_AT_ZERO)
    s = torch.zeros(1, 1, 12)
    loss = learner.critic_loss(batch_of(2.0, termination, learner), s, s)
    assert loss.item() == pytest.approx((1 - y) ** 2 + (4 - y) ** 2)


def test_borel_actor_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """L_π = α log π(0) - min Q."""
    learner = make("borel", alpha=0.5)
    fixed_policy(learner, 0.0, monkeypatch)
    constant(learner.critics, [3.0, 2.0])
    assert learner.actor_loss(torch.zeros(1, 1, 12)).item() == pytest.approx(0.5 * LOG_AT_ZERO - 2.0)


def test_sac_reads_the_belief_before_a_step_and_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of beliefs: how many steps came before, and which row comes next; rewards name their own row."""
    learner, seen = make("borel", vae_steps=1), []
    learner.update()
    tasks, count, length = learner.rows.shape
    steps = torch.arange(length + 1).expand(tasks, count, -1)
    names = learner.rows + 1000 * torch.arange(tasks)[:, None, None]
    coming = torch.cat([names, torch.full((tasks, count, 1), -1)], dim=-1)
    codes = torch.stack([steps, coming, *[steps] * 8], dim=-1).flatten(1, 2).float()
    monkeypatch.setattr(learner, "relabel", lambda data: codes)
    for i in range(tasks):
        learner.data._block[i, :, 4] = torch.arange(learner.data._block.shape[1]) + 1000 * i

    def spy(batch: Batch, s: torch.Tensor, s_next: torch.Tensor) -> torch.Tensor:
        seen.append((batch, s, s_next))
        return torch.zeros((), requires_grad=True)

    monkeypatch.setattr(learner, "critic_loss", spy)
    for _ in range(20):
        learner.update()
    for batch, s, s_next in seen:
        assert bool((batch.rewards == s[..., 3]).all())
        assert bool((s_next[..., 2] == s[..., 2] + 1).all())
        assert torch.equal(s[..., :2], batch.observations)
        assert torch.equal(s_next[..., :2], batch.next_observations)
    drawn = torch.cat([s[..., 2].flatten() for _, s, _ in seen])
    assert {0, length - 1} <= set(drawn.tolist())


# --- the belief


def logged_batch(learner: Any, tasks: list[int], count: int) -> Batch:
    """The first meta-episodes of some tasks, ``[N, L, .]``."""
    places = torch.tensor(tasks)
    rows = learner.rows[places][:, :count]
    return Batch(*(x.flatten(0, 1) for x in learner.data.take(places, rows)))


def trained(method: str = "borel", **changes: Any) -> Any:
    """A learner whose belief says something."""
    learner = make(method, vae_steps=15, **changes)
    for _ in range(15):
        learner.update()
    for parameter in learner.encoder.heads.parameters():
        parameter.data.mul_(30)
    return learner


@pytest.mark.parametrize("dataset", [point, hopper])
def test_the_future_never_changes_an_earlier_belief(dataset: Any) -> None:
    learner = trained(dataset=dataset())
    batch, at = logged_batch(learner, [0, 1], 2), 25
    other = Batch(*(x.clone() for x in batch))
    for column in other[:4]:
        column[:, at:] += 1.0
    one, another = (belief.hyper(learner.encoder.beliefs(each)) for each in (batch, other))
    torch.testing.assert_close(one[:, : at + 1], another[:, : at + 1], rtol=0, atol=0)
    assert not torch.isclose(one[:, at + 1 :], another[:, at + 1 :]).all(-1).any()


@pytest.mark.parametrize(("name", "reads"), [("PointRobot", {1, 2, 3}), ("HopperParam", {0, 1, 2, 3})])
def test_the_encoder_reads_s_where_dynamics_vary(name: str, reads: set[int]) -> None:
    family = get_family(name)
    learner = borel.BOReL(borel.PRESETS["smoke"], family, generator())
    (o,), (a,) = family.observation_space.shape, family.action_space.shape
    batch = Batch(*(torch.randn(1, 1, *shape) for shape in ((o,), (a,), (), (o,), ())))
    changes = [batch._replace(**{field: torch.randn_like(value)}) for field, value in batch._asdict().items()]
    states = learner.encoder(batch)
    assert {i for i, other in enumerate(changes) if not torch.equal(learner.encoder(other), states)} == reads


def test_the_first_belief_is_learned_and_the_same_for_all() -> None:
    learner = trained()
    beliefs = belief.hyper(learner.encoder.beliefs(logged_batch(learner, [0, 1, 2], 3)))
    first = belief.hyper(learner.infer([empty_context(learner.family)]))
    assert bool((beliefs[:, 0] == first).all())
    assert first.abs().max() > 1e-3


@pytest.mark.parametrize("dataset", [point, hopper])
def test_the_belief_at_test_is_the_one_that_relabels_the_data(dataset: Any) -> None:
    """From context and from steps, over whole rollouts in which episodes terminate, and into the second one."""
    learner = trained(dataset=dataset(), normalise=True)
    horizon, place, into = learner.family.horizon, 3, 7
    relabelled = learner.relabel(learner.data)[place].unflatten(0, (learner.rows.shape[1], -1))  # [M, L+1, 2Z]
    rollouts = rollouts_of(dataset().by_task()[dataset().tasks[place]], horizon)
    for m in (0, learner.rows.shape[1] - 1):
        first, second = (learner.rows[place, m, [0, horizon]] // horizon).tolist()
        context, then = (join_contexts([as_context(episode) for episode in rollouts[k]]) for k in (first, second))
        policy = learner.adapt([empty_context(learner.family), context])
        for t in range(into):
            step = [getattr(then, name)[t] for name in ("observations", "actions", "rewards", "next_observations")]
            policy.observe(*(np.stack([x, x]) for x in step), np.zeros(2, dtype=bool))
        now = belief.hyper(learner.encoder.belief(policy.hidden))[1]
        torch.testing.assert_close(now, relabelled[m, horizon + into], rtol=1e-4, atol=1e-4)
        assert not torch.allclose(now, relabelled[m, horizon], rtol=1e-3, atol=1e-3)


def test_what_is_over_keeps_its_belief() -> None:
    learner = trained()
    policy, steps = learner.adapt([empty_context(learner.family)] * 2), np.ones((2, 2), dtype=np.float32)
    before = policy.hidden
    policy.observe(steps, steps, steps[:, 0], steps, np.array([False, True]))
    assert torch.equal(policy.hidden[1], before[1])
    assert not torch.equal(policy.hidden[0], before[0])


def test_contexts_of_any_length_are_read_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a part at a time."""
    learner = trained()
    episodes = [as_context(point()[e]) for e in range(4)]
    contexts: list[Context] = [
        empty_context(learner.family),
        episodes[0],
        join_contexts(episodes),
        join_contexts(episodes[:2]),
    ]
    alone = torch.cat([learner.infer([context]).mean for context in contexts])
    for at_once in (1000, 20, 7):
        monkeypatch.setattr(belief, "AT_ONCE", at_once)
        torch.testing.assert_close(learner.infer(contexts).mean, alone, rtol=1e-4, atol=1e-5)
    backwards = join_contexts(episodes[::-1])
    assert not torch.allclose(learner.infer([backwards]).mean, alone[2], rtol=1e-3), "order matters"


def test_an_agent_acts_by_its_belief_and_observes_inside_an_episode() -> None:
    learner = trained(normalise=True)
    seen = np.zeros((1, 2), dtype=np.float32)
    policy = learner.adapt([empty_context(learner.family)])
    first = policy.act(seen)
    policy.observe(seen, seen + 1, seen[:, 0] - 2, seen + 1, np.array([False]))
    assert not np.allclose(policy.act(seen), first, rtol=1e-7, atol=0)
    assert (learner.adapt([empty_context(learner.family)]).act(seen) == first).all(), "the agent has not changed"


# --- the data


def test_a_meta_episode_is_of_different_rollouts_of_one_task_each_as_often_at_each_place() -> None:
    for dataset, episodes in ((point(), 2), (hopper(), 3)):
        learner = make("borel", dataset=dataset, pairings=4, episodes=episodes)
        horizon, count = learner.family.horizon, dataset.spec.rollouts
        assert learner.rows.shape == (len(dataset.tasks), 4 * count, episodes * horizon)
        rollouts = learner.rows[..., ::horizon] // horizon
        assert bool(
            (
                learner.rows.unflatten(2, (episodes, horizon)) == rollouts[..., None] * horizon + torch.arange(horizon)
            ).all()
        )
        for place in range(episodes):
            used = torch.nn.functional.one_hot(rollouts[..., place], count).sum(1)
            assert bool((used == 4).all())
            assert bool((rollouts[..., place] != rollouts[..., place - 1]).all())
        assert len({tuple(row) for row in rollouts.flatten(1).tolist()}) > 1, "tasks are paired differently"
    with pytest.raises(ArgumentError, match=r"episodes=7, and OfflineMeta/PointRobot/smac-v1 has 6 rollouts"):
        make("borel", episodes=7)


def test_relabelled_meta_episodes_begin_in_another_task_with_this_tasks_rewards() -> None:
    dataset = point()
    learner, plain = make("borel-rr", relabel_share=0.5, pairings=20), make("borel")
    own = len(dataset.rewards) // len(dataset.tasks)
    assert bool((plain.data.sizes == own).all())
    assert bool((plain.rows < own).all())
    starts = learner.rows[..., 0] >= own
    assert 0.45 < float(starts.float().mean()) < 0.55
    assert bool((learner.rows[..., :20] >= own).eq(starts[..., None]).all())
    assert bool((learner.rows[..., 20:] < own).all()), "later rollouts are the task's own"
    tasks = torch.arange(len(dataset.tasks))
    strangers = learner.data.take(tasks, torch.arange(own, 2 * own).expand(len(tasks), -1))
    params = dataset.family.params(dataset.tasks)[:, None]
    expected = dataset.family.reward(strangers.next_observations.double().numpy(), params)
    np.testing.assert_allclose(strangers.rewards, expected, rtol=1e-4, atol=1e-5)
    logged = {task: np.concatenate([e.actions for e in episodes]) for task, episodes in dataset.by_task().items()}
    for task, actions in zip(dataset.tasks, strangers.actions.numpy(), strict=True):
        assert not {row.tobytes() for row in actions} & {row.tobytes() for row in logged[task]}
    everything = {row.tobytes() for actions in logged.values() for row in actions}
    assert {row.tobytes() for row in strangers.actions.flatten(0, 1).numpy()} <= everything


@pytest.mark.parametrize("name", ["HopperParam", "RotatedPointRobot", "ML1-reach"])
def test_relabelling_is_refused_where_rewards_do_not_tell_tasks_apart(name: str) -> None:
    learner = borel.BOReL(borel.PRESETS["smoke"], get_family(name), generator())
    with pytest.raises(ArgumentError, match=f"one task of {name} cannot be relabelled"):
        next(learner.strangers(point()))


def test_beliefs_lie_as_meta_episodes_do() -> None:
    learner = trained(pairings=2)
    beliefs, length = learner.relabel(learner.data), learner.rows.shape[2]
    tasks, which = torch.tensor([5, 2]), torch.tensor([[11], [4]])
    batch = Batch(*(x[:, 0] for x in learner.data.take(tasks, gather(learner.rows, tasks, which))))
    expected = belief.hyper(learner.encoder.beliefs(batch))
    rows = which * (length + 1) + torch.arange(length + 1)
    torch.testing.assert_close(gather(beliefs, tasks, rows), expected, rtol=1e-4, atol=1e-5)


# --- learning


@pytest.mark.parametrize(
    ("method", "name", "first", "last"),
    [("borel", "PointRobot", 15, 35), ("borel-rr", "PointRobot", 15, 35), ("borel", "RotatedPointRobot", 60, 75)],
)
def test_borel_learns_to_adapt_from_random_data(method: str, name: str, first: float, last: float) -> None:
    """In a minute; and inside the first episode already, where a policy blind to the task scores 0 at best."""
    torch.set_num_threads(1)
    agent = make(
        method, dataset=datasets.load(f"{name}/random"), vae_steps=1500, sac_steps=1500, vae_tasks=16, elbo_terms=8,
        decoded_steps=20, recurrent=48, decoder_hidden=(64, 64), meta_batch=16, batch=32, hidden=(64, 64), lr=2e-3,
        alpha=0.01, discount=0.9, normalise=True,
    )  # fmt: skip
    while agent.step < agent.config.steps:
        agent.update()
    returns = evaluate(agent, get_benchmark(f"{name}/random/val-online-3"))
    curve = datasets.read_references(name).score(get_family(name).tasks["val"], returns).mean(0)
    assert curve[0] > first
    assert curve[-1] > last
