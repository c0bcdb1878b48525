"""The API server of the other tests."""

from tests.apiserver.conftest import apiserver as apiserver
from tests.apiserver.conftest import bare_apiserver as bare_apiserver
from tests.apiserver.conftest import namespace as namespace
