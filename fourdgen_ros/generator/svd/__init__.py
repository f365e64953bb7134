# SPDX-License-Identifier: Apache-2.0
"""The `svd-4dgen` preset: the model of the paper (4DGen, arXiv 2507.01099) on diffusers' classes of
Stable Video Diffusion."""
