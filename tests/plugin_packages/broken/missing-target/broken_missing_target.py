"""A plugin that lists a class which it does not have."""

from fusionkit import Component, hookimpl


@hookimpl
def fusionkit_components():
    yield Component("fusion", "missing_target", "broken_missing_target:Renamed", "its class has another name")
