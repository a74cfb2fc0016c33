"""What the tests of evaluations and reports share."""

import pytest

from vitcli.explaining.explainer import Explainer, Explanation


@pytest.fixture
def explained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """For each image with a map: the class that the map explains, and the class that its model predicts."""
    found, explanation = list[tuple[int, int]](), Explainer.explanation

    def watched(self: Explainer) -> Explanation:
        result = explanation(self)
        found.extend(zip(result.targets[:, 0].tolist(), result.logits.argmax(dim=1).tolist(), strict=True))
        return result

    monkeypatch.setattr(Explainer, "explanation", watched)
    return found
