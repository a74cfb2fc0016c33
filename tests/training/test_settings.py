"""From what a user asked for to the whole configuration."""

import re
from itertools import product

import pytest

from tests.conftest import naming
from vitcli.cli.train_options import ROWS
from vitcli.core.config_files import Settings, load_recipe, recipe_names
from vitcli.core.errors import UsageError
from vitcli.core.events import Event, Note, Warned, ignore
from vitcli.engine.schedule import learning_rate_factor
from vitcli.training.settings import settle, settle_again


def test_a_recipes_learning_rate_is_for_its_optimizer() -> None:
    for layers, rate in [
        ([], 0.02),
        ([{"optim": {"optimizer": "muon"}}], 0.02),
        ([{"optim": {"optimizer": "adamw"}}], 0.002),
        ([{"optim": {"optimizer": "sgd"}}], 0.05),
        ([{"optim": {"optimizer": "adamw", "lr": 0.003}}], 0.003),
        ([{"optim": {"optimizer": "adamw"}}, {"optim": {"lr": 0.003}}], 0.003),
        ([{"optim": {"optimizer": "adamw", "lr": 0.003}}, {"optim": {"optimizer": "sgd"}}], 0.05),
        ([{"optim": {"lr": 0.1}}, {"optim": {"optimizer": "sgd"}}], 0.1),
        ([{"optim": {"lora": 8}}], 0.002),  # which adamw trains
        ([{"optim": {"lora": 8, "lr": 0.001}}], 0.001),
    ]:
        with naming(layers):
            config, *_ = settle(({"data": {"name": "digits"}, "run": {"recipe": "digits"}}, *layers), ignore)
            assert config.optim.peak_lr == rate


def test_a_warm_up_that_does_not_fit_is_cut_and_that_is_said() -> None:
    for optim, said in [
        ({"epochs": 2}, "warm-up: 1 of 2 epochs, not 5, because training is short"),
        ({"epochs": 10}, ""),
        ({"schedule": "one-cycle"}, ""),
    ]:
        told: list[object] = []
        settle(({"data": {"name": "digits"}, "optim": {"epochs": 2, "warmup_epochs": 5, **optim}},), told.append)
        assert [event.text for event in told if isinstance(event, Note) and "warm-up" in event.text] == [said][
            : bool(said)
        ], optim


def test_options_without_effect_are_named() -> None:
    for optim, said in [
        ({"optimizer": "muon", "momentum": 0.8}, ["optim.momentum"]),
        (
            {"optimizer": "adamw", "adamw_lr": 0.5, "momentum": 0.8, "betas": (0.8, 0.9)},
            ["optim.momentum", "optim.adamw_lr"],
        ),
        ({"optimizer": "sgd", "betas": (0.8, 0.9), "momentum": 0.8}, ["optim.betas"]),
        ({"optimizer": "muon", "adamw_lr": 0.5, "betas": (0.8, 0.9), "min_lr": 0.1, "schedule": "cosine"}, []),
        ({"schedule": "constant", "min_lr": 0.1}, ["optim.min_lr"]),
        ({"schedule": "one-cycle", "gamma": 0.5, "warmup_epochs": 1}, ["--gamma", "--warmup-epochs"]),
        ({"schedule": "cosine", "step_size": 3, "gamma": 0.5, "warmup_epochs": 1}, ["--gamma, --step-size"]),
        ({"schedule": "step", "step_size": 3, "gamma": 0.5}, []),
        ({"ema": False, "ema_decay": 0.5}, ["--ema-decay"]),
        ({"ema": True, "ema_decay": 0.5}, []),
    ]:
        told: list[object] = []
        settle(({"data": {"name": "digits"}, "optim": {"epochs": 9, **optim}},), told.append)
        warnings = [event.text for event in told if isinstance(event, Warned) and "no effect" in event.text]
        assert [text.partition(" ha")[0] for text in warnings] == said, optim


def test_a_learning_rate_of_muon_alone_is_told() -> None:
    usual = settle(({"data": {"name": "digits"}},), ignore)[0].optim
    alike = f"optim.adamw_lr={usual.adamw_lr / 10:.3g} changes it in proportion"
    for optim, said in (
        ({"lr": usual.lr / 10}, [alike]),
        ({"lr": usual.lr}, []),
        ({"lr": usual.lr / 10, "adamw_lr": 1e-4}, []),
        ({"lr": usual.lr / 10, "optimizer": "adamw"}, []),
    ):
        told: list[object] = []
        settle(({"data": {"name": "digits"}, "optim": optim},), told.append)
        notes = [event.text for event in told if isinstance(event, Note) and event.text.startswith("--lr: ")]
        assert [text.rpartition("--set ")[2] for text in notes] == said, optim


def test_options_of_other_sections_without_effect_are_named() -> None:
    options = [row.annotation.__metadata__[0] for row in ROWS]
    flags = {
        flag
        for option in options
        for words in (option.default, *(option.param_decls or ()))
        for flag in str(words).split("/")
    }
    for table, said in (
        ({"run": {"amp": "off", "amp_dtype": "float16"}}, ["--amp-dtype has no effect with --amp off"]),
        ({"run": {"amp": "on", "amp_dtype": "float16"}}, []),
        ({"run": {"amp_dtype": "float16", "device": "cpu"}},
         ["--amp-dtype has no effect with --amp auto on this device (cpu), which computes in float32"]),
        ({"optim": {"train_only": "head", "optimizer": "adamw", "lr": 0.1, "head_lr": 0.01, "layer_decay": 0.5}},
         ["--lr has no effect with --head-lr, because only the head is trained",
          "--layer-decay has no effect with --train-only head"]),
        ({"teacher": {"name": "deit-tiny", "kind": "hard", "temperature": 7.0}},
         ["--distillation-temperature has no effect with --distillation hard"]),
        ({"teacher": {"name": "deit-tiny", "kind": "soft", "temperature": 7.0}}, []),
        ({"augment": {"policy_ops": 5, "crop_ratio": (0.1, 9.0), "zoom_law": "linear", "affine_probability": 0.5,
                      "rotate": 0.0, "zoom": 0.0, "shift": 0.0}},
         ["augment.policy_ops has no effect with policy none", "augment.crop_ratio has no effect with crop_scale 1",
          "augment.zoom_law has no effect with zoom 0", "augment.affine_probability has no effect with no rotation, zoom, shift or shear"]),
        ({"augment": {"policy": "rand", "policy_ops": 5, "zoom": 0.2, "zoom_law": "linear", "border": "reflect"}}, []),
        ({"augment": {"colour_probability": 0.5}}, ["augment.colour_probability has no effect with no change of colours"]),
        ({"augment": {"colour_probability": 0.5, "hue": 0.1}}, []),
        ({"augment": {"mixup": 0.5}, "optim": {"batch_size": 1}}, ["--mixup has no effect with --batch-size 1"]),
        ({"model": {"drop_path": 0.3, "dropout": 0.1}, "optim": {"train_only": "head"}},
         ["--drop-path, model.dropout have no effect with --train-only head, because frozen layers drop nothing"]),
        ({"optim": {"label_smoothing": 0.2}, "teacher": {"name": "deit-tiny", "alpha": 1.0}},
         ["--label-smoothing has no effect with --distillation-alpha 1"]),
        ({"optim": {"label_smoothing": 0.2}, "teacher": {"name": "deit-tiny", "alpha": 0.9}}, []),
    ):  # fmt: skip
        told: list[object] = []
        settle(({"data": {"name": "digits"}, **table},), told.append)
        texts = [event.text for event in told if isinstance(event, Warned) and "no effect" in event.text]
        assert texts == said
        assert {*re.findall(r"--[a-z-]+", " ".join(texts))} <= flags, "only options that can be typed are named"


def test_a_rate_for_another_optimizer_is_not_lost_without_a_word() -> None:
    for optim, said in (({"optimizer": "muon", "lr": 0.05, "lora": 4}, True), ({"lora": 4}, False)):
        told: list[object] = []
        settle(({"data": {"name": "digits"}, "optim": optim},), told.append)
        texts = [event.text for event in told if isinstance(event, Warned)]
        assert any("--lr 0.05 was meant for muon, so it is not used" in text for text in texts) == said


def test_a_warm_up_that_would_reach_into_an_average_is_cut_and_said() -> None:
    told: list[object] = []
    optim = {"epochs": 10, "swa_epochs": 8, "ema": False, "warmup_epochs": 5.0}
    settled = settle(({"data": {"name": "digits"}, "optim": optim},), told.append)[0].optim
    assert settled.warmup == 2
    assert learning_rate_factor(settled, 10)(20) == 1 > learning_rate_factor(settled, 10)(19)
    notes = [event.text for event in told if isinstance(event, Note)]
    assert "warm-up: 2 of 10 epochs, not 5, because the weights of the last epochs are averaged" in notes


def test_the_rate_of_a_head_that_is_trained_alone_is_that_of_the_head() -> None:
    alone = settle(({"data": {"name": "digits"}, "optim": {"train_only": "head", "head_lr": 0.02}},), ignore)[0].optim
    assert (alone.lr, alone.head_lr) == (0.02, 0)


def test_recipes_with_a_learning_rate_name_its_optimizer() -> None:
    for name in recipe_names():
        optim = load_recipe(name)["optim"]
        assert "optimizer" in optim or "lr" not in optim, name


def test_what_goes_together_is_decided_where_all_is_known() -> None:
    for optim, said in [
        ({"swa_epochs": 40}, ""),  # of the recipe's 60 epochs, though a default would be 20
        ({"swa_epochs": 60}, "is not less than optim.epochs = 60"),
        ({"swa_epochs": 5, "ema": True}, "both average the weights"),
        ({"batch_size": 8, "grad_accum_steps": 9}, "grad_accum_steps = 9 is more than the 8 images of a batch"),
    ]:
        with naming(optim):
            layers: tuple[Settings, ...] = ({"data": {"name": "digits"}}, {"optim": {"ema": False, **optim}})
            if not said:
                assert settle(layers, ignore)[0].optim.swa_epochs == 40
                continue
            with pytest.raises(UsageError, match=said):
                settle(layers, ignore)


DIGITS: Settings = {"data": {"name": "digits"}, "run": {"recipe": "digits"}}


def test_what_a_recipe_says_of_schedules_and_averages_is_not_for_schedule_free() -> None:
    events: list[Event] = []
    optim = settle((DIGITS, {"optim": {"optimizer": "schedule-free", "warmup_epochs": 2.0}}), events.append)[0].optim
    assert (optim.schedule, optim.ema, optim.peak_lr, optim.warmup_epochs) == ("constant", False, 0.002, 2)
    assert load_recipe("digits")["optim"]["ema"]
    said = [event.text for event in events if isinstance(event, Note)]
    assert len([text for text in said if text.startswith("schedule: constant")]) == 1


def test_asking_for_them_with_schedule_free_is_refused() -> None:
    cases: list[tuple[dict[str, object], str]] = [
        ({"schedule": "cosine"}, "schedule = 'cosine'"),
        ({"schedule": "one-cycle"}, "schedule = 'one-cycle'"),
        ({"ema": True}, "averages the weights already"),
        ({"swa_epochs": 5}, "averages the weights already"),
        ({"schedule": "constant", "ema": False, "swa_epochs": 0}, ""),
    ]
    settling = (settle, lambda layers, emit: settle_again(settle((DIGITS,), emit)[0], layers, emit))
    for (optim, said), settled in product(cases, settling):
        with naming(settled, optim):
            layers: tuple[Settings, ...] = (DIGITS, {"optim": {"optimizer": "schedule-free"}}, {"optim": optim})
            if not said:
                assert settled(layers, ignore)[0].optim.schedule == "constant"
                continue
            with pytest.raises(UsageError, match=said) as caught:
                settled(layers, ignore)
            assert "--opt adamw" in caught.value.hint


def test_epochs_are_raised_for_few_images_unless_they_are_given() -> None:
    wanted: Settings = {"data": {"name": "digits"}, "optim": {"min_images": 100_000}}
    for layers, epochs, said in [
        (
            [],
            78,
            ["epochs: 78, not 60, so that training sees 100,000 images (--epochs changes this)"],
        ),
        ([{"optim": {"epochs": 3}}], 3, []),
        ([{"optim": {"epochs": 3}}, {"optim": {"min_images": 10**6}}], 3, []),
    ]:
        told: list[object] = []
        config, *_ = settle((wanted, *layers), told.append)
        assert config.optim.epochs == epochs, layers
        assert [event.text for event in told if isinstance(event, Note) and "epochs:" in event.text] == said, layers
