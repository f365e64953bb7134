# SPDX-License-Identifier: Apache-2.0
"""The `fourdgen` command: one module per verb."""
