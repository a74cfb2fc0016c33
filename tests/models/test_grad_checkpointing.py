"""Blocks that compute their activations once more give the same gradients, to the bit, and keep less."""

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from vitcli.core.events import ignore
from vitcli.core.model_config import ModelConfig
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import compiled
from vitcli.engine.micro_batches import MicroBatches
from vitcli.models.capture import capture_attention
from vitcli.models.finetune import add_low_rank, train_only
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")
FIELDS = {"image_size": (8, 8), "patch_size": (2, 2), "num_classes": 5, "width": 16, "depth": 3, "num_heads": 4}
DRAWS = {"mlp_width": 32, "dropout": 0.2, "attention_dropout": 0.2, "drop_path": 0.5, "head_dropout": 0.2}
IMAGES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(6) % 5

PARTS = {
    "all": lambda model: None,
    "norms": lambda model: train_only(model, "norm"),
    "biases": lambda model: train_only(model, "bias"),
    "last block": lambda model: train_only(model, "last:1"),
    "head": lambda model: train_only(model, "head"),
    "low-rank": lambda model: add_low_rank(model, 2),
}


def build_model(*, recomputes, part="all", **changes):
    torch.manual_seed(0)
    model = VisionTransformer(ModelConfig(**{**FIELDS, **DRAWS, **changes}))
    PARTS[part](model)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.grad_checkpointing = recomputes
    return model.train()


def gradients(model, forward=None, precision=None):
    """Loss and gradients of a step, with its draws, and what is drawn after it."""
    torch.manual_seed(3)
    images = IMAGES.to(model.class_token.dtype)
    with (precision or Precision(CPU, amp="off", dtype="bfloat16")).autocast():
        loss = F.cross_entropy((forward or model)(images), LABELS)
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {"loss": loss.detach(), **found, "next": torch.rand(3)}


def assert_same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("amp", ["off", "on"])
@pytest.mark.parametrize(
    "changes",
    [{}, {"block_norm": "post"}, {"pooling": "patches"}, {"distillation": "head"}, {"depth": 1}, {"layer_scale": 0.1}],
    ids=str,
)
def test_gradients_are_the_same_bits(changes, amp):
    precision = Precision(CPU, amp=amp, dtype="bfloat16")
    plain, ours = (gradients(build_model(recomputes=on, **changes), precision=precision) for on in (False, True))
    assert len(ours) > 10
    assert_same_bits(ours, plain)


@pytest.mark.parametrize("part", PARTS)
def test_gradients_are_the_same_bits_where_a_part_is_trained(part):
    plain, ours = (gradients(build_model(recomputes=on, part=part)) for on in (False, True))
    assert_same_bits(ours, plain)


def test_a_compiled_model_recomputes_too():
    """In float64, for what is compiled may sum in another order."""
    torch.compiler.reset()
    precision = Precision(CPU, amp="off", dtype="bfloat16")
    model = build_model(recomputes=True, depth=1).double()
    micro_batches, backend = MicroBatches(1, emit=ignore), "aot_eager"
    forward = compiled(
        model, [IMAGES.double()], precision, micro_batches=micro_batches, required=True, emit=ignore, backend=backend
    )
    ours, plain = gradients(model, forward), gradients(build_model(recomputes=False, depth=1).double())
    assert ours.keys() == plain.keys()
    for name, tensor in plain.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-9, atol=1e-12, msg=name)


def bytes_kept(model):
    """That the backward pass holds on to, parameters and images left out."""
    own = {parameter.untyped_storage().data_ptr() for parameter in (*model.parameters(), IMAGES)}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(IMAGES).sum()
    assert loss.requires_grad
    return sum(kept.values())


def test_much_less_is_kept_for_the_backward_pass():
    plain, ours = (bytes_kept(build_model(recomputes=on, depth=6)) for on in (False, True))
    tokens = len(IMAGES) * 17 * 16 * 4
    assert 6 * tokens <= ours < 10 * tokens
    assert plain > 6 * ours


def test_attention_is_captured_as_ever():
    captured = []
    for recomputes in (False, True):
        model = build_model(recomputes=recomputes).eval()
        with capture_attention(model) as probabilities:
            logits = model(IMAGES)
        captured.append([*probabilities.values(), *torch.autograd.grad(logits.sum(), list(probabilities.values()))])
    assert len(captured[0]) == 6
    assert all(torch.equal(plain, ours) for plain, ours in zip(*captured, strict=True))


def test_nothing_is_recomputed_without_gradients_or_outside_training():
    model = build_model(recomputes=True)
    calls = []
    model.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        model(IMAGES)
    model.eval()(IMAGES).sum().backward()
    assert len(calls) == 2
    model.train()(IMAGES).sum().backward()
    assert len(calls) == 4
