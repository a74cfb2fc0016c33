import json
import math
import multiprocessing
import os

import pytest

from vitcli.core.measurements import measured_once

QUESTION = {"work": "training", "machine": {"device": "cpu", "threads": 2}, "model": {"image_size": [32, 32]}}
FIGURES = {"float32": 0.1 + 0.2, "bfloat16": 1e-300}


class Measure:
    """Gives the same figures whenever it is asked, and counts how often that was."""

    def __init__(self, figures=FIGURES):
        self.figures = figures
        self.times = 0

    def __call__(self):
        self.times += 1
        return self.figures


def the_file(folder):
    (path,) = folder.iterdir()
    return path


def test_what_was_measured_once_is_remembered_to_the_last_digit(tmp_path):
    measure = Measure()
    folder = tmp_path / "not" / "yet"
    assert measured_once(QUESTION, measure, folder=folder) == FIGURES
    assert measured_once(QUESTION, Measure({"float32": 9.0}), folder=folder) == FIGURES
    assert measure.times == 1
    assert json.loads(the_file(folder).read_text())["question"] == QUESTION  # for readers


def test_tuples_and_the_order_of_keys_do_not_make_another_question(tmp_path):
    measured_once(QUESTION, Measure(), folder=tmp_path)
    same = {**dict(reversed(QUESTION.items())), "model": {"image_size": (32, 32)}}
    measure = Measure()
    assert measured_once(same, measure, folder=tmp_path) == FIGURES
    assert measure.times == 0


@pytest.mark.parametrize(
    "other",
    [
        {**QUESTION, "work": "inference"},
        {**QUESTION, "machine": {"device": "cpu", "threads": 1}},
        {**QUESTION, "machine": {"device": "another cpu", "threads": 2}},
        {**QUESTION, "model": {"image_size": [32, 64]}},
    ],
)
def test_another_machine_model_or_work_is_another_question(tmp_path, other):
    measured_once(QUESTION, Measure(), folder=tmp_path)
    assert measured_once(other, Measure({"float32": 7.0}), folder=tmp_path) == {"float32": 7.0}
    assert measured_once(QUESTION, Measure({"float32": 8.0}), folder=tmp_path) == FIGURES


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b'{"figures": {"float32": 1.0}}',
        *(
            json.dumps({"question": QUESTION, "figures": figures}).encode()
            for figures in (
                None,
                [],
                {},
                {"float32": "fast"},
                {"float32": 0.0},
                {"float32": -1.0},
                {"float32": math.nan},
                {"float32": math.inf},
                {"float32": True},
            )
        ),
        json.dumps({"question": {"work": "another"}, "figures": {"float32": 1.0}}).encode(),
    ],
)
def test_a_broken_file_is_measured_anew_and_mended(tmp_path, content):
    measured_once(QUESTION, Measure(), folder=tmp_path)
    path = the_file(tmp_path)
    path.write_bytes(content)
    fresh = {"float32": 0.5}
    assert measured_once(QUESTION, Measure(fresh), folder=tmp_path) == fresh
    assert the_file(tmp_path) == path
    assert measured_once(QUESTION, Measure(), folder=tmp_path) == fresh


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert measured_once(QUESTION, Measure(), folder=tmp_path / "file" / "measured") == FIGURES
    assert measured_once(QUESTION, Measure(), folder=tmp_path / "file") == FIGURES
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_where_the_file_should_be_is_no_error(tmp_path):
    measured_once(QUESTION, Measure(), folder=tmp_path)
    path = the_file(tmp_path)
    path.unlink()
    path.mkdir()
    assert measured_once(QUESTION, Measure(), folder=tmp_path) == FIGURES


def test_of_two_that_measure_at_once_the_first_ones_figures_count_for_both(tmp_path):
    def slowly():  # while somebody else is quicker
        measured_once(QUESTION, Measure({"float32": 1.0}), folder=tmp_path)
        return {"float32": 2.0}

    assert measured_once(QUESTION, slowly, folder=tmp_path) == {"float32": 1.0}
    assert measured_once(QUESTION, Measure(), folder=tmp_path) == {"float32": 1.0}


def _remember_many(folder, worker):
    for number in range(40):
        question = {"number": number}
        figures = measured_once(question, lambda: {"float32": float(os.getpid())}, folder=folder)
        again = measured_once(question, lambda: {"float32": 0.25}, folder=folder)
        assert again["float32"] != 0.25, worker
        assert figures["float32"] > 1


def test_nobody_ever_reads_half_a_file(tmp_path):
    processes = [multiprocessing.Process(target=_remember_many, args=(tmp_path, worker)) for worker in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 40
