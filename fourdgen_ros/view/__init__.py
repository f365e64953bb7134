# SPDX-License-Identifier: Apache-2.0
"""What the stages made, to be looked at: geometry for RViz and a page for the browser."""
