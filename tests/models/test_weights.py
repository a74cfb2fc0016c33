"""Files of weights that cannot be read, or that need guesses."""

import json
import os
import pickle

import pytest
import torch

from vitcli.core.errors import ModelError
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
    with pytest.raises(ModelError, match=f"no plain Vision Transformer.*{key}"):
        read_foreign(saved(tmp_path, timm_weights(**{key: torch.zeros(3)})))


def test_harmless_extras_are_left_over_and_told(tmp_path):
    extras = {"mask_token": torch.zeros(1, WIDTH), "pre_logits.fc.bias": torch.zeros(3)}
    foreign = read_foreign(saved(tmp_path, timm_weights(**extras)))
    assert sorted(foreign.left_over) == sorted(extras)


def test_positions_that_are_no_square_grid_are_refused(tmp_path):
    with pytest.raises(ModelError, match="8 positions are no square grid"):
        read_foreign(saved(tmp_path, timm_weights(pos_embed=torch.zeros(1, 8, WIDTH))))


def test_what_is_guessed_is_told(tmp_path):
    foreign = read_foreign(saved(tmp_path, timm_weights()))
    assert foreign.config.num_heads == 2
    assert foreign.config.name == "weights"
    assert foreign.classes == ("class 0", "class 1", "class 2", "class 3")
    assert len(foreign.guesses) == 1
    assert "data.normalise=half" in foreign.guesses[0]


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
