#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Check what pip cannot install. Missing Debian packages are installed by root, named to others.
#   check_system.sh PYTHON
set -euo pipefail
python=$1

# Look for the thing itself, not for its package: it may come from elsewhere.
library() {
  local directory
  for directory in /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib; do
    if compgen -G "$directory/$1" >/dev/null; then return 0; fi
  done
  return 1
}

missing=()
if command -v "$python" >/dev/null; then
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  if [ "$version" != 3.11 ] && [ "$version" != 3.12 ]; then
    echo "'$python' is Python $version, but the ROS 2 Jazzy wheels exist for 3.11 and 3.12." >&2
    echo "Install one of them and name it: make setup PYTHON=python3.12" >&2
    exit 1
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing+=("python$version-venv")
  include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [ -e "$include/Python.h" ] || missing+=("python$version-dev")
else
  missing+=(python3 python3-venv python3-dev)
fi
command -v g++ >/dev/null || missing+=(g++)
library 'libEGL.so.1' || missing+=(libegl1)
library 'libOpenGL.so.0' || missing+=(libopengl0)
if ! library 'libEGL_nvidia.so.0'; then
  library 'libEGL_mesa.so.0' || missing+=(libegl-mesa0)
  library 'dri/swrast_dri.so' || missing+=(libgl1-mesa-dri)
fi
if [ ${#missing[@]} -eq 0 ]; then exit 0; fi

echo "Missing Debian packages: ${missing[*]}"
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "Install them, then run make again:" >&2
  echo "  sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' || {
  echo "The system's '$python' is not 3.11 or 3.12. Install one of them and name it:" >&2
  echo "  make setup PYTHON=python3.12" >&2
  exit 1
}
