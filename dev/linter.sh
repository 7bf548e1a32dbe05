#!/bin/bash
# Style, types, scripts and schemas, with the versions that constraints.txt pins.
# `dev/linter.sh` formats and mends what it can; `dev/linter.sh --check` changes nothing and only reports.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PATH:$PWD/.venv/bin" # where the Makefile puts the tools

for tool in ruff mypy shellcheck hadolint check-jsonschema kubernetes-validate; do
  if ! command -v "$tool" > /dev/null; then
    echo "linter.sh: $tool is not on the PATH; 'make lint' installs it" >&2
    exit 1
  fi
done

if [ "${1:-}" = "--check" ]; then
  ruff format --check --quiet .
else
  ruff check --fix-only --quiet .
  ruff format --quiet .
fi
ruff check --quiet .
mypy
git ls-files '*.sh' '*.sbatch' | xargs -r shellcheck
git ls-files '*Dockerfile' | xargs -r hadolint

fits() { # SCHEMA FILE...
  check-jsonschema --quiet --builtin-schema "vendor.$1" "${@:2}"
}
fits github-workflows .github/workflows/*.yml
fits dependabot .github/dependabot.yml
fits github-issue-config .github/ISSUE_TEMPLATE/config.yml
for form in .github/ISSUE_TEMPLATE/*.yml; do
  case $form in */config.yml) ;; *) fits github-issue-forms "$form" ;; esac
done
fits citation-file-format CITATION.cff
kubernetes-validate --strict --quiet deploy/kubernetes/indexed-job.yaml deploy/kubernetes/storage.yaml
check-jsonschema --quiet --schemafile tests/deploy/pytorchjob.schema.json deploy/kubernetes/pytorchjob.yaml
