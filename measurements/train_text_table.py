"""A table of trained text classifiers: random architectures over MiniLM, fine-tuned on a task in GLUE's format.

    python measurements/train_text_table.py --data GLUE/RTE

A row is written as soon as its network is trained. Started again, it goes on where it stopped; ``--part 1/2`` and ``--part
2/2`` train the two halves at the same time. The table of the package was made with the
defaults, and has 40 of the 44.
"""

import argparse
import csv
import time
from pathlib import Path

import nni_knas
from nni_knas.benchmark import text_space
from nni_knas.networks import encode_sample, random_models
from nni_knas.text import TextClassification, load_text

import torch
from nni.nas.space import SimplifiedModelSpace
from tqdm import tqdm

COLUMNS = ('architecture', 'valid_acc', 'test_acc', 'valtest_acc', 'parameters', 'seconds')
TABLE = Path(nni_knas.__file__).parent / 'benchmark' / 'tables' / 'text-rte.csv'


def done(table: Path) -> set[str]:
    """The architectures that a table has; one that is not there is begun."""
    if not table.exists():
        table.write_text(','.join(COLUMNS) + '\n')
    with table.open(newline='') as file:
        return {row['architecture'] for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', required=True, help='folder with train.tsv and dev.tsv')
    parser.add_argument('--networks', type=int, default=44)
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--max-length', type=int, default=64, help='tokens of a text that are used')
    parser.add_argument('--precision', default='bf16-mixed', help='32-true is slower on most processors')
    parser.add_argument('--part', default='1/1', help='I/N: every Nth architecture, from the Ith on')
    parser.add_argument('--output', type=Path, default=TABLE)
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    first, step = map(int, options.part.split('/'))

    data = load_text(options.data, 'minilm', max_length=options.max_length)
    evaluator = TextClassification(
        data.train,
        data.validation,
        data.test,
        num_labels=data.num_labels,
        max_epochs=options.epochs,
        encoder_learning_rate=2e-4,
        precision=options.precision,
        accelerator='cpu',
    )
    held_out, dev = len(data.validation), len(data.test)
    models = random_models(SimplifiedModelSpace.from_model(text_space()), options.networks, seed=0)[first - 1 :: step]
    trained = done(options.output)
    for model in tqdm(models, desc='Training', unit='network', disable=None):
        architecture = encode_sample(model.sample)
        if architecture in trained:
            continue
        start = time.perf_counter()
        network = model.executable_model()
        result = evaluator.fit(network, seed=0)
        valid, test = (100 * part['accuracy'] for part in (result.validation, result.test))
        both = (valid * held_out + test * dev) / (held_out + dev)
        row = (
            architecture,
            f'{valid:.2f}',
            f'{test:.2f}',
            f'{both:.2f}',
            sum(p.numel() for p in network.parameters() if p.requires_grad),
            f'{time.perf_counter() - start:.1f}',
        )
        with options.output.open('a', newline='') as file:
            csv.writer(file, lineterminator='\n').writerow(row)


if __name__ == '__main__':
    main()
