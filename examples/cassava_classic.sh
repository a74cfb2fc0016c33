#!/usr/bin/env bash
# A published Cassava tutorial, with its own settings: ViT-B/16 at 384 pixels from scratch, judged on the images that chose the
# best epoch, as the tutorial does. Kaggle's credentials, and the competition's rules accepted, are needed.
#   uv run bash examples/cassava_classic.sh [flags of `vit train`, except --output-dir; for example --device cuda]
set -euo pipefail
vit download cassava
vit train cassava --recipe cassava-classic "$@"
vit eval
