"""A plugin whose fusion has an option without a type."""

import torch

from fusionkit import Component, Fusion, hookimpl


@hookimpl
def fusionkit_components():
    yield Component("fusion", "no_types", "broken_no_types:NoTypes", "its option has no type")


class NoTypes(Fusion):
    """Pooled features side by side, scaled."""

    def __init__(self, inputs, *, scale=1.0):
        super().__init__(inputs)
        self.scale = scale

    def forward(self, features):
        return self.scale * torch.cat([feature.pooled for feature in features.values()], dim=1)
