# SPDX-License-Identifier: Apache-2.0
"""One HTML file of what was measured: see page.py."""
