# Sourced by the commands beside it: makes .venv in the checkout with the pinned dependencies, once.
# PYTHON chooses the interpreter (3.11 or newer). Sets up again only when what it depends on has changed.
cd "$(dirname "$0")/.."
venv="$PWD/.venv"

find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "clx needs Python 3.11 or newer; set PYTHON to its path" >&2
    return 1
}

wanted=$(cat pyproject.toml scripts/constraints.txt | cksum)
if [ "$(cat "$venv/.set-up" 2>/dev/null)" != "$wanted" ]; then
    python=$(find_python)
    echo "setting up .venv with $("$python" --version): a few minutes, this once" >&2
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --constraint scripts/constraints.txt --editable '.[dev]'
    echo "$wanted" > "$venv/.set-up"
fi
