"""Small tables in the formats of the public ones, with networks and results that are made up."""

from __future__ import annotations

from pathlib import Path

PATHS = [(0, 1), (0, 3), (1, 2), (2, 6), (3, 6), (0, 4), (5, 6)]  # vertices 4 and 5 lead nowhere, or come from nowhere
NAMES = ['maxpool3x3', 'conv3x3-bn-relu', 'conv1x1-bn-relu', 'maxpool3x3', 'conv3x3-bn-relu']


def bench101(edges: list[tuple[int, int]], names: list[str] = NAMES) -> str:
    """A row of NAS-Bench-101."""
    bits = ['0'] * 49
    for source, target in edges:
        bits[7 * source + target] = '1'
    return f'{"".join(bits)} {",".join(["input", *names, "output"])}'


CHAIN = ';'.join(
    f'{operation}~{i % 2}' for i, operation in enumerate(['sep_conv_3x3', 'none', 'skip_connect', 'max_pool_3x3'] * 2)
)
DARTS = [f'normal={CHAIN}|reduce={CHAIN}', f'normal={CHAIN.replace("none", "dil_conv_5x5")}|reduce={CHAIN}']
TABLES = {
    'nasbench101': [
        'arch,val1,val2,test1,test2',
        f'"{bench101(PATHS)}",80,82,70,75',
        f'"{bench101([(0, 1), (1, 6)])}",60,61,50,52',
        f'"{bench101([(0, 6)])}",20,30,10,20',
    ],
    'transnas-micro': [
        'arch,class_object,class_scene,room_layout',
        *('8-42-1_23_012,30,40,-0.5', '8-42-3_30_111,35,45,-0.4', '8-42-2_01_103,20,41,-0.7', '8-42-1_33_302,32,52,-0.6'),
    ],
    'darts': ['arch,weights_index,params_m,val10,val50,test50', f'{DARTS[0]},a-1,1,70,80,81', f'{DARTS[1]},a-2,2,60,85,86'],
    'flexibert': [
        'id,hidden,layers,params,cola,glue',
        '5,16,SA:WMA:h2:f8x3;DSC:3:h2:f12x1,1,5.5,60',
        '7,8,LT:DFT:h4:f8x1;LT:DCT:h2:f8x2;SA:SDP:h2:f8x1,2,6.5,61',
        '9,16,SA:WMA:h2:f8x3;DSC:3:h2:f12x1,1,7.5,64',
    ],
    'autoformer': [
        'hidden_dim,depth,num_heads,mlp_ratio,c100_kd_acc',
        *('192,2,3;4,3.5;4.0,70', '216,1,4,4.0,71'),
    ],
}


def write_table(name: str, folder: Path) -> str:
    """The table of a benchmark, in a file."""
    file = folder / f'{name}.csv'
    file.write_text('\n'.join([*TABLES[name], '']))
    return str(file)
