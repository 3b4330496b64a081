"""Inheritance and overrides on plain data: what wins, what goes with it, and where it then stands."""

from __future__ import annotations

from typing import Any

import pytest

from fusionkit.errors import RecipeError
from fusionkit.merge import apply_override, merge
from fusionkit.yamlfile import Located, load_yaml

LOSSES = frozenset({"ce", "focal"})


def merged(parent: str, child: str) -> Located:
    return merge(load_yaml(parent, "parent.yaml"), load_yaml(child, "child.yaml"), LOSSES)


def overridden(recipe: str, *overrides: str) -> Any:
    located = load_yaml(recipe, "recipe.yaml")
    for override in overrides:
        located = apply_override(located, override, LOSSES)
    return located.data


@pytest.mark.parametrize(
    ("parent", "child", "result"),
    [
        # mappings are merged, all else is replaced
        ("train: {lr: 1, epochs: 2}", "train: {lr: 3}", {"train": {"lr": 3, "epochs": 2}}),
        ("data: {class_names: [a, b]}", "data: {class_names: [c]}", {"data": {"class_names": ["c"]}}),
        ("data: {split: official}", "data: {split: {column: f}}", {"data": {"split": {"column": "f"}}}),
        ("data: {labels: x}", "data: {labels: {name: y}}", {"data": {"labels": {"name": "y"}}}),
        ("data: {labels: {file: x, at: 1}}", "data: {labels: {train: y}}", {"data": {"labels": {"train": "y"}}}),
        ("fusion: {name: join, o: {a: 1}}", "fusion: {o: {b: 2}}", {"fusion": {"name": "join", "o": {"b": 2}}}),
        ("loss: {ce: {o: {a: 1}}}", "loss: {ce: {o: {b: 2}, p: 3}}", {"loss": {"ce": {"o": {"b": 2}, "p": 3}}}),
        ("loss: {name: ce, o: {a: 1}}", "loss: {o: {b: 2}}", {"loss": {"name": "ce", "o": {"b": 2}}}),
        (
            "modalities: {a: {encoder: {name: net, o: {a: 1}}}}",
            "modalities: {a: {encoder: {o: {b: 2}}}}",
            {"modalities": {"a": {"encoder": {"name": "net", "o": {"b": 2}}}}},
        ),
        (
            "data: {split: {column: f, test: 0}}",
            "data: {split: {test: 1}}",
            {"data": {"split": {"column": "f", "test": 1}}},
        ),
        ("train: {lr_scale: {a: 1}}", "train: {lr_scale: {b: 2}}", {"train": {"lr_scale": {"a": 1, "b": 2}}}),
        ("train: {grad_clip: 1}", "train: {grad_clip: null}", {"train": {"grad_clip": None}}),
        # null over a mapping removes it
        ("data: {split: {val: 1}, a: 1}", "data: {split: null}", {"data": {"a": 1}}),
        ("modalities: {a: net, b: {encoder: net}}", "modalities: {a: null, b:}", {"modalities": {}}),
        ("loss: {ce: 1, focal: 2}", "loss: {focal: null}", {"loss": {"ce": 1}}),
        # another component drops the former one's options, the same one keeps them
        ("fusion: {name: join, dim: 4}", "fusion: {name: add, p: 1}", {"fusion": {"name": "add", "p": 1}}),
        ("fusion: {name: join, dim: 4}", "fusion: {p: 1}", {"fusion": {"name": "join", "dim": 4, "p": 1}}),
        ("fusion: {name: join, dim: 4}", "fusion: {name: join, p: 1}", {"fusion": {"name": "join", "dim": 4, "p": 1}}),
        ("fusion: {dim: 4}", "fusion: {name: join}", {"fusion": {"name": "join", "dim": 4}}),
        ("data: {source: a, root: x, val: 1}", "data: {source: b}", {"data": {"source": "b"}}),
        ("data: {source: a, root: x, batch_size: 1}", "data: {source: b}", {"data": {"source": "b", "batch_size": 1}}),
        ("data: {source: a, root: x}", "data: {source: a, y: 1}", {"data": {"source": "a", "root": "x", "y": 1}}),
        # the short form means the long one
        ("fusion: join", "fusion: {dim: 4}", {"fusion": {"name": "join", "dim": 4}}),
        ("fusion: {name: join, dim: 4}", "fusion: add", {"fusion": {"name": "add"}}),
        ("fusion: {name: join, dim: 4}", "fusion: join", {"fusion": {"name": "join", "dim": 4}}),
        (
            "modalities: {a: net}",
            "modalities: {a: {encoder: {width: 1}}}",
            {"modalities": {"a": {"encoder": {"name": "net", "width": 1}}}},
        ),
        (
            "modalities: {a: {encoder: {name: net, width: 1}, shape: [2]}}",
            "modalities: {a: plain}",
            {"modalities": {"a": {"encoder": {"name": "plain"}, "shape": [2]}}},
        ),
        # loss: the mapping from names to weights, and the one with a name
        ("loss: {ce: 1}", "loss: {focal: 2}", {"loss": {"ce": 1, "focal": 2}}),
        ("loss: {focal: 2}", "loss: {focal: {gamma: 1}}", {"loss": {"focal": {"weight": 2, "gamma": 1}}}),
        ("loss: {focal: {gamma: 1}}", "loss: {focal: 2}", {"loss": {"focal": {"weight": 2, "gamma": 1}}}),
        ("loss: ce", "loss: {ce: 1, focal: 2}", {"loss": {"ce": {"weight": 1}, "focal": 2}}),
        ("loss: {name: ce, p: 1, weight: 3}", "loss: {focal: 2}", {"loss": {"ce": {"p": 1, "weight": 3}, "focal": 2}}),
        ("loss: {ce: 1, focal: 2}", "loss: focal", {"loss": {"name": "focal"}}),
        ("loss: {ce: 1}", "loss: {name: focal, gamma: 1}", {"loss": {"name": "focal", "gamma": 1}}),
        ("loss: ce", "loss: {label_smoothing: .1}", {"loss": {"name": "ce", "label_smoothing": 0.1}}),
        ("loss: [ce, focal]", "loss: [focal]", {"loss": ["focal"]}),
    ],
)
def test_a_child_over_its_parent(parent: str, child: str, result: object) -> None:
    assert merged(parent, child).data == result


def test_positions_are_those_of_the_file_that_won() -> None:
    located = merged(
        "data: {source: a, root: x}\nfusion: {name: join, dim: 4}\nmodalities: {a: net, b: net}\nlr: 3",
        "# comment\nfusion: {dim: 5}\nmodalities: {a: plain}\nlr: [1,\n 2]",
    )
    at = {
        ".".join(map(str, path)): str(located.position(path))
        for path in [
            ("data", "root"),
            ("fusion", "name"),
            ("fusion", "dim"),
            ("modalities", "a", "encoder"),
            ("modalities", "b"),
            ("lr", 1),
        ]
    }
    assert at == {
        "data.root": "parent.yaml:1:19",
        "fusion.name": "parent.yaml:2:10",
        "fusion.dim": "child.yaml:2:10",
        "modalities.a.encoder": "child.yaml:3:14",
        "modalities.b": "parent.yaml:3:22",
        "lr.1": "child.yaml:5:2",
    }


def test_options_that_go_leave_no_position_behind() -> None:
    located = merged("fusion: {name: join, dim: 4}\n", "\nfusion: {name: add}\n")
    assert str(located.position(("fusion", "dim"))) == "child.yaml:2:10"


def test_neither_side_is_changed() -> None:
    parent, child = load_yaml("a: {b: {c: 1}}", "p"), load_yaml("a: {b: {d: 2}}", "c")
    merge(parent, child, LOSSES)
    assert parent.data == {"a": {"b": {"c": 1}}}
    assert child.data == {"a": {"b": {"d": 2}}}


@pytest.mark.parametrize(
    ("recipe", "override", "result"),
    [
        ("{}", "train.lr=3e-5", {"train": {"lr": 3e-5}}),
        ("train: {lr: 1}", "train.epochs = 5", {"train": {"lr": 1, "epochs": 5}}),
        ("train: {lr: 1}", "train={epochs: 5}", {"train": {"lr": 1, "epochs": 5}}),
        ("a: {b: 1}", "a.b=[1, {c: 2}]", {"a": {"b": [1, {"c": 2}]}}),
        ("a: 1", "a=", {"a": None}),
        ("a: 1", "a='x=y'", {"a": "x=y"}),
        ("a: 1", "a=x=y", {"a": "x=y"}),
        ("a: 1", 'a="256"', {"a": "256"}),
        # components
        ("fusion: join", "fusion.dim=64", {"fusion": {"name": "join", "dim": 64}}),
        ("fusion: {name: join, dim: 4}", "fusion=add", {"fusion": {"name": "add"}}),
        ("fusion: {name: join, dim: 4}", "fusion.name=add", {"fusion": {"name": "add"}}),
        ("fusion: {name: join, dim: 4}", "fusion.name=join", {"fusion": {"name": "join", "dim": 4}}),
        ("data: {source: a, root: x}", "data.source=b", {"data": {"source": "b"}}),
        (
            "modalities: {a: net}",
            "modalities.a.encoder.width=3",
            {"modalities": {"a": {"encoder": {"name": "net", "width": 3}}}},
        ),
        ("modalities: {a: net, b: net}", "modalities.b=null", {"modalities": {"a": "net"}}),
        ("modalities: {a: net}", "modalities.b=plain", {"modalities": {"a": "net", "b": "plain"}}),
        ("fusion: {name: [a, b]}", "fusion.name.0=c", {"fusion": {"name": ["c", "b"]}}),
        # within the value of an option
        ("data: {i: {a: {x: 1}, b: 2}}", "data.i.a={y: 1}", {"data": {"i": {"a": {"y": 1}, "b": 2}}}),
        ("data: {i: {a: {x: 1}, b: 2}}", "data.i.a.y=1", {"data": {"i": {"a": {"x": 1, "y": 1}, "b": 2}}}),
        ("data: {i: {a: {x: 1}, b: 2}}", "data.i={a: 1}", {"data": {"i": {"a": 1}}}),
        ("data: {i: {a: {x: 1}, b: 2}}", "data.i.a=null", {"data": {"i": {"b": 2}}}),
        ("data: {i: [{x: 1}, {z: 1}]}", "data.i.0={y: 1}", {"data": {"i": [{"y": 1}, {"z": 1}]}}),
        ("fusion: {name: join, o: {a: 1}}", "fusion.o.b=2", {"fusion": {"name": "join", "o": {"a": 1, "b": 2}}}),
        # lists
        ("loss: [ce, {name: focal, gamma: 1}]", "loss.1.weight=2", ["ce", {"name": "focal", "gamma": 1, "weight": 2}]),
        ("loss: [ce, focal]", "loss.0.weight=2", [{"name": "ce", "weight": 2}, "focal"]),
        ("loss: [ce, focal]", "loss.0=focal", [{"name": "focal"}, "focal"]),
        ("augment: [flip]", "augment.0.probability=1", {"augment": [{"name": "flip", "probability": 1}]}),
        ("metrics: [brier, top_k]", "metrics.1.k=3", {"metrics": ["brier", {"name": "top_k", "k": 3}]}),
        # losses, also where the recipe leaves the default
        ("loss: ce", "loss.focal=0.3", {"ce": {}, "focal": 0.3}),
        ("loss: {focal: {gamma: 1}}", "loss.focal=0.3", {"focal": {"gamma": 1, "weight": 0.3}}),
        ("{}", "loss.label_smoothing=0.1", {"name": "cross_entropy", "label_smoothing": 0.1}),
        ("{}", "loss.focal=0.3", {"cross_entropy": {}, "focal": 0.3}),
        # keys that hold dots
        ("{}", "train.lr_scale.encoder.image=0.1", {"train": {"lr_scale": {"encoder.image": 0.1}}}),
        ("train: {lr_scale: {encoder.a: 1}}", "train.lr_scale.encoder.a=2", {"train": {"lr_scale": {"encoder.a": 2}}}),
        (
            "train: {stages: [{epochs: 1}]}",
            "train.stages.0.lr_scale.encoder.a=0",
            {"train": {"stages": [{"epochs": 1, "lr_scale": {"encoder.a": 0}}]}},
        ),
        ("data: {m: {a.b: 1}}", "data.m.a.b=2", {"data": {"m": {"a.b": 2}}}),
    ],
)
def test_one_override(recipe: str, override: str, result: Any) -> None:
    found = overridden(recipe, override)
    # `loss` alone is written short above.
    assert (found["loss"] if override.startswith("loss") else found) == result


def test_overrides_apply_in_order() -> None:
    assert overridden("fusion: add", "fusion=join", "fusion.dim=2", "fusion.dim=3")["fusion"] == {
        "name": "join",
        "dim": 3,
    }


def test_an_override_takes_only_its_own_place() -> None:
    located = apply_override(load_yaml("loss: [ce,\n  focal]\na: 1\n", "r.yaml"), "loss.0.weight=x", LOSSES)
    assert str(located.position(("loss", 0, "weight"))) == "override 'loss.0.weight=x'"
    assert str(located.position(("loss", 1))) == "r.yaml:2:3"
    assert str(located.position(("a",))) == "r.yaml:3:1"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.lr", "override 'train.lr': write key=value, for example train.epochs=5"),
        ("=3", "override '=3': write key=value, for example train.epochs=5"),
        ("train..lr=3", "override 'train..lr=3': write key=value, for example train.epochs=5"),
        ("lr=[1, 2", "override 'lr=[1, 2': YAML syntax: a `,` or the closing `]` is missing (opened in line 1)"),
        ("lr={a: 1, a: 2}", "override 'lr={a: 1, a: 2}': given twice, first in line 1; remove one"),
        ("lr=!x 1", "override 'lr=!x 1': the tag !x is not allowed"),
        (
            "loss.2.weight=1",
            "override 'loss.2.weight=1': loss: '2' is no place of this list, which has 2, counted from 0",
        ),
        (
            "loss.weight=1",
            "override 'loss.weight=1': loss: 'weight' is no place of this list, which has 2, counted from 0",
        ),
        ("base=b.yaml", "override 'base=b.yaml': `base` stands in files only"),
    ],
)
def test_what_is_said_of_a_bad_override(override: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        overridden("loss: [ce, focal]", override)
    assert str(error.value) == told
