"""Files of weights that cannot be read, or that need guesses."""

import contextlib
import io
import json
import os
import pickle
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitcli.core.errors import ModelError, UsageError
from vitcli.models.formats import TIMM, to_ours
from vitcli.models.hub import find_pretrained, weights_in
from vitcli.models.pretrained import PRETRAINED
from vitcli.models.weights import imagenet_classes, read_foreign

WIDTH = 128


def timm_weights(**more):
    """One block of a ViT in timm's names, 32 pixels, patches of 16."""
    width = WIDTH
    block = {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (64, width),
        "mlp.fc1.bias": (64,),
        "mlp.fc2.weight": (width, 64),
        "mlp.fc2.bias": (width,),
    }
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 5, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        **{f"blocks.0.{name}": shape for name, shape in block.items()},
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (4, width),
        "head.bias": (4,),
    }
    return {name: torch.randn(shape) for name, shape in shapes.items()} | more


def saved(tmp_path, content, name="weights.pth"):
    torch.save(content, tmp_path / name)
    return tmp_path / name


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_refused_and_never_runs(tmp_path):
    file = saved(tmp_path, {"model": timm_weights(), "extra": Malicious(tmp_path / "broken-in")})
    with pytest.raises(ModelError, match="more than tensors") as refusal:
        read_foreign(file)
    assert not (tmp_path / "broken-in").exists()
    assert "safetensors" in refusal.value.hint
    torch.load(file, weights_only=False)  # it would have
    assert (tmp_path / "broken-in").exists()


def test_code_in_a_bare_pickle_is_refused_too(tmp_path):
    (tmp_path / "weights.bin").write_bytes(pickle.dumps(Malicious(tmp_path / "broken-in")))
    with pytest.raises(ModelError):
        read_foreign(tmp_path / "weights.bin")
    assert not (tmp_path / "broken-in").exists()


@pytest.mark.parametrize("name", ["weights.pth", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut short"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=name):
        read_foreign(tmp_path / name)


def test_a_file_that_is_cut_in_half_is_named(tmp_path):
    file = saved(tmp_path, timm_weights())
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ModelError, match="damaged"):
        read_foreign(file)


def test_a_file_that_wants_more_memory_than_there_is_says_so(tmp_path, monkeypatch):
    def load(*_arguments, **_options):
        return torch.empty(2**50)

    torch.save({"a": torch.zeros(1)}, tmp_path / "large.pth")
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(ModelError, match=r"large.pth is damaged or .*: there is not enough memory for [\d.]+ GB more"):
        read_foreign(tmp_path / "large.pth")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="no such file"):
        read_foreign(tmp_path / "weights.pth")


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(ModelError, match="no weights in") as refusal:
        read_foreign(tmp_path)
    assert "model.safetensors" in refusal.value.hint


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], torch.zeros(3)])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    with pytest.raises(ModelError, match="no weights by name"):
        read_foreign(saved(tmp_path, content))


def test_weights_of_something_else_are_refused(tmp_path):
    with pytest.raises(ModelError, match=r"no Vision Transformer in a known format.*conv1.weight") as refusal:
        read_foreign(saved(tmp_path, {"conv1.weight": torch.zeros(64, 3, 7, 7), "fc.bias": torch.zeros(10)}))
    assert "timm" in refusal.value.hint


@pytest.mark.parametrize("key", ["blocks.0.attn.q_norm.weight", "blocks.0.mlp.w12.weight", "attn_pool.latent"])
def test_models_that_compute_something_else_are_refused(tmp_path, key):
    with pytest.raises(ModelError, match=f"not a plain Vision Transformer.*{key}"):
        read_foreign(saved(tmp_path, timm_weights(**{key: torch.zeros(3)})))


def test_harmless_extras_are_left_over_and_told(tmp_path):
    extras = {"mask_token": torch.zeros(1, WIDTH), "pre_logits.fc.bias": torch.zeros(3)}
    foreign = read_foreign(saved(tmp_path, timm_weights(**extras)))
    assert sorted(foreign.left_over) == sorted(extras)


def test_positions_that_are_no_square_grid_are_refused(tmp_path):
    with pytest.raises(ModelError, match="8 positions are not a square grid"):
        read_foreign(saved(tmp_path, timm_weights(pos_embed=torch.zeros(1, 8, WIDTH))))


def test_what_is_guessed_is_told(tmp_path):
    foreign = read_foreign(saved(tmp_path, timm_weights()))
    assert foreign.config.num_heads == 2
    assert foreign.config.name == "weights"
    assert foreign.classes == ("class 0", "class 1", "class 2", "class 3")
    assert foreign.guesses == (
        "2 heads, gelu, norm epsilon 1e-06, and that the class token is classified",
        "ImageNet's mean and standard deviation, bicubic crop, 0.9 of it kept",
    )


def test_a_head_with_another_layer_below_is_left_out_and_that_is_said(tmp_path):
    weights = {**timm_weights(), "pre_logits.fc.weight": torch.zeros(128, 128)}
    foreign = read_foreign(saved(tmp_path, weights))
    assert foreign.config.num_classes == 0
    assert any("pre_logits" in guess for guess in foreign.guesses)


@pytest.mark.parametrize("missing", ["pos_embed", "blocks.0.mlp.fc1.weight", "patch_embed.proj.weight"])
def test_half_a_model_is_refused(tmp_path, missing):
    weights = timm_weights()
    del weights[missing]
    with pytest.raises(ModelError, match=r"not a whole Vision Transformer|no Vision Transformer in a known format"):
        read_foreign(saved(tmp_path, weights))


@pytest.mark.parametrize(
    "config",
    [{"pretrained_cfg": {"mean": 0.5, "std": 0.5}}, {"pretrained_cfg": {"input_size": 224}}, {"crop_pct": 0}],
)
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path, config):
    torch.save(timm_weights(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"cannot be understood|not between 0 and 1"):
        read_foreign(tmp_path)


def test_null_is_as_good_as_absent_in_a_configuration(tmp_path):
    torch.save(timm_weights(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": None, "model_args": None}))
    assert read_foreign(tmp_path).config.num_classes == 4


@pytest.mark.parametrize("prefix", ["_orig_mod.module.", "module._orig_mod.", "model.", "module.vit."])
def test_prefixes_come_off_in_any_order(tmp_path, prefix):
    weights = {prefix + key: value for key, value in timm_weights().items()}
    assert read_foreign(saved(tmp_path, weights)).config.depth == 1


def test_an_empty_wrapper_hides_no_weights(tmp_path):
    assert read_foreign(saved(tmp_path, {"model_ema": {}, "model": timm_weights()})).config.depth == 1


@given(at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_a_damaged_pickle_is_an_error_and_no_traceback(at, byte):
    buffer = io.BytesIO()
    torch.save({key: value[:1] for key, value in timm_weights().items()}, buffer)
    content = bytearray(buffer.getvalue())
    content[at % len(content)] = byte
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.pth"
        file.write_bytes(content)
        with contextlib.suppress(ModelError):
            read_foreign(file)


def test_names_of_what_can_be_fetched():
    assert find_pretrained("digits") is None
    assert find_pretrained("deit-tiny") is PRETRAINED["deit-tiny"]
    hub = find_pretrained("hf:some/model@v1.0")
    assert hub is not None
    assert (hub.hub, hub.revision) == ("some/model", "v1.0")
    web = find_pretrained("https://host/vit-20240101.pth")
    assert web is not None
    assert web.sha256 == ""
    hashed = find_pretrained("https://host/vit_b_16-c867db91.pth?download=true")
    assert hashed is not None
    assert hashed.sha256 == "c867db91"


@pytest.mark.parametrize(
    "name", ["hf:OWNER/", "hf:foo bar/baz", "hf:a--b/c..d", "https://[::1/x.pth", "https://h/ä.pth"]
)
def test_names_that_cannot_be_fetched_are_refused(name):
    with pytest.raises(UsageError, match=r"is not a repository|is not an address"):
        find_pretrained(name)


def test_a_configuration_that_is_no_json_is_named(tmp_path):
    torch.save(timm_weights(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json cannot be read"):
        read_foreign(tmp_path)


def test_class_names_of_timm_come_along(tmp_path):
    torch.save(timm_weights(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"label_names": ["ash", "birch", "cedar", "elm"]}))
    assert read_foreign(tmp_path).classes == ("ash", "birch", "cedar", "elm")


def test_imagenets_classes_are_1000_different_names():
    names = imagenet_classes()
    assert len(set(names)) == 1000
    assert (names[0], names[207], names[999]) == ("tench", "golden retriever", "toilet tissue")


def test_a_folder_of_several_checkpoints_is_refused_unless_one_is_the_best(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").touch()
    with pytest.raises(ModelError, match=r"has 2 files of weights: a\.safetensors, b\.safetensors") as caught:
        weights_in(tmp_path)
    assert str(tmp_path / "a.safetensors") in caught.value.hint
    (tmp_path / "best.safetensors").touch()
    assert weights_in(tmp_path).name == "best.safetensors"


def test_two_tensors_for_one_place_are_refused():
    weights = {"norm.weight": torch.ones(4), "fc_norm.weight": torch.zeros(4)}
    with pytest.raises(ModelError, match="two tensors of these weights have the same place"):
        to_ours(weights, TIMM.names)
