import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.engine import checkpoint as checkpoint_module
from vitcli.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vitcli.models.vit import VisionTransformer

MODEL = ModelConfig(
    name="tiny",
    image_size=(8, 12),
    patch_size=(4, 4),
    num_classes=2,
    width=16,
    depth=1,
    num_heads=2,
    mlp_width=32,
    layer_scale=1e-5,
    pooling="patches",
)
PREPROCESSING = Preprocessing(
    geometry=Geometry(size=(6, 9), channels=3, resize="squash", crop_fraction=0.875),
    image_size=(8, 12),
    mean=(0.1, 0.2, 1 / 3),
    std=(0.4, 0.5, 0.6),
)
PROVENANCE = {"run": "tiny-1", "epoch": 3, "val_accuracy": 2 / 3, "data": {"name": "digits", "dir": ""}}
PROVENANCE |= {"fingerprint": "f", "seed": 1}


def build_checkpoint(seed=0, **changes):
    torch.manual_seed(seed)
    weights = VisionTransformer(MODEL).state_dict()
    fields = {"classes": ("cat", 'Größe, "quoted"\n猫'), "preprocessing": PREPROCESSING, "provenance": PROVENANCE}
    return Checkpoint(**{"model": MODEL, "weights": weights, **fields, **changes})


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, build_checkpoint())
    return path


def assert_same_weights(loaded, expected):
    assert loaded.keys() == expected.keys()
    for name, tensor in expected.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor), name


def test_weights_come_back_bit_identical(saved):
    assert_same_weights(load_checkpoint(saved).weights, build_checkpoint().weights)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_keep_their_type(tmp_path, dtype):
    weights = {name: weight.to(dtype) for name, weight in build_checkpoint().weights.items()}
    save_checkpoint(tmp_path / "best.safetensors", build_checkpoint(weights=weights))
    assert_same_weights(load_checkpoint(tmp_path / "best.safetensors").weights, weights)


def test_weights_may_be_trained_parameters_in_any_memory_layout(tmp_path):
    weights = dict(build_checkpoint().weights)
    name, plain = next((name, weight) for name, weight in weights.items() if weight.ndim == 2)
    weights[name] = torch.nn.Parameter(plain.T.contiguous()).T
    save_checkpoint(tmp_path / "best.safetensors", build_checkpoint(weights=weights))
    assert_same_weights(load_checkpoint(tmp_path / "best.safetensors").weights, {**weights, name: plain})


def test_a_loaded_model_gives_the_same_logits(saved):
    loaded = load_checkpoint(saved)
    models = [VisionTransformer(MODEL), VisionTransformer(loaded.model)]
    for model, weights in zip(models, [build_checkpoint().weights, loaded.weights], strict=True):
        model.load_state_dict(weights)
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(models[0].eval()(images), models[1].eval()(images))


def test_configuration_classes_preprocessing_and_provenance_come_back_equal(saved):
    loaded = load_checkpoint(saved)
    expected = build_checkpoint()
    assert loaded.model == expected.model
    assert loaded.classes == expected.classes
    assert loaded.preprocessing == expected.preprocessing
    assert loaded.provenance == expected.provenance
    assert isinstance(loaded.model.image_size, tuple)
    assert isinstance(loaded.preprocessing.geometry.size, tuple)


def test_any_safetensors_reader_can_read_the_weights(saved):
    assert_same_weights(load_file(saved), build_checkpoint().weights)


def test_folders_are_made_where_they_are_missing(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "last.safetensors"
    save_checkpoint(path, build_checkpoint())
    assert load_checkpoint(path).classes == build_checkpoint().classes


def test_saving_again_replaces_the_old_file_and_leaves_no_other(saved):
    save_checkpoint(saved, build_checkpoint(seed=1))
    assert_same_weights(load_checkpoint(saved).weights, build_checkpoint(seed=1).weights)
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_as_it_was(saved, monkeypatch, fault):
    before = saved.read_bytes()

    def failing(_tensors, path, **_options):
        path.write_bytes(b"half of it")
        raise fault

    monkeypatch.setattr(checkpoint_module, "save_file", failing)
    with pytest.raises(type(fault)):
        save_checkpoint(saved, build_checkpoint(seed=1))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_first_write_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path / "best.safetensors", build_checkpoint(provenance={"no JSON": object()}))
    assert list(tmp_path.iterdir()) == []


# files that are not checkpoints


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(saved, share):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match="truncated or not a safetensors file") as refusal:
        load_checkpoint(saved)
    assert str(saved) in refusal.value.message


@pytest.mark.parametrize("missing", [1, 4, 8])
def test_a_file_without_its_last_bytes_is_refused(saved, missing):
    saved.write_bytes(saved.read_bytes()[:-missing])
    with pytest.raises(ModelError, match="truncated"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"PK\x03\x04 a zip, as torch.save writes it" * 20,
        b"\x80\x02}q\x00." * 20,
        b"<!DOCTYPE html><html>not found</html>" * 20,
        b"\xff" * 100,
        b"\x00" * 100,
        (2).to_bytes(8, "little") + b"[]",
        (9).to_bytes(8, "little") + b'{"a": 1} ',
    ],
)
def test_garbage_is_refused(tmp_path, content):
    path = tmp_path / "best.safetensors"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="truncated or not a safetensors file"):
        load_checkpoint(path)


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}, {"format": "vitcli-0"}])
def test_safetensors_of_another_program_are_refused(tmp_path, metadata):
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(ModelError, match="is not a checkpoint of vit") as refusal:
        load_checkpoint(path)
    assert refusal.value.hint == "`vit train` writes them"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such checkpoint") as refusal:
        load_checkpoint(tmp_path / "best.safetensors")
    assert "`vit runs`" in refusal.value.hint


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match="no such checkpoint"):
        load_checkpoint(tmp_path)


def rewritten(path, **changes):
    """The file with other metadata; None takes an entry away."""
    with checkpoint_module.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    metadata = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    save_file(load_file(path), path, metadata=metadata)


@pytest.mark.parametrize("content", [None, "", "{", "null", "5"])
@pytest.mark.parametrize("entry", ["model", "classes", "preprocessing"])
def test_metadata_that_make_no_sense_are_refused(saved, entry, content):
    rewritten(saved, **{entry: content})
    with pytest.raises(ModelError, match=r"the metadata of .* cannot be read"):
        load_checkpoint(saved)


@pytest.mark.parametrize("changes", [{"width": 15}, {"no_such_field": 1}, {"image_size": [9, 9]}, {"image_size": [8]}])
def test_metadata_of_no_possible_model_are_refused(saved, changes):
    with checkpoint_module.safe_open(saved, framework="pt") as file:
        fields = json.loads(file.metadata()["model"])
    rewritten(saved, model=json.dumps({**fields, **changes}))
    with pytest.raises(ModelError, match=r"the metadata of .* cannot be read"):
        load_checkpoint(saved)


@pytest.mark.parametrize("image_size", [[], [8], 8, "8"])
def test_metadata_of_an_impossible_input_size_are_refused(saved, image_size):
    with checkpoint_module.safe_open(saved, framework="pt") as file:
        fields = json.loads(file.metadata()["preprocessing"])
    rewritten(saved, preprocessing=json.dumps({**fields, "image_size": image_size}))
    with pytest.raises(ModelError, match=r"the metadata of .* cannot be read"):
        load_checkpoint(saved)
