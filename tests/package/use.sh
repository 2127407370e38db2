#!/usr/bin/env bash
# Installs the wheel, and then the source distribution, each in a clean environment outside the
# checkout, and uses it as a newcomer would:  bash tests/package/use.sh PYTHON DIST
set -euo pipefail
python=$(realpath -s "$(command -v "$1")")  # the folder changes below
dist=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
# The pictures come from the archive, too: a checkout can be made again from it.
mkdir sources
tar -xzf "$dist"/edgecls-*.tar.gz -C sources --strip-components=1
golden=sources/tests/golden
for archive in "$dist"/edgecls-*.whl "$dist"/edgecls-*.tar.gz; do
  rm -rf env
  "$python" -m venv env
  env/bin/pip install --quiet --disable-pip-version-check "$archive"
  env/bin/pip check >/dev/null
  env/bin/python - <<'PY'
import importlib.metadata, importlib.util, pathlib
for package in ("edge_sdk", "host_tools"):
    where = pathlib.Path(importlib.util.find_spec(package).origin)
    assert "site-packages" in where.parts, f"{package} comes from {where}"
assert importlib.util.find_spec("tests") is None, "the tests are installed, too"
assert importlib.metadata.metadata("edgecls").get_all("License-File") == ["LICENSE"]
PY
  env/bin/edgecls --version
  env/bin/edgecls classify "$golden/digits_int8.tflite" "$golden"/digits/7/*.png | grep '  7 ' >/dev/null
  lines=$(env/bin/edgecls run "$golden/digits_int8.tflite" --source "$golden/digits" --json | wc -l)
  test "$lines" = 10
  env/bin/edgecls recipe list | grep edge-tiny >/dev/null
  echo "$(basename "$archive"): installed and used"
done
