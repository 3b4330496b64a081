"""A plugin whose hook has a slip of the pen in its name."""

from fusionkit import Component, hookimpl


@hookimpl
def fusionkit_componets():
    yield Component("fusion", "never_seen", "broken_misspelt_hook:Never", "is never seen")
