"""Train, evaluate, use and explain a Vision Transformer from Python, on the bundled digits.

    uv run python examples/python_api.py

Runs in a temporary folder and takes about half a minute.
"""

import tempfile
from pathlib import Path

import vitcli

IMAGES = str(Path(__file__).parent / "images")


def main() -> None:
    """Run every step of the command line as a function that returns typed results."""
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        trained = vitcli.train("digits", epochs=40, seed=0, output_dir=folder)
        assert isinstance(trained, vitcli.TrainResult)  # one run; with folds it would be a FoldsResult
        print(f"{trained.run}: {trained.parameters:,} parameters, {trained.seconds:.0f} s")

        judged = vitcli.evaluate(output_dir=runs)
        print(f"test accuracy {100 * judged.metrics.top1:.2f} % of {judged.metrics.images} images")

        for row in vitcli.predict(IMAGES, output_dir=runs).rows:
            print(f"{Path(row.path).name}: {row.classes[0]} ({100 * row.probabilities[0]:.1f} %)")

        model = vitcli.load_model(output_dir=runs)
        for image in sorted(Path(IMAGES).iterdir()):
            found = vitcli.attention_map(model, image, method="relevance")
            row, column = divmod(int(found.weights.argmax()), found.weights.shape[1])
            print(f"{image.name}: patch ({row}, {column}) supports {found.target} most")


if __name__ == "__main__":
    main()
