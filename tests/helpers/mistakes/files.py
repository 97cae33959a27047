"""Mistakes in the YAML file of a search."""

from __future__ import annotations

from mistakes.attempts import Mistake, code, command


def file(content: str | bytes, says: str, given: str = '') -> Mistake:
    """What is in ``search.yml``; it is what is shown, unless something is given instead."""
    assert given or isinstance(content, str)
    return command('search --config search.yml', says, given or code(str(content)), {'search.yml': content})


MISTAKES = [
    file('', 'should hold a mapping', 'an empty file'),
    command('search --config .', 'cannot be read: Is a directory'),
    file(b'\x89PNG\r\n\x1a\n\x00\xff\xfe', 'is no YAML', 'a picture'),
    file('# nothing\n', 'should hold a mapping', 'a file of comments'),
    file('- candidates: 3\n', 'should hold a mapping'),
    file('just words', 'should hold a mapping'),
    file('knas:\n  candidates: [1', 'is no YAML'),
    file('knas:\n\tcandidates: 3', 'is no YAML', 'a tab in place of spaces'),
    file('knas: *unknown', 'is no YAML'),
    file('knas: !!python/object/apply:os.system [ls]', 'is no YAML'),
    file('knas: {candidates: 5}\nknas: {candidates: 9}', 'twice'),
    file('knas: {candidates: 5, candidates: 9}', 'twice'),
    file('knas: {top_k: 5, topK: 9}', 'the field top_k is given twice'),
    file('trialConcurrency: 1\ntrial_concurrency: 2', 'twice'),
    file('3: 4', 'unknown field "3"'),
    file('null: 4', 'unknown field'),
    file('"a\\nb": 4', 'unknown field'),
    file('[1, 2]: 4', 'is no YAML', '`? [1, 2]` as a key'),
    file('trialConcurency: 3', 'unknown field "trialConcurency": did you mean "trialConcurrency"?'),
    file('candidates: 50', 'unknown field "candidates"'),
    file('knas: {candidats: 3}', 'unknown field "candidats": did you mean "candidates"?'),
    file('knas: [3]', 'it has to be a mapping of options to values'),
    file('knas: {}\ntuner: {name: KNAS}', 'there are both knas and tuner'),
    file('tuner: {name: TPE}', 'name is \'TPE\': it has to be "KNAS"'),
    file('assessor: {name: Medianstop}', 'assessor has no use in a search'),
    file('knas: {candidates: true}', 'candidates is True: it has to be a whole number'),
    file('knas: {candidates: .nan}', 'candidates is nan'),
    file('knas: {learning_rate: .inf}', 'learning_rate is inf'),
    file('knas: {merge_identical: "yes"}', "merge_identical is 'yes': it has to be true or false"),
    file('knas: {merge_identical: 1}', 'merge_identical is 1: it has to be true or false'),
    file('knas: {space: 3}', 'space is 3: it has to be text'),
    file('knas: {score: [mgm, snip]}', "score is ['mgm', 'snip']"),
    file('knas: {score: null}', 'score is None'),
    file('knas: {data: 2024-01-01}', 'data is'),
    file('knas: {space_args: {1: 2}}', 'space_args is {1: 2}'),
    file('knas: {candidates: 99999999999999999999999999}', 'candidates is'),
    file('trialConcurrency: "2"', "trialConcurrency is '2': it has to be a whole number, 1 or more"),
    file('trialConcurrency: 2.0', 'trialConcurrency is 2.0'),
    file('maxExperimentDuration: 1 hour', 'it has to be a duration such as 30m'),
    file('maxTrialNumber: 0', 'maxTrialNumber is 0'),
    file('debug: "yes"', "debug is 'yes': it has to be true or false"),
    file('logLevel: loud', 'it has to be one of trace, debug'),
    file('trialCommand: python train.py', 'it has to be "python -m nni_knas.trial"'),
    file('trialCodeDirectory: nowhere', 'is no directory'),
    file('trainingService: local', 'it has to be a mapping of fields to values, among them platform'),
    file('trainingService: {platform: lokal}', "platform is 'lokal': it has to be one of local,"),
    file('trainingService: {platform: local, gpuIndices: [1, 1]}', 'GPU indices'),
    file('trainingService: {platform: remote, machineList: []}', 'machineList'),
    file('searchSpaceFile: nowhere.json\nknas: {network: "mymodels:build"}', 'nowhere.json cannot be read'),
    file('searchSpace: {}\nsearchSpaceFile: a.json', 'there are both searchSpace and searchSpaceFile'),
]
