"""Search a text classifier over a pre-trained encoder, against the plain fine-tuned encoder and against a random choice.

    python examples/text/search.py --data GLUE/RTE
    python examples/text/search.py --data GLUE/MRPC --metric f1

GLUE/RTE is a folder with train.tsv and dev.tsv in GLUE's format; hf:nyu-mll/glue:rte takes them from the Hugging Face hub.

1. KNAS scores candidates and trains the best k on part of the training split, as trials of NNI's local training service. The
   winner has the best metric on the other part.
2. As many random candidates are trained in the same way, and the best of them is chosen in the same way.
3. The winner, the best random candidate, and the plain fine-tuned encoder are trained with several seeds in the same way.
   Their results on the dev split are reported; nothing is chosen by it.

On a GPU: --accelerator gpu --precision bf16-mixed. What is trained is kept in --output; started again, it goes on there.
"""

import argparse
import json
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from nni_knas import KNAS, GradientKernelEvaluator, open_run
from nni_knas.networks import decode_sample, encode_sample, random_models
from nni_knas.scores import score_names
from nni_knas.spaces import TextClassifierSpace
from nni_knas.text import TextClassification, load_text, text_data

import torch
from nni.nas.experiment import NasExperiment
from nni.nas.space import SimplifiedModelSpace
from tqdm import tqdm


def make_space(options: argparse.Namespace, whole: bool = False) -> TextClassifierSpace:
    """The space that is searched, or the whole one, which has the plain encoder, too."""
    data = load_text(options.data, options.encoder, max_length=options.max_length)
    return TextClassifierSpace(
        options.encoder, data.num_labels, sentences=data.sentences, tuned=None if whole else options.tuned
    )


def make_evaluator(options: argparse.Namespace, test: bool) -> TextClassification:
    parts = {
        part: text_data(options.data, part, options.encoder, max_length=options.max_length)
        for part in ('train', 'validation', *(['test'] if test else []))
    }
    return TextClassification(
        **parts,
        num_labels=len(parts['train'].classes),
        metric=options.metric,
        batch_size=options.batch_size,
        max_epochs=options.epochs,
        learning_rate=options.learning_rate,
        encoder_learning_rate=options.encoder_learning_rate,
        accelerator=options.accelerator,
        precision=options.precision,
        threads=options.threads,
    )


def search(options: argparse.Namespace) -> dict[str, Any]:
    """Sample and validation metric of the winner, and the experiment that found it."""
    kernel = GradientKernelEvaluator(
        text_data(options.data, 'train', options.encoder, max_length=options.max_length),
        score=options.score,
        batch_size=options.score_batch,
    )
    strategy = KNAS(kernel, options.candidates, options.top_k)
    experiment = NasExperiment(make_space(options), make_evaluator(options, test=False), strategy)
    experiment.config.trial_concurrency = options.concurrency
    experiment.run(options.port)
    experiment.stop()
    run = open_run(experiment.id)
    table = run.scores(all=True)
    print(table[table.metric.notna()].drop(columns='architecture').to_string())
    return {'sample': encode_sample(run.architecture), 'validation': run.metric, 'experiment': experiment.id}


def train(options: argparse.Namespace, sample: str, seed: int) -> dict[str, Any]:
    """Train one candidate with one seed, in a process of its own."""
    torch.set_num_threads(options.threads)
    model = SimplifiedModelSpace.from_model(make_space(options, whole=True)).freeze(decode_sample(sample))
    result = make_evaluator(options, test=True).fit(model.executable_model(), seed)
    return {'validation': result.validation, 'test': result.test, 'seconds': result.seconds}


class Trainings:
    """Trains candidates, a few at a time, and keeps each result in a file the moment it is known."""

    def __init__(self, options: argparse.Namespace, path: Path) -> None:
        self.options, self.path = options, path
        self.known: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.known = {entry.pop('key'): entry for entry in map(json.loads, path.read_text().splitlines())}

    def run(self, jobs: list[tuple[str, int]], title: str) -> list[dict[str, Any]]:
        """The results of candidates ``(sample, seed)``, in their order."""
        keys = [json.dumps(job) for job in jobs]
        with ProcessPoolExecutor(self.options.concurrency, get_context('spawn')) as pool:
            futures = {pool.submit(train, self.options, *job): key for key, job in zip(keys, jobs) if key not in self.known}
            for future in tqdm(as_completed(futures), desc=title, total=len(futures), unit='training', disable=None):
                key = futures[future]
                self.known[key] = future.result()
                with self.path.open('a') as file:
                    file.write(json.dumps({'key': key, **self.known[key]}) + '\n')
        return [self.known[key] for key in keys]


def compare(options: argparse.Namespace, found: dict[str, Any], trainings: Trainings) -> dict[str, list[dict[str, Any]]]:
    """Results of each seed for the searched, the random and the plain architecture."""
    space = make_space(options)
    drawn = [
        encode_sample(model.sample or {})
        for model in random_models(SimplifiedModelSpace.from_model(space), options.top_k, seed=options.random_seed)
    ]
    # What a candidate does on the dev split is noted at once, and looked at in the end only.
    results = trainings.run([(sample, 0) for sample in drawn], 'Random candidates')
    best = max(range(len(drawn)), key=lambda i: results[i]['validation'][options.metric])
    rivals = {
        'searched (KNAS)': found['sample'],
        f'best of {options.top_k} random': drawn[best],
        'plain fine-tuned encoder': encode_sample(make_space(options, whole=True).plain()),
    }
    jobs = [(sample, seed) for sample in rivals.values() for seed in range(options.seeds)]
    done = trainings.run(jobs, 'Comparison')
    return {name: done[i * options.seeds : (i + 1) * options.seeds] for i, name in enumerate(rivals)}


def report(results: dict[str, list[dict[str, Any]]], samples: int) -> None:
    print(f'\nOn the dev split ({samples} texts), mean ± deviation over {len(next(iter(results.values())))} seeds:')
    for name, runs in results.items():
        cells = []
        for metric in ('accuracy', 'f1'):
            values = [100 * run['test'][metric] for run in runs]
            deviation = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f'{metric} {statistics.mean(values):.2f} ± {deviation:.2f}')
        seconds = statistics.mean(run['seconds'] for run in runs)
        print(f'{name:26} {"   ".join(cells)}   {seconds:.0f} s a training')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', required=True, help='folder with train.tsv and dev.tsv, or hf:NAME:CONFIG')
    parser.add_argument('--encoder', default='minilm', help='folder or name on the Hugging Face hub (default: %(default)s)')
    parser.add_argument('--metric', default='accuracy', choices=('accuracy', 'f1'), help='chooses (default: %(default)s)')
    parser.add_argument('--candidates', type=int, default=300)
    parser.add_argument('--top-k', type=int, default=3)
    parser.add_argument('--seeds', type=int, default=3, help='of the comparison (default: %(default)s)')
    parser.add_argument('--random-seed', type=int, default=1, help='of the random choice (default: %(default)s)')
    parser.add_argument(
        '--tuned',
        type=int,
        nargs='+',
        metavar='N',
        help='numbers of top layers that the searched networks may tune (default: 0 1 2, half and all)',
    )
    parser.add_argument('--score', choices=score_names(), help='default: the recommended one')
    parser.add_argument('--score-batch', type=int, default=16, help='texts to score on (default: %(default)s)')
    parser.add_argument('--epochs', type=int, default=2)
    parser.add_argument('--batch-size', type=int, default=16)
    parser.add_argument('--learning-rate', type=float, default=1e-3, help='of what is new (default: %(default)s)')
    parser.add_argument(
        '--encoder-learning-rate', type=float, default=2e-4, help='of what is pre-trained (default: %(default)s)'
    )
    parser.add_argument('--max-length', type=int, default=64, help='tokens of a text that are used (default: %(default)s)')
    parser.add_argument('--accelerator', default='cpu', help='cpu, gpu or auto (default: %(default)s)')
    parser.add_argument('--precision', default='bf16-mixed', help='32-true, 16-mixed or bf16-mixed (default: %(default)s)')
    parser.add_argument('--concurrency', type=int, default=2, help='trainings at a time (default: %(default)s)')
    parser.add_argument('--threads', type=int, default=1, help='of each training (default: %(default)s)')
    parser.add_argument('--port', type=int, default=8080)
    parser.add_argument('--output', type=Path, help='folder (default: text-search/NAME of the data)')
    options = parser.parse_args()

    folder = options.output or Path('text-search') / Path(options.data.replace(':', '-')).name
    folder.mkdir(parents=True, exist_ok=True)
    data = load_text(options.data, options.encoder, max_length=options.max_length)
    kept = folder / 'search.json'
    if not kept.exists():
        kept.write_text(json.dumps(search(options)))
    found = json.loads(kept.read_text())
    results = compare(options, found, Trainings(options, folder / 'trainings.jsonl'))
    (folder / 'results.json').write_text(json.dumps({'searched': json.loads(found['sample']), 'results': results}, indent=2))
    report(results, len(data.test))


if __name__ == '__main__':
    main()
