"""Groups of parameters, and the steps that optimisers take with them, against timm's on the same model."""

import pytest
import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch.nn import functional as F

from tests.builders.timm_models import TIMM_NAMES, TINY, renamed, timm_model, timm_weights
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.optim import build_optimizers
from vitcli.engine.schedule import learning_rate_factor
from vitcli.models.vit import VisionTransformer

VARIANTS = {
    "class token": ({}, {}),
    "scales": ({"init_values": 0.1}, {"layer_scale": 0.1}),
    "mean of patches": ({"global_pool": "avg"}, {"pooling": "patches", "final_norm": "pooled"}),
}
LR, DECAY = 0.01, 0.3


def both(variant):
    """The same model of theirs and ours; keys have no bias, whose gradient is nothing but rounding errors."""
    options, changes = VARIANTS[variant]
    theirs = timm_model(depth=3, qkv_bias=False, **options)
    config = ModelConfig(**{**TINY, "depth": 3, "qkv_bias": False, **changes})
    ours = VisionTransformer(config).eval()
    ours.load_state_dict(timm_weights(theirs, config))
    return theirs, ours


def timm_groups(model, layer_decay):
    """Theirs, but for the final norm: it learns at the head's rate, as in BEiT and MAE, and not at the last block's."""
    exempt = model.no_weight_decay()
    if layer_decay == 1:
        groups = param_groups_weight_decay(model, weight_decay=DECAY, no_weight_decay_list=exempt)
    else:
        groups = param_groups_layer_decay(
            model, weight_decay=DECAY, no_weight_decay_list=exempt, layer_decay=layer_decay
        )
    norm = list(model.norm.parameters())
    ids = {id(parameter) for parameter in norm}
    groups = [
        {
            "params": [parameter for parameter in group["params"] if id(parameter) not in ids],
            "lr": LR * group.get("lr_scale", 1),
            "weight_decay": group["weight_decay"],
        }
        for group in groups
    ]
    return [*groups, {"params": norm, "lr": LR, "weight_decay": 0.0}]


def by_name(groups, model, rules=()):
    """Rate and decay of every parameter."""
    names = renamed({name: name for name, _ in model.named_parameters()}, *rules)
    ours = {id(dict(model.named_parameters())[theirs]): name for name, theirs in names.items()}
    return {
        ours[id(parameter)]: (pytest.approx(group["lr"]), group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("layer_decay", [1.0, 0.75])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_groups_are_timms(variant, layer_decay, optimizer):
    theirs, ours = both(variant)
    config = OptimConfig(optimizer=optimizer, lr=LR, weight_decay=DECAY, layer_decay=layer_decay)
    found = by_name(build_optimizers(ours, config).groups, ours)
    assert found == by_name(timm_groups(theirs, layer_decay), theirs, TIMM_NAMES)
    assert len({rate.expected for rate, _ in found.values()}) == (1 if layer_decay == 1 else 5)


TORCH = {
    "adamw": lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.95)),
    "adam": lambda groups: torch.optim.Adam(groups, betas=(0.9, 0.95)),
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.8),
}


@pytest.mark.parametrize("optimizer", TORCH)
def test_steps_with_these_groups_lead_to_the_same_weights(optimizer):
    theirs, ours = both("class token")
    config = OptimConfig(
        optimizer=optimizer, lr=LR, weight_decay=DECAY, layer_decay=0.75, betas=(0.9, 0.95), momentum=0.8
    )
    optimizers, reference = build_optimizers(ours, config), TORCH[optimizer](timm_groups(theirs, 0.75))
    images, labels = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(2)), torch.arange(8) % 5
    for _ in range(4):
        optimizers.zero_grad()
        F.cross_entropy(ours(images), labels).backward()
        optimizers.step(torch.amp.GradScaler("cpu", enabled=False), clip_grad=1.0)
        reference.zero_grad()
        F.cross_entropy(theirs(images), labels).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        reference.step()
    expected = timm_weights(theirs, ours.config)
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("warmup", "min_lr"), [(0, 0.0), (3, 0.0), (5, 0.1)])
def test_cosine_after_warm_up_is_timms(warmup, min_lr):
    total = 24
    config = OptimConfig(epochs=total, schedule="cosine", warmup_epochs=warmup, min_lr=min_lr)
    factor = learning_rate_factor(config, 1)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=total - warmup,
        lr_min=min_lr,
        warmup_t=warmup,
        warmup_lr_init=1 / (warmup + 1),
        warmup_prefix=True,
    )
    expected = []
    for step in range(total):
        scheduler.step(step)
        expected.append(optimizer.param_groups[0]["lr"])
    assert [factor(step) for step in range(total)] == pytest.approx(expected, rel=1e-6)
