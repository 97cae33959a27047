"""How the best text classifiers are trained: fine-tuning as for BERT, on NNI's Lightning evaluator."""

from __future__ import annotations

import contextlib
import inspect
import logging
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, get_args

import nni
import pytorch_lightning as pl
import torch
import torchmetrics
from nni.nas.evaluator.pytorch import Lightning, LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint, TQDMProgressBar
from pytorch_lightning.trainer.states import TrainerFn, TrainerStatus
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from nni_knas.basics.checks import check_count, check_seed
from nni_knas.bridge import fields
from nni_knas.data import LengthBatches, pad
from nni_knas.gradients import cpu_threads, seeded
from nni_knas.text.states import keep_states

__all__ = ['SeedResult', 'TextClassification', 'linear_schedule']

_logger = logging.getLogger(__name__)

Metric = Literal['accuracy', 'f1']
METRICS = get_args(Metric)
PRECISIONS = ('auto', '32-true', '16-mixed', 'bf16-mixed', '64-true')


class SeedResult(NamedTuple):
    """What training with one seed gave.

    Attributes
    ----------
    seed
        The seed.
    validation, test
        ``accuracy`` and ``f1`` at the best checkpoint; ``test`` is ``None`` without a test set.
    epochs
        How many were trained; with ``patience`` the last one may be a part.
    seconds
        What it took, with validation.
    predicted
        The class that each text of the test set is given, in their order; ``None`` without a test set.
    """

    seed: int
    validation: dict[str, float]
    test: dict[str, float] | None
    epochs: float
    seconds: float
    predicted: list[int] | None = None


def _faster_precision(accelerator: str) -> str:
    """Processors without instructions for bfloat16 take up to fifty times as long for it as for single precision."""
    if accelerator in ('auto', 'gpu', 'cuda') and torch.cuda.is_available():
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return 'bf16-mixed' if able else '32-true'


def linear_schedule(step: int, steps: int, warmup: float) -> float:
    """The factor of the learning rate: up linearly in the first share ``warmup`` of the steps, and down linearly to 0.

    As for BERT (Devlin et al. 2019, appendix A.2).

    Parameters
    ----------
    step
        Number of steps that were made, from 0 on.
    steps
        Number of all steps.
    warmup
        Share of them, 0 or more and less than 1.
    """
    rise = warmup * steps
    if step < rise:
        return (step + 1) / (rise + 1)
    return max(0.0, (steps - step) / max(1.0, steps - rise))


@nni.trace
class TextClassification(Lightning):
    """Train text classifiers: the evaluator of the fine stage.

    AdamW with a learning rate for what is pre-trained and another for what is new, linear warm-up and decay, and the
    weights of the best checkpoint by the validation metric. Every seed begins anew: a network with a method
    ``reset_parameters`` draws its new weights under the seed, any other one begins with those that it came with; order of
    the texts and dropout follow the seed. At the end the network has the weights of the seed with the best validation
    metric.

    In an NNI trial, each validation is reported as an intermediate result, and the mean over the seeds as the final one,
    with ``accuracy``, ``f1`` and their sample standard deviations over the seeds beside it, and the same of the test set,
    which nothing is chosen by.

    Parameters
    ----------
    train, validation
        Texts as tokens, traced as :func:`~nni_knas.text.text_data` gives them.
    test
        Texts to report on at the best checkpoint.
    num_labels
        Number of classes. F1 is that of class 1 where there are two, as GLUE has it, and the mean over the classes
        otherwise.
    metric
        ``accuracy`` or ``f1``: chooses the checkpoint, and is the trial's result.
    batch_size
        Texts in a step.
    max_epochs
        Number of passes over the training texts.
    learning_rate, encoder_learning_rate
        Largest learning rates of what is new, and of what the network's ``pretrained_parameters()`` gives.
    weight_decay
        The weight decay of matrices; biases and normalisations have none.
    warmup
        Share of the steps in which the learning rates rise.
    clip
        Largest norm of the gradient.
    patience
        Validations without a better metric after which a seed ends; ``None`` trains all epochs.
    checks_per_epoch
        Validations in an epoch.
    seeds
        How many seeds, from 0 on, or which.
    precision
        ``32-true``, ``bf16-mixed`` or ``16-mixed`` (CUDA only), as Lightning names them; ``auto`` is the faster one of the
        first two, bf16-mixed where the processor or the GPU multiplies such numbers by itself.
    accelerator
        ``auto``, ``cpu``, ``gpu`` and so on, as Lightning names them.
    progress
        Whether a bar shows the steps; by default where there is a terminal.
    threads
        CPU threads; torch's own number by default.
    cache
        Whether what the frozen layers of an encoder make of the texts is computed once, for all networks that share it, and
        read from disk by the trainings. Frozen layers have no dropout, so the result is the same to rounding: they are
        computed in single precision and kept in 16 bits. The network is left as it would be without. One whose encoder is
        tuned with its embeddings, or that does not tell what it feeds to its encoder (see :meth:`fit`), is trained without.
    **trainer_kwargs
        More for Lightning's trainer; ``callbacks`` come beside those that are used here.

    Attributes
    ----------
    results
        A :class:`SeedResult` for each seed of the network that was trained last.

    Raises
    ------
    ValueError, TypeError
        If an argument cannot be; the message says what would be right.

    Examples
    --------
    >>> data = load_text('glue/RTE', 'minilm')
    >>> evaluator = TextClassification(data.train, data.validation, data.test, num_labels=data.num_labels, seeds=3)
    """

    def __init__(
        self,
        train: Dataset[Any],
        validation: Dataset[Any],
        test: Dataset[Any] | None = None,
        *,
        num_labels: int,
        metric: Metric = 'accuracy',
        batch_size: int = 16,
        max_epochs: int = 3,
        learning_rate: float = 1e-3,
        encoder_learning_rate: float = 5e-5,
        weight_decay: float = 0.01,
        warmup: float = 0.1,
        clip: float = 1.0,
        patience: int | None = None,
        checks_per_epoch: int = 1,
        seeds: int | Sequence[int] = 1,
        precision: str = '32-true',
        accelerator: str = 'auto',
        progress: bool | None = None,
        threads: int | None = None,
        cache: bool = True,
        **trainer_kwargs: Any,
    ) -> None:
        for name, value, least in (
            ('num_labels', num_labels, 2),
            ('batch_size', batch_size, 1),
            ('max_epochs', max_epochs, 1),
            ('checks_per_epoch', checks_per_epoch, 1),
            ('patience', patience, 1),
            ('threads', threads, 1),
        ):
            if value is not None:
                check_count(name, value, least)
        for name, number in (
            ('learning_rate', learning_rate),
            ('encoder_learning_rate', encoder_learning_rate),
            ('clip', clip),
        ):
            if not isinstance(number, (int, float)) or not number > 0:
                raise ValueError(f'{name} is {number!r}: it has to be a number above 0')
        if not isinstance(weight_decay, (int, float)) or not weight_decay >= 0:
            raise ValueError(f'weight_decay is {weight_decay!r}: it has to be a number, 0 or more')
        if not isinstance(warmup, (int, float)) or not 0 <= warmup < 1:
            raise ValueError(f'warmup is {warmup!r}: it has to be a share of the steps, 0 or more and less than 1')
        if metric not in METRICS:
            raise ValueError(f'unknown metric {metric!r}: it is {" or ".join(METRICS)}')
        if precision not in PRECISIONS:
            raise ValueError(f'unknown precision {precision!r}: it is one of {", ".join(PRECISIONS)}')
        if not isinstance(cache, bool):
            raise TypeError(f'cache is {cache!r}: it has to be True or False')
        unknown = sorted(trainer_kwargs.keys() - inspect.signature(pl.Trainer).parameters.keys())
        if unknown:
            raise TypeError(f"unknown option {unknown[0]!r}: it is none of TextClassification nor of Lightning's Trainer")
        for name, dataset in (('train', train), ('validation', validation), ('test', test)):
            if dataset is not None or name != 'test':
                _check_texts(name, dataset, num_labels)
        several = isinstance(seeds, Sequence) and not isinstance(seeds, str)
        self.seeds = list(seeds) if several else list(range(seeds)) if type(seeds) is int else []  # type: ignore
        if not self.seeds:
            raise ValueError(f'seeds is {seeds!r}: it has to be how many, 1 or more, or whole numbers, 0 or more')
        for seed in self.seeds:
            check_seed(seed, 'one of seeds')
        self.train, self.validation, self.test = train, validation, test
        self.num_labels, self.metric = num_labels, metric
        self.batch_size, self.max_epochs, self.checks_per_epoch = batch_size, max_epochs, checks_per_epoch
        self.rates = learning_rate, encoder_learning_rate
        self.weight_decay, self.warmup, self.clip, self.patience = weight_decay, warmup, clip, patience
        self.progress, self.threads, self.cache = progress, threads, cache
        self.results: list[SeedResult] = []
        self.trainer_kwargs: dict[str, Any] = {
            'precision': _faster_precision(accelerator) if precision == 'auto' else precision,
            'accelerator': accelerator,
            'devices': 1,
            **trainer_kwargs,
        }
        # A trainer counts its epochs on, so each seed gets one of its own; the base class wants to have seen one.
        with _quiet_lightning():
            trainer = Trainer(
                logger=False,
                enable_checkpointing=False,
                accelerator='cpu',
                enable_progress_bar=False,
                enable_model_summary=False,
            )
        super().__init__(_TextModule(self), trainer)

    def __repr__(self) -> str:
        return f'{type(self).__name__}(metric={self.metric!r}, max_epochs={self.max_epochs}, seeds={self.seeds})'

    def evaluate(self, model: nn.Module) -> list[SeedResult]:
        """Train a network with each of the seeds; returns their results, and reports them to NNI in a trial.

        Raises
        ------
        ValueError
            If the training diverges.
        RuntimeError
            If an option is still to be chosen.
        """
        if self.is_mutable():
            raise RuntimeError('Mutable evaluator must first be `freeze()` before evaluation.')
        start = _copy_weights(model)
        best: tuple[float, dict[str, Tensor]] | None = None
        self.results = []
        for seed in self.seeds:
            model.load_state_dict(start)
            result = self.fit(model, seed)
            self.results.append(result)
            if len(self.seeds) > 1 and (best is None or result.validation[self.metric] > best[0]):
                best = result.validation[self.metric], _copy_weights(model)
        if best is not None:
            model.load_state_dict(best[1])
        if nni.get_current_parameter() is not None:
            nni.report_final_result(self._summary_of_seeds())
        return self.results

    def fit(self, model: nn.Module, seed: int = 0) -> SeedResult:
        """Train a network with one seed; it is left with the weights of the best checkpoint.

        Parameters
        ----------
        model
            The network, which takes tokens and gives logits. For the ``cache`` it has an attribute ``encoder``, a
            :class:`~nni_knas.encoders.PretrainedEncoder`; a method ``encoder_inputs`` from the tokens to what it calls the
            encoder with; and a number ``top_states``, how many of the encoder's last hidden states it reads.
        seed
            The seed.

        Raises
        ------
        ValueError
            If the training diverges, or ends before a validation.
        """
        start = time.monotonic()
        with (
            seeded(seed),
            cpu_threads(self.threads),
            _quiet_lightning(),
            tempfile.TemporaryDirectory(prefix='nni-knas-') as folder,
            contextlib.ExitStack() as stack,
        ):
            torch.manual_seed(seed)  # seeded passes over CUDA as long as nothing uses it, and its first use is yet to come
            reset = getattr(model, 'reset_parameters', None)
            if reset is not None:
                reset()
            module = _TextModule(self, seed)
            module.set_model(model)
            checkpoint = ModelCheckpoint(folder, monitor=self.metric, mode='max', save_weights_only=True)
            more = self.trainer_kwargs.get('callbacks') or []
            callbacks: list[Callback] = [checkpoint, *(more if isinstance(more, Sequence) else [more])]
            if self.patience is not None:
                callbacks.append(EarlyStopping(self.metric, mode='max', patience=self.patience))
            shown = sys.stderr.isatty() if self.progress is None else self.progress
            if shown:
                callbacks.append(TQDMProgressBar())
            trainer = pl.Trainer(
                **{
                    'max_epochs': self.max_epochs,
                    'logger': False,
                    'val_check_interval': 1 / self.checks_per_epoch,
                    'num_sanity_val_steps': 0,
                    'enable_progress_bar': shown,
                    'enable_model_summary': False,
                    'use_distributed_sampler': False,
                    **self.trainer_kwargs,
                    'callbacks': callbacks,
                }
            )
            stack.enter_context(self._kept_states(model, trainer.strategy.root_device, shown))
            with _interruptible(trainer):
                trainer.fit(module, self._loader(self.train, seed), self._loader(self.validation))
            if not checkpoint.best_model_path:
                raise ValueError(
                    f'the training ended after {trainer.global_step} steps, before a validation: there is no '
                    "best checkpoint; train for longer, and leave validation on in the trainer's options"
                )
            epochs = module.epochs()
            kept = torch.load(checkpoint.best_model_path, map_location='cpu', weights_only=True)
            module.load_state_dict(kept['state_dict'], strict=False)
            test = predicted = None
            if self.test is not None:
                with _interruptible(trainer):
                    trainer.validate(module, self._loader(self.test), verbose=False)
                test, predicted = module.values(), module.predicted(self._loader(self.test))
            model.cpu()
        return SeedResult(seed, module.best, test, epochs, time.monotonic() - start, predicted)

    def _kept_states(self, model: nn.Module, device: torch.device, shown: bool) -> contextlib.AbstractContextManager[None]:
        if not self.cache:
            return contextlib.nullcontext()
        datasets = [each for each in (self.train, self.validation, self.test) if each is not None]
        return keep_states(model, map(self._loader, datasets), device, shown)

    def _loader(self, dataset: Dataset[Any], seed: int | None = None) -> DataLoader[Any]:
        """Batches of a dataset: shuffled to train on, or large ones in a fixed order to validate on."""
        training = seed is not None
        batches = LengthBatches(
            dataset.lengths,  # type: ignore[attr-defined]
            self.batch_size if training else 4 * self.batch_size,
            shuffle=training,
            seed=seed or 0,
        )
        return DataLoader(dataset, batch_sampler=batches, collate_fn=getattr(dataset, 'collate_fn', pad))

    def _summary_of_seeds(self) -> dict[str, float]:
        """The results of all seeds in the figures that are reported."""
        figures: dict[str, float] = {}
        for prefix, parts in (
            ('', [result.validation for result in self.results]),
            ('test_', [result.test for result in self.results if result.test is not None]),
        ):
            for name in METRICS if parts else ():
                values = [part[name] for part in parts]
                figures[prefix + name] = statistics.fmean(values)
                figures[f'{prefix}{name}_deviation'] = statistics.stdev(values) if len(values) > 1 else 0.0
        seconds = statistics.fmean(result.seconds for result in self.results)
        return {fields.METRIC: figures[self.metric], **figures, 'seconds_per_seed': seconds}


class _TextModule(LightningModule):
    """Training and validation steps, optimiser and reports of one seed."""

    def __init__(self, evaluator: TextClassification, seed: int = 0) -> None:
        super().__init__()
        self.options = [evaluator]  # in a list, since it is no part of this module
        self.seed = seed
        self.best: dict[str, float] = {}
        self.seen: list[int] = []  # the predicted classes, in the order of the batches
        task: Any = (
            {'task': 'binary'}
            if evaluator.num_labels == 2
            else {'task': 'multiclass', 'num_classes': evaluator.num_labels, 'average': 'macro'}
        )
        micro = {**task, 'average': 'micro'} if evaluator.num_labels > 2 else task
        self.figures = nn.ModuleDict({'accuracy': torchmetrics.Accuracy(**micro), 'f1': torchmetrics.F1Score(**task)})

    @property
    def evaluator(self) -> TextClassification:
        return self.options[0]

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.model(tokens)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        tokens, targets = batch
        loss = F.cross_entropy(self(tokens).float(), targets)
        if not torch.isfinite(loss):
            raise ValueError(
                f'the training diverges: the loss is {loss.item()} after {self.global_step} steps; lower '
                'learning_rate or encoder_learning_rate'
            )
        self.log('loss', loss, prog_bar=True, batch_size=len(targets))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        tokens, targets = batch
        predicted = self(tokens).argmax(1)
        self.seen += predicted.tolist()
        for figure in self.figures.values():
            figure.update(predicted, targets)  # type: ignore[operator]

    def values(self) -> dict[str, float]:
        """The figures of the texts that were seen since this was last called."""
        values = {name: float(figure.compute()) for name, figure in self.figures.items()}  # type: ignore[operator]
        for figure in self.figures.values():
            figure.reset()  # type: ignore[operator]
        return values

    def on_validation_epoch_start(self) -> None:
        self.seen = []

    def predicted(self, loader: DataLoader[Any]) -> list[int] | None:
        """The classes that the texts of a loader were given, in the order of its dataset; none if not all were looked at."""
        places = [place for batch in loader.batch_sampler for place in batch]  # type: ignore[union-attr]
        classes = dict(zip(places, self.seen))
        return [classes[place] for place in range(len(places))] if len(self.seen) == len(places) else None

    def epochs(self) -> float:
        """How many epochs were trained so far; a batch need not be a step, where gradients are accumulated."""
        batches: int = self.trainer.fit_loop.total_batch_idx + 1
        return float(batches / self.trainer.num_training_batches)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.state.fn != TrainerFn.FITTING:
            return  # the figures of the test set are asked for afterwards
        values = self.values()
        for name, value in values.items():
            self.log(name, value, prog_bar=True)
        metric = self.evaluator.metric
        if not self.best or values[metric] > self.best[metric]:
            self.best = values
        epoch = self.epochs()
        _logger.info(
            'seed %d, epoch %.2f of %d: accuracy %.4f, F1 %.4f',
            self.seed,
            epoch,
            self.evaluator.max_epochs,
            values['accuracy'],
            values['f1'],
        )
        if nni.get_current_parameter() is not None:
            nni.report_intermediate_result({fields.METRIC: values[metric], **values, 'seed': self.seed, 'epoch': epoch})

    def configure_optimizers(self) -> Any:
        options = self.evaluator
        pretrained = {id(p) for p in getattr(self.model, 'pretrained_parameters', tuple)()}
        groups = []
        for new, rate in zip((True, False), options.rates):
            for matrices in (True, False):
                members = [
                    p
                    for p in self.model.parameters()
                    if p.requires_grad and (id(p) not in pretrained) == new and (p.dim() > 1) == matrices
                ]
                if members:
                    groups.append({'params': members, 'lr': rate, 'weight_decay': options.weight_decay if matrices else 0.0})
        if not groups:
            raise ValueError('the network has nothing to train: none of its parameters has requires_grad')
        # The fused one is faster, also on CPUs; with 16-mixed, gradients would be clipped before they are unscaled.
        optimizer = torch.optim.AdamW(groups, fused=self.trainer.precision != '16-mixed')
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: linear_schedule(step, steps, options.warmup))
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}

    def configure_gradient_clipping(self, *arguments: Any, **keywords: Any) -> None:
        nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], self.evaluator.clip)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What is frozen does not change: it need not be written."""
        frozen = {f'_model.{name}' for name, p in self.model.named_parameters() if not p.requires_grad}
        checkpoint['state_dict'] = {name: value for name, value in checkpoint['state_dict'].items() if name not in frozen}


def _check_texts(name: str, dataset: Any, num_labels: int) -> None:
    """See that a dataset can be trained or validated on."""
    if hasattr(dataset, '__len__') and not len(dataset):
        raise ValueError(f'the {name} set is empty')
    if not hasattr(dataset, 'lengths'):
        raise TypeError(
            f'the {name} set is of type {type(dataset).__name__}, without lengths: it has to be texts as '
            'tokens, as text_data(...) gives them'
        )
    targets = getattr(dataset, 'targets', None)
    if targets is not None and not 0 <= min(targets) <= max(targets) < num_labels:
        raise ValueError(
            f'the {name} set has classes from {min(targets)} to {max(targets)}: with num_labels={num_labels} '
            f'they have to be from 0 to {num_labels - 1}'
        )


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}


@contextlib.contextmanager
def _interruptible(trainer: pl.Trainer) -> Iterator[None]:
    """Pass a KeyboardInterrupt on, of which Lightning makes the end of the process, and older ones that of the training.

    NNI's engines take the former for a training that failed, and go on with the next one.
    """
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
    if trainer.state.status == TrainerStatus.INTERRUPTED:
        raise KeyboardInterrupt('the training was interrupted')


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's remarks on the machine, which are not the user's."""
    names = ('pytorch_lightning', 'pytorch_lightning.utilities.rank_zero', 'lightning')
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
