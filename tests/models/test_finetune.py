"""What is trained, what stays, and low-rank changes that leave no trace in the weights."""

from copy import deepcopy

import pytest
import torch
from torch.optim import SGD

from vitcli.core.errors import ModelError, UsageError
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.models.finetune import HeadOnly, add_low_rank, merged, train_only
from vitcli.models.vit import VisionTransformer

CONFIG = ModelConfig(
    image_size=(8, 8),
    patch_size=(4, 4),
    num_classes=3,
    width=16,
    depth=3,
    num_heads=2,
    mlp_width=32,
    dropout=0.1,
    head_dropout=0.1,
    distillation="head",
)


def build(config=CONFIG):
    torch.manual_seed(0)
    return VisionTransformer(config)


def trained(part, config=CONFIG):
    model = build(config)
    train_only(model, part)
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


HEAD = {f"{head}.1.{kind}" for head in ("head", "distillation_head") for kind in ("weight", "bias")}
ALL = {name for name, _ in build().named_parameters()}


def test_nothing_named_means_everything():
    assert trained("") == ALL


def test_the_head_alone():
    assert trained("head") == HEAD


def test_norms_and_the_head():
    assert trained("norm") == HEAD | {name for name in ALL if "norm" in name}


def test_biases_and_the_head():
    assert trained("bias") == HEAD | {name for name in ALL if name.endswith(".bias")}


def test_attention_and_the_head():
    assert trained("attention") == HEAD | {name for name in ALL if ".attention." in name}


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_last_blocks_the_final_norm_and_the_head(number):
    blocks = tuple(f"blocks.{index}." for index in range(3 - number, 3))
    assert trained(f"last:{number}") == HEAD | {"norm.weight", "norm.bias"} | {n for n in ALL if n.startswith(blocks)}


@pytest.mark.parametrize("part", ["heads", "last:", "last:0", "last:x", "last:-1", "nrom"])
def test_a_part_that_does_not_exist_is_refused(part):
    with pytest.raises(UsageError, match=f"train_only = '{part}' is not a part"):
        OptimConfig(train_only=part)


def test_more_blocks_than_there_are_cannot_be_trained():
    with pytest.raises(ModelError, match="'last:4': the model has 3 blocks"):
        train_only(build(), "last:4")


@pytest.mark.parametrize("part", ["head", "last:1", "norm"])
def test_what_is_frozen_stays_in_evaluation_mode(part):
    model = build()
    train_only(model, part)
    model.train()
    for name, module in model.named_modules():
        parameters = list(module.parameters())
        if parameters:
            assert module.training == any(parameter.requires_grad for parameter in parameters), name
    assert not model.dropout.training
    assert model.head[0].training
    assert not model.blocks[0].mlp.dropout.training
    model.eval()
    assert not any(module.training for module in model.modules())


def test_low_rank_changes_start_as_none():
    model, images = build().eval(), torch.randn(2, 3, 8, 8)
    before = model(images)
    add_low_rank(model, 2)
    torch.testing.assert_close(model(images), before)


def test_low_rank_changes_are_few_and_merge_into_plain_weights():
    model = build()
    before = deepcopy(model.state_dict())
    add_low_rank(model, 2)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in parameters.values()) < sum(v.numel() for v in before.values()) / 2
    optimizer = SGD(parameters.values(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    plain = build()
    plain.load_state_dict(merged(model.state_dict()))  # strict: no other keys
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(plain.eval()(images), model.eval()(images), rtol=1e-4, atol=1e-5)
    changed = {name for name, value in plain.state_dict().items() if not value.equal(before[name])}
    matrices = {f"blocks.{n}.{part}.weight" for n in range(3) for part in MATRICES}
    assert changed == HEAD | matrices
    for name in matrices:
        change = plain.state_dict()[name] - before[name]
        assert torch.linalg.matrix_rank(change, rtol=1e-3) <= 2


MATRICES = ("attention.qkv", "attention.projection", "mlp.fc1", "mlp.fc2")


def test_plain_weights_merge_into_themselves():
    weights = build().state_dict()
    assert all(weights[name].equal(value) for name, value in merged(weights).items())
    assert merged(weights).keys() == weights.keys()


def test_the_head_alone_computes_what_the_whole_does():
    model, images = build().eval(), torch.randn(2, 3, 8, 8)
    head = HeadOnly(model).eval()
    torch.testing.assert_close(head(model.features(images)), model(images))
    assert set(head.state_dict()) == HEAD
    copied = deepcopy(head)  # as the average of weights does
    with torch.no_grad():
        copied.head[1].weight.zero_()
        copied.distillation_head[1].weight.zero_()
    assert not copied(model.features(images)).any()
    assert head(model.features(images)).any()
    memo: dict[int, object] = {}
    deepcopy(head, memo)
    assert id(model) not in memo, "the backbone is not copied too"
