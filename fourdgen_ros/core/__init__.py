# SPDX-License-Identifier: Apache-2.0
"""Value types and geometry that every stage shares. Imports numpy only."""
