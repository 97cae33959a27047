"""Search a text classifier over a pre-trained encoder, and see what it is better than.

    python examples/text/search.py --data GLUE/RTE
    python examples/text/search.py --data GLUE/MRPC

GLUE/RTE is a folder with train.tsv and dev.tsv in GLUE's format, of texts of one sentence or two; hf:nyu-mll/glue:rte takes
them from the Hugging Face hub.

1. The floor: a logistic regression on the frozen encoder.
2. KNAS scores candidates and trains k of them on a part of the training split, as trials of NNI; it learns from each which
   to train next. The winner has the best metric on the other part.
3. The plain fine-tuned encoder is trained with each learning rate, with the best of these with each pooling, and the best
   epoch of each counts; what is best on the same part is chosen.
4. k random candidates of the same space are trained as those of the search, and the best on the same part is chosen.
5. The winner and these two are trained anew with the same seeds, and tried on the dev split, which was not looked at before.
   The table says by how much the winner is better, with intervals of 95 % (see nni_knas.text.paired_difference), and what a
   training takes: the hidden states of frozen layers are computed once, so that several epochs of a head take less than one
   of the plain encoder. All have the same texts, batches, schedule and choice of checkpoint.

On a GPU: --accelerator gpu. What is trained is kept in --output; started again, it goes on there.
"""

import argparse
import json
import statistics
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any, NamedTuple

from nni_knas import KNAS, GradientKernelEvaluator, open_run
from nni_knas.basics.pools import process_pool
from nni_knas.networks import decode_sample, encode_sample, random_models
from nni_knas.scores import score_names
from nni_knas.spaces import TextClassifierSpace, light_text_classifiers
from nni_knas.text import (
    Contender,
    TextClassification,
    TextData,
    TokenDataset,
    comparison_table,
    floor,
    load_text,
    text_data,
)

import torch
from nni.nas.experiment import NasExperiment
from nni.nas.space import SimplifiedModelSpace
from tqdm import tqdm

POOLINGS = ('first', 'mean', 'max', 'attention')


class Recipe(NamedTuple):
    """An architecture, and how it is trained."""

    sample: str
    epochs: int
    encoder_learning_rate: float


def part_of(options: argparse.Namespace, part: str) -> Any:
    """One part of the texts, traced, so that trials load it anew; of a large training split as much as --texts says."""
    limit = None if part == 'test' else options.texts
    return text_data(options.data, part, options.encoder, max_length=options.max_length, limit=limit)


def load(options: argparse.Namespace) -> TextData:
    data = load_text(options.data, options.encoder, max_length=options.max_length)
    return data._replace(train=part_of(options, 'train'), validation=part_of(options, 'validation'))


def make_space(options: argparse.Namespace, plain: bool = False) -> TextClassifierSpace:
    """The space that is searched; or one that has the plain encoder, too."""
    data = load(options)
    space = light_text_classifiers(options.encoder, data.num_labels, sentences=data.sentences, tuned=options.tuned)
    if not plain:
        return space
    tuned = sorted({*space.simplify()['tuned'].values, space.encoder.layers})
    return light_text_classifiers(options.encoder, data.num_labels, sentences=data.sentences, tuned=tuned)


def make_evaluator(options: argparse.Namespace, epochs: int, rate: float, test: bool = False) -> TextClassification:
    parts = {part: part_of(options, part) for part in ('train', 'validation', *(['test'] if test else []))}
    return TextClassification(
        **parts,
        num_labels=len(parts['train'].classes),
        metric=options.metric,
        batch_size=options.batch_size,
        max_epochs=epochs,
        learning_rate=options.learning_rate,
        encoder_learning_rate=rate,
        accelerator=options.accelerator,
        precision=options.precision,
        threads=options.threads,
    )


def train(options: argparse.Namespace, recipe: Recipe, seed: int, test: bool) -> dict[str, Any]:
    """Train by a recipe with one seed, in a process of its own."""
    torch.set_num_threads(options.threads)
    space = SimplifiedModelSpace.from_model(make_space(options, plain=True))
    network = space.freeze(decode_sample(recipe.sample)).executable_model()
    evaluator = make_evaluator(options, recipe.epochs, recipe.encoder_learning_rate, test)
    return evaluator.fit(network, seed)._asdict()


def alone(recipes: list[Recipe]) -> list[tuple[Recipe, int, bool]]:
    """Trainings that something is chosen by: one seed each, and the dev split is not looked at."""
    return [(recipe, 0, False) for recipe in recipes]


class Trainings:
    """Trains a few at a time, in processes that begin when they are needed; keeps each result the moment it is known."""

    def __init__(self, options: argparse.Namespace, path: Path) -> None:
        self.options, self.path = options, path
        self.pool = process_pool(options.concurrency)
        self.known: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.known = {entry.pop('key'): entry for entry in map(json.loads, path.read_text().splitlines())}

    def run(self, jobs: list[tuple[Recipe, int, bool]], title: str) -> list[dict[str, Any]]:
        """The results of recipes, each with a seed, and whether the dev split is looked at, in their order."""
        keys = [json.dumps(job) for job in jobs]
        new = {key: job for key, job in zip(keys, jobs) if key not in self.known}
        futures = {self.pool.submit(train, self.options, *job): key for key, job in new.items()}
        done = tqdm(as_completed(futures), desc=title, total=len(new), unit='training', disable=None if new else True)
        for future in done:
            key = futures[future]
            self.known[key] = future.result()
            with self.path.open('a') as file:
                file.write(json.dumps({'key': key, **self.known[key]}) + '\n')
        return [self.known[key] for key in keys]

    def best(self, recipes: list[Recipe], title: str = '') -> Recipe:
        """The recipe with the best metric on the part of the training split that is kept for it."""
        results = self.run(alone(recipes), title)
        return max(zip(recipes, results), key=lambda each: each[1]['validation'][self.options.metric])[0]


def make_strategy(options: argparse.Namespace) -> KNAS:
    kernel = GradientKernelEvaluator(
        part_of(options, 'train'),
        score=options.score,
        batch_size=options.score_batch,
    )
    return KNAS(kernel, options.candidates, options.top_k, choose=options.choose, workers=options.concurrency)


def search(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Sample and validation metric of the winner, and the experiment that found it, which goes on if it had been begun."""
    begun = folder / 'experiment.txt'
    evaluator = make_evaluator(options, options.epochs, options.encoder_learning_rate)
    identity = begun.read_text() if begun.exists() else None
    experiment = NasExperiment(make_space(options), evaluator, make_strategy(options), id=identity)
    begun.write_text(experiment.id)
    experiment.config.trial_concurrency = options.concurrency
    experiment.run_or_resume(options.port)
    experiment.stop()
    run = open_run(experiment.id)
    if run.status != 'finished':
        raise SystemExit(f'The search {experiment.id} ended before its time ({run.status}): the same command goes on')
    table = run.scores(all=True)
    print(table[table.metric.notna()].drop(columns='architecture').to_string())
    return {'sample': encode_sample(run.architecture), 'validation': run.metric, 'experiment': experiment.id}


def chosen_others(options: argparse.Namespace, trainings: Trainings) -> tuple[Recipe, Recipe]:
    """The plain encoder and the random candidate that are best; of each training of the plain encoder the best epoch counts.

    Its learning rate is chosen first, and with it its pooling.
    """
    plain = make_space(options, plain=True).plain()
    space = SimplifiedModelSpace.from_model(make_space(options))

    def recipe(pooling: str, rate: float) -> Recipe:
        return Recipe(encode_sample({**plain, 'pooling': pooling}), options.plain_epochs, rate)

    rates = [recipe(options.plain_poolings[0], rate) for rate in options.plain_learning_rates]
    rate = trainings.best(rates, 'Plain encoder, learning rates').encoder_learning_rate
    poolings = [recipe(pooling, rate) for pooling in options.plain_poolings]
    models = random_models(space, options.top_k, seed=options.random_seed)
    random = [Recipe(encode_sample(model.sample or {}), options.epochs, options.encoder_learning_rate) for model in models]
    trainings.run(alone([*poolings, *random]), 'Plain encoder, poolings, and random candidates')  # together no core idles
    return trainings.best(poolings), trainings.best(random)


def compare(options: argparse.Namespace, recipes: dict[str, Recipe], trainings: Trainings) -> dict[str, Contender]:
    """What each makes of the dev split, trained anew with each seed."""
    jobs = [(recipe, seed, True) for recipe in recipes.values() for seed in range(options.seeds)]
    done = trainings.run(jobs, 'Comparison')
    contenders = {}
    for i, name in enumerate(recipes):
        runs = done[i * options.seeds : (i + 1) * options.seeds]
        contenders[name] = Contender([run['predicted'] for run in runs], statistics.mean(run['seconds'] for run in runs))
    return contenders


def count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f'{text!r} is no whole number of 1 or more')
    return int(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add('--data', required=True, help='folder with train.tsv and dev.tsv, or hf:NAME:CONFIG')
    add('--encoder', default='minilm', help='folder or name on the Hugging Face hub (default: %(default)s)')
    add('--texts', type=count, default=1000, help='to train on, and to choose by, at most (default: %(default)s)')
    add('--metric', default='accuracy', choices=('accuracy', 'f1'), help='chooses (default: %(default)s)')
    add('--candidates', type=count, default=128, help='that are scored (default: %(default)s)')
    add('--top-k', type=count, default=16, help='candidates that are trained (default: %(default)s)')
    add('--choose', default='learn', choices=('learn', 'rank'), help='which are trained (default: %(default)s)')
    add('--seeds', type=count, default=5, help='of the comparison (default: %(default)s)')
    add('--random-seed', type=int, default=1, help='of the random choice (default: %(default)s)')
    add('--tuned', type=int, nargs='+', metavar='N', help='top layers that may be tuned (default: none, and the top one)')
    add('--score', default='target-fit', choices=score_names(), help='believed at first (default: %(default)s)')
    add('--score-batch', type=count, default=128, help='texts to score on (default: %(default)s)')
    add('--epochs', type=count, default=3, help='of searched and random ones (default: %(default)s)')
    add('--batch-size', type=count, default=16)
    add('--learning-rate', type=float, default=1e-3, help='of what is new (default: %(default)s)')
    add('--encoder-learning-rate', type=float, default=2e-4, help='in the search, of what is tuned (default: %(default)s)')
    add('--plain-learning-rates', type=float, nargs='+', default=[1e-4, 2e-4], help='to choose from (default: 1e-4 2e-4)')
    add('--plain-poolings', nargs='+', choices=POOLINGS, default=['mean', 'first'], help='the same (default: mean first)')
    add('--plain-epochs', type=count, default=3, help='of which the best counts (default: %(default)s)')
    add('--max-length', type=count, default=128, help='tokens of a text that are used (default: %(default)s)')
    add('--accelerator', default='cpu', help='cpu, gpu or auto (default: %(default)s)')
    add('--precision', default='auto', help='32-true, 16-mixed or bf16-mixed (default: what is faster here)')
    add('--concurrency', type=count, default=2, help='trainings at a time (default: %(default)s)')
    add('--threads', type=count, default=1, help='of each training (default: %(default)s)')
    add('--port', type=int, default=8080)
    add('--output', type=Path, help='folder (default: text-search/NAME of the data)')


def begin(parser: argparse.ArgumentParser, options: argparse.Namespace) -> tuple[Path, TextData, TokenDataset]:
    """The folder of the results, the texts, and the dev split. What is wrong is said before anything is trained."""
    try:
        data = load(options)
        make_space(options)
        make_evaluator(options, options.epochs, options.encoder_learning_rate)
        make_strategy(options)
    except ValueError as error:
        parser.error(str(error))
    if data.test is None:
        parser.error(f'{options.data} has no dev split, on which what was found is tried')
    folder = options.output or Path('text-search') / Path(options.data.replace(':', '-')).name
    asked = {
        name: value for name, value in vars(options).items() if name not in ('output', 'port', 'concurrency', 'threads')
    }
    kept = folder / 'options.json'
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps(asked, indent=2))
    if json.loads(kept.read_text()) != asked:
        parser.error(f'{folder} was begun with other options ({kept}): name another folder with --output')
    return folder, data, data.test


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    folder, data, test = begin(parser, options)
    lowest = floor(data, options.encoder)
    kept = folder / 'search.json'
    if not kept.exists():
        kept.write_text(json.dumps(search(options, folder)))
    found = json.loads(kept.read_text())
    trainings = Trainings(options, folder / 'trainings.jsonl')
    plain, random = chosen_others(options, trainings)
    recipes = {
        'searched': Recipe(found['sample'], options.epochs, options.encoder_learning_rate),
        'plain fine-tuned encoder': plain,
        f'best of {options.top_k} random': random,
    }
    contenders = {**compare(options, recipes, trainings), 'floor': Contender([lowest.predicted])}
    table = comparison_table(contenders, test.targets.tolist())
    (folder / 'table.md').write_text(table + '\n')
    for name, recipe in recipes.items():
        print(f'{name}: {recipe.epochs} epochs, {recipe.encoder_learning_rate:g} for the encoder, {recipe.sample}')
    print(f'\nOn the dev split ({len(test)} texts), {options.seeds} seeds:\n\n{table}')


if __name__ == '__main__':
    main()
