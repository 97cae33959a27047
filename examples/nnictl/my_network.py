"""A function from parameters to a network; search_space.json says what the parameters may be."""

from typing import Any

from torch import nn

ACTIVATIONS = {'relu': nn.ReLU, 'gelu': nn.GELU, 'tanh': nn.Tanh}


def build(parameters: dict[str, Any]) -> nn.Module:
    width, kernel = parameters['width'], parameters['kernel']
    layers, channels = [], 3
    for _ in range(parameters['depth']):
        layers += [
            nn.Conv2d(channels, width, kernel, padding=kernel // 2),
            nn.BatchNorm2d(width),
            ACTIVATIONS[parameters['activation']](),
            nn.MaxPool2d(2),
        ]
        channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(parameters['dropout']), nn.Linear(channels, 10)
    )
