"""Every Vision Transformer that timm has by name: it is loaded with timm's logits, or refused with the cause."""

import json
import re
from collections import defaultdict
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from tests.conftest import naming
from vitcli.core.errors import ModelError
from vitcli.models.timm_names import cause_against, is_plain, settings_of_name, usual_heads
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import read_foreign

FILTERS = ("vit_*", "deit*", "flexivit*", "eva*", "beit*", "test_vit*", "samvit*", "aimv2*")
NAMES = sorted({name for each in FILTERS for name in timm.list_models(each)})
SMALL = {"depth": 1, "num_classes": 3, "mlp_ratio": 0.25, "weight_init": "skip"}


@pytest.fixture(scope="module", autouse=True)
def _fast_weights():
    """Weights are drawn once, after the model is built."""
    with pytest.MonkeyPatch.context() as patch:
        for layer in (nn.Linear, nn.Conv2d):
            patch.setattr(layer, "reset_parameters", lambda _self: None)
        for name in ("trunc_normal_", "normal_", "xavier_uniform_", "zeros_"):
            patch.setattr(nn.init, name, lambda tensor, *_arguments, **_options: tensor)
        yield


def patch_of(name):
    return int(name.split("patch")[1].split("_")[0]) if "patch" in name else 16


def small(name):
    """The model of timm, but for its sizes: the number of heads is that of its name, or the usual one of its width."""
    heads = settings_of_name(name).get("num_heads")
    narrow = {"embed_dim": 8 * heads, "num_heads": heads} if heads else {"embed_dim": 128, "num_heads": 2}
    return timm.create_model(name, **SMALL, **narrow, img_size=2 * patch_of(name)).eval()


def built(name):
    model = small(name)
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


def same_models():
    """The names of plain models, by what is built of them: many differ only in their sizes or in their weights."""
    groups = defaultdict(list)
    for name in NAMES:
        if is_plain(name):
            with torch.device("meta"):
                model = small(name)
            heads = model.blocks[0].attn.num_heads
            facts = (repr(model), model.global_pool, model.no_embed_class, model.num_prefix_tokens, heads)
            shapes = [(key, tuple(value.shape)) for key, value in model.state_dict().items()]
            groups[facts, str(shapes)].append(name)
    return list(groups.values())


SAME = same_models()


def test_names_of_one_model_have_one_meaning():
    for first, *others in SAME:
        assert {name: settings_of_name(name) for name in others} == dict.fromkeys(others, settings_of_name(first)), (
            first
        )


def test_heads_are_those_of_timm_at_every_width():
    for name in filter(is_plain, NAMES):
        with torch.device("meta"):
            theirs = timm.create_model(name, **SMALL)
        assert settings_of_name(name).get("num_heads", usual_heads(theirs.embed_dim)) == theirs.blocks[0].attn.num_heads


@pytest.mark.parametrize("name", [names[0] for names in SAME])
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


def test_every_other_one_is_refused_with_its_cause(tmp_path):
    save_file({"patch_embed.proj.weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    for name in NAMES:
        if not is_plain(name):
            assert cause_against(name), name
            (tmp_path / "config.json").write_text(json.dumps({"architecture": name}))
            said = re.escape(f"{name} has {cause_against(name)}, which vit's model does not have")
            with naming(name), pytest.raises(ModelError, match=said):
                read_foreign(tmp_path)
