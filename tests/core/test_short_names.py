import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vitcli.core.short_names import class_slugs, distinct, slug_of_several

BLIGHT, STREAK, HEALTHY = "Cassava Bacterial Blight (CBB)", "Cassava Brown Streak Disease (CBSD)", "Cassava Healthy"


@pytest.mark.parametrize(
    ("names", "width", "short"),
    [
        (["class 0", "class 1"], 8, ["class 0", "class 1"]),
        ([BLIGHT, STREAK, HEALTHY], 27, ["Bacterial Blight (CBB)", "Brown Streak Disease (CBSD)", "Healthy"]),
        ([BLIGHT, STREAK, HEALTHY], 14, ["Bacteri…(CBB)", "Brown S…(CBSD)", "Healthy"]),
        ([BLIGHT, "Healthy"], 14, ["Cassava…(CBB)", "Healthy"]),
        (["Tomato___Late_blight", "Tomato___Early_blight"], 14, ["Late_blight", "Early_blight"]),
        (["red winged blackbird", "blue winged blackbird"], 8, ["red", "blue"]),
        (["a long way home", "a long way home again"], 8, ["home", "home…ain"]),
        (["ant_queen", "ant_"], 8, ["ant_…een", "ant_"]),
        (["x" * 30 + "a" + "y" * 30, "x" * 30 + "b" + "y" * 30], 9, ["0: xxx…yy", "1: xxx…yy"]),
        (["  two\n words "], 80, ["two words"]),
        ([], 8, []),
    ],
)
def test_what_all_have_in_common_goes_first_then_the_middle(names: list[str], width: int, short: list[str]) -> None:
    assert distinct(names, width) == short


def test_several_names_make_a_name_of_their_own() -> None:
    assert slug_of_several(["mine", "other-2"]) == "mine-vs-other-2"
    long = ["x" * 100 + str(at) for at in range(4)]
    groups = (["a.b", "c"], ["a-b", "c"], ["A-b", "c"], ["c", "a-b"], long, long[:3], [*long[:3], "y"])
    groups += (["a-vs-b", "c"], ["a", "b-vs-c"], ["\u4e2d" * 90, "\u6587" * 90])
    found = [slug_of_several(names) for names in groups]
    assert len(set(found)) == len(groups)
    assert max(len(each.encode()) for each in found) < 200
    assert slug_of_several(["a", "b"]) == "a-vs-b"


@given(st.lists(st.text("ab!-0", max_size=3) | st.sampled_from(["a-class-0", "a-class-1", "-class-2"]), max_size=6))
@example(["a!", "a?", "a-class-0"])
def test_parts_of_file_names_stay_apart(classes: list[str]) -> None:
    assert len(set(class_slugs(classes))) == len(classes)


@given(st.lists(st.text("ab _", max_size=20) | st.text(max_size=40), max_size=12), st.integers(8, 30))
def test_names_fit_and_stay_apart(names: list[str], width: int) -> None:
    short = distinct(names, width)
    assert all(len(name) <= width for name in short)
    assert len(set(short)) >= len({" ".join(name.split()) for name in names})
