"""A plugin for a fusionkit that is not out yet."""

from fusionkit import Component, hookimpl

PLUGIN_API = 99


@hookimpl
def fusionkit_components():
    yield Component("fusion", "never_seen", "broken_api_version:Never", "is never seen")
