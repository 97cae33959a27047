"""``python -m nni_knas.nnictl``: NNI's ``nnictl``, with the repairs of :mod:`nni_knas.compat` in managers that it starts.

Without them a manager may mix up the parameters of trials that start together, and fails to start on a busy machine.
"""

from nni.tools.nnictl.nnictl import parse_args

import nni_knas  # noqa: F401  it applies the repairs

if __name__ == '__main__':
    parse_args()
