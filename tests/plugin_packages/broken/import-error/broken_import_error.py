"""A plugin that needs a package which is not there."""

import a_package_that_nobody_has  # noqa: F401

from fusionkit import Component, hookimpl


@hookimpl
def fusionkit_components():
    yield Component("fusion", "never_seen", "broken_import_error:Never", "is never seen")
