"""How many times faster an epoch is where the hidden states of the frozen layers are kept on disk.

    python measurements/text_cache.py --data GLUE/RTE

The mean-pooled head over MiniLM, which tunes none, one or two of the top layers, is trained for an epoch with and without
the cache, turn by turn; an epoch is what Lightning calls so, its validation with it. The states are computed before, which
is paid once for all networks, and takes what a validation of all texts takes. The ratio is the median of those of the turns.
"""

import argparse
import statistics
import time

from nni_knas.spaces import TextClassifierSpace
from nni_knas.text import TextClassification, text_data

import torch
from nni.mutable import Sample
from nni.nas.space import SimplifiedModelSpace
from pytorch_lightning.callbacks import Callback


class EpochTimer(Callback):
    """How long the last epoch took."""

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', required=True, help='folder with train.tsv and dev.tsv')
    parser.add_argument('--texts', type=int, default=480, help='of the training part; a quarter of it to validate on')
    parser.add_argument('--max-length', type=int, default=128, help='tokens of a text that are used')
    parser.add_argument('--tuned', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--precision', nargs='+', default=['32-true', 'bf16-mixed'])
    parser.add_argument('--turns', type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, validation = (
        text_data(options.data, part, 'minilm', max_length=options.max_length, limit=texts)
        for part, texts in (('train', options.texts), ('validation', max(1, options.texts // 4)))
    )
    space = TextClassifierSpace('minilm', len(train.classes), sentences=train.sentences)

    def epoch(sample: Sample, precision: str, cache: bool) -> float:
        timer = EpochTimer()
        evaluator = TextClassification(
            train,
            validation,
            num_labels=len(train.classes),
            max_epochs=1,
            precision=precision,
            accelerator='cpu',
            cache=cache,
            callbacks=timer,
        )
        evaluator.fit(SimplifiedModelSpace.from_model(space).freeze(sample).executable_model())
        return timer.seconds

    for precision in options.precision:
        for tuned in options.tuned:
            sample = {**space.plain(), 'pooling': 'mean', 'tuned': tuned}
            turns = [[epoch(sample, precision, cache) for cache in (True, False)] for _ in range(options.turns)]
            ratio = statistics.median(without / kept for kept, without in turns)
            shortest = ' and '.join(f'{min(times):.2f} s' for times in zip(*turns))
            print(f'{precision}, tuned {tuned}: an epoch is {ratio:.1f} times faster ({shortest} at the least)', flush=True)


if __name__ == '__main__':
    main()
