"""The files for several machines and for Kubernetes that the documentation shows: NNI takes them as they stand there."""

from __future__ import annotations

import pytest
import yaml
from nni.experiment.config import K8sStorageConfig
from places import DOCS
from snippets import blocks

from nni_knas.config.file import enter, load_config


def files():
    page = (DOCS / 'howto' / 'placements.md').read_text()
    files = [block.code for block in blocks(page) if block.language == 'yaml']
    return {yaml.safe_load(code)['trainingService']['platform']: code for code in files}


@pytest.mark.parametrize('platform', ['remote', 'kubeflow', 'frameworkcontroller'])
def test_file(platform, tmp_path, monkeypatch):
    (tmp_path / 'key').write_text('')  # NNI looks whether it is there
    (tmp_path / 'search.yml').write_text(files()[platform].replace('~/.ssh/id_ed25519', str(tmp_path / 'key')))
    monkeypatch.chdir(tmp_path)
    config = load_config(tmp_path / 'search.yml').config
    enter(config)
    assert config.training_service.platform == platform
    if platform == 'remote':
        assert len(config.training_service.machine_list) == 3
    else:
        assert config.training_service.reuse_mode and isinstance(config.training_service.storage, K8sStorageConfig)
