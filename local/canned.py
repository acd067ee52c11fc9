"""A pytest plugin: canned answers of requests-mock carry what every answer of Azure carries."""

import pytest
import requests
import requests_mock.response

HEADERS = {"x-ms-request-id": "11111111-2222-4333-8444-555555555555", "x-ms-version": "2025-11-05"}
PROXY = "a proxy"


@pytest.fixture(autouse=True)
def _answers_of_azure(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with the header Via: a proxy did not come from Azure, and stays as it is."""
    real = requests_mock.response._MatcherResponse.get_response

    def get_response(self: requests_mock.response._MatcherResponse, request: requests.Request) -> requests.Response:
        answer: requests.Response = real(self, request)
        if answer.headers.pop("Via", "") != PROXY:
            for name, value in HEADERS.items():
                answer.headers.setdefault(name, value)
        return answer

    monkeypatch.setattr(requests_mock.response._MatcherResponse, "get_response", get_response)
