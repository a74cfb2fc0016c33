"""Every Vision Transformer that timm has by name: it is loaded with timm's logits, or refused with the cause."""

import json
import re
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from vitcli.core.errors import ModelError
from vitcli.models.timm_names import cause_against, is_plain
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import read_foreign

FILTERS = ("vit_*", "deit*", "flexivit*", "eva*", "beit*", "test_vit*", "samvit*", "aimv2*")
NAMES = sorted({name for each in FILTERS for name in timm.list_models(each)})
SMALL = {"depth": 1, "num_classes": 3, "mlp_ratio": 0.25}
"""The width stays, because the number of heads belongs to it."""


@pytest.fixture(scope="module", autouse=True)
def _fast_weights():
    """Weights are drawn once, after the model is built."""
    with pytest.MonkeyPatch.context() as patch:
        for layer in (nn.Linear, nn.Conv2d):
            patch.setattr(layer, "reset_parameters", lambda _self: None)
        for name in ("trunc_normal_", "normal_", "xavier_uniform_", "zeros_"):
            patch.setattr(nn.init, name, lambda tensor, *_arguments, **_options: tensor)
        yield


def built(name, **changes):
    patch = 16
    if "patch" in name:
        patch = int(name.split("patch")[1].split("_")[0])
    model = timm.create_model(name, **{**SMALL, "img_size": 2 * patch, "weight_init": "skip", **changes}).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5 / max(parameter.shape[-1], 4) ** 0.5, generator=generator)
            parameter.copy_((parameter + 0.1).half())
    return model


def saved(model, folder, name):
    """As ``timm.models.save_for_hf`` does, without the arguments that made the model small."""
    save_file(
        {key: value.half().contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors"
    )
    config = {"architecture": name, "global_pool": model.global_pool, "pretrained_cfg": {}, "num_classes": 3}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def error_of(foreign, theirs):
    """Greatest difference of the logits, relative to the greatest logit."""
    ours = VisionTransformer(foreign.config).eval()
    ours.load_state_dict(foreign.weights)
    ours, theirs = ours.double(), theirs.double()
    images = torch.randn(2, 3, *foreign.config.image_size, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        expected = theirs(images)
        return ((ours(images) - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("name", [name for name in NAMES if is_plain(name)])
def test_a_plain_one_has_the_logits_of_timm(name, tmp_path):
    theirs = built(name)
    foreign = read_foreign(saved(theirs, tmp_path, name))
    assert error_of(foreign, theirs) <= 1e-9
    assert not any("heads" in guess for guess in foreign.guesses)
    (tmp_path / "config.json").unlink()
    file = (tmp_path / "model.safetensors").rename(tmp_path / f"{name}.safetensors")
    alone = read_foreign(file)
    assert alone.config == replace(foreign.config, name=name)
    file.unlink()  # all of them would take a gigabyte


@pytest.mark.parametrize("name", [name for name in NAMES if not is_plain(name)])
def test_every_other_one_is_refused_with_its_cause(name, tmp_path):
    assert cause_against(name)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
    save_file({"patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(
        ModelError, match=re.escape(f"{name} has {cause_against(name)}, which vit's model does not have")
    ):
        read_foreign(tmp_path)
