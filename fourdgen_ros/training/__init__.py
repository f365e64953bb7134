# SPDX-License-Identifier: Apache-2.0
"""Demonstrations -> a generator's weights."""
