# SPDX-License-Identifier: Apache-2.0
"""The policy that futures are compared with: Diffusion Policy, in an environment of its own."""
