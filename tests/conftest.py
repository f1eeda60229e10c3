"""Fixtures that every kind of test shares."""

import os

import pytest


@pytest.fixture(scope="session")
def amqp_url() -> str:
    return os.environ.get("OPENAPERTURE_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672/%2F")


@pytest.fixture(scope="session")
def postgresql_url() -> str:
    return os.environ.get("OPENAPERTURE_TEST_POSTGRESQL", "postgresql://bench:bench@127.0.0.1:5432/bench")
