"""``python -m nni_knas.config`` prints the tables of ``docs/options.md``."""

from nni_knas.config.tables import markdown

if __name__ == '__main__':
    print(markdown(), end='')
