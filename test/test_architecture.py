"""The table of files in docs/architecture.md is that of the tree."""
import re

from builders import ROOT

TABLE = (ROOT / 'docs/architecture.md').read_text().partition(
    '## Where things are')[2].partition('Layers, highest')[0]
PACKAGE = ROOT / 'camws_bridge'
# These are told of as a whole.
FOLDERS = ('demo', 'commands', 'endpoints')


def test_files_it_names_exist():
    names = re.findall(r'`([\w/]+\.(?:py|js))`', TABLE)
    assert len(names) > 40
    for name in names:
        assert list(PACKAGE.rglob(name.rpartition('/')[2])), name


def test_every_module_is_in_it():
    modules = [path for path in PACKAGE.rglob('*.py')
               if path.name != '__init__.py' and path.parent.name not in FOLDERS]
    assert len(modules) > 60
    missing = [path.name for path in modules
               if not re.search(rf'\b{path.stem}\b', TABLE)]
    assert missing == []
