"""Learning from another model: what it is shown, who may teach, and runs that resume."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.builders.runs import Listener, Stopped, results
from vitcli.core.config import TrainConfig
from vitcli.core.config_files import configure
from vitcli.core.errors import UsageError, VitError
from vitcli.core.events import ignore
from vitcli.core.preprocessing import Preprocessing
from vitcli.core.runs import Run
from vitcli.data.preprocess import InputTransform
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint
from vitcli.training.teacher import Teacher, distillation_by, load_teacher
from vitcli.workflows.resume import resume
from vitcli.workflows.train import train

RunCli = Callable[..., Any]
TINY: dict[str, dict[str, Any]] = {
    "model": {"depth": 1, "width": 16, "num_heads": 2, "mlp_width": 32},
    "optim": {"epochs": 2, "batch_size": 4},
    "run": {"device": "cpu"},
}
HEADS = {"model": {"distillation": "head", "pooling": "class", "class_token": True, "final_norm": "tokens"}}


@pytest.fixture(scope="module")
def teacher(shapes: Path, tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A run on grey shapes of 8 x 8 pixels, wider than its students; not to be changed."""
    folder = tmp_path_factory.mktemp("teachers")
    where = {"data": {"name": str(shapes), "dir": str(data_dir)}, "run": {"output_dir": str(folder), "name": "teacher"}}
    train(TINY, {"model": {"width": 32}}, where)
    return folder / "teacher"


def taught_by(teacher: Path, **settings: Any) -> dict[str, Any]:
    return {"teacher": {"name": str(teacher), **settings}}


def loaded(teacher: Path, *classes: str) -> Teacher:
    config: TrainConfig = configure(TINY, taught_by(teacher))
    found = load_teacher(config, classes or ("left", "right"), emit=ignore)
    assert found is not None
    return found


def images() -> torch.Tensor:
    return torch.randint(256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def seen_by_student(teacher: Teacher, **changes: Any) -> Preprocessing:
    usual = {"mean": (0.3,), "std": (0.2,), **changes}
    return replace(teacher.preprocessing, **usual)


def shown(teacher: Teacher, seen: Preprocessing, pixels: torch.Tensor) -> torch.Tensor:
    """What the teacher says of a student's input."""
    lesson = distillation_by(teacher, configure(TINY).teacher, teacher.model.config, seen)
    assert lesson
    return lesson.teacher(InputTransform(seen, torch.device("cpu"))(pixels.clone()))


# what it is shown


def test_the_teacher_says_of_the_students_input_what_it_says_of_the_image(teacher: Path) -> None:
    teach = loaded(teacher)
    expected = teach.model(InputTransform(teach.preprocessing, torch.device("cpu"))(images()))
    torch.testing.assert_close(shown(teach, seen_by_student(teach), images()), expected)
    same = shown(teach, teach.preprocessing, images())
    assert torch.equal(same, expected)
    assert not same.requires_grad


def test_a_student_of_another_size_shows_its_images_in_the_teachers(teacher: Path) -> None:
    teach = loaded(teacher)
    seen = seen_by_student(teach, image_size=(16, 12))
    to_teacher = InputTransform(teach.preprocessing, torch.device("cpu"))
    pixels = InputTransform(replace(seen, mean=(0.0,), std=(1 / 255,)), torch.device("cpu"))(images())
    torch.testing.assert_close(shown(teach, seen, images()), teach.model(to_teacher(pixels)))


def test_colours_become_grey_as_in_pillow_for_a_grey_teacher(teacher: Path) -> None:
    from PIL import Image

    teach = loaded(teacher)
    colours = torch.randint(256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    geometry = replace(teach.preprocessing.geometry, channels=3)
    seen = seen_by_student(teach, geometry=geometry, mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.4))
    pillows = [Image.fromarray(each.permute(1, 2, 0).numpy()).convert("L").tobytes() for each in colours]
    grey = torch.tensor([list(each) for each in pillows], dtype=torch.uint8).view(3, 1, 8, 8)
    expected = teach.model(InputTransform(teach.preprocessing, torch.device("cpu"))(grey))
    torch.testing.assert_close(shown(teach, seen, colours), expected, atol=5e-3, rtol=0)  # Pillow rounds
    one_for_all = teach.preprocessing  # a dry run, which does not know the colours, has one mean for all channels
    torch.testing.assert_close(shown(teach, one_for_all, colours), expected, atol=5e-3, rtol=0)


def test_its_answers_are_in_the_order_of_the_students_classes(teacher: Path) -> None:
    one, other = loaded(teacher, "left", "right"), loaded(teacher, "right", "left")
    seen = seen_by_student(one)
    assert torch.equal(shown(one, seen, images()).flip(1), shown(other, seen, images()))


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (("left", "middle", "right"), "does not know every class: 'middle'"),
        (("left",), "knows more classes than the data have: 'right'"),
    ],
)
def test_other_classes_are_refused_with_the_difference(teacher: Path, classes: tuple[str, ...], said: str) -> None:
    with pytest.raises(VitError, match=said) as caught:
        loaded(teacher, *classes)
    assert "but has left, right" in caught.value.hint


# runs


@pytest.mark.parametrize(("words", "kind"), [((), "soft"), (("--distillation", "hard"), "hard")])
def test_a_student_learns_and_the_run_says_from_whom(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...], teacher: Path, words: tuple[str, ...], kind: str
) -> None:
    begin = ("train", shapes, *tiny, "--device", "cpu", "--seed", "1", "--json")
    plain = run_cli(*begin, "--name", "plain")
    outcome = run_cli(*begin, "--name", "taught", "--teacher", teacher, *words, "--distillation-alpha", "0.7")
    assert outcome.code == 0, outcome.err
    assert f"teacher: {teacher}" in outcome.err
    losses = [json.loads(each.out)["best"]["train_loss"] for each in (plain, outcome)]
    assert losses[0] != losses[1]
    run = Run(Path("experiments/taught"))
    assert run.config["teacher"]["name"] == str(teacher)
    assert run.config["teacher"]["alpha"] == 0.7
    assert run.info["teacher"]["weights"] == loaded(teacher).weights
    config = configure(TINY, taught_by(teacher, kind=run.config["teacher"]["kind"]))
    found = loaded(teacher)
    lesson = distillation_by(found, config.teacher, found.model.config, found.preprocessing)
    assert lesson
    assert lesson.kind == kind


def test_one_head_learns_from_labels_and_the_other_from_the_teacher(shapes: Path, teacher: Path) -> None:
    data = {"data": {"name": str(shapes)}, "run": {"name": "taught"}}
    with pytest.raises(UsageError, match="alpha = 1 leaves nothing to the labels"):
        train(data, TINY, HEADS, taught_by(teacher, alpha=1.0))
    train(data, TINY, HEADS, taught_by(teacher), {"run": {"overwrite": True}})
    student = load_checkpoint(Run(Path("experiments") / "taught").checkpoint("last")).model
    teach = loaded(teacher)
    lesson = distillation_by(teach, configure(TINY).teacher, student, teach.preprocessing)
    assert lesson
    assert lesson.kind == "hard"


def test_a_calibrated_teacher_is_another_one(run_cli: RunCli, teacher: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(teacher, tmp_path / "copy"))
    before = loaded(copy).record["weights"]
    assert before == loaded(teacher).record["weights"]
    assert run_cli("eval", "--calibrate", "--model", copy).code == 0
    assert loaded(copy).record["weights"] != before


def test_what_cannot_teach_is_refused_before_a_run_is_made(
    run_cli: RunCli, tiny: tuple[str, ...], teacher: Path, shapes: Path
) -> None:
    for words, said in [
        (("digits", "--teacher", teacher), "does not know every class: '0', '1', '2', '3', '4' ..."),
        ((shapes, "--teacher", "nobody"), "'nobody' is not a run"),
        (
            (shapes, "--teacher", teacher, "--distillation-alpha", "1.5"),
            "--distillation-alpha 1.5 is not above 0 and at most 1",
        ),
        (
            (shapes, "--teacher", teacher, "--distillation-temperature", "0"),
            "--distillation-temperature 0 is not positive",
        ),
        ((shapes, "--teacher", teacher, "--distillation", "mild"), "'mild' is not one of auto, soft, hard"),
        (
            (shapes, "--teacher", teacher, "--freeze-backbone", "--feature-views", "2"),
            "a teacher has to see the images",
        ),
    ]:
        outcome = run_cli("train", *words, *tiny)
        assert outcome.code in {1, 2}, words
        assert said in outcome.err
        assert "hint:" in outcome.err
        assert not Path("experiments").exists()


def test_settings_of_a_teacher_that_is_not_there_are_said_to_change_nothing(
    run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]
) -> None:
    outcome = run_cli("train", shapes, *tiny, "--distillation", "hard")
    assert outcome.code == 0
    assert "without --teacher there is nothing to distil" in outcome.err


def test_a_frozen_backbone_sees_the_images_with_its_teacher(shapes: Path, teacher: Path) -> None:
    head = {"optim": {"train_only": "head"}, "run": {"name": "head", "init_from": str(teacher)}}
    train({"data": {"name": str(shapes)}}, TINY, taught_by(teacher), head, {"model": {"width": 32}})
    before, after = (
        load_checkpoint(run.best_checkpoint).weights for run in (Run(teacher), Run(Path("experiments/head")))
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.1.weight", "head.1.bias"}


def test_a_dry_run_takes_its_steps_with_the_teacher(run_cli: RunCli, shapes: Path, teacher: Path) -> None:
    outcome = run_cli(
        "train",
        shapes,
        "--dry-run",
        "--teacher",
        teacher,
        "--set",
        "model.distillation=head",
        "--set",
        "model.pooling=class",
        "--set",
        "model.class_token=true",
        "--set",
        "model.final_norm=tokens",
    )
    assert outcome.code == 0, outcome.err


# resuming


@pytest.fixture
def stopped(shapes: Path, teacher: Path) -> tuple[dict[str, Any], Path]:
    """What an unbroken run came to; and the teacher's folder, which may be moved, of one that was stopped."""
    folder = Path(shutil.copytree(teacher, "teacher"))
    layers = ({"data": {"name": str(shapes)}}, TINY, HEADS, {"run": {"name": "run"}, "augment": {"mixup": 0.5}})
    train(*layers, taught_by(folder))
    expected = dict(results(Path("experiments")))
    shutil.rmtree("experiments")
    with pytest.raises(Stopped):
        train(*layers, taught_by(folder), emit=Listener(1))
    return expected, folder


def test_a_student_goes_on_to_the_bit_wherever_its_teacher_is_now(stopped: tuple[dict[str, Any], Path]) -> None:
    expected, folder = stopped
    moved = folder.rename("elsewhere")
    with pytest.raises(VitError, match="is not a run"):
        resume("run")
    resume("run", taught_by(moved))
    found = dict(results(Path("experiments")))
    for each in ("run/checkpoints/last.safetensors", "run/checkpoints/best.safetensors"):
        assert found[each][0] == expected[each][0]
    assert found["run/metrics.json"] == expected["run/metrics.json"]


def test_a_student_is_trained_anew_with_its_teacher_wherever_the_new_run_goes(
    run_cli: RunCli, shapes: Path, teacher: Path
) -> None:
    """Of a run beside it, only the name is kept."""
    shutil.copytree(teacher, "experiments/teacher")
    train({"data": {"name": str(shapes)}}, TINY, taught_by(Path("teacher")), {"run": {"name": "taught"}})
    taught = Run(Path("experiments/taught"))
    assert taught.config["teacher"]["name"] == "teacher"
    outcome = run_cli("train", "--from-run", "experiments/taught", "--output-dir", "elsewhere", "--name", "again")
    assert outcome.code == 0, outcome.err
    again = Run(Path("elsewhere/again"))
    assert again.info["teacher"]["weights"] == taught.info["teacher"]["weights"]
    ours, theirs = (load_checkpoint(run.checkpoint("last")).weights for run in (again, taught))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    assert again.metrics["best"]["train_loss"] == taught.metrics["best"]["train_loss"]


def test_another_teacher_is_refused(stopped: tuple[dict[str, Any], Path]) -> None:
    best = Run(stopped[1]).best_checkpoint
    checkpoint = load_checkpoint(best)
    weights = {name: tensor + 1e-6 for name, tensor in checkpoint.weights.items()}
    save_checkpoint(best, replace(checkpoint, weights=weights))
    before = dict(results(Path("experiments")))
    with pytest.raises(VitError, match="not those of the teacher that the run began with"):
        resume("run")
    with pytest.raises(VitError, match=r"teacher\.alpha = 0\.9 \(was 0\.5\)"):
        resume("run", {"teacher": {"alpha": 0.9}})
    assert dict(results(Path("experiments"))) == before


def test_all_folds_have_the_same_teacher(shapes: Path, teacher: Path) -> None:
    folder = Path(shutil.copytree(teacher, "teacher"))
    folds = {"data": {"name": str(shapes), "folds": 2}, "run": {"name": "folds"}}
    with pytest.raises(VitError, match="stopped by Ctrl-C in run 1 of 2"):
        train(TINY, folds, taught_by(folder), emit=Listener(2))  # the first fold is done
    best = Run(folder).best_checkpoint
    before = best.read_bytes()
    checkpoint = load_checkpoint(best)
    save_checkpoint(best, replace(checkpoint, weights={name: -tensor for name, tensor in checkpoint.weights.items()}))
    with pytest.raises(VitError, match="not those of the teacher"):
        resume("folds")
    best.write_bytes(before)
    resume("folds")
    records = [Run(Path("experiments/folds") / fold).info["teacher"]["weights"] for fold in ("fold-1", "fold-2")]
    assert records == [loaded(teacher).weights] * 2


def test_a_run_without_a_teacher_goes_on_without_one(shapes: Path, teacher: Path) -> None:
    with pytest.raises(Stopped):
        train({"data": {"name": str(shapes)}}, TINY, {"run": {"name": "run"}}, emit=Listener(1))
    with pytest.raises(VitError, match=r"teacher\.name = .* \(was ''\)"):
        resume("run", taught_by(teacher))
    resume("run")
