#!/usr/bin/env bash
# Tells Bazel the commit that is built, for the labels of images: STABLE_GIT_COMMIT, with the suffix -dirty if
# files differ from it, or unknown without a repository.
set -euo pipefail

commit=$(git rev-parse HEAD 2>/dev/null) || commit=unknown
if [[ $commit != unknown && -n $(git status --porcelain 2>/dev/null) ]]; then commit+=-dirty; fi
echo "STABLE_GIT_COMMIT $commit"
