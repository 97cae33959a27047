"""A table of trained text classifiers: random architectures over frozen MiniLM, trained on a task in GLUE's format.

    python measurements/train_text_table.py --data GLUE/RTE

Each is trained with three seeds, on hidden states that are computed once; its accuracy is the mean. A row is written as soon
as its network is trained. Started again, it goes on where it stopped; ``--part 1/2`` and ``--part 2/2`` train the two halves
at the same time. The tables of the package, text-rte and text-mrpc, were made with the defaults.
"""

import argparse
import csv
import statistics
import time
from pathlib import Path

import nni_knas
from nni_knas.benchmark import text_space
from nni_knas.networks import encode_sample, random_models
from nni_knas.text import TextClassification, load_text

import torch
from nni.nas.space import SimplifiedModelSpace
from tqdm import tqdm

COLUMNS = ('architecture', 'valid_acc', 'test_acc', 'valtest_acc', 'deviation', 'parameters', 'seconds')
TABLES = Path(nni_knas.__file__).parent / 'benchmark' / 'tables'


def done(table: Path) -> set[str]:
    """The architectures that a table has; one that is not there is begun."""
    if not table.exists():
        table.write_text(','.join(COLUMNS) + '\n')
    with table.open(newline='') as file:
        return {row['architecture'] for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', required=True, help='folder with train.tsv and dev.tsv')
    parser.add_argument('--networks', type=int, default=64)
    parser.add_argument('--epochs', type=int, default=3)
    parser.add_argument('--seeds', type=int, default=3)
    parser.add_argument('--max-length', type=int, default=128, help='tokens of a text that are used')
    parser.add_argument('--precision', default='auto', help='32-true or bf16-mixed (default: what is faster here)')
    parser.add_argument('--part', default='1/1', help='I/N: every Nth architecture, from the Ith on')
    parser.add_argument('--output', type=Path, help='default: the table of the package that is called as the folder')
    parser.add_argument('--threads', type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    output = options.output or TABLES / f'text-{Path(options.data).name.lower()}.csv'
    first, step = map(int, options.part.split('/'))

    data = load_text(options.data, 'minilm', max_length=options.max_length)
    if data.test is None:
        parser.error(f'{options.data} has no dev split')
    evaluator = TextClassification(
        data.train,
        data.validation,
        data.test,
        num_labels=data.num_labels,
        max_epochs=options.epochs,
        seeds=options.seeds,
        precision=options.precision,
        accelerator='cpu',
    )
    held_out, dev = len(data.validation), len(data.test)
    models = random_models(SimplifiedModelSpace.from_model(text_space()), options.networks, seed=0)[first - 1 :: step]
    trained = done(output)
    for model in tqdm(models, desc='Training', unit='network', disable=None):
        architecture = encode_sample(model.sample)
        if architecture in trained:
            continue
        start = time.perf_counter()
        network = model.executable_model()
        results = evaluator.evaluate(network)
        valid = [100 * result.validation['accuracy'] for result in results]
        test = [100 * result.test['accuracy'] for result in results if result.test]
        both = [(v * held_out + t * dev) / (held_out + dev) for v, t in zip(valid, test)]
        row = (
            architecture,
            *(f'{statistics.fmean(values):.2f}' for values in (valid, test, both)),
            f'{statistics.stdev(both):.2f}' if len(both) > 1 else '',
            sum(p.numel() for p in network.parameters() if p.requires_grad),
            f'{time.perf_counter() - start:.1f}',
        )
        with output.open('a', newline='') as file:
            csv.writer(file, lineterminator='\n').writerow(row)


if __name__ == '__main__':
    main()
