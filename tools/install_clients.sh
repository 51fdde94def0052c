#!/bin/sh
# S3 clients for tests/integration/test_s3_clients.py, in the directory of the environment, $1:
# those of Python in $1/clients, those of JavaScript, where there is npm, in $1/js.
# What cannot be installed is named; its tests are skipped, and the next call tries again.
set -u
venv=$1
whole=yes

"$venv/bin/python" -m venv "$venv/clients" \
  && "$venv/clients/bin/python" -m pip install --quiet --disable-pip-version-check \
    --require-hashes -r requirements-clients.txt \
  || { whole=; echo "the S3 clients of Python cannot be installed: their tests are skipped"; }

if command -v npm > /dev/null; then
  mkdir -p "$venv/js" && cp tests/clients/package.json tests/clients/package-lock.json "$venv/js" \
    && (cd "$venv/js" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) \
    || { whole=; echo "the S3 clients of JavaScript cannot be installed: their tests are skipped"; }
fi

[ -z "$whole" ] || touch "$venv/.clients"
