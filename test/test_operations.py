"""What docs/operations.md and SECURITY.md say is true."""
from pathlib import Path
import re

from camws_bridge.api.strict_protocol import REASONS
from camws_bridge.commands.table import COMMANDS
from camws_bridge.metrics import Metrics
from camws_bridge.settings import PARAMETERS
from camws_bridge.tokens import UNGUESSABLE

ROOT = Path(__file__).parents[1]
OPERATIONS = (ROOT / 'docs/operations.md').read_text()
SECURITY = (ROOT / 'SECURITY.md').read_text()


def test_parameters_it_names_exist():
    names = re.findall(r'\b((?:limits|auth|tls)\.\w+)', OPERATIONS + SECURITY)
    names += re.findall(r'-p (\w+):=', OPERATIONS)
    assert len(set(names)) > 5 and set(names) <= set(PARAMETERS)


def test_commands_it_names_exist():
    assert set(re.findall(r'^camws_bridge (\w[\w-]*) ', OPERATIONS, re.MULTILINE)) <= set(COMMANDS)


def test_every_reason_of_a_refusal_is_in_the_table():
    code = '\n'.join(path.read_text() for path in (ROOT / 'camws_bridge/api').rglob('*.py'))
    reasons = set(re.findall(r"(?:count|_on_refused)\('(\w+)'", code))
    reasons |= {reason for pair in re.findall(r"count\('(\w+)' if .* else '(\w+)'\)", code)
                for reason in pair}
    reasons |= set(REASONS.values())
    for name in ('limits', 'refusals'):
        text = (ROOT / f'camws_bridge/api/{name}.py').read_text()
        reasons |= set(re.findall(r"Refusal\(\d+, '(\w+)'", text)) - {'bad_request'}
    strict = (ROOT / 'camws_bridge/api/strict_protocol.py').read_text()
    reasons |= set(re.findall(r"'(websocket_\w+)'", strict))
    table = OPERATIONS[OPERATIONS.index('| what | refused with'):].partition('\n\n')[0]
    listed = {reason for row in re.findall(r'^\|.*\| ([^|]+) \|$', table, re.MULTILINE)
              for reason in re.findall(r'`(\w+)`', row)} - {'camws_refused_total'}
    assert len(reasons) > 15 and listed == reasons


def test_the_length_that_cannot_be_guessed_is_the_one_it_says():
    assert f'{UNGUESSABLE} characters' in SECURITY
    assert PARAMETERS['limits.wrong_tokens_per_minute'].default == 10


def test_every_metric_it_names_exists():
    shown = {metric.name for metric in Metrics().registry.collect()}
    names = set(re.findall(r'\b(camws_[a-z_]+?)(?:_total|_bucket)?\b(?=[{`\[}])', OPERATIONS))
    assert len(names) > 12 and names - {'camws_bridge'} <= shown
