"""What `import fusionkit` offers."""

from __future__ import annotations

import pytest

import fusionkit


@pytest.mark.parametrize("name", fusionkit.__all__)
def test_every_name_is_there(name: str) -> None:
    found = getattr(fusionkit, name)
    assert getattr(found, "__module__", "fusionkit").partition(".")[0] in (
        "fusionkit",
        "pathlib",
        "typing",
        "builtins",
        "pluggy",
    )


def test_names_are_sorted_and_all_that_are_found_at_first_use() -> None:
    assert sorted(fusionkit.__all__) == sorted({*fusionkit._HOME_OF, "PLUGIN_API", "Component", "hookimpl"})
    assert set(fusionkit.__all__) <= set(dir(fusionkit))


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'fusionkit' has no attribute 'nothing'"):
        fusionkit.nothing  # noqa: B018
    with pytest.raises(ImportError):
        from fusionkit import nothing  # noqa: F401
