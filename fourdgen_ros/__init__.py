# SPDX-License-Identifier: Apache-2.0
"""fourdgen_ros: a robot acts on the 4D future that it imagines."""

from pkgutil import extend_path

# The build generates the interfaces (msg, srv, action) into a package of this name. Once installed
# it is one directory with this file; in the source tree it is a second one on sys.path, which
# belongs to the same package. The source tree comes first, so edits are live.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'
