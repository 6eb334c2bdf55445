#!/usr/bin/env bash
# Prepare $VENV and the system packages. Idempotent; says what it does; needs nothing but Python 3.11 and a shell.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
PYTHON=${PYTHON:-python3}

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

"$PYTHON" - <<'PY' || die "Wavedeck needs Python 3.11 or newer; '$PYTHON' is older. Name another one: make setup PYTHON=python3.12"
import sys
sys.exit(sys.version_info < (3, 11))
PY

# --- system packages: tmux keeps runs alive, rsync and ssh move them; git names the code of a run.
missing=()
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
need tmux tmux
need rsync rsync
need ssh openssh-client
need git git
# Sound. Without it everything else works and the deck says how to get it, so it is asked for only where that is free.
if [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  ls /usr/lib/*/libportaudio.so.2 /usr/lib/libportaudio.so.2 >/dev/null 2>&1 || missing+=(libportaudio2)
fi
# Debian's python3 comes without ensurepip; an environment cannot be made without it.
"$PYTHON" -c 'import ensurepip' 2>/dev/null || missing+=("$("$PYTHON" -c 'import sys; print(f"python3.{sys.version_info.minor}-venv")')")
# `setup.sh test-packages`: what only the tests need. They log in to an OpenSSH server on a loopback port, through the
# login shells people have, and cut the wires of network namespaces. On a machine of yours such a package may start a
# service, so they are installed by themselves only where we are root, as in a container; elsewhere the tests that need
# them are skipped and say so.
if [ "${1:-}" = test-packages ]; then
  missing=()
  PATH="$PATH:/usr/sbin:/sbin"
  need sshd openssh-server; need fish fish; need tcsh tcsh; need ip iproute2; need nft nftables
  [ -e /usr/share/alsa/alsa.conf ] || missing+=(libasound2-data)
  if [ ${#missing[@]} -gt 0 ] && ! { [ "$(uname -s)" = Linux ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }; then
    say "some tests of remote hosts will be skipped; to run them all: sudo apt-get install -y ${missing[*]}"
    exit 0
  fi
fi
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(uname -s)" = Darwin ]; then
    brew_names=("${missing[@]/openssh-client/openssh}")
    die "missing: ${brew_names[*]}. Install them with: brew install ${brew_names[*]}"
  fi
  command -v apt-get >/dev/null 2>&1 || die "missing: ${missing[*]}. Install them with your package manager, then run this again."
  if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then sudo=(sudo -n)
  else die "missing: ${missing[*]}. Install them with: sudo apt-get update && sudo apt-get install -y ${missing[*]}"; fi
  say "installing ${missing[*]} with apt-get"
  "${sudo[@]}" apt-get update -qq
  RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

[ "${1:-}" != test-packages ] || exit 0

# --- the environment: exactly what requirements.lock says, and this checkout, editable.
if ! "$VENV/bin/python" -c '' 2>/dev/null; then
  say "creating $VENV"
  "$PYTHON" -m venv "$VENV" || { rm -rf "$VENV"; die "$PYTHON cannot make environments; on Debian: apt-get install -y python3-venv"; }
fi
if ! [ -x "$VENV/bin/uv" ]; then
  say "installing uv into $VENV"
  "$VENV/bin/python" -m pip install -q --disable-pip-version-check uv
fi
export VIRTUAL_ENV="$PWD/$VENV" UV_LINK_MODE=${UV_LINK_MODE:-copy}
say "installing requirements.lock (torch is large; about a minute)"
"$VENV/bin/uv" pip install -q -r requirements.lock
"$VENV/bin/uv" pip install -q --no-deps --no-build-isolation -e .
say "done: $VENV/bin/wavedeck"
