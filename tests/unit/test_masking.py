"""A URL is shown without the credentials in it."""

from __future__ import annotations

import pytest

from pytest_serve_chaos.errors import SettingsError
from pytest_serve_chaos.masking import masked, with_masked_urls
from pytest_serve_chaos.traffic.request import RequestSpec


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://ml.example.com/rank", "https://ml.example.com/rank"),
        ("https://ml.example.com/rank?token=s3cret&user=me", "https://ml.example.com/rank?token=...&user=..."),
        ("https://ml.example.com/rank?token=s3=cret#here", "https://ml.example.com/rank?token=...#..."),
        ("https://ml.example.com?s3cret", "https://ml.example.com?..."),
        ("https://ml.example.com/rank?token=s3?cret", "https://ml.example.com/rank?token=..."),
        ("https://me:s3cret@ml.example.com:8443/rank", "https://...@ml.example.com:8443/rank"),
        ("https://me:s3@cret@ml.example.com/rank", "https://...@ml.example.com/rank"),
        ("/rank?token=s3cret", "/rank?token=..."),
        ("https://ml.example.com/rank?a=1#access_token=s3cret", "https://ml.example.com/rank?a=...#..."),
        ("/mail/me@example.com", "/mail/me@example.com"),
        ("github.com/ray-project/kuberay/config?ref=v1.6.2", "github.com/ray-project/kuberay/config?ref=v1.6.2"),
        ("20/s for 30s, 100/s for 30s", "20/s for 30s, 100/s for 30s"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_urls_in_a_text_are_masked() -> None:
    said = "ReadTimeout: GET 'https://me:s3cret@host/a?token=s3cret' failed; is it up?"
    assert with_masked_urls(said) == "ReadTimeout: GET 'https://...@host/a?token=...' failed; is it up?"


@pytest.mark.parametrize("url", ["ftp://me:s3cret@host/", "http://me:s3cret@host:port/", "http:///?s3cret"])
def test_a_url_that_cannot_be_used_is_refused_without_its_credentials(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        RequestSpec(url)
    assert "s3cret" not in str(caught.value)
