"""Mistakes in what is to be scored, and in benchmarks."""

from __future__ import annotations

from mistakes.attempts import Mistake, code, command

SMALL = '--space-args \'{"num_modules_per_stack": 1, "stem_out_channels": 4}\' --image-size 16 --batch-size 4'


def architectures(content: str, says: str, given: str = '') -> Mistake:
    """What is in a file of architectures."""
    line = f'score --architectures mine.json {SMALL}'
    return command(line, says, given or f'`--architectures` {code(content)}', {'mine.json': content})


def table(content: str, says: str, given: str = '', benchmark: str = 'nats-tss') -> Mistake:
    """What is in the table of a benchmark."""
    line = f'benchmark --benchmark {benchmark} --table table.csv --architectures 3'
    return command(line, says, given or f'`--table` {code(content)}', {'table.csv': content})


def public(benchmark: str, row: str, says: str, header: str = 'arch,test_acc') -> Mistake:
    """What is in the first row of the table of a public space."""
    return table(f'{header}\n{row}\n', says, f'`--benchmark {benchmark} --table` {code(row)}', benchmark)


MISTAKES = [
    command('score --samples 0', '--samples is 0'),
    command('score --samples -3', '--samples is -3'),
    command('score --samples many', "'many' is no whole number"),
    command('score --samples 3 --architectures mine.json', 'not allowed with'),
    command('score --architectures nowhere.json', 'nowhere.json cannot be read'),
    command('score --architectures .', 'cannot be read'),
    architectures('', 'mine.json', 'an empty file of architectures'),
    architectures('words', 'neither a JSON list of architectures'),
    architectures('5', 'mine.json'),
    architectures('[1, 2]', 'mine.json'),
    architectures('[]', 'mine.json'),
    architectures('{"cell/0_1": "conv_9x9"}', 'is no architecture of the space'),
    architectures('{"cell/0_1": ["none"]}', 'is no architecture of the space'),
    architectures('[null]', 'mine.json'),
    command(f'score --samples 1 --csv nowhere/scores.csv {SMALL}', 'nowhere', '`nni-knas score --csv nowhere/scores.csv`'),
    command(f'score --samples 1 --csv . {SMALL}', 'is a folder', '`nni-knas score --csv .`'),
    command('benchmark --benchmark nats-ts', 'did you mean'),
    command('benchmark --benchmark nowhere:tiny', 'cannot be imported'),
    command('benchmark --benchmark small_benchmarks:tinny', 'did you mean "tiny"?'),
    command('benchmark --benchmark spaces:vectors', 'spaces:vectors'),
    command('benchmark --benchmark nats-tss', 'table'),
    command('benchmark --table nowhere.csv', 'nowhere.csv'),
    command('benchmark --table .', 'table'),
    table('', 'table.csv', '`--table` an empty file'),
    table('a,b\n1,2\n', 'table.csv'),
    table('architecture,test_acc\nnone,good\n', 'table.csv'),
    command('benchmark --benchmark darts', 'the benchmark needs a table'),
    table(
        'arch_str,test_acc\na,1\n', 'has no column arch', '`--benchmark nasbench101 --table` without `arch`', 'nasbench101'
    ),
    public('nasbench101', '"0100001 input,output"', 'line 2 of table.csv'),
    public('transnas-micro', '64-41414-1_23', 'line 2 of table.csv'),
    public('darts', 'normal=sep_conv_3x3~0|reduce=none~1', 'line 2 of table.csv'),
    public('flexibert', '256,SA:DFT:h4:f512x1', 'line 2 of table.csv', 'hidden,layers'),
    public('autoformer', '192,12,3;4,4.0', 'as many heads and MLP ratios as blocks', 'hidden_dim,depth,num_heads,mlp_ratio'),
    command('benchmark --benchmark autoformer-digits --metric speed', 'speed'),
    command('benchmark --benchmark autoformer-digits --scores mgn', "did you mean 'mgm'"),
    command('benchmark --benchmark autoformer-digits --scores ,', 'scores'),
    command('benchmark --architectures 0', '--architectures is 0'),
    command('benchmark --sample-seed -1', '--sample-seed is -1'),
    command('benchmark --seeds 0', '--seeds is 0'),
    command('benchmark --seeds a,b', "--seeds is 'a,b'"),
    command('benchmark --top-k 0', "--top-k is '0'"),
    command('benchmark --protocol paper', "unknown 'paper'"),
    command('benchmark --benchmark autoformer-digits --protocol search --searches lern', 'did you mean "learn"?'),
    command('benchmark --benchmark autoformer-digits --protocol search --searches ,', "--searches is ','"),
    command('benchmark --benchmark autoformer-digits --protocol search --concurrency 0', '--concurrency is 0'),
    command('benchmark --benchmark autoformer-digits --searches learn', '--searches is for --protocol search'),
    command(
        'benchmark --benchmark autoformer-digits --protocol search --candidates 20', 'top_k=40 is more than candidates=20'
    ),
    command('benchmark --normalization layer', "unknown 'layer'"),
    command('benchmark --batch-size 0 --benchmark autoformer-digits --scores mgm', 'batch_size is 0'),
    command('benchmark --benchmark autoformer-digits --protocol knas --candidates 5', 'top_k=40 is more than candidates=5'),
    command('benchmark --benchmark all', 'needs --tables'),
    command('benchmark --benchmark all --tables nowhere', 'is no folder'),
    command('benchmark --benchmark all --tables .', 'there is no benchmark to run'),
    command('benchmark --benchmark nats-tss,darts', '--tables is missing'),
    command('benchmark --benchmark flexibert --tables .', 'no table of flexibert'),
    command('benchmark --benchmark autoformer-digits,darts-cifar10 --image-size 8', 'is for one benchmark'),
    command('benchmark --benchmark autoformer-digits --text text:RTE', 'is scored on images'),
    command('benchmark --benchmark text-rte', 'is scored on texts'),
    command('benchmark --benchmark autoformer-digits --output mine', 'mine', files={'mine': ''}),
]
