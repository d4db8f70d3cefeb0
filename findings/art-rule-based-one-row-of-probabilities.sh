#!/usr/bin/env bash
# adversarial-robustness-toolbox 1.20.1: the label-only membership attack (MembershipInferenceBlackBoxRuleBased) gives
# every record the same probabilities for a classifier of two classes, and they do not sum to 1.
#
# Expected: infer(x, y, probabilities=True) has one row per record, with the larger number at 1 (member) for records that
# are classified right, as infer(x, y) says, which is right.
# Observed: one row, repeated: an assignment by an array of column numbers fills whole columns (prob[:, predicted] = p), so
# the last records decide for all. An AUC of these probabilities is 0.5 whatever leaks; nothing is logged. With three
# classes or more the rows are right. Records of class 1 alone end in an IndexError, since classes are counted in the
# given labels (np.unique) and not in the classifier.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    'adversarial-robustness-toolbox==1.20.1' 'numpy==2.4.6' 'scipy==1.17.1' 'scikit-learn==1.9.1' 'packaging==26.3'
cat > "$folder/rule.py" <<'PYTHON'
import logging

import numpy as np
from sklearn.linear_model import LogisticRegression

logging.disable(logging.WARNING)
import art
from art.attacks.inference.membership_inference import MembershipInferenceBlackBoxRuleBased
from art.estimators.classification import SklearnClassifier

chance = np.random.default_rng(0)
print("adversarial-robustness-toolbox", art.__version__)
distinct = {}
for classes in (2, 3):
    y = chance.integers(0, classes, 200)
    x = chance.normal(size=(200, 2)).astype(np.float32) + 2 * np.stack([y, -y], axis=1)
    model = LogisticRegression().fit(x, y)
    attack = MembershipInferenceBlackBoxRuleBased(SklearnClassifier(model))
    hard, soft = attack.infer(x, y), attack.infer(x, y, probabilities=True)
    distinct[classes] = len(np.unique(soft, axis=0))
    print(
        f"{classes} classes: right on {hard.mean():.2f} of the records, {distinct[classes]} distinct rows of "
        f"probabilities in {len(soft)}, the first is {soft[0].round(3)}, agreement with the label "
        f"{np.mean(soft.argmax(axis=1) == hard):.2f}"
    )
    alone = np.flatnonzero(y == classes - 1)
    try:
        attack.infer(x[alone], y[alone])
        raised = False
    except IndexError as error:
        raised = True
        print(f"{classes} classes, the last alone: IndexError: {error}")
    assert raised, "records of one class are taken now"
assert distinct == {2: 1, 3: 2}, f"the behaviour has changed: {distinct}"
PYTHON
"$folder/venv/bin/python" "$folder/rule.py"
