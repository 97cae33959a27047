"""A trial command of one's own: plain PyTorch that trains the network of the parameters that NNI hands out."""

import nni_knas  # noqa: F401  first: it gives trials that start together their own parameters
from nni_knas.data import load_data

import nni
import torch
from my_network import build
from torch.nn import functional as F
from torch.utils.data import DataLoader

parameters = nni.get_next_parameter()
data = load_data('digits')
count = len(data.validation)  # type: ignore[arg-type]  # torch's Dataset does not promise a length
network = build(parameters)
optimizer = torch.optim.Adam(network.parameters(), lr=0.002)
for _ in range(3):
    network.train()
    for images, labels in DataLoader(data.train, batch_size=32, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        losses = [
            F.cross_entropy(network(images), labels, reduction='sum').item()
            for images, labels in DataLoader(data.validation, batch_size=256)
        ]
    loss = sum(losses) / count
    nni.report_intermediate_result(loss)
nni.report_final_result(
    {'default': loss, 'kernel_score': parameters['kernel_score'], 'kernel_rank': parameters['kernel_rank']}
)
