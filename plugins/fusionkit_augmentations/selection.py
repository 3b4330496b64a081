"""Which modalities an augmentation changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fusionkit.errors import RequestError, suggestion
from fusionkit.flow import InputSpec


def select(
    augmentation: str,
    inputs: Mapping[str, InputSpec],
    names: Sequence[str] | None,
    *,
    fits: Callable[[InputSpec], bool],
    needs: str,
    default: Callable[[InputSpec], bool] | None = None,
    text: bool = False,
) -> tuple[str, ...]:
    """The modalities named in a recipe; or, where none are, all those that are meant by default.

    Args:
        augmentation: its name, for messages.
        inputs: the modalities there are.
        names: the modalities that the recipe names, or None.
        fits: whether the augmentation can change a modality.
        needs: what `fits` asks for, in words.
        default: whether it changes a modality that nobody named; as `fits` unless given.
        text: whether it changes text, and nothing else; if not, it is never asked of text.

    Raises:
        RequestError: a named modality does not exist or does not fit, or there is none to change.
    """
    if names is None:
        chosen = tuple(name for name, spec in inputs.items() if spec.text == text and (default or fits)(spec))
        if not chosen:
            shapes = ", ".join(f"{name} {spec}" for name, spec in inputs.items())
            raise RequestError(f"{augmentation} changes {needs} and finds none to change by default among {shapes}")
        return chosen
    for name in names:
        if name not in inputs:
            raise RequestError(f"{augmentation}: there is no modality {name!r}{suggestion(name, inputs)}")
        if inputs[name].text != text or not fits(inputs[name]):
            raise RequestError(f"{augmentation} changes {needs}, and {name} is {inputs[name]}")
    if not names:
        raise RequestError(f"{augmentation}: the list of modalities is empty")
    return tuple(names)


def select_texts(augmentation: str, inputs: Mapping[str, InputSpec], names: Sequence[str] | None) -> tuple[str, ...]:
    """The texts named in a recipe, or all.

    Raises:
        RequestError: a named modality does not exist or is no text, or there is none.
    """
    return select(augmentation, inputs, names, fits=lambda spec: spec.text, needs="texts", text=True)


def is_map(spec: InputSpec) -> bool:
    """Whether the last two axes are rows and columns of a map; those of a cube of counts are not."""
    return len(spec.shape) >= 3 and not spec.counts
