#!/bin/sh
# lm-eval, whose figures tests/peers/test_published_suites.py compares ours with, in an environment of its own:
# .venv-lm-eval. PyTorch comes first and alone, so that nothing replaces it. Beside it stands rewardbench without its
# requirements: the test takes two functions of it.
set -eu
cd "$(dirname "$0")/.."
python3 -m venv .venv-lm-eval
pip=.venv-lm-eval/bin/pip
$pip install --quiet torch==2.13.0
$pip install --quiet "lm_eval[hf]==0.4.13"
$pip install --quiet --no-deps --target .venv-lm-eval/rewardbench-0.1.4 rewardbench==0.1.4
.venv-lm-eval/bin/python -c "import lm_eval; print('lm_eval', lm_eval.__version__)"
