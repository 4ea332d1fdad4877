#!/usr/bin/env bash
# From a clean clone to the summary table. Needs Python >= 3.11 with pip, git and bash.
#
#   ./run_all.sh [OPTION...]   set up, prepare the embedded data, run configs/suites/comparison.yaml, print the table;
#                              options go to `aimonk-bench suite`, such as --set data.labels=... --set data.images=...
#   ./run_all.sh test [ARG...] set up with the dev extra and run the whole check; arguments go to pytest (--cov: coverage)
#
# PYTHON names the interpreter to make .venv with.
set -euo pipefail
unset PYTHONDONTWRITEBYTECODE  # pip compiles nothing here: each package is compiled when it is imported first
case "${1:-}" in -h | --help)
  sed -n '2,/^set/ s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit
  ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$root/.venv

say() { printf '%s\n' "run_all: $*" >&2; }

# 1. An interpreter, and .venv with pip made with it.
candidates=(python3 python3.13 python3.12 python3.11 python)
[ -n "${PYTHON:-}" ] && candidates=("$PYTHON")
find_python() {
  local candidate
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  say "found no Python >= 3.11 (looked for: ${candidates[*]}); set PYTHON=/path/to/python"
  return 1
}
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
make_venv() {  # Debian's Python lacks ensurepip without python3-venv, but may have pip
  "$python" -m venv "$venv" >/dev/null ||
    { "$python" -m venv --clear --without-pip "$venv" && "$python" -m pip --python "$venv/bin/python" install --quiet pip; }
}
if ! pip --version >/dev/null 2>&1; then
  if [ -e "$venv" ] && ! grep -qs '^command = .* -m venv ' "$venv/pyvenv.cfg"; then
    say "$venv has no pip and was not made by python -m venv; put pip into it or move it away"
    exit 1
  fi
  rm -rf "$venv"  # what an earlier call may have left half-made
  python=$(find_python)
  make_venv || { rm -rf "$venv"; say "could not make .venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
fi

# 2. The packages. A stamp per set of extras holds what was installed from; equal stamps install nothing.
extras=run
[ "${1:-}" = test ] && extras=dev
wanted() { printf '%s\n' "$root" && cat "$root/pyproject.toml" "$root/constraints.txt"; }
current() { wanted | cmp -s - "$venv/stamp-$1"; }
if ! current dev && ! current "$extras"; then
  say "installing (a few minutes the first time)"
  rm -f "$venv"/stamp-*
  target=$root
  [ "$extras" = dev ] && target="$root[dev]"
  pip install --quiet --no-compile -c "$root/constraints.txt" -e "$target"
  # opencv-python needs libGL.so.1, which slim containers lack; its headless build owns the same folder and does not.
  if ! "$venv/bin/python" -c 'import cv2' 2>/dev/null; then
    say "opencv-python cannot be imported here; putting opencv-python-headless of the same version in its place"
    version=$("$venv/bin/python" -c 'from importlib.metadata import version; print(version("opencv-python"))')
    pip uninstall --quiet --yes opencv-python opencv-python-headless
    pip install --quiet -c "$root/constraints.txt" "opencv-python-headless==$version"
    "$venv/bin/python" -c 'import cv2' || { say "cv2 still cannot be imported; on Debian and Ubuntu: apt install libgl1 libglib2.0-0"; exit 1; }
  fi
  wanted >"$venv/stamp-$extras"
fi

# 3. The check,
if [ "$extras" = dev ]; then
  shift
  cd "$root"
  PATH=$venv/bin:$PATH
  export OMP_NUM_THREADS=1  # several processes share the cores
  ruff format --check .
  ruff check .
  mypy
  lint-imports
  # files in order: by number of tests, the few long tests would come last, when only one process is still at work
  exec python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
fi

# or the comparison on the embedded data; of two --out the last one holds.
if [ ! -f "$root/.data/synthetic/labels.txt" ]; then
  "$venv/bin/aimonk-bench" data synthetic "$root/.data/synthetic"
fi
exec "$venv/bin/aimonk-bench" suite "$root/configs/suites/comparison.yaml" --out "$root/experiments/comparison" "$@"
