"""The evaluator that fine-tunes text classifiers."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import signal
import statistics
from types import SimpleNamespace

import nni
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nni.nas.evaluator import FunctionalEvaluator
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.experiment import NasExperiment, NasExperimentConfig
from nni.nas.nn.pytorch import LayerChoice, ModelSpace
from nni.nas.space import ModelStatus, SimplifiedModelSpace
from torch import nn

from nni_knas import KNAS, GradientKernelEvaluator, open_run
from nni_knas.record import result_path
from nni_knas.runs.ranked import RankedEvaluator, Result, kept_result
from nni_knas.text import TextClassification, TokenDataset, training
from nni_knas.text.training import linear_schedule


def make_texts(count, seed, first=0):
    """Texts of words 10 to 29, of the class that words below 20 are the majority."""
    random = np.random.default_rng(seed)
    lengths = random.integers(4, 10, count)
    ids = random.integers(10, 30, lengths.sum()).astype(np.int32)
    ends = np.cumsum(lengths)
    targets = np.array([first + int(np.mean(ids[end - n : end] < 20) > 0.5) for end, n in zip(ends, lengths)])
    return TokenDataset(ids, lengths.copy(), lengths, targets, ['no', 'yes'], 1)


texts = nni.trace(make_texts)
TRAIN, VALIDATION, TEST = texts(96, 0), texts(64, 1), texts(32, 2)


class Bag(nn.Module):
    """The mean of the words' embeddings, and a linear classifier; a layer is frozen, the embeddings are pre-trained."""

    def __init__(self, classes=2):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.classifier = nn.Linear(8, classes)

    def forward(self, tokens):
        mask = (tokens[:, 1] > 0)[..., None]
        mean = (self.embedding(tokens[:, 0]) * mask).sum(1) / mask.sum(1)
        return self.classifier(self.frozen(mean))

    def pretrained_parameters(self):
        return self.embedding.parameters()


class Renewed(Bag):
    def reset_parameters(self):
        self.classifier.reset_parameters()


def bag(kind=Bag, **options):
    torch.manual_seed(0)
    return kind(**options)


def evaluator(**options):
    return TextClassification(
        TRAIN,
        VALIDATION,
        TEST,
        **{
            'num_labels': 2,
            'max_epochs': 3,
            'learning_rate': 0.05,
            'encoder_learning_rate': 0.05,
            'accelerator': 'cpu',
            **options,
        },
    )


@pytest.fixture
def reported(monkeypatch):
    """What is reported to NNI, as in a trial."""
    reports = {'intermediate': [], 'final': []}
    monkeypatch.setattr(nni, 'get_current_parameter', lambda: {'a': 1})
    for kind, reports_of_kind in reports.items():
        monkeypatch.setattr(nni, f'report_{kind}_result', reports_of_kind.append)
    return reports


def accuracy(network, dataset):
    network.eval()
    with torch.no_grad():
        return statistics.fmean(
            int(network(tokens[None]).argmax()) == target for tokens, target in (dataset[i] for i in range(len(dataset)))
        )


def test_it_learns_and_reports(reported):
    network, subject = bag(), evaluator(max_epochs=6, seeds=2)
    results = subject.evaluate(network)
    assert [result.seed for result in results] == [0, 1] and results == subject.results
    assert max(result.validation['accuracy'] for result in results) > 0.8
    final = reported['final'][0]
    assert len(reported['final']) == 1 and len(reported['intermediate']) == 12
    for prefix, part in (('', 'validation'), ('test_', 'test')):
        for name in ('accuracy', 'f1'):
            values = [getattr(result, part)[name] for result in results]
            assert final[prefix + name] == pytest.approx(statistics.fmean(values))
            assert final[f'{prefix}{name}_deviation'] == pytest.approx(statistics.stdev(values))
    assert final['default'] == final['accuracy']
    assert reported['intermediate'][0]['epoch'] == 1 and reported['intermediate'][-1]['seed'] == 1


@pytest.mark.parametrize('seeds', [1, 3])
def test_the_network_is_left_with_the_best_weights(seeds):
    network, subject = bag(), evaluator(max_epochs=4, seeds=seeds, learning_rate=0.3)
    best = max(subject.evaluate(network), key=lambda result: result.validation['accuracy'])
    assert accuracy(network, VALIDATION) == pytest.approx(best.validation['accuracy'])
    assert accuracy(network, TEST) == pytest.approx(best.test['accuracy'])


def test_figures_are_those_of_glue():
    from sklearn.metrics import accuracy_score, f1_score

    for classes, average in ((2, 'binary'), (3, 'macro')):
        network = bag(classes=classes)
        result = evaluator(num_labels=classes, max_epochs=1).fit(network)
        network.eval()
        predicted = [int(network(TEST[i][0][None]).argmax()) for i in range(len(TEST))]
        assert result.test['accuracy'] == pytest.approx(accuracy_score(TEST.targets, predicted))
        labels = sorted({*TEST.targets.tolist(), *predicted})
        assert result.test['f1'] == pytest.approx(
            f1_score(TEST.targets, predicted, average=average, labels=labels if average == 'macro' else None), abs=1e-6
        )


def test_the_metric_chooses():
    for metric in ('accuracy', 'f1'):
        subject = evaluator(metric=metric)
        subject.evaluate(bag())
        assert subject._summary_of_seeds()['default'] == subject.results[0].validation[metric]


@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.9))
def test_the_schedule_rises_and_falls(steps, warmup):
    factors = [linear_schedule(step, steps, warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors) and linear_schedule(steps, steps, warmup) == 0
    top = math.ceil(warmup * steps)
    assert factors[:top] == sorted(factors[:top]) and factors[top:] == sorted(factors[top:], reverse=True)
    assert max(factors) > 0.9 or steps < 20


def test_the_optimiser_follows_the_schedule(monkeypatch):
    rates = []
    real = training._TextModule.training_step

    def step(self, batch, index):
        rates.append([(group['lr'], group['weight_decay']) for group in self.optimizers().param_groups])
        return real(self, batch, index)

    monkeypatch.setattr(training._TextModule, 'training_step', step)
    evaluator(max_epochs=2, learning_rate=0.1, encoder_learning_rate=0.01, weight_decay=0.5, warmup=0.25).fit(bag())
    assert len(rates) == 12  # 96 texts by 16, twice
    for i, groups in enumerate(rates):
        factor = linear_schedule(i, 12, 0.25)
        assert groups == [
            (pytest.approx(0.1 * factor), 0.5),
            (pytest.approx(0.1 * factor), 0.0),
            (pytest.approx(0.01 * factor), 0.5),
        ]


def test_what_is_frozen_stays_and_is_not_written(monkeypatch):
    network, written = bag(), []
    before = network.frozen.weight.clone()
    real = training._TextModule.on_save_checkpoint
    monkeypatch.setattr(
        training._TextModule,
        'on_save_checkpoint',
        lambda self, checkpoint: (real(self, checkpoint), written.append(checkpoint['state_dict'].keys())),
    )
    evaluator().evaluate(network)
    assert torch.equal(network.frozen.weight, before)
    assert written and all('_model.classifier.weight' in keys and '_model.frozen.weight' not in keys for keys in written)


@pytest.mark.parametrize('checks, epochs', [(1, 3), (2, 1.5)])
def test_early_stopping(checks, epochs):
    result = evaluator(
        max_epochs=20, patience=2, checks_per_epoch=checks, learning_rate=1e-12, encoder_learning_rate=1e-12
    ).fit(bag())
    assert result.epochs == epochs


def test_of_equal_checkpoints_the_earlier_one_is_kept(monkeypatch):
    weights = []

    def check(self):
        weights.append(self.model.classifier.weight.detach().clone())
        self.seen = [0.5, 0.75, 0.75, 0.25][len(weights) - 1]
        return real(self)

    real = training._TextModule.on_validation_epoch_end
    monkeypatch.setattr(training._TextModule, 'on_validation_epoch_end', check)
    monkeypatch.setattr(training._TextModule, 'values', lambda self: {'accuracy': self.seen, 'f1': float(len(weights))})
    network = bag()
    result = TextClassification(TRAIN, VALIDATION, num_labels=2, max_epochs=4, accelerator='cpu').fit(network)
    assert result.validation == {'accuracy': 0.75, 'f1': 2.0} and result.test is None  # all figures of the second check
    assert torch.equal(network.classifier.weight, weights[1]) and not torch.equal(weights[1], weights[2])


def test_epochs_are_counted_in_texts(reported):
    evaluator(max_epochs=2, accumulate_grad_batches=3).evaluate(bag())
    assert [report['epoch'] for report in reported['intermediate']] == [1, 2]


def test_checks_within_an_epoch(reported):
    evaluator(max_epochs=1, checks_per_epoch=2).evaluate(bag())
    assert [report['epoch'] for report in reported['intermediate']] == [0.5, 1.0]


def test_seeds_are_reproducible_and_begin_anew():
    subject, network = evaluator(seeds=[3, 4, 3]), bag(Renewed)
    results = subject.evaluate(network)
    assert results[0][1:3] == results[2][1:3]
    alone = evaluator(seeds=[4])
    assert alone.evaluate(bag(Renewed))[0][1:3] == results[1][1:3]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    evaluator(max_epochs=1).fit(bag())
    torch.manual_seed(5)
    assert torch.equal(state, torch.get_rng_state())
    heads = []
    for seed in (0, 1):
        renewed = bag(Renewed)
        evaluator(max_epochs=1, learning_rate=1e-9, encoder_learning_rate=1e-9).fit(renewed, seed)
        heads.append(renewed.classifier.weight.detach().clone())
    assert not torch.allclose(*heads)


def test_cuda_is_seeded_before_its_first_use(monkeypatch):
    network, seeds = bag(), []
    monkeypatch.setattr(torch.cuda, 'manual_seed_all', seeds.append)
    evaluator(max_epochs=1).fit(network, 7)
    assert seeds == [7]


def interrupted(self, batch, index):
    raise KeyboardInterrupt


def test_an_interrupt_is_passed_on(monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(training._TextModule, 'training_step', interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluator().fit(bag())
    assert signal.getsignal(signal.SIGINT) is handler
    model = SimplifiedModelSpace.from_model(BagSpace(), evaluator()).random()
    with pytest.raises(KeyboardInterrupt):  # the engine does not take it for a failure
        SequentialExecutionEngine(continue_on_failure=True).submit_models(model)
    assert model.status is ModelStatus.Interrupted


def test_an_interrupt_is_passed_on_from_the_test_set(monkeypatch):
    real = training._TextModule.validation_step
    monkeypatch.setattr(
        training._TextModule,
        'validation_step',
        lambda self, *batch: (real if self.trainer.state.fn == training.TrainerFn.FITTING else interrupted)(self, *batch),
    )
    with pytest.raises(KeyboardInterrupt):
        evaluator(max_epochs=1).fit(bag())


def test_what_else_ends_the_process_does(monkeypatch):
    def leave(self, batch, index):
        raise SystemExit(3)

    monkeypatch.setattr(training._TextModule, 'training_step', leave)
    with pytest.raises(SystemExit, match='3'):
        evaluator().fit(bag())


def test_a_diverging_training_gets_one_sentence():
    network = bag()
    with torch.no_grad():
        network.classifier.weight.fill_(math.nan)
    with pytest.raises(ValueError, match='the training diverges: the loss is nan after 0 steps; lower learning_rate'):
        evaluator().evaluate(network)


def test_what_cannot_be_trained_gets_one_sentence():
    with pytest.raises(ValueError, match='the network has nothing to train'):
        evaluator().fit(bag().requires_grad_(False))
    with pytest.raises(ValueError, match='the training ended after 4 steps, before a validation'):
        evaluator(max_steps=4).fit(bag())


def test_callbacks_come_beside_its_own():
    epochs = []
    callback = training.Callback()
    callback.on_train_epoch_end = lambda trainer, module: epochs.append(trainer.current_epoch)
    for callbacks in (callback, [callback]):
        evaluator(max_epochs=2, callbacks=callbacks).fit(bag())
    assert epochs == [0, 1, 0, 1]


def test_reduced_precision_and_threads():
    threads = torch.get_num_threads()
    result = evaluator(precision='bf16-mixed', threads=threads + 1, max_epochs=1).fit(bag())
    assert 0 < result.validation['accuracy'] <= 1 and torch.get_num_threads() == threads


@pytest.mark.parametrize(('bf16', 'amx', 'precision'), [(0, 0, '32-true'), (1, 0, 'bf16-mixed'), (0, 1, 'bf16-mixed')])
def test_the_faster_precision_is_what_the_processor_has_instructions_for(monkeypatch, bf16, amx, precision):
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: bool(bf16))
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: bool(amx))
    assert evaluator(precision='auto', accelerator='cpu').trainer_kwargs['precision'] == precision


def test_nothing_is_left_behind_and_nothing_is_said(tmp_path, monkeypatch, capfd, caplog):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, 'nni_knas'):
        evaluator(max_epochs=1).evaluate(bag())
    assert not os.listdir(tmp_path)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ('', '')
    assert 'seed 0, epoch 1.00 of 1: accuracy' in caplog.text


def test_a_bar_where_it_is_asked_for(capfd):
    shown = []
    for progress in (False, True):
        evaluator(max_epochs=1, progress=progress).fit(bag())
        shown.append(''.join(capfd.readouterr()))
    assert shown[0] == '' != shown[1]


@pytest.mark.parametrize(
    'options, message',
    [
        ({'num_labels': 1}, 'num_labels is 1: it has to be a whole number, 2 or more'),
        ({'batch_size': 0}, 'batch_size is 0'),
        ({'max_epochs': 0}, 'max_epochs is 0'),
        ({'patience': 0}, 'patience is 0'),
        ({'metric': 'bleu'}, "unknown metric 'bleu': it is accuracy or f1"),
        ({'precision': 'half'}, "unknown precision 'half': it is one of auto"),
        ({'seeds': 0}, 'seeds is 0: it has to be how many'),
        ({'seeds': [0, -1]}, 'seeds is'),
        ({'learning_rate': 0}, 'learning_rate is 0: it has to be a number above 0'),
        ({'learning_rate': '1e-3'}, "learning_rate is '1e-3': it has to be a number above 0"),
        ({'weight_decay': -1}, 'weight_decay is -1: it has to be a number, 0 or more'),
        ({'warmup': 1.0}, 'warmup is 1.0'),
        ({'test': []}, 'the test set is empty'),
        ({'seeds': None}, 'seeds is None'),
        ({'seeds': True}, 'seeds is True'),
        ({'seeds': '12'}, "seeds is '12'"),
        ({'train': None}, 'the train set is of type NoneType'),
        ({'validation': [1]}, 'the validation set is of type list, without lengths'),
        ({'train': texts(96, 0, 3)}, 'the train set has classes from 3 to 4: with num_labels=2 they have to be from 0 to 1'),
        ({'epochs': 3}, "unknown option 'epochs': it is none of TextClassification nor of Lightning's Trainer"),
    ],
)
def test_wrong_arguments_get_one_sentence(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        TextClassification(**{'train': TRAIN, 'validation': VALIDATION, 'num_labels': 2, **options})


@pytest.mark.parametrize(
    'travel', [lambda e: nni.load(nni.dump(e)), lambda e: pickle.loads(pickle.dumps(e))], ids=['nni', 'pickle']
)
def test_it_travels(travel):
    subject = travel(evaluator(seeds=2, max_epochs=1))
    assert subject.seeds == [0, 1] and len(subject.train) == 96
    assert [r[:3] for r in subject.evaluate(bag())] == [r[:3] for r in evaluator(seeds=2, max_epochs=1).evaluate(bag())]


def test_one_evaluator_trains_network_after_network():
    subject, networks = evaluator(max_epochs=1), [bag(), bag()]
    trials = [RankedEvaluator(subject, number, 1.0, 1) for number in (1, 2)]
    results = []
    for trial, network in zip(trials, networks):
        results.append(trial._execute(SimpleNamespace(executable_model=lambda network=network: network))[0][:4])
        assert trial.evaluator is subject  # its own trainer is never used, so that it needs not be created anew
    assert results[0] == results[1] and torch.equal(networks[0].classifier.weight, networks[1].classifier.weight)


def test_its_hyper_parameters_can_be_searched():
    mutable = evaluator(learning_rate=nni.choice('rate', [0.1, 0.2]))
    assert mutable.simplify()['rate'].values == [0.1, 0.2]
    assert mutable.freeze({'rate': 0.2}).get().rates == (0.2, 0.05)


class BagSpace(ModelSpace):
    def __init__(self):
        super().__init__()
        self.bag = LayerChoice([Bag(), Renewed()], label='bag')
        self.scale = LayerChoice([nn.Identity(), nn.LayerNorm(2), nn.Tanh()], label='scale')

    def forward(self, tokens):
        return self.scale(self.bag(tokens))


@pytest.fixture(scope='module')
def experiment():
    subject = TextClassification(
        texts(96, 0), texts(64, 1), texts(32, 2), num_labels=2, max_epochs=2, seeds=2, accelerator='cpu'
    )
    strategy = KNAS(GradientKernelEvaluator(texts(96, 0), batch_size=8), candidates=4, top_k=2)
    experiment = NasExperiment(BagSpace(), subject, strategy, NasExperimentConfig('sequential', 'simplified'))
    experiment.run()
    yield experiment
    experiment.stop()


def test_a_search_trains_with_it(experiment):
    run = open_run(experiment.id)
    trained = run.scores(all=True).query('status == "trained"')
    assert len(trained) == 2 and trained.metric.between(0, 1).all()
    metrics = run.metrics()
    assert metrics['accuracy'] == pytest.approx(run.metric)
    assert {'f1', 'test_accuracy', 'accuracy_deviation'} <= metrics.keys()
    assert accuracy(run.network(), VALIDATION) >= run.metric - 1e-6  # the weights of the better seed
    assert run.metrics(int(trained.index[-1])).keys() == metrics.keys()
    untrained = run.scores(all=True).query('status == "scored"').index[0]
    assert run.metrics(int(untrained)) == {}


def test_a_finished_trial_reports_all_again(experiment, monkeypatch, tmp_path):
    run = open_run(experiment.id)
    number = int(run.winner.candidate)
    finals = []
    monkeypatch.setattr(nni, 'report_final_result', finals.append)
    again = RankedEvaluator(evaluator(), number, 1.0, 1, str(run.folder))
    again._execute(None)
    assert finals == [{'default': run.metric, **kept_result(run.folder, number).metrics}]


@pytest.mark.parametrize(
    'metrics, again', [({}, 0.5), ({'metrics': None}, 0.5), ({'metrics': {'f1': 0.25}}, {'default': 0.5, 'f1': 0.25})]
)
def test_results_of_before_there_were_metrics_are_read(metrics, again, tmp_path, monkeypatch):
    path = result_path(tmp_path, 4)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({'metric': 0.5, 'seconds': 2.0, **metrics}))
    assert kept_result(tmp_path, 4) == Result(0.5, 2.0, metrics.get('metrics'))
    finals = []
    monkeypatch.setattr(nni, 'report_final_result', finals.append)
    RankedEvaluator(FunctionalEvaluator(print), 4, 1.0, 1, str(tmp_path))._execute(None)
    assert finals == [again]


def test_predictions_are_in_the_order_of_the_texts():
    network = bag()
    result = evaluator().fit(network)
    assert result.predicted == [int(network(TEST[i][0][None]).argmax()) for i in range(len(TEST))]
    assert result.test['accuracy'] == pytest.approx(np.mean(np.array(result.predicted) == TEST.targets))
    assert evaluator(limit_val_batches=1, batch_size=4).fit(bag()).predicted is None
    assert TextClassification(TRAIN, VALIDATION, num_labels=2, max_epochs=1, accelerator='cpu').fit(bag()).predicted is None
