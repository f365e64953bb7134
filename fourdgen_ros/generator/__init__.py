# SPDX-License-Identifier: Apache-2.0
"""Observation -> Future."""
