"""Runners over toy engines, for tests of steering."""

import pytest

from superpose.engines.toy import ToyEngine
from superpose.runner import Runner
from superpose.store import Store


@pytest.fixture
def lab():
    """Makes runners over one store; closes them."""
    made = []

    def make(engine=None, store=None, **options):
        made.append(Runner(engine or ToyEngine(), store or Store(None), **options))
        return made[-1], made[-1].store

    yield make
    for runner in made:
        runner.close()
