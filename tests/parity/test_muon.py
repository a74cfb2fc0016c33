"""Muon against torch's own, and its orthogonalisation against the singular value decomposition."""

import pytest
import torch
from torch import nn

from vitcli.engine.muon import Muon, orthogonalise

SHAPES = [(8, 8), (24, 8), (8, 24), (24, 8)]


def matrices(seed=0, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def steps(build, *, rounds, lr=0.05, **options):
    """Parameters after each of some steps with the same gradients."""
    parameters = [nn.Parameter(matrix.clone()) for matrix in matrices()]
    optimizer = build(parameters, lr=lr, **options)
    snapshots = [[parameter.detach().clone() for parameter in parameters]]
    for step in range(rounds):
        for parameter, gradient in zip(parameters, matrices(seed=step + 1), strict=True):
            parameter.grad = gradient
        optimizer.step()
        snapshots.append([parameter.detach().clone() for parameter in parameters])
    return snapshots


def relative_differences(ours, theirs):
    """Of every update of every matrix."""
    for before, after, their_before, their_after in zip(ours, ours[1:], theirs, theirs[1:], strict=False):
        for index in range(len(SHAPES)):
            update, expected = after[index] - before[index], their_after[index] - their_before[index]
            yield ((update - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_every_update_is_that_of_torchs_muon(momentum, weight_decay, monkeypatch):
    options = {"rounds": 4, "momentum": momentum, "weight_decay": weight_decay}
    ours = steps(Muon, **options)
    monkeypatch.setattr(torch, "bfloat16", torch.float32)  # torch's Muon rounds to it
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # as torch 2.11 writes it
    differences = list(relative_differences(ours, steps(torch.optim.Muon, **options)))
    assert len(differences) == 4 * len(SHAPES)
    assert max(differences) < 1e-4


def test_every_update_is_that_of_torchs_muon_but_for_its_rounding_to_bfloat16():
    ours, theirs = steps(Muon, rounds=4), steps(torch.optim.Muon, rounds=4, weight_decay=0.0)
    assert max(relative_differences(ours, theirs)) < 4e-2


def test_defaults_are_those_of_the_paper():
    defaults = Muon([nn.Parameter(torch.ones(2, 2))]).defaults
    assert defaults == {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.0}


def test_parameters_without_a_gradient_stay_as_they_are():
    moved, still = (nn.Parameter(matrix) for matrix in matrices(shapes=[(4, 4), (4, 4)]))
    before = still.detach().clone()
    moved.grad = torch.ones(4, 4)
    Muon([moved, still], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(still, before)


def test_groups_have_their_own_learning_rates():
    slow, fast = (nn.Parameter(torch.zeros(4, 4)) for _ in range(2))
    optimizer = Muon([{"params": [slow], "lr": 0.1}, {"params": [fast], "lr": 0.3}])
    slow.grad, fast.grad = torch.eye(4), torch.eye(4)
    optimizer.step()
    torch.testing.assert_close(fast.detach(), 3 * slow.detach())


def test_the_step_does_not_depend_on_the_scale_of_the_gradient():
    small, large = nn.Parameter(torch.zeros(4, 6)), nn.Parameter(torch.zeros(4, 6))
    gradient = matrices(shapes=[(4, 6)])[0]
    small.grad, large.grad = gradient * 1e-3, gradient * 1e3
    optimizer = Muon([small, large])
    optimizer.step()
    torch.testing.assert_close(small.detach(), large.detach(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24), (64, 48), (1, 5), (5, 1)])
def test_orthogonalising_keeps_singular_vectors_and_brings_singular_values_near_1(shape):
    matrix = matrices(shapes=[shape])[0].double()
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    result = orthogonalise(matrix[None])[0]
    in_the_old_basis = left.T @ result @ right.T
    values = in_the_old_basis.diagonal()
    torch.testing.assert_close(in_the_old_basis, values.diag(), atol=1e-9, rtol=0)
    assert values.min() >= 0.6
    assert values.max() <= 1.3


def test_a_batch_of_matrices_is_the_same_as_one_at_a_time():
    batch = torch.stack(matrices(shapes=[(24, 8)] * 5))
    batch[1] *= 1e3
    one_at_a_time = torch.cat([orthogonalise(matrix[None]) for matrix in batch])
    torch.testing.assert_close(orthogonalise(batch), one_at_a_time, atol=1e-5, rtol=1e-5)


def test_orthogonalising_leaves_its_input_alone_and_keeps_shape_and_type():
    batch = torch.stack(matrices(shapes=[(24, 8)] * 2))
    before = batch.clone()
    result = orthogonalise(batch)
    assert torch.equal(batch, before)
    assert (result.shape, result.dtype) == (batch.shape, batch.dtype)


@pytest.mark.parametrize("shape", [(1, 3, 4), (1, 3, 12), (1, 12, 3)])
def test_a_matrix_of_zeros_stays_one(shape):
    assert torch.equal(orthogonalise(torch.zeros(shape)), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(8, 24), (24, 8), (4, 64)])
def test_long_matrices_keep_singular_values_that_are_nearly_zero(shape):
    """Their Gram matrices know the squares alone, which float32 rounds off."""
    matrix = matrices(shapes=[shape])[0].double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    values = values[0] * torch.logspace(0, -5, len(values), dtype=torch.float64)
    matrix = left * values @ right
    exact = orthogonalise(matrix[None])[0]
    assert (orthogonalise(matrix[None].float())[0] - exact).norm() < 1e-3 * exact.norm()
