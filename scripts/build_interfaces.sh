#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build the package into install/ against the ROS wheels of .venv, with those packages of
# compat_interfaces/ that the wheels do not have.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
venv=$root/.venv

# A sourced ROS installation must not mix with the wheels.
unset AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH LD_LIBRARY_PATH PYTHONPATH \
  _ROS_WHEELS_BOOTSTRAP_COMPLETE
export VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH
export AMENT_PREFIX_PATH=$venv CMAKE_PREFIX_PATH=$venv
export PYTHONWARNINGS=ignore COLCON_LOG_LEVEL=40  # deprecations inside colcon and ament

# CMake refuses to export include directories that lie inside the source directory, and those of .venv
# would: build from a directory of links beside it.
source=$root/build/source/fourdgen_ros
rm -rf "$source"
mkdir -p "$source"
for entry in CMakeLists.txt package.xml action config fourdgen_ros launch models msg rviz scripts srv; do
  if [ -e "$root/$entry" ]; then ln -s "$root/$entry" "$source/$entry"; fi
done

paths=("$source")
for package in "$root"/compat_interfaces/*/; do
  name=$(basename "$package")
  if [ ! -e "$venv/share/ament_index/resource_index/packages/$name" ]; then
    paths+=("$package")
  fi
done

if ! python -m colcon --log-base "$root/log" build \
  --merge-install --symlink-install --install-base "$root/install" --build-base "$root/build" \
  --event-handlers console_direct- console_cohesion- console_stderr- \
  --parallel-workers "$(nproc)" --paths "${paths[@]}" \
  --cmake-args -DPython3_EXECUTABLE="$venv/bin/python" -DBUILD_TESTING=OFF
then
  tail -n 30 "$root"/log/latest_build/*/stderr.log >&2
  echo "The interfaces could not be built; the whole output is in log/latest_build/." >&2
  exit 1
fi
