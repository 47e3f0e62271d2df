"""The version of this library: read by the build, and written to the settings of a queue.

A constant, because asking the installed metadata reads the directories of all distributions, at every start.
"""

from typing import Final

VERSION: Final = "0.1.0"
